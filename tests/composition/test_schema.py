"""The published schema of plans: what is read is valid by it, and what is wrong is not."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.composition.building import composition
from packetflow.composition.data import from_data
from packetflow.composition.nodes import Node, PlanError
from packetflow.composition.schema import plan_schema, schema_text
from packetflow.composition.writing import to_data

from .json_schema import valid
from .plans import changed, nodes

ROOT = Path(__file__).resolve().parents[2]
SCHEMA = plan_schema()
FILES = sorted([*ROOT.glob("examples/*/flows/*.toml"), *ROOT.glob("tests/cli/desk/flows/*.toml")])


def test_what_is_published_is_what_is_read() -> None:
    published = (ROOT / "docs" / "plan.schema.json").read_text()
    assert published == schema_text(), "write it anew: packetflow.composition.schema.schema_text()"
    assert json.loads(published)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_plans_of_the_examples_are_valid(file: Path) -> None:
    assert valid(tomllib.loads(file.read_text()), SCHEMA, SCHEMA)


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_every_plan_is_valid(plan: Node) -> None:
    data = to_data(composition("test.plan", "x", plan, requires={"a": "string?"}, provides={"b": "any"}))
    assert valid(json.loads(json.dumps(data)), SCHEMA, SCHEMA)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_read_is_valid(data: Any) -> None:
    """Given a plan's data in which something was changed, when it is read as a plan, then the schema allows it."""
    one = data.draw(changed)
    if is_read(one):
        assert valid(one, SCHEMA, SCHEMA)


def is_read(data: Any) -> bool:
    try:
        from_data(data)
    except PlanError:
        return False
    return True


@pytest.mark.parametrize(
    "plan",
    [
        5,
        [],
        "Test",
        {"stp": "a.b"},
        {"step": "a.b", "timout": 5},
        {"step": "a.b", "timeout": 0},
        {"step": "a.b", "timeout": True},
        {"step": "a.b", "inputs": {"x": 5}},
        {"step": "a.b", "inputs": {"x": {"value": 1, "cel": "1"}}},
        {"step": "a.b", "outputs": {"x": "not a name"}},
        {"step": "a.b", "name": ""},
        {"step": "a.b", "loop": "a.b"},
        {"step": "a.b", "timeout": None},
        {"parallel": ["a.b"], "combine": "lst"},
        {"parallel": ["a.b"], "limit": None},
        {"loop": "a.b", "over": "x"},
        {"loop": "a.b", "max_iterations": 5},
        {"loop": "a.b", "over": "x", "while": "y", "max_iterations": 5},
        {"branch": []},
        {"branch": [{"when": "x"}]},
        {"map_reduce": "a.b", "over": "x", "chunk": 0},
        {"map_reduce": "a.b"},
        {"retry": "a.b", "attempts": 1.5},
        {"retry": "a.b", "factor": 0.5},
        {"circuit_breaker": "a.b"},
        {"hedge": "a.b", "after": 0},
        {"hedge": "a.b", "after": None},
        {"sleep": -1},
    ],
)
def test_what_the_reader_refuses_the_schema_does_too(plan: Any) -> None:
    data = {"id": "test.plan", "intent": "x", "plan": plan}
    assert not is_read(data)
    assert not valid(data, SCHEMA, SCHEMA)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "X"},
        {"intent": ""},
        {"version": "1"},
        {"format": 2},
        {"tags": "x"},
        {"timeout": None},
        {"requires": {"a": "txt"}},
        {"x": 1},
    ],
)
def test_and_so_it_is_around_the_plan(change: dict[str, Any]) -> None:
    good = {"id": "test.plan", "intent": "x", "plan": "a.b", "durable": True}
    assert is_read(good)
    assert valid(good, SCHEMA, SCHEMA)
    assert not is_read({**good, **change})
    assert not valid({**good, **change}, SCHEMA, SCHEMA)
