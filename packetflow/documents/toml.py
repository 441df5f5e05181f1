"""TOML with places: the one file that knows spanned-toml.

`parse_toml` reads a text into a `Document`: plain values, and for each key and value the place where it was written.
"""

from __future__ import annotations

import bisect
import itertools
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import spanned_toml

from packetflow.documents.document import (
    Document,
    Source,
    UnreadableFile,
    deep_fault,
    digits_fault,
    read_text,
)
from packetflow.documents.faults import Fault, KeyPath, Place, shown

MOST_KEYS = 1000  # in one table; the reader's time grows faster than that
DEEPEST = 32

_COORDINATES = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def read_toml(
    path: Path, name: str, hide: Callable[[KeyPath, object], bool] = lambda key, value: False
) -> Document:
    """Read a configuration. `name` is what people are shown for it; `hide` says whether a value is blotted out of the excerpts.

    Raises UnreadableFile.
    """
    text = read_text(
        path, name, "a TOML file", "a configuration",
        missing=f"packetflow init, or name another file: {shown(name)}",
        folder=f"name a file in it: {shown(name)}/node.toml",
        large="keep data in files of its own and name them here",
    )  # fmt: skip
    return parse_toml(text, name, path, hide)


def parse_toml(
    text: str,
    name: str,
    path: Path,
    hide: Callable[[KeyPath, object], bool] = lambda key, value: False,
    *,
    deepest: int = DEEPEST,
) -> Document:
    """Read TOML from a text. deepest: how deep tables and lists may be nested. Raises UnreadableFile."""
    text = text.replace("\r\n", "\n")
    source = Source(text, name)
    try:
        # The standard library's reader is the judge of syntax: it is fast, and its messages name keys plainly.
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        source.lines = [_blotted(line, hide) for line in source.lines]
        raise UnreadableFile(_syntax_fault(source, str(error))) from None
    except RecursionError:
        raise UnreadableFile(deep_fault(source.place(*_deepest(text, deepest)), deepest)) from None
    except ValueError:  # an integer of more digits than Python converts
        raise UnreadableFile(digits_fault(source)) from None
    _check_shape(source, values, deepest)
    spans = _Spans()
    _mark(text, spans, spanned_toml.loads(text))
    _mark_headers(source, spans)
    _blot(source, spans, values, hide)
    return Document(
        name,
        path,
        values,
        source.lines,
        {way: source.place(*span) for way, span in spans.keys.items()},
        {way: source.place(*span) for way, span in spans.values.items()},
    )


def read_value(text: str) -> object:
    """A single TOML value (`8080`, `["a"]`, `{file = "x"}`), or the text itself if it is none."""
    if "\n" in text or "\r" in text:
        return text
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    value: object = values["value"]
    return value if _deep(value) <= DEEPEST else text


def _deep(value: object) -> int:
    deepest, pending = 0, [(value, 0)]
    while pending:
        item, depth = pending.pop()
        deepest = max(deepest, depth)
        if depth <= DEEPEST and isinstance(item, dict | list):
            pending += ((inner, depth + 1) for inner in (item.values() if isinstance(item, dict) else item))
    return deepest


# What tomllib says, and how we say it.
_WORDS = {
    "Expected '=' after a key in a key/value pair": (
        "no value for this key",
        'key = value, for example name = "desk"',
    ),
    "Invalid value": (
        "not a TOML value",
        'a string in quotes, a number, true, false, a [list] or a {table = "x"}',
    ),
    "Invalid statement": ("neither a key nor a [table]", "key = value, [table] or # comment"),
    "Unterminated string": ("a string without its closing quote", ""),
    "Illegal character '\\n'": ("a string without its closing quote", "a quote before the end of the line"),
    "Unescaped '\\' in a string": (
        "an unknown escape in a string",
        "\\\\ for a backslash, or a 'string in single quotes', which has no escapes",
    ),
    "Unclosed array": ("a list without its closing ]", "items with commas between them, then ]"),
    "Unclosed inline table": (
        "a table without its closing }",
        "pairs with commas between them on one line, then }",
    ),
    "Expected newline or end of document after a statement": (
        "something follows the value on its line",
        "one key = value a line",
    ),
}
_TWICE = re.compile(
    r"Cannot declare|Cannot redefine namespace|Cannot mutate immutable namespace|Cannot overwrite a value"
)
_BARE = re.compile(r"=\s*([A-Za-z_][\w./:@-]*)\s*(?:#.*)?$")
_BARE_PROBLEMS = ("Invalid value", "Expected newline or end of document after a statement")
_TWICE_INLINE = re.compile(r"Duplicate inline table key '(.*)'")


def _syntax_fault(source: Source, text: str) -> Fault:
    found = _COORDINATES.search(text)
    offset = source.offset(int(found[1]), int(found[2])) if found and found[1] else len(source.text)
    problem = text[: found.start()] if found else text
    message, expected = _WORDS.get(problem, (problem[:1].lower() + problem[1:], ""))
    if offset >= len(source.text.rstrip()):
        offset = len(source.text.rstrip())
        if not message.endswith(("quote", "]", "}")):
            message += ", at the end of the file"
    place = source.place(offset, offset + 1)
    if problem.startswith("Unescaped"):
        place = source.place(offset - 2, offset)  # it was found behind the escape
    bare = _BARE.search(place.text)
    if bare and bare.start(1) < place.column <= bare.end(1) and problem in _BARE_PROBLEMS:
        at = Place(place.file, place.line, bare.start(1) + 1, bare.end(1) + 1, place.text)
        return Fault.at(at, "syntax: a text without quotes", expected=f'"{shown(bare[1])}"')
    if inline := _TWICE_INLINE.match(problem):
        return Fault.at(place, f"syntax: key {shown(inline[1])} stands twice", expected="each key once")
    if _TWICE.match(problem):
        return _twice_fault(source, place)
    return Fault.at(place, f"syntax: {message}", expected=expected)


def _twice_fault(source: Source, place: Place) -> Fault:
    """A key or table that stands twice, with where it stood first."""
    line = place.text
    indent = len(line) - len(line.lstrip())
    written = line.strip()
    key = (
        written.partition("=")[0].strip()
        if not written.startswith("[")
        else written.partition("#")[0].strip()
    )
    at = Place(place.file, place.line, indent + 1, indent + 1 + len(key), line)
    first = ""
    for number in range(place.line - 1, 0, -1):
        other = source.lines[number - 1].strip()
        if written.startswith("[") and other.partition("#")[0].strip() == key:
            first = f", first in line {number}"
            break
        if not written.startswith("["):
            if other.startswith("["):
                break
            if other.partition("=")[0].strip() == key:
                first = f", first in line {number}"
                break
    what = f"table {shown(key)}" if written.startswith("[") else f"key {shown(key)}"
    return Fault.at(at, f"syntax: {what} stands twice{first}", expected="each key and table once")


def _deepest(text: str, deepest: int) -> tuple[int, int]:
    """About where brackets are nested too deep (brackets in strings count too: only used to point at a line)."""
    depth = 0
    for offset, character in enumerate(text):
        if character in "[{":
            depth += 1
            if depth > deepest:
                return offset, offset + 1
        elif character in "]}":
            depth = max(0, depth - 1)
    return 0, 0


def _check_shape(source: Source, values: dict[str, Any], deepest: int) -> None:
    """Refuse what would make the reader with places slow: very deep and very wide tables."""
    pending: list[tuple[object, int, str]] = [(values, 0, "")]
    while pending:
        value, depth, under = pending.pop()
        if depth > deepest:
            found = source.text.find(under)
            place = source.place(max(found, 0), max(found, 0) + len(under))
            raise UnreadableFile(deep_fault(place, deepest))
        if isinstance(value, dict):
            if len(value) > MOST_KEYS:
                key = next(reversed(value))
                found = max(source.text.rfind(key), 0)
                raise UnreadableFile(
                    Fault.at(
                        source.place(found, found + len(key)),
                        f"a table of {len(value)} keys",
                        expected=f"at most {MOST_KEYS} keys in a table",
                    )
                )
            pending += ((item, depth + 1, under or key) for key, item in value.items())
        elif isinstance(value, list):
            pending += ((item, depth + 1, under) for item in value)


class _Spans:
    """Start and end offsets of keys (headers included) and values."""

    def __init__(self) -> None:
        self.keys: dict[KeyPath, tuple[int, int]] = {}
        self.values: dict[KeyPath, tuple[int, int]] = {}


def _mark(text: str, spans: _Spans, root: Any) -> None:
    """Note the spans of all keys and values that the reader with places knows."""
    pending: list[tuple[Any, KeyPath]] = [(root, ())]
    while pending:
        node, path = pending.pop()
        inner = node.inner()
        if isinstance(inner, dict):
            for key, value in inner.items():
                way = (*path, key.inner())
                spans.keys[way] = _key_span(text, key.span())
                if value.span().stop:
                    # A string's span begins late when it holds escapes; the value begins behind the "=".
                    spans.values[way] = (_after_equals(text, spans.keys[way][1]), value.span().stop)
                pending.append((value, way))
        elif isinstance(inner, list):
            at = spans.values[path][0] + 1 if path in spans.values else 0
            for index, value in enumerate(inner):
                way = (*path, index)
                if value.span().stop:
                    spans.values[way] = (_after_blank(text, at), value.span().stop)
                    at = value.span().stop
                pending.append((value, way))


def _key_span(text: str, span: slice) -> tuple[int, int]:
    start, end = int(span.start), int(span.stop)
    if end and text[end - 1] == '"':  # with escapes in it, the span begins late
        start = end - 2
        while start > 0 and (text[start] != '"' or _escaped_quote(text, start)):
            start -= 1
    return start, end


def _escaped_quote(text: str, offset: int) -> bool:
    count = 0
    while offset - count > 0 and text[offset - count - 1] == "\\":
        count += 1
    return count % 2 == 1


def _after_equals(text: str, offset: int) -> int:
    while offset < len(text) and text[offset] in " \t=":
        offset += 1
    return offset


def _after_blank(text: str, offset: int) -> int:
    while offset < len(text) and text[offset] in " \t\n,#":
        if text[offset] == "#":
            offset = text.find("\n", offset)
        offset += 1
    return offset


def _mark_headers(source: Source, spans: _Spans) -> None:
    """Note the spans of `[table]` and `[[list]]` headers: the reader with places keeps only each key's first."""
    values = sorted(spans.values.values())
    starts = [start for start, _ in values]
    ends = list(itertools.accumulate((end for _, end in values), max))
    count: dict[KeyPath, int] = {}
    for line, first in zip(source.lines, source.starts, strict=True):
        indent = len(line) - len(line.lstrip(" \t"))
        if not line.startswith("[", indent):
            continue
        before = bisect.bisect_right(starts, first + indent) - 1
        if before >= 0 and first + indent < ends[before]:
            continue  # a line inside a list or a string
        way: KeyPath = ()
        node: Any = spanned_toml.loads(line)
        while isinstance(node.inner(), dict) and node.inner():
            ((key, node),) = node.inner().items()
            way = (*way, key.inner())
            start, end = _key_span(line, key.span())
            repeated = isinstance(node.inner(), list)
            if node.inner() or repeated:  # on the way to the table that the header opens
                spans.keys.setdefault(way, (first + start, first + end))
            else:
                spans.keys[way] = (first + start, first + end)
            if repeated:
                count[way] = count.get(way, -1) + 1
            if way in count:
                way = (*way, count[way])
        if isinstance(way[-1], int):
            closing = line.index("]]", end) + 2
            spans.keys[way] = (first + indent, first + closing)


_PAIR = re.compile(r"""([A-Za-z0-9_-]+)["']?\s*=\s*("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s,{}\[\]"'][^\s,}\]]*)""")


def _blotted(line: str, hide: Callable[[KeyPath, object], bool]) -> str:
    """A line of a file that can't be parsed, with stars over what would be hidden in one that can."""
    return _PAIR.sub(
        lambda found: (
            line[found.start() : found.start(2)] + "*" * len(found[2])
            if hide((found[1],), found[2].strip("\"'"))
            else found[0]
        ),
        line,
    )


def _blot(
    source: Source, spans: _Spans, values: dict[str, Any], hide: Callable[[KeyPath, object], bool]
) -> None:
    """Put stars over the values that no excerpt may show; the text keeps its length, so that places stay."""
    text = source.text
    for way, (start, end) in spans.values.items():
        value: Any = values
        for part in way:
            value = value[part]
        if hide(way, value):
            stars = re.sub(r"[^\n]", "*", text[start:end])
            text = text[:start] + stars + text[end:]
    if text is not source.text:
        source.lines = text.split("\n")
