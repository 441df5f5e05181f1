"""YAML with places: the core schema of YAML 1.2, and nothing that runs, grows or loops."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from packetflow.documents.document import Document, UnreadableFile
from packetflow.documents.faults import Fault
from packetflow.documents.yaml import parse_yaml

from .test_json import anything

printable = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")))
# Texts to YAML 1.1, and numbers to 1.2: `0E0` and `0o7` are written without quotes by who writes 1.1.
ours_alone = re.compile(r"[-+]?(\d+|\d*\.\d*)[eE][-+]?\d+|0o[0-7]+")
agreed = printable.filter(lambda text: not ours_alone.fullmatch(text))


def read(text: str, deepest: int = 50) -> Document:
    return parse_yaml(text, "a.yaml", Path("a.yaml"), deepest=deepest)


def refused(text: str, deepest: int = 50) -> Fault:
    with pytest.raises(UnreadableFile) as error:
        read(text, deepest)
    return error.value.fault


TEXT = """\
# a plan
id: shop.order
steps:
  - step: stock.take
    inputs: {item: order, amount: {value: 1}}
  - sleep: 1.5
"""


def test_values_and_keys_have_their_places() -> None:
    document = read(TEXT)
    assert document.values == {
        "id": "shop.order",
        "steps": [
            {"step": "stock.take", "inputs": {"item": "order", "amount": {"value": 1}}},
            {"sleep": 1.5},
        ],
    }
    places = {way: (place.line, place.column) for way, place in document.places.items()}
    assert places["id",] == (2, 5)
    assert places["steps", 0] == (4, 5)
    assert places["steps", 0, "inputs", "amount", "value"] == (5, 43)
    assert places["steps", 1, "sleep"] == (6, 12)
    key = document.keys["steps", 0, "inputs", "amount"]
    assert (key.line, key.column, key.end, key.text) == (5, 27, 33, TEXT.split("\n")[4])


@given(anything)
def test_json_is_yaml(values: Any) -> None:
    assert read(json.dumps(values)).values == values


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | agreed,
        lambda x: st.lists(x) | st.dictionaries(agreed, x),
    )
)
def test_what_others_write_is_read_as_they_meant_it(values: Any) -> None:
    assert read(yaml.safe_dump(values, allow_unicode=True)).values == values


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("no", "no"), ("yes", "yes"), ("1:30", "1:30"), ("2024-01-02", "2024-01-02"), ("<<", "<<"),
        ("true", True), ("False", False), ("~", None), ("", None), ("null", None), ("0o17", 15), ("0x1F", 31), ("-7", -7),
        ("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), (".inf", float("inf")), ("-.inf", float("-inf")),
        ("'5'", "5"), ('"true"', "true"), ("!!str 5", "5"), ("!!int 5", 5), ("!!float 5", 5.0), ("! 5", "5"),
        ("|\n  a\n  b\n", "a\nb\n"),
    ],
)  # fmt: skip
def test_plain_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    (found,) = read(f"- {text}").values
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("a: 1\nb: 2\na: 3", (3, 1), "key a stands twice, first in line 1"),
        ("a: [1, 2", (1, 9), "syntax"),
        ("a:\n\t- 1", (2, 1), "syntax"),
        ("a: !!python/object/apply:os.system [ls]", (1, 4), "python/object/apply:os.system is not read"),
        ("a: !!int x", (1, 4), "x is no int"),
        ("1: a", (1, 1), "the key 1 is no text"),
        ("? [a]\n: b", (1, 3), "a list or mapping as a key"),
        ("a: &x 1\n*x : 2", (2, 1), "an alias as a key"),
        ("a: *b", (1, 4), "stands for nothing that is whole before it"),
        ("a: &x [1, *x]", (1, 11), "stands for nothing that is whole before it"),
        ("--- 1\n--- 2", (2, 1), "a second document begins"),
        ('a: "\\ud800"', (1, 4), "half a character"),
        ("a: \x07", (1, 4), "a character that YAML does not allow"),
        ("a: " + "9" * 5000, (1, 4), "thousands of digits"),
    ],
)
def test_what_is_not_read_is_told_with_its_place(text: str, place: tuple[int, int], said: str) -> None:
    fault = refused(text)
    assert said in fault.message
    assert (fault.line, fault.column) == place


def test_an_alias_stands_for_what_was_named() -> None:
    document = read("base: &b {x: 1}\nsteps: [*b, *b]")
    assert document.values == {"base": {"x": 1}, "steps": [{"x": 1}, {"x": 1}]}
    assert document.at(("steps", 1, "x")) == document.places["steps", 1]


def test_a_few_lines_that_name_billions_are_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "more than 100,000 values" in refused("\n".join(lines)).message


@pytest.mark.parametrize("text", ["[" * 10_000, "- " * 1_000 + "x", '{"a": ' * 10_000])
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    assert "deeper than 50 levels" in refused(text).message


def test_an_empty_file_is_nothing() -> None:
    assert read("").values is None
    assert read("# only a comment\n").values is None
