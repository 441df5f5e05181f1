"""What is found in a plan before it runs, all of it, each with the place of its node."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from packetflow import capability
from packetflow.capabilities.definition import Capability, definition_of
from packetflow.composition.building import (
    branch,
    composition,
    loop,
    map_reduce,
    parallel,
    pipeline,
    race,
    retry,
    step,
    subflow,
)
from packetflow.composition.nodes import Cel, Node, Value
from packetflow.composition.plan import Composition
from packetflow.composition.validation import validate


@capability("user.find")
def find(email: str) -> dict[str, int]:
    """Whoever has this address."""
    return {}


@capability("user.greet")
def greet(user_id: int, name: str = "") -> str:
    """Say hello."""
    return ""


@capability("list.make")
def make(count: int) -> list[int]:
    """Some numbers."""
    return []


@capability("list.none")
def none() -> None:
    """Nothing."""


class Known:
    """What the tests' plans are held against."""

    def __init__(self, *plans: Composition) -> None:
        found = [definition_of(one) for one in (find, greet, make, none)]
        self.plans = {plan.id: plan for plan in plans}
        self.all: dict[str, Capability] = {one.id: one for one in found if one is not None}
        self.all |= {plan.id: plan.definition for plan in plans}

    def schemas(self, capability: str) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        found = self.all.get(capability)
        return None if found is None else (found.contract.requires, found.contract.provides)

    def ids(self) -> Iterable[str]:
        return self.all

    def plan(self, capability: str) -> Composition | None:
        return self.plans.get(capability)


def faults(plan: Node, **given: Any) -> list[str]:
    """The faults of a plan that starts with these names, given by their JSON types."""
    names = {name: {"type": kind} if kind else {} for name, kind in given.items()}
    return [str(fault) for fault in validate(plan, Known(), names)]


def test_a_sound_plan_has_none() -> None:
    plan = pipeline(
        step("list.make", outputs={"result": "numbers"}),
        loop(step("user.greet", inputs={"user_id": "item"}), over="numbers", max_iterations=5),
        branch("size(numbers) > 1", then=step("user.find")),
    )
    assert faults(plan, count="integer", email="string") == []


@pytest.mark.parametrize(
    ("plan", "given", "said"),
    [
        (step("user.fnd"), {}, "plan: no capability 'user.fnd'; nearest user.find"),
        (step("user.find"), {}, "plan: user.find requires 'email', which nothing gives; there is nothing; inputs renames one"),
        (step("user.find", inputs={"email": "mail"}), {"email": "string"}, "plan: email is to be 'mail', which nothing gives; nearest email"),
        (step("user.find", inputs={"mail": "email"}), {"email": "string"}, "plan: user.find has no parameter 'mail'; it has email"),
        (step("user.greet"), {"user_id": "array"}, "plan: user_id is array; expected integer"),
        (step("user.greet", inputs={"user_id": Value([1])}), {}, "plan: user_id = [1] is array; expected integer"),
        (step("user.greet", inputs={"user_id": Cel("nmber")}), {"number": "integer"}, "plan: 'nmber' names 'nmber', which nothing gives; nearest number"),
        (branch("totl > 1", then="list.none"), {"total": "number"}, "plan: 'totl > 1' names 'totl', which nothing gives; nearest total"),
        (branch("1 > 2", then="list.none"), {}, "0: it is never reached: '1 > 2' never holds"),
        (branch("true", ("x > 1", "list.none"), then="list.none", otherwise="list.none"), {"x": None}, "otherwise: it is never reached: a case before it always holds"),
        (loop("list.none", over="numbrs", max_iterations=1), {"numbers": "array"}, "plan: it goes over 'numbrs', which nothing gives; nearest numbers"),
        (loop("list.none", over="word", max_iterations=1), {"word": "string"}, "plan: it goes over 'word', which is of type string; expected an array"),
        (parallel("list.make", "user.greet"), {"count": "integer", "user_id": "integer"}, "plan: both list.make and user.greet put 'result'; rename one with outputs, or give combine"),
        (map_reduce("items", "user.greet"), {"items": "array"}, "map: user.greet requires 'user_id'"),
        (retry("list.none", retry_when="eror.code == 'x'"), {}, "plan: \"eror.code == 'x'\" names 'eror'"),
        (pipeline(step("list.make", compensate="list.undo")), {"count": "integer"}, "0/compensate: no capability 'list.undo'"),
    ],
)  # fmt: skip
def test_each_fault_has_its_place_and_says_what_is_expected(
    plan: Node, given: dict[str, Any], said: str
) -> None:
    found = faults(plan, **given)
    assert any(fault.startswith(said) for fault in found), found


def test_all_faults_are_found_at_once() -> None:
    plan = pipeline("list.make", "user.greet", branch("a > 1", then="list.nne"))
    assert [fault.split(":")[0] for fault in faults(plan)] == ["0", "1", "2", "2/0"]


def test_what_some_way_sets_may_be_null_and_is_known() -> None:
    plan = pipeline(
        branch("n > 1", then=step("list.make", outputs={"result": "some"})),
        branch("some == null", then="list.none"),
    )
    assert faults(plan, n="integer", count="integer") == []


def test_what_may_fit_passes_and_numbers_may_be_texts() -> None:
    assert faults(step("user.greet"), user_id=None) == []
    assert faults(step("user.greet"), user_id="string") == []
    assert faults(step("user.find"), email="integer") == ["plan: email is integer; expected string"]


def test_the_fields_of_a_mapping_show_only_when_it_runs() -> None:
    assert faults(pipeline(step("user.find"), branch("whatever > 1", then="list.none")), email="string") == []


def test_strands_of_a_race_may_put_the_same_name() -> None:
    plan = race("list.make", "user.greet")
    assert faults(plan, count="integer", user_id="integer") == []
    assert (
        faults(parallel("list.make", "user.greet", combine="list"), count="integer", user_id="integer") == []
    )


def test_what_a_composition_provides_has_to_come_from_somewhere() -> None:
    plan = composition(
        "test.plan", "x", step("list.make"), requires={"count": int}, provides={"reslt": "array"}
    )
    (fault,) = validate(plan, Known(plan))
    assert str(fault) == "plan: it provides 'reslt', which nothing gives; nearest result"


def test_compositions_that_call_each_other_are_named() -> None:
    first = composition("test.first", "x", pipeline("list.none", subflow("test.second")))
    second = composition("test.second", "x", subflow("test.third"))
    third = composition("test.third", "x", subflow("test.first"))
    known = Known(first, second, third)
    (fault,) = validate(first, known)
    assert str(fault) == "1: it calls itself: test.first -> test.second -> test.third -> test.first"
    assert "test.own -> test.own" in str(
        validate(own := composition("test.own", "x", "test.own"), Known(own))[0]
    )
