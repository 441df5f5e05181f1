"""Plans as TOML and JSON: what is written reads the same again, and all faults are told at once, each with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.composition.building import (
    branch,
    circuit_breaker,
    composition,
    hedge,
    loop,
    map_reduce,
    parallel,
    pipeline,
    race,
    retry,
    saga,
    sleep,
    step,
    subflow,
)
from packetflow.composition.data import from_data, node_to_data, read_file, to_data
from packetflow.composition.drawing import as_mermaid, as_text
from packetflow.composition.nodes import Cel, Node, PlanError, Value
from packetflow.composition.plan import walk

ids = st.sampled_from(["test.a", "test.b", "shop.order@2"])
words = st.sampled_from(["a", "b", "total"])
conditions = st.sampled_from(["a > 1", "b == 'x'", "size(total) > 2"])
amounts = st.integers(1, 9)
names = st.none()


@st.composite
def steps(draw: Any) -> Node:
    inputs = draw(
        st.dictionaries(
            words, st.one_of(words, st.builds(Value, st.integers()), st.just(Cel("a + b"))), max_size=2
        )
    )
    undo = draw(st.one_of(st.none(), ids))
    return step(
        draw(ids), inputs=inputs, outputs=draw(st.dictionaries(words, words, max_size=2)), compensate=undo,
        timeout=draw(st.one_of(st.none(), st.floats(0.5, 9.0))),
    )  # fmt: skip


def bigger(node: Any) -> Any:
    several = st.lists(node, min_size=1, max_size=3)
    return st.one_of(
        several.map(lambda each: pipeline(*each)),
        several.map(lambda each: saga(*each, attempts=3)),
        st.builds(
            lambda each, limit, combine: parallel(*each, limit=limit, combine=combine),
            several,
            amounts,
            st.sampled_from([None, "list"]),
        ),
        several.map(lambda each: race(*each)),
        st.builds(
            lambda c, d, then, other: branch(c, (d, other), then=then, otherwise=other),
            conditions,
            conditions,
            node,
            node,
        ),
        st.builds(
            lambda body, most, test: loop(body, over="items", max_iterations=most, break_when=test),
            node,
            amounts,
            conditions,
        ),
        st.builds(
            lambda body, most: loop(body, while_="a > 1", max_iterations=most, delay=0.5), node, amounts
        ),
        st.builds(
            lambda each, reduce: map_reduce("items", each, reduce, chunk=2),
            node,
            st.one_of(st.just("sum"), node),
        ),
        st.builds(
            lambda body, other: retry(body, attempts=5, fallback=other, retry_when="attempt < 2"), node, node
        ),
        node.map(lambda body: circuit_breaker(body, key="bank")),
        node.map(lambda body: hedge(body, after=1.5)),
    )


nodes = st.recursive(
    st.one_of(steps(), st.just(sleep(2.0)), ids.map(step), ids.map(subflow)), bigger, max_leaves=8
)


@settings(max_examples=200, deadline=None)
@given(nodes)
def test_what_is_written_reads_the_same_again(plan: Node) -> None:
    made = composition(
        "test.plan",
        "A plan",
        plan,
        requires={"a": "integer", "b": str},
        provides={"total": "any"},
        tags=["x"],
    )
    data = json.loads(json.dumps(to_data(made)))
    again = from_data(data)
    assert again.body == plan
    assert to_data(again) == data


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_every_plan_can_be_drawn(plan: Node) -> None:
    text = as_text(plan)
    assert (
        len(text.splitlines())
        == sum(1 for place, _ in walk(plan) if not place.endswith("compensate") or True)
        or "compensate" in text
    )
    drawn = as_mermaid(plan)
    assert drawn.startswith("flowchart TD\n")
    defined = {
        line.strip().split("[")[0].split("(")[0].split("{")[0]
        for line in drawn.splitlines()[1:]
        if "--" not in line and "-." not in line
    }
    for line in drawn.splitlines()[1:]:
        for arrow in (" --> ", " -.-> "):
            if arrow in line:
                assert line.strip().split(" ")[0] in defined
                assert line.strip().split(" ")[-1] in defined


def test_python_functions_and_types_without_a_word_can_not_be_written() -> None:
    with pytest.raises(PlanError, match="expected a CEL text"):
        node_to_data(branch(lambda scope: True, then="test.a"))
    with pytest.raises(PlanError, match="has no word in a file"):
        to_data(composition("test.plan", "x", "test.a", requires={"a": complex}))


TOML = """
id = "ship.order"
intent = "Take, pay, send"
requires = { order = "string", total = "number" }

[[steps]]
step = "stock.take"
inputs = { item = "order", amount = { value = 1 }, reason = { cel = "'order ' + order" } }
compensate = "stock.put_back"

[[steps]]
branch = [{ when = "total > 100.0", then = "sales.approve" }]
otherwise = ["sales.note", { sleep = 1.5 }]

[[steps]]
parallel = ["mail.send", { retry = "parcel.send", attempts = 5 }]
limit = 2
"""


def test_a_file_is_a_composition(tmp_path: Path) -> None:
    file = tmp_path / "ship.toml"
    file.write_text(TOML)
    made = read_file(file)
    assert made.id == "ship.order"
    assert made.body == pipeline(
        step(
            "stock.take",
            inputs={"item": "order", "amount": Value(1), "reason": Cel("'order ' + order")},
            compensate="stock.put_back",
        ),
        branch("total > 100.0", then="sales.approve", otherwise=pipeline("sales.note", sleep(1.5))),
        parallel("mail.send", retry("parcel.send", attempts=5), limit=2),
    )
    other = tmp_path / "ship.json"
    other.write_text(json.dumps(to_data(made)))
    assert read_file(other) == made


def test_all_faults_are_told_at_once_each_with_its_place() -> None:
    data = {
        "id": "test.plan",
        "intnt": "x",
        "steps": [
            {"stp": "test.a"},
            {"step": "Test"},
            {"parallel": ["test.a", 5], "limt": 3},
            {"branch": [{"when": "a >", "then": "test.b"}, {"when": "a"}]},
            {"loop": "test.a", "over": "x"},
            {"step": "test.a", "inputs": {"a": 5}},
            {"step": "test.a", "loop": "test.b"},
            {"retry": "test.a", "attempts": 0},
            {"branch": "test.a"},
            {"sleep": "long"},
        ],
    }
    with pytest.raises(PlanError) as refused:
        from_data(data)
    told = {fault.place: fault.message for fault in refused.value.faults}
    assert told["intnt"].startswith("unknown key of a composition; nearest intent")
    assert told["intent"] == "is None; expected a text"
    assert "nearest step" in told["steps[0]"]
    assert "expected a capability's id" in told["steps[1]"]
    assert "nearest limit" in told["steps[2].limt"]
    assert told["steps[2].parallel[1]"].startswith("is 5; expected a step")
    assert "expected when (a condition) and then (a node)" in told["steps[3].branch[1]"]
    assert told["steps[4]"] == "a loop needs max_iterations"
    assert "expected a name, { value = ... }" in told["steps[5].inputs.a"]
    assert "says both step and loop" in told["steps[6]"]
    assert "attempts is 0" in told["steps[7]"]
    assert "expected cases" in told["steps[8].branch"]
    assert "expected seconds" in told["steps[9].sleep"]


def deep(levels: int) -> Any:
    data: Any = "test.a"
    for _ in range(levels):
        data = [data]
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "expected a table"),
        ({"id": "test.a", "intent": "x"}, "expected one of steps"),
        ({"id": "test.a", "intent": "x", "steps": [], "plan": []}, "expected one of steps"),
        ({"id": "test.a", "intent": "x", "steps": []}, "at least one step"),
        ({"id": "A", "intent": "x", "plan": "test.a"}, "dotted lower-case"),
        (
            {"id": "test.a", "intent": "x", "plan": "test.a", "requires": {"x": "txt"}},
            "one of string, integer",
        ),
        ({"id": "test.a", "intent": "x", "plan": "test.a", "requires": []}, "expected a table of names"),
        ({"id": "test.a", "intent": "x", "plan": deep(10_000)}, "100 nodes deep"),
        ({"id": "test.a", "intent": "x", "plan": ["test.a"] * 1_001}, "1,000 nodes"),
    ],
)
def test_what_is_no_plan_is_told(data: Any, said: str) -> None:
    with pytest.raises(PlanError) as refused:
        from_data(data)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.toml", "id = ", "not TOML"),
        ("a.json", "{", "not JSON"),
        ("a.json", "[" * 100_000, "not JSON"),
        ("a.toml", "id = 'x'", "intent: is None"),
    ],
)
def test_a_fault_of_a_file_names_the_file(name: str, text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(PlanError) as refused:
        read_file(file)
    assert str(file) in str(refused.value)
    assert said in str(refused.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="No such file"):
        read_file(tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(PlanError, match="not UTF-8 at byte 1"):
        read_file(tmp_path / "bytes.toml")
