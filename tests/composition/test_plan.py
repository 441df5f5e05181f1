"""Plans as values: how they are written, what they refuse, how they are walked, rewritten and compared."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from packetflow import capability
from packetflow.capabilities.conditions import ConditionError, Expression
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
from packetflow.composition.nodes import Cel, Node, Parallel, Pipeline, PlanError, Step, Value
from packetflow.composition.plan import difference, node_at, replaced, shown, walk


@capability("test.first")
def first(number: int) -> int:
    """The first."""
    return number


def test_operators_make_the_same_values_as_functions() -> None:
    by_operators = first >> step("test.second") >> (step("test.third") & "test.fourth")
    by_functions = pipeline(first, "test.second", parallel("test.third", "test.fourth"))
    assert by_operators == by_functions
    assert "test.zero" >> step("test.first") == pipeline("test.zero", "test.first")
    assert first & step("test.second") == parallel(first, "test.second")


def test_one_with_a_name_stays_whole() -> None:
    named = pipeline("test.a", "test.b", name="both")
    assert (named >> step("test.c")).steps == (named, step("test.c"))
    limited = parallel("test.a", "test.b", limit=1)
    assert (limited & step("test.c")).steps == (limited, step("test.c"))


def test_plans_are_values() -> None:
    assert step("test.a", inputs={"x": "y"}) == step("test.a", inputs={"x": "y"})
    assert step("test.a") != step("test.b")
    with pytest.raises(FrozenInstanceError):
        step("test.a").capability = "test.b"  # type: ignore[misc]


def test_every_node_has_a_place() -> None:
    plan = pipeline(
        step("test.a", compensate="test.undo"),
        branch("x > 1", ("x > 0", "test.c"), then="test.b", otherwise=retry("test.d", fallback="test.e")),
        loop("test.f", over="items", max_iterations=3),
        map_reduce("items", "test.g", "test.h"),
        hedge(circuit_breaker(sleep(1.0), key="k"), after=1.0),
    )
    assert [place for place, _ in walk(plan)] == [
        "", "0", "0/compensate", "1", "1/0", "1/1", "1/otherwise", "1/otherwise/body", "1/otherwise/fallback",
        "2", "2/body", "3", "3/map", "3/reduce", "4", "4/body", "4/body/body",
    ]  # fmt: skip
    for place, node in walk(plan):
        assert node_at(plan, place) is node


def test_a_rewrite_makes_a_new_plan_and_shows_what_it_changed() -> None:
    plan = pipeline("test.a", branch("x > 1", then="test.b", otherwise="test.c"))
    new = replaced(replaced(plan, "1/0", step("test.better")), "0", parallel("test.a", "test.z"))
    assert node_at(plan, "1/0") == step("test.b")
    assert difference(plan, new) == [
        "0: step test.a -> parallel",
        "1/0: step test.b -> step test.better",
        "0/0: nothing -> step test.a",
        "0/1: nothing -> step test.z",
    ]
    assert difference(plan, plan) == []
    assert replaced(plan, "", step("test.all")) == step("test.all")
    for place in ("1/otherwise", "1/0"):
        assert node_at(replaced(plan, place, step("test.n")), place) == step("test.n")
    with pytest.raises(PlanError, match="there is no node at '1/7'"):
        replaced(plan, "1/7", step("test.n"))


def test_replacing_works_below_every_kind() -> None:
    plans = [
        saga("test.a"), race("test.a"), retry("test.a", fallback="test.b"), hedge("test.a", after=1.0),
        circuit_breaker("test.a", key="k"), loop("test.a", while_="true", max_iterations=1),
        map_reduce("items", "test.a", "test.b"), step("test.a", compensate="test.b"),
    ]  # fmt: skip
    for plan in plans:
        for place, _ in list(walk(plan))[1:]:
            assert node_at(replaced(plan, place, step("test.n")), place) == step("test.n")


def test_a_node_is_shown_in_a_few_words() -> None:
    assert shown(step("test.a", timeout=2.0)) == "step test.a (timeout=2.0)"
    assert shown(retry("test.a", attempts=7)) == "retry (attempts=7)"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: step("Ticket"), "expected a capability's id"),
        (lambda: step("test.a", inputs={"x": 5}), "Value(...)"),
        (lambda: step("test.a", inputs={"x": Cel("a +")}), "no CEL"),
        (lambda: step("test.a", outputs={"x": "not a name"}), "expected a name for the scope"),
        (lambda: step("test.a", timeout=0), "timeout is 0; expected seconds above 0"),
        (lambda: step("test.a", compensate=pipeline("test.b")), "expected one step"),
        (lambda: pipeline(), "at least one step"),
        (
            lambda: pipeline(step("test.a", name="x"), step("test.b", name="x")),
            "two steps of a pipeline are called 'x'",
        ),
        (lambda: pipeline(lambda: None), "expected a node, a capability's id"),
        (lambda: Pipeline(("test.a",)), "expected nodes"),  # type: ignore[arg-type]
        (lambda: parallel("test.a", combine="zip"), "combine is 'zip'; expected one of 'list', 'merge'"),
        (lambda: parallel("test.a", limit=0), "limit is 0"),
        (lambda: branch("a >", then="test.a"), "no CEL"),
        (lambda: branch(5, then="test.a"), "5 is no condition"),  # type: ignore[arg-type]
        (lambda: loop("test.a", over="items", max_iterations=0), "max_iterations is 0"),
        (lambda: loop("test.a", max_iterations=1), "give one of over and while_"),
        (lambda: loop("test.a", over="a", while_="true", max_iterations=1), "give one of over and while_"),
        (lambda: retry("test.a", attempts=0), "attempts is 0"),
        (lambda: retry("test.a", delay=-1), "delay is -1"),
        (lambda: circuit_breaker("test.a", key=""), "key is ''"),
        (lambda: retry("test.a", delay=float("inf")), "delay is inf; expected a number from 0"),
        (lambda: retry("test.a", factor=float("nan")), "factor is nan"),
        (lambda: retry("test.a", jitter=1.5), "jitter is 1.5; expected a number from 0 to 1"),
        (lambda: loop("test.a", over="items", max_iterations=1, delay=float("nan")), "delay is nan"),
        (lambda: loop("test.a", over="items", max_iterations=1, delay=True), "delay is True"),
        (lambda: step("test.a", inputs={1: "x"}), "expected a parameter's name"),  # type: ignore[dict-item]
        (lambda: hedge("test.a", after=0), "after is 0"),
        (lambda: hedge("test.a", attempts=10**9), "expected a whole number from 1 to 100"),
        (
            lambda: composition("test.p", "x", "test.a", timeout=float("inf")),
            "timeout is inf; expected seconds above 0",
        ),
        (lambda: composition("test.p", "x", "test.a", timeout=-1), "timeout is -1"),
        (
            lambda: composition("test.p", "x", step("test.a", name="")),
            "the name of the plan is ''; expected a text",
        ),
        (
            lambda: composition("test.p", "x", "test.a", requires={"class": str}).definition,
            "no words of Python",
        ),
        (
            lambda: composition("test.p", "x", step("test.a", inputs={"x": Value(print)}), durable=True),
            "test.a is given a builtin_function_or_method, which can't be written out",
        ),
        (lambda: map_reduce("items", "test.a", chunk=0), "chunk is 0"),
        (lambda: sleep(float("inf")), "expected seconds"),
        (lambda: composition("Plan", "x", "test.a"), "dotted lower-case name"),
        (lambda: composition("test.p", "", "test.a"), "says nothing of itself"),
        (lambda: composition("test.p", "x", "test.a", version="1"), "major.minor.patch"),
        (
            lambda: composition("test.p", "x", "test.a", requires={"a": "strin"}).definition,
            "expected a type, or one of string",
        ),
    ],
)
def test_what_can_not_be_a_plan_says_why_and_what_is_expected(make: Any, said: str) -> None:
    with pytest.raises((PlanError, ConditionError)) as refused:
        make()
    assert said in str(refused.value)


def test_a_plan_is_bounded() -> None:
    with pytest.raises(PlanError, match=r"more than 1,000 nodes"):
        composition("test.p", "x", pipeline(*["test.a"] * 1_000))
    deep: Node = step("test.a")
    for _ in range(10_000):
        deep = Pipeline((deep,))
    with pytest.raises(PlanError, match=r"more than 100 nodes deep"):
        composition("test.p", "x", deep)


def test_a_composition_is_served_as_a_capability() -> None:
    made = composition(
        "test.plan",
        "It does it",
        "test.a",
        requires={"name": str, "age": "integer?"},
        provides={"id": "string"},
        tags=["x"],
    )
    definition = made.definition
    assert definition.id == "test.plan"
    assert definition.intent == "It does it"
    assert definition.tags == ("x",)
    assert definition.contract.requires["required"] == ["name"]
    assert set(definition.contract.requires["properties"]) == {"name", "age"}
    assert definition.contract.provides["properties"]["id"]["type"] == "string"
    assert made.definition is definition
    assert replace(made, body=step("test.b")).definition is not definition


def test_subflows_name_compositions() -> None:
    inner = composition("test.inner", "Inner", "test.a")
    assert subflow(inner).capability == "test.inner"
    assert subflow("test.inner").kind == "subflow"
    assert isinstance(subflow(inner), Step)


# ---- conditions --------------------------------------------------------------------------------------------------------


def test_names_that_are_not_given_are_null() -> None:
    assert Expression("a == null && b > 1").holds({"b": 2})


@pytest.mark.parametrize(
    ("text", "names", "value"),
    [
        ("amount > 100", {"amount": 100.5}, True),
        ("size(items) == 2", {"items": (1, 2)}, True),
        ("user.name == 'ana'", {"user": {"name": "ana"}}, True),
        ("word in ['a', 'b']", {"word": "b"}, True),
        ("has(user.name)", {"user": {}}, False),
        ("a + 1", {"a": 1}, 2),
    ],
)
def test_what_cel_says(text: str, names: dict[str, Any], value: Any) -> None:
    assert Expression(text).evaluate(names) == value


@pytest.mark.parametrize("text", ["a >", "", "foo(", "a b", "'"])
def test_what_is_no_cel_has_a_place(text: str) -> None:
    with pytest.raises(ConditionError, match="is no CEL") as refused:
        Expression(text)
    assert refused.value.line == 1


def test_hostile_texts_are_refused() -> None:
    with pytest.raises(ConditionError, match="at most"):
        Expression("a" * 5_000)
    with pytest.raises(ConditionError):
        Expression(5)  # type: ignore[arg-type]
    with pytest.raises(ConditionError):
        Expression("(" * 2_000 + "a" + ")" * 2_000).evaluate({"a": 1})


def test_a_misspelt_name_has_a_nearest_one() -> None:
    with pytest.raises(ConditionError, match="nearest amount") as refused:
        Expression("1 < amont").check_names(["amount", "user"])
    assert refused.value.column == 5


def test_inputs_are_constants_or_texts() -> None:
    assert Value({"a": 1}) == Value({"a": 1})
    assert Cel("a + b").text == "a + b"
    assert isinstance(parallel("test.a"), Parallel)
