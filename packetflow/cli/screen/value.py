"""Any JSON value for people: aligned keys, tables for lists of objects, text as it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from packetflow.cli.screen.painter import Painter, clean, columns
from packetflow.cli.screen.table import GAP, Column, pad, plain, raw, show_table, wrap

INLINE = 60  # a nested value up to this many characters stays on its key's line


def show_value(painter: Painter, value: Any) -> None:
    """Writes a capability's value."""
    if isinstance(value, Mapping):
        if painter.terminal:
            show_fields(painter, value)
        else:
            for key, field in value.items():
                painter.stream.write(f"{clean(str(key))}\t{clean(raw(field))}\n")
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        show_rows(painter, value)
    elif isinstance(value, list) and all(not isinstance(item, Mapping | list) for item in value):
        for item in value:
            painter.line(clean(plain(item) if painter.terminal else raw(item)))
    elif isinstance(value, list):
        for item in value:
            painter.line(clean(json.dumps(item, ensure_ascii=False)))
    elif isinstance(value, str):
        painter.line(clean(value, keep="\n\t"))
    else:
        painter.line("null" if value is None else json.dumps(value))


def show_rows(painter: Painter, rows: Sequence[Mapping[str, Any]]) -> None:
    """A list of objects as a table; a field's column may be cut, numbers stand right."""
    keys: dict[str, None] = {}
    for row in rows:
        keys.update(dict.fromkeys(str(key) for key in row))
    layout = [
        Column(
            key.upper(),
            key,
            shrink=True,
            right=all(is_number(row.get(key)) for row in rows),
            drop=place if place else 0,
        )
        for place, key in enumerate(keys)
    ]
    show_table(painter, layout, rows)


def is_number(value: Any) -> bool:
    """Whether a value stands right in a table; null fits any column."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def show_fields(painter: Painter, fields: Mapping[str, Any]) -> None:
    """An object, one field a line, nested ones below their key."""
    room = max((columns(str(key)) for key in fields), default=0)
    for key, value in fields.items():
        label = painter.paint(pad(clean(str(key)), room), "dim") + " " * GAP
        nested = value if isinstance(value, Mapping | list) and value else None
        text = plain(value)
        if nested is not None and len(text) > INLINE:
            painter.line(label)
            if isinstance(nested, Mapping):
                show_fields(painter.indented(GAP), nested)
            else:
                show_items(painter.indented(GAP), nested)
            continue
        keep = "\n" if isinstance(value, str) else ""
        lines = wrap(clean(text, keep=keep), None if painter.width is None else painter.width - room - GAP)
        painter.line(label + lines[0])
        for line in lines[1:]:
            painter.line(" " * (room + GAP) + line)


def show_items(painter: Painter, items: Sequence[Any]) -> None:
    """A list below its key: a table if its items are objects, else an item a line."""
    if all(isinstance(item, Mapping) for item in items):
        show_rows(painter, items)
        return
    for item in items:
        painter.line(painter.cut(clean(plain(item)), painter.width or 10_000))
