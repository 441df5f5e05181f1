"""Tables: fitted to the terminal for people, tabs and uncut values in a pipe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packetflow.cli.screen.painter import Painter, clean, columns

GAP = 2
LEAST = 8  # columns that a shrunk cell keeps


def plain(value: Any) -> str:
    """A value in one line, as a person reads it."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return ", ".join(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def raw(value: Any) -> str:
    """A value in one field, as a program reads it: text as it is, the rest as JSON, nothing for null.

    Floats (seconds, mostly) have nine digits: more says something of the machine, not of the node.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.9g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    title: its head. key: the field of the row. people: the value as a person reads it. right: numbers stand right.
    shrink: may be cut to fit. drop: columns with a number are left out to fit, the highest first; 0 stays.
    style: what to paint a value with, by the value.
    """

    title: str
    key: str
    people: Callable[[Any], str] = plain
    right: bool = False
    shrink: bool = False
    drop: int = 0
    style: Callable[[Any], Sequence[str]] | None = None


def show_table(painter: Painter, layout: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes the rows under their heads; fields a row lacks count as null."""
    if not painter.terminal:
        painter.stream.write("\t".join(column.title.lower() for column in layout) + "\n")
        for row in rows:
            fields = (raw(row.get(column.key)) for column in layout)
            painter.stream.write("\t".join(clean(field) for field in fields) + "\n")
        return
    shown = list(layout)
    cells = {column.title: [clean(column.people(row.get(column.key))) for row in rows] for column in layout}
    widths = {
        column.title: max([columns(column.title), *(columns(cell) for cell in cells[column.title])])
        for column in layout
    }
    dropped = fit(shown, widths, painter.width)
    heads = [
        pad(painter.cut(column.title, widths[column.title]), widths[column.title], column.right)
        for column in shown
    ]
    painter.line(painter.paint((" " * GAP).join(heads).rstrip(), "bold"))
    for index, row in enumerate(rows):
        line = []
        for column in shown:
            cell = painter.cut(cells[column.title][index], widths[column.title])
            padded = pad(cell, widths[column.title], column.right)
            styles = column.style(row.get(column.key)) if column.style is not None else ()
            line.append(painter.paint(padded, *styles))
        painter.line((" " * GAP).join(line))
    if dropped:
        names = ", ".join(name.lower() for name in dropped)
        painter.line(painter.paint(painter.cut(f"not shown here: {names}", painter.width or 80), "dim"))


def fit(shown: list[Column], widths: dict[str, int], width: int | None) -> list[str]:
    """Shrinks and drops columns until they fit; answers the titles dropped. Changes both of its first arguments."""
    dropped: list[str] = []
    if width is None:
        return dropped
    while True:
        over = sum(widths[column.title] for column in shown) + GAP * (len(shown) - 1) - width
        if over <= 0:
            return dropped
        # First what is cut without loss of a column, down to twice the least; then columns go; then cut to the least.
        for floor in (2 * LEAST, LEAST):
            wide = [column for column in shown if column.shrink and widths[column.title] > floor]
            if wide:
                widest = max(wide, key=lambda column: widths[column.title])
                widths[widest.title] = max(floor, widths[widest.title] - over)
                break
            optional = [column for column in shown if column.drop]
            if optional:
                victim = max(optional, key=lambda column: column.drop)
                shown.remove(victim)
                dropped.append(victim.title)
                break
        else:
            # Nothing declared gives way any more: the widest column does.
            widest = max(shown, key=lambda column: widths[column.title])
            if widths[widest.title] <= 1:
                return dropped
            widths[widest.title] = max(1, widths[widest.title] - over)


def pad(text: str, width: int, right: bool = False) -> str:
    """The text filled with blanks to `width` columns."""
    fill = " " * max(0, width - columns(text))
    return fill + text if right else text + fill


def show_pairs(painter: Painter, pairs: Sequence[tuple[str, str | Sequence[str]]], indent: int = 2) -> None:
    """Aligned labels and texts; long texts are wrapped on a terminal, a list of parts only between them."""
    if not pairs:
        return
    room = max(columns(label) for label, _ in pairs)
    width = None if painter.width is None else painter.width - indent - room - GAP
    for label, text in pairs:
        head = " " * indent + painter.paint(pad(label, room), "dim") + " " * GAP
        lines = wrap(clean(text, keep="\n"), width) if isinstance(text, str) else flowed(text, width)
        painter.line(head + lines[0])
        for line in lines[1:]:
            painter.line(" " * (indent + room + GAP) + line)


def flowed(parts: Sequence[str], width: int | None) -> list[str]:
    """Parts side by side, on as many lines as they need; none is broken."""
    lines = [""]
    for part in map(clean, parts):
        if lines[-1] and width is not None and columns(lines[-1]) + 3 + columns(part) > width:
            lines.append("")
        lines[-1] += ("   " if lines[-1] else "") + part
    return lines


def show_parts(painter: Painter, parts: Sequence[tuple[str, Sequence[str]]], gap: int = GAP) -> None:
    """Texts with their styles side by side, on as many lines as they need; the further lines are moved to the right."""
    line, used = "", 0
    for text, styles in parts:
        shown = clean(text)
        if not shown:
            continue
        if used and painter.width is not None and used + gap + columns(shown) > painter.width:
            painter.line(line)
            line, used = " " * GAP, GAP
        elif used:
            line, used = line + " " * gap, used + gap
        line, used = line + painter.paint(shown, *styles), used + columns(shown)
    painter.line(line)


def show_wrapped(painter: Painter, text: str, indent: int = 0) -> None:
    """A text, wrapped on a terminal, every line moved to the right."""
    for line in wrap(clean(text), None if painter.width is None else painter.width - indent):
        painter.line(" " * indent + line)


def wrap(text: str, width: int | None) -> list[str]:
    """The text in lines of at most `width` columns, broken at blanks where there are some."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            if width is not None and width > 10:
                if line and columns(line) + 1 + columns(word) > width:
                    lines.append(line)
                    line = ""
                while columns(word) > width:
                    lines.append(word[:width])
                    word = word[width:]
            line = f"{line} {word}" if line else word
        lines.append(line)
    return lines
