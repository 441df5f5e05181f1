"""A file as it was read: plain values, and the place of each key and value. How files are read, whatever their language."""

from __future__ import annotations

import bisect
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packetflow.documents.faults import Fault, KeyPath, Place, reason

LARGEST_FILE = 256 * 1024  # bytes; the reader's time grows faster than the file


class UnreadableFile(Exception):
    """The file can't be read, or is not written in its language: `fault` says why and where."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


@dataclass(slots=True)
class Document:
    """A file's values (plain dicts, lists and scalars), and where each stands.

    keys: the place of the key (for an item of TOML's `[[a]]`, its header). places: that of the value, where it has one.
    """

    file: str
    path: Path
    values: Any = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    places: dict[KeyPath, Place] = field(default_factory=dict)

    def whole(self) -> Place:
        """The place for what is missing from the file as such."""
        return Place(self.file, 1, 1, 1, self.lines[0] if self.lines else "")

    def at(self, way: KeyPath) -> Place:
        """Where a value stands; if nobody knows, what is around it."""
        for length in range(len(way), 0, -1):
            place = self.places.get(way[:length]) or self.keys.get(way[:length])
            if place is not None:
                return place
        return self.whole()

    def key_at(self, way: KeyPath) -> Place:
        """Where a key stands; that of an item of a list is the item."""
        return self.keys.get(way) or self.at(way)


def read_text(
    path: Path, name: str, kind: str, of: str, *, missing: str = "", folder: str = "", large: str = ""
) -> str:
    """The text of a file. name: what people are shown for it. kind, of: what is expected, as "a TOML file" of "a configuration".
    missing, folder, large: what to do where there is none, where it is a folder, where it is too large. Raises UnreadableFile."""

    def refuse(message: str, expected: str = "", next: str = "") -> UnreadableFile:
        return UnreadableFile(Fault(message, name, expected=expected, next=next))

    try:
        # Non-blocking, so that a pipe without a writer is refused, not waited for.
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise refuse("no such file", next=missing) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise refuse(f"can't read the file: {reason(error)}") from None
    try:
        mode = os.fstat(number).st_mode
        if stat.S_ISDIR(mode):
            raise refuse("this is a folder", kind, folder)
        if not stat.S_ISREG(mode):
            raise refuse("this is no regular file", kind)
        with open(number, "rb", closefd=False) as file:
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise refuse(f"can't read the file: {reason(error)}") from None
    finally:
        os.close(number)
    if len(data) > LARGEST_FILE:
        raise refuse(
            f"the file is larger than {LARGEST_FILE // 1024} KiB",
            f"{of} of at most {LARGEST_FILE // 1024} KiB",
            large,
        )
    return _decode(data, name)


def _decode(data: bytes, name: str) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableFile(
            Fault("the file is UTF-16", name, 1, 1, 2, expected="UTF-8", next="save it as UTF-8")
        )
    data = data.removeprefix(b"\xef\xbb\xbf")  # some editors begin a file with it
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        column = len(before) - (before.rfind("\n") + 1) + 1
        line = before.count("\n") + 1
        message = f"the file is not UTF-8: byte 0x{data[error.start]:02x}"
        raise UnreadableFile(
            Fault(message, name, line, column, column + 1, expected="UTF-8", next="save it as UTF-8")
        ) from None


class Source:
    """A text whose offsets become places. Lines end with a newline, whatever the file has."""

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines[:-1]:
            self.starts.append(self.starts[-1] + len(line) + 1)

    def place(self, start: int, end: int) -> Place:
        """The place of a stretch of the text; of its first line, if it has several."""
        number = bisect.bisect_right(self.starts, start) - 1
        line, first = self.lines[number], self.starts[number]
        last = min(end, first + len(line))
        return Place(self.name, number + 1, start - first + 1, max(last, start) - first + 1, line)

    def offset(self, line: int, column: int) -> int:
        """Where a line and column are in the text."""
        return self.starts[line - 1] + column - 1


def deep_fault(place: Place, deepest: int) -> Fault:
    """That something is nested too deep."""
    return Fault.at(place, f"nested deeper than {deepest} levels", expected=f"at most {deepest} levels")


def digits_fault(source: Source) -> Fault:
    """That there is an integer of more digits than Python converts."""
    found = re.search(r"[0-9_]{1000,}", source.text)
    place = source.place(*found.span()) if found else source.place(0, 0)
    return Fault.at(place, "an integer of thousands of digits", expected="an integer of 64 bits")
