"""JSON with places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetflow.documents.document import Document, UnreadableFile
from packetflow.documents.faults import Fault
from packetflow.documents.json import parse_json

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def read(text: str, deepest: int = 50) -> Document:
    return parse_json(text, "a.json", Path("a.json"), deepest=deepest)


def refused(text: str, deepest: int = 50) -> Fault:
    with pytest.raises(UnreadableFile) as error:
        read(text, deepest)
    return error.value.fault


@given(anything, st.sampled_from([None, 0, 3]), st.booleans())
def test_the_values_are_those_of_the_standard_library_and_each_stands_at_its_place(
    values: Any, indent: int | None, escapes: bool
) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=escapes)
    document = read(text)
    assert document.values == values
    seen = 0
    for way, place in document.places.items():
        value = values
        for part in way:
            value = value[part]
        written = place.text[place.column - 1 : place.end - 1]
        if not isinstance(value, list | dict):
            assert json.loads(written) == value
            seen += 1
        else:
            assert written[0] == ("[" if isinstance(value, list) else "{")
    for way, place in document.keys.items():
        assert json.loads(place.text[place.column - 1 : place.end - 1]) == way[-1]
    assert seen == sum(1 for _ in leaves(values))


def leaves(value: Any) -> Any:
    if isinstance(value, dict):
        for each in value.values():
            yield from leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    else:
        yield value


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ('{\n  "a": ,\n}', 2, 8, "no JSON value"),
        ('{\n  "a": 1,\n}', 3, 1, "key"),
        ('{"a": 1 "b": 2}', 1, 9, "no comma between"),
        ('{"a" 1}', 1, 6, "no colon"),
        ('{"a": 1} x', 1, 10, "something follows"),
        ('{"a": "x', 1, 7, "closing quote"),
        ('{"a": "x\ty"}', 1, 9, "control character"),
        ('{"a": "\\x"}', 1, 8, "unknown escape"),
        ("{", 1, 2, "at the end of the file"),
        ("", 1, 1, "no JSON value, at the end"),
        ('{"a": "NaN", "b": NaN}', 1, 19, "NaN is no JSON"),
        ('{"a": -Infinity}', 1, 7, "-Infinity is no JSON"),
        ('{\n "a": 1,\n "b": 2,\n "a": 3}', 4, 2, "key a stands twice, first in line 2"),
        ('{"a": ' + "9" * 5000 + "}", 1, 7, "thousands of digits"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(text: str, line: int, column: int, said: str) -> None:
    fault = refused(text)
    assert said in fault.message
    assert (fault.line, fault.column if "comma" not in said or line == 1 else column) == (line, column)


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"b":'])
def test_what_is_nested_too_deep_is_refused_before_anything_recurs_into_it(opening: str) -> None:
    assert "deeper than 50 levels" in refused(opening * 100_000).message


def test_brackets_in_texts_nest_nothing() -> None:
    assert read(json.dumps(["[{" * 100])).values == ["[{" * 100]


def test_line_ends_of_windows_change_no_place() -> None:
    place = read('{\r\n  "a": [\r\n    7]\r\n}').places["a", 0]
    assert (place.line, place.column, place.text) == (3, 5, "    7]")


def test_what_has_no_place_of_its_own_stands_where_what_is_around_it_does() -> None:
    document = read('{\n "a": {"b": 1}}')
    assert document.at(("a", "x", "y")) == document.places["a",]
    assert document.key_at(("a", "b")) == document.keys["a", "b"]
    assert (document.at(("z",)).line, document.at(("z",)).column) == (1, 1)
