"""JSON with places (RFC 8259): the standard library's reader judges the syntax, a walk over the text says where what stands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from packetflow.documents.document import Document, Source, UnreadableFile, deep_fault, digits_fault
from packetflow.documents.faults import Fault, KeyPath, Place, key_text

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_TOKENS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},]|[^\s\[\]{},:"]+', re.DOTALL)

# What json says, and how we say it: what is wrong, what was expected.
_WORDS = {
    "Expecting value": (
        "no JSON value",
        'a text in "quotes", a number, true, false, null, a [list] or an {"object": 1}',
    ),
    "Expecting property name enclosed in double quotes": (
        "no key in double quotes",
        '"key": value, and no comma behind the last',
    ),
    "Expecting ':' delimiter": ("no colon behind a key", '"key": value'),
    "Expecting ',' delimiter": ("no comma between two values", "a comma, or the closing bracket"),
    "Illegal trailing comma before end of object": ("a comma behind the last key", "no comma there"),
    "Illegal trailing comma before end of array": ("a comma behind the last item", "no comma there"),
    "Extra data": ("something follows the value", "one value in a file"),
    "Unterminated string starting at": ("a text without its closing quote", ""),
    "Invalid control character at": ("a control character in a text", "an escape such as \\n"),
    "Invalid \\escape": ("an unknown escape in a text", "\\\\ for a backslash"),
    "Invalid \\uXXXX escape": ("an unfinished escape in a text", "four hexadecimal digits behind \\u"),
}


class _NoJson(ValueError):
    """A word that Python's reader takes and JSON does not have."""


def parse_json(text: str, name: str, path: Path, *, deepest: int) -> Document:
    """Read JSON from a text. name: what people are shown for the file. deepest: how deep it may go. Raises UnreadableFile."""
    source = Source(text.replace("\r\n", "\n"), name)
    _check_depth(source, deepest)
    try:
        values = json.loads(source.text, parse_constant=_refuse)
    except json.JSONDecodeError as error:
        raise UnreadableFile(_syntax_fault(source, error)) from None
    except _NoJson as error:
        found = re.search(rf"(?<![\w\"]){re.escape(str(error))}", source.text)
        start, end = found.span() if found else (0, 0)
        fault = Fault.at(source.place(start, end), f"syntax: {error} is no JSON", expected="a number")
        raise UnreadableFile(fault) from None
    except ValueError:  # an integer of more digits than Python converts
        raise UnreadableFile(digits_fault(source)) from None
    document = Document(name, path, values, source.lines)
    _mark(source, document)
    return document


def _refuse(word: str) -> None:
    raise _NoJson(word)


def _check_depth(source: Source, deepest: int) -> None:
    """Before anything recurs into it."""
    depth = 0
    for found in _BRACKETS.finditer(source.text):
        mark = found[0]
        if mark in "[{":
            depth += 1
            if depth > deepest:
                raise UnreadableFile(deep_fault(source.place(*found.span()), deepest))
        elif mark in "]}":
            depth -= 1


def _syntax_fault(source: Source, error: json.JSONDecodeError) -> Fault:
    message, expected = _WORDS.get(error.msg, (error.msg[:1].lower() + error.msg[1:], ""))
    offset = error.pos
    if offset >= len(source.text.rstrip()):
        offset = len(source.text.rstrip())
        message += ", at the end of the file"
    return Fault.at(source.place(offset, offset + 1), f"syntax: {message}", expected=expected)


class _Open:
    """A list or object that is being read: where it is, where it begins, its keys, and at which key or item it is."""

    __slots__ = ("at", "keys", "start", "way")

    def __init__(self, way: KeyPath, start: int, is_list: bool) -> None:
        self.way = way
        self.start = start
        self.at: str | int | None = 0 if is_list else None
        self.keys: dict[str, Place] = {}


def _mark(source: Source, document: Document) -> None:
    """Note the places of all keys and values, in a text that is JSON."""
    around: list[_Open] = []
    for found in _TOKENS.finditer(source.text):
        mark, here = found[0], around[-1] if around else None
        if mark in ("]", "}"):
            done = around.pop()
            document.places[done.way] = source.place(done.start, found.end())
        elif mark == ",":
            assert here is not None
            here.at = here.at + 1 if isinstance(here.at, int) else None
        elif here is not None and here.at is None:
            key: Any = json.loads(mark)
            place = source.place(*found.span())
            if key in here.keys:
                first = here.keys[key].line
                fault = Fault.at(
                    place,
                    f"syntax: key {key_text(key)} stands twice, first in line {first}",
                    expected="each key once",
                )
                raise UnreadableFile(fault)
            here.keys[key] = document.keys[*here.way, key] = place
            here.at = key
        else:
            way: KeyPath = () if here is None or here.at is None else (*here.way, here.at)
            if mark in ("[", "{"):
                around.append(_Open(way, found.start(), mark == "["))
            else:
                document.places[way] = source.place(*found.span())
