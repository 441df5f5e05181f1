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
    composition,
    parallel,
    pipeline,
    retry,
    sleep,
    step,
)
from packetflow.composition.data import from_data, told
from packetflow.composition.files import read_file
from packetflow.composition.nodes import Cel, Node, PlanError, Value
from packetflow.composition.plan import Composition
from packetflow.composition.writing import node_to_data, to_data
from packetflow.documents.faults import Fault

from .plans import changed, nodes


@settings(max_examples=100, deadline=None)
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


def test_python_functions_and_types_without_a_word_can_not_be_written() -> None:
    with pytest.raises(PlanError, match="expected a CEL text"):
        node_to_data(branch(lambda scope: True, then="test.a"))
    with pytest.raises(PlanError, match="has no word in a file"):
        to_data(composition("test.plan", "x", "test.a", requires={"a": complex}))


def test_a_value_without_an_end_is_told() -> None:
    """Given data that holds itself, or is nested without measure, when it is a plan or a value in one, then that is a fault."""
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    for value in (endless, deep):
        with pytest.raises(PlanError, match="more than 100"):
            from_data({"id": "test.p", "intent": "x", "plan": value})
        inputs = {"x": {"value": value}}
        with pytest.raises(PlanError, match="more than 100 deep"):
            from_data({"id": "test.p", "intent": "x", "plan": {"step": "test.a", "inputs": inputs}})
        with pytest.raises(PlanError, match="at most 100 deep"):
            node_to_data(step("test.a", inputs={"x": Value(value)}))


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
            {"step": "test.a", "name": 5},
            {"step": "test.a", "compensate": {"sleep": 1}},
            {"step": "test.a", "outputs": {"x": "1"}},
        ],
    }
    with pytest.raises(PlanError) as refused:
        from_data(data)
    said = {fault.key: told(fault).partition(": ")[2] for fault in refused.value.faults}
    assert said["intnt"] == "unknown key of a composition; nearest intent"
    assert said["intent"] == "intent is missing; expected a text"
    assert said["steps[0]"] == "does not say what it is; nearest step"
    assert "expected a capability's id" in said["steps[1].step"]
    assert said["steps[2].limt"] == "unknown key of parallel; nearest limit"
    assert said["steps[2].parallel[1]"].startswith("no node; given 5; expected a capability's id")
    assert "is no CEL" in said["steps[3].branch[0].when"]
    assert "expected when (a condition) and then (a node)" in said["steps[3].branch[1]"]
    assert said["steps[4]"] == "a loop needs max_iterations"
    assert "given 5; expected the name of something" in said["steps[5].inputs.a"]
    assert "says both step and loop" in said["steps[6]"]
    assert "attempts is 0" in said["steps[7].attempts"]
    assert "expected cases" in said["steps[8].branch"]
    assert "expected seconds" in said["steps[9].sleep"]
    assert said["steps[10].name"] == "wrong value; given 5; expected a text"
    assert said["steps[11].compensate"] == "a sleep; expected one step"
    assert "output 'x' goes to '1'" in said["steps[12].outputs"]
    assert len(said) == 17


def deep(levels: int) -> Any:
    data: Any = "test.a"
    for _ in range(levels):
        data = [data]
    return data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "expected a table"),
        ({"id": "test.a", "intent": "x"}, "no steps; expected steps (a pipeline), or plan"),
        ({"id": "test.a", "intent": "x", "steps": [], "plan": []}, "both steps and plan"),
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


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_whatever_data_there_is_it_is_a_plan_or_told(data: Any) -> None:
    """Given a good plan as data, when parts of it are anything at all, then it is read, or refused by PlanError with faults."""
    found = read_or_faults(data.draw(changed))
    if isinstance(found, Composition):
        assert from_data(to_data(found)) == found
    else:
        assert found
        assert all(fault.message for fault in found)


def read_or_faults(data: Any) -> Composition | tuple[Fault, ...]:
    try:
        return from_data(data)
    except PlanError as error:
        return error.faults
