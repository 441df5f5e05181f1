"""Plans in files: TOML, JSON and YAML are one schema, what is written reads the same again, and a fault is a place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.composition.building import composition, step
from packetflow.composition.data import Plan, read_data
from packetflow.composition.files import DEEPEST, read_file, read_plan
from packetflow.composition.nodes import Node, PlanError, Value
from packetflow.composition.plan import walk
from packetflow.composition.writing import Language, to_data, write_data, written
from packetflow.documents.document import Document
from packetflow.documents.faults import Fault
from packetflow.documents.json import parse_json
from packetflow.documents.toml import parse_toml
from packetflow.documents.yaml import parse_yaml

from .plans import nodes

PARSE: dict[Language, Any] = {"toml": parse_toml, "json": parse_json, "yaml": parse_yaml}
languages = st.sampled_from(["toml", "json", "yaml"])


def read_text(text: str, language: Language) -> Plan:
    document: Document = PARSE[language](text, "a", Path("a"), deepest=DEEPEST)
    return read_data(document.values, document)


def made(plan: Node) -> Any:
    return composition(
        "test.plan",
        'A "plan"',
        plan,
        requires={"a": "integer", "b": "string?"},
        provides={"c": "any"},
        tags=["x"],
    )


@settings(max_examples=60, deadline=None)
@given(nodes, languages)
def test_what_is_written_reads_the_same_again_in_every_language(plan: Node, language: Language) -> None:
    one = made(plan)
    assert read_text(written(one, language), language).composition == one


texts = st.text() | st.sampled_from(
    [
        "on",
        "0o17",
        "1e3",
        "null",
        "~",
        "\x7f",
        "a: b",
        "# x",
        "\u2028",
        "a\x85b",
        "a\nb ",
        "\t",
        "*a",
        "- x",
        "1:30",
        "",
    ]
)
values = st.recursive(
    st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(values, languages)
def test_values_survive_being_written(value: Any, language: Language) -> None:
    one = made(step("test.a", inputs={"x": Value(value)}))
    if language == "json" and "inf" in repr(value):
        return  # JSON has no infinity; the reader refuses what Python would write
    again = read_text(written(one, language), language).composition
    assert again == one


def test_toml_has_no_null_and_says_so() -> None:
    plan = made(step("test.a", inputs={"x": Value(None)}))
    with pytest.raises(PlanError, match="null, which TOML has no word for; write the plan as JSON or YAML"):
        written(plan, "toml")
    assert read_text(written(plan, "yaml"), "yaml").composition == plan


@settings(max_examples=60, deadline=None)
@given(nodes, languages)
def test_every_node_has_its_place_in_the_file(plan: Node, language: Language) -> None:
    read = read_text(written(made(plan), language), language)
    assert set(read.ways) == {place for place, _ in walk(plan)}
    for place, node in walk(plan):
        fault = read.fault(place, "x")
        assert fault.line > 0
        if node.kind == "step" and node == step(node.capability):  # type: ignore[attr-defined]
            assert node.capability in fault.excerpt[fault.column - 1 :]  # type: ignore[attr-defined]


BAD: dict[Language, str] = {
    "toml": """\
id = "test.plan"
intent = "x"
steps = [
    { step = "test.a", timout = 5 },
    { loop = "test.b", over = "items" },
    { branch = [{ when = "total >> 5", then = "test.c" }] },
    { retry = "test.d", attempts = 0 },
]
""",
    "json": """\
{
  "id": "test.plan", "intent": "x",
  "steps": [
    { "step": "test.a", "timout": 5 },
    { "loop": "test.b", "over": "items" },
    { "branch": [{ "when": "total >> 5", "then": "test.c" }] },
    { "retry": "test.d", "attempts": 0 }
  ]
}
""",
    "yaml": """\
id: test.plan
intent: x
steps:
  - { step: test.a, timout: 5 }
  - { loop: test.b, over: items }
  - branch: [{ when: "total >> 5", then: test.c }]
  - { retry: test.d, attempts: 0 }
""",
}


@pytest.mark.parametrize("language", list(BAD))
def test_each_fault_stands_at_its_line_and_column(language: Language) -> None:
    with pytest.raises(PlanError) as refused:
        read_text(BAD[language], language)
    lines = BAD[language].split("\n")
    unknown, missing, condition, attempts = refused.value.faults

    def marked(fault: Fault) -> str:
        return lines[fault.line - 1][fault.column - 1 : fault.end - 1]

    assert (marked(unknown).strip('"'), unknown.key, unknown.nearest) == (
        "timout",
        "steps[0].timout",
        "timeout",
    )
    assert marked(missing).startswith("{")
    assert (missing.key, missing.message) == ("steps[1]", "a loop needs max_iterations")
    assert lines[condition.line - 1][: condition.column - 1].endswith("total >")
    assert condition.key == "steps[2].branch[0].when"
    assert (marked(attempts), attempts.key) == ("0", "steps[3].attempts")
    text = str(refused.value)
    assert text.startswith(f"a:{unknown.line}:{unknown.column}: unknown key of step\n")
    assert "^^^^^^" in text
    assert text.endswith("4 errors")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "id = ", "a.toml:1:5: syntax"),
        ("a.json", "{", "a.json:1:2: syntax"),
        ("a.yaml", "a: [", "a.yaml:1:5: syntax"),
        ("a.json", "[" * 100_000, "deeper than 400 levels"),
        ("a.toml", "a = " + "[" * 100_000, "deeper than 400 levels"),
        ("a.yml", "- " * 1_000 + "x", "deeper than 400 levels"),
        ("a.toml", "intent = 'x'\nplan = 'a.b'", "a.toml:1:1: id is missing"),
        ("a.yaml", "", "no composition"),
        ("a.json", "[]", "no composition"),
        (
            "a.json",
            '{"id": "a.b", "intent": "x", "plan": {"step": "a.b", "inputs": {"x": {"value": NaN}}}}',
            "NaN is no JSON",
        ),
        (
            "a.toml",
            "id = 'a.b'\nintent = 'x'\nplan = { step = 'a.b', inputs = { x = { value = 2026-01-31 } } }",
            "have no dates",
        ),
        ("a.toml", "format = 2\nid = 'a.b'\nintent = 'x'\nplan = 'a.b'", "a.toml:1:10: wrong value"),
        ("a.toml", "id = 'a.b'\nintent = 'x'\nplan = 'a.b'\nversion = 1", "a.b: version 1"),
        ("a.toml", "id = 'a.b'\nintent = 'x'\nplan = 'a.b'\ntags = 'x'", "a list of texts"),
        ("a.toml", "id = 'a.b'\nintent = 'x'\nplan = 'a.b'\nrequires = { a = 'strng' }", "nearest string"),
    ],
)
def test_what_is_no_plan_is_told_with_its_place(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(PlanError) as refused:
        read_file(tmp_path / name)
    assert str(tmp_path / name) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_a_folder_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="no such file"):
        read_file(tmp_path / "none.toml")
    with pytest.raises(PlanError, match="this is a folder"):
        read_file(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"id = '\xff'")
    with pytest.raises(PlanError, match=r"1:7: the file is not UTF-8: byte 0xff"):
        read_file(tmp_path / "bytes.toml")
    (tmp_path / "big.json").write_text(" " * 300_000)
    with pytest.raises(PlanError, match="larger than 256 KiB"):
        read_file(tmp_path / "big.json")


def test_a_plan_as_deep_as_plans_may_be_is_read_in_every_language(tmp_path: Path) -> None:
    data: Any = "test.a"
    for _ in range(99):
        data = {"retry": data}
    whole = {"id": "test.plan", "intent": "x", "plan": data}
    for language in PARSE:
        file = tmp_path / f"a.{language}"
        file.write_text(write_data(whole, language))
        assert sum(1 for _ in walk(read_plan(file).composition.body)) == 100
    file.write_text(json.dumps({**whole, "plan": {"retry": {"retry": data}}}))
    with pytest.raises(PlanError, match="100 nodes deep"):
        read_plan(file)


def test_what_is_written_out_is_what_people_would_write() -> None:
    plan = composition(
        "shop.order",
        "Take, pay",
        step("stock.take", inputs={"n": Value(1)}) >> step("pay.take"),
        requires={"n": "integer"},
    )
    assert (
        written(plan, "toml")
        == """\
format = 1
id = "shop.order"
intent = "Take, pay"
version = "1.0.0"
requires = { n = "integer" }

[[steps]]
step = "stock.take"
inputs = { n = { value = 1 } }

[[steps]]
step = "pay.take"
"""
    )
    assert to_data(plan)["plan"] == [{"step": "stock.take", "inputs": {"n": {"value": 1}}}, "pay.take"]
