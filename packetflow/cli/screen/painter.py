"""One output stream with what is known about it: whether a person watches, how wide it is, whether it shows colour."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Mapping
from typing import TextIO

STYLES: Mapping[str, str] = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "magenta": "35",
    "cyan": "36",
}


class Painter:
    """Writes lines to a stream.

    terminal: a person watches. width: columns to fit, None if nothing has to fit. colour: whether `paint` does
    anything. indent: blanks before each line.
    """

    def __init__(
        self, stream: TextIO, *, terminal: bool, width: int | None, colour: bool, indent: int = 0
    ) -> None:
        self.stream = stream
        self.terminal = terminal
        self.width = width
        self.colour = colour
        self.indent = indent
        encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
        self.unicode = encoding.startswith("utf")

    def line(self, text: str = "") -> None:
        """Writes the text and a newline; trailing blanks are cut."""
        self.stream.write(f"{' ' * self.indent}{text}".rstrip(" ") + "\n")

    def indented(self, by: int) -> Painter:
        """The same stream with every line moved to the right, and as much less to fit into."""
        width = None if self.width is None else max(20, self.width - by)
        return Painter(
            self.stream, terminal=self.terminal, width=width, colour=self.colour, indent=self.indent + by
        )

    def flush(self) -> None:
        """Hands everything written to the system."""
        self.stream.flush()

    def paint(self, text: str, *styles: str) -> str:
        """The text in these styles (names of STYLES) if the stream shows colour."""
        if not self.colour or not text or not styles:
            return text
        return f"\x1b[{';'.join(STYLES[style] for style in styles)}m{text}\x1b[0m"

    def cut(self, text: str, width: int) -> str:
        """The text in at most `width` columns, its loss marked."""
        if columns(text) <= width:
            return text
        mark = "…" if self.unicode else "~"
        out, used = [], 0
        for letter in text:
            used += columns(letter)
            if used > width - 1:
                break
            out.append(letter)
        return "".join(out) + mark if width > 0 else ""


def painter_for(stream: TextIO, choice: str, environment: Mapping[str, str]) -> Painter:
    """A painter as `--color` (auto, always, never), NO_COLOR, TERM and the stream say."""
    terminal = is_terminal(stream)
    width = terminal_width(stream, environment) if terminal else None
    if choice == "auto":
        colour = terminal and not environment.get("NO_COLOR") and environment.get("TERM", "") != "dumb"
    else:
        colour = choice == "always"
    return Painter(stream, terminal=terminal, width=width, colour=colour)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sits at the other end."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def terminal_width(stream: TextIO, environment: Mapping[str, str]) -> int:
    """The terminal's columns; COLUMNS where the terminal does not say; else 80."""
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    if width <= 0:
        word = environment.get("COLUMNS", "")
        width = int(word) if word.isdigit() else 0
    return width if width > 0 else 80


def columns(text: str) -> int:
    """How many terminal columns a text takes: wide letters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def clean(text: str, keep: str = "") -> str:
    """The text with control characters written out, so that a value from a node can't drive the terminal."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in keep else letter.encode("unicode_escape").decode()
        for letter in text
    )
