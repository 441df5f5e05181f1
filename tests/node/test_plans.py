"""Plans at the door: modules see a composition once, may rewrite or refuse it, and may set a plan on a request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from packetflow import Intercept, Module, Node, Reject, capability
from packetflow.composition.building import composition, pipeline, step
from packetflow.composition.nodes import Pipeline, Value
from packetflow.composition.plan import replaced
from packetflow.intelligence.answers import Optimize
from packetflow.wire.errors import Rejected, Unavailable, ValidationFailed


@capability("word.say")
def say(word: str = "nothing") -> str:
    """Say it."""
    return word


@capability("word.shout")
def shout(word: str = "nothing") -> str:
    """Say it louder."""
    return word.upper()


twice = composition(
    "word.twice",
    "Say it, and say it again",
    pipeline("word.say", step("word.say", name="again")),
    requires={"word": str},
)
outer = composition("word.outer", "Around it", pipeline("word.twice"), requires={"word": str})


class Planner(Module):
    """Sees plans, and does with them what a test says."""

    seen: list[str]

    def init(self, config: Any) -> None:
        self.seen = []

    def handle_composition(self, plan: Any, context: Any) -> Any:
        self.seen.append(plan.id)
        return act[0](plan)


act: list[Any] = []


def acts(function: Any) -> None:
    """What the modules of these tests do from now on."""
    act[:] = [function]


@pytest.fixture(autouse=True)
def _nothing() -> Any:
    acts(lambda plan: None)


@pytest.fixture
def node() -> Any:
    with Node(capabilities=[say, shout, twice, outer], modules=[Planner]) as made:
        yield made


def planner(node: Node) -> Planner:
    found = node.placed()[0].gate.module
    assert isinstance(found, Planner)
    return found


def test_a_composition_is_seen_once_when_its_run_begins_and_a_bare_step_never(node: Node) -> None:
    assert node.call("word.twice", {"word": "hi"}) == "hi"
    assert planner(node).seen == ["word.twice"]
    node.call("word.say", {"word": "hi"})
    assert planner(node).seen == ["word.twice"]
    node.call("word.outer", {"word": "hi"})
    assert planner(node).seen == ["word.twice", "word.outer", "word.twice"]


def test_a_rewrite_is_run_and_the_trace_shows_what_it_changed(node: Node) -> None:
    acts(lambda plan: Optimize(replace(plan, body=replaced(plan.body, "1", step("word.shout")))))
    response = node.request("word.twice", {"word": "hi"})
    assert response.value == "HI"
    (note,) = [detail for _, what, detail in response.trace.notes if what == "optimized"]
    assert note == ["1: step again (name='again') -> step word.shout"] or note == [
        "1: step again -> step word.shout"
    ]


def test_a_rewrite_that_can_not_run_is_dropped_and_told(node: Node) -> None:
    acts(lambda plan: Optimize(replace(plan, body=step("word.shuot"))))
    response = node.request("word.twice", {"word": "hi"})
    assert response.value == "hi"
    assert (
        node.modules()[0]["last_error"]
        == "its plan can't be run: plan: no capability 'word.shuot'; nearest word.shout"
    )


def test_a_refusal_is_the_answer(node: Node) -> None:
    acts(lambda plan: Reject("no_plans", "not today"))
    assert isinstance(node.request("word.twice", {"word": "hi"}).error, Rejected)


class Rewriter(Module):
    """Has a plan run instead of a capability."""

    def handle_request(self, request: Any, context: Any) -> Any:
        if request.capability == "word.say" and context.parent is None:
            return Intercept(request.with_plan(act[0](request)))
        return None


def test_a_module_may_set_a_plan_on_a_request() -> None:
    acts(lambda request: pipeline(step("word.say", outputs={"result": "word"}), "word.shout"))
    with Node(capabilities=[say, shout], modules=[Rewriter]) as node:
        assert node.call("word.say", {"word": "hi"}) == "HI"
        acts(lambda request: pipeline("word.sya"))
        refused = node.request("word.say", {"word": "hi"}).error
        assert isinstance(refused, ValidationFailed)
        assert "nearest word.say" in refused.message
        acts(lambda request: "no plan")
        assert isinstance(node.request("word.say", {"word": "hi"}).error, ValidationFailed)


def test_a_modules_plan_is_bounded_too() -> None:
    deep: Any = step("word.say")
    for _ in range(5_000):
        deep = Pipeline((deep,))
    acts(lambda request: deep)
    with Node(capabilities=[say], modules=[Rewriter]) as node:
        assert "100 nodes deep" in node.request("word.say").error.message  # type: ignore[union-attr]


def test_circuits_are_seen_in_the_stats() -> None:
    from packetflow.composition.building import circuit_breaker

    @capability("bank.pay")
    def pay() -> None:
        """It is closed."""
        raise Unavailable("the bank is closed")

    made = composition("bank.try", "Try it", circuit_breaker("bank.pay", key="bank", threshold=1))
    with Node(capabilities=[pay, made]) as node:
        assert node.stats()["circuits"] == []
        node.request("bank.try")
        assert node.stats()["circuits"] == [{"key": "bank", "state": "open", "failures": 1, "opened": 1}]
        assert node.request("bank.try").error.retry_after is not None  # type: ignore[union-attr]


def test_compositions_are_seen_by_those_who_may_call_them(node: Node) -> None:
    session = node.session(grants=["word.twice", "system.*"])
    assert [row["id"] for row in node.call("system.flows", session=session)["flows"]] == ["word.twice"]
    flow = node.call("system.flow", {"id": "word.twice"}, session=session)
    assert flow["plan"]["plan"] == ["word.say", {"step": "word.say", "name": "again"}]
    assert node.request("system.flow", {"id": "word.outer"}, session=session).error.code == "not_found"  # type: ignore[union-attr]
    checked = node.call(
        "system.flow.check", {"plan": {"id": "a.b", "intent": "x", "plan": "word.sya"}}, session=session
    )
    assert checked == {
        "id": "a.b",
        "nodes": 1,
        "faults": [{"place": "", "message": "no capability 'word.sya'; nearest word.say"}],
    }
    assert (
        node.request("system.flow.check", {"plan": {"id": "a.b"}}, session=session).error.code
        == "validation_failed"
    )  # type: ignore[union-attr]


def test_a_payload_is_checked_before_the_plan_begins(node: Node) -> None:
    assert isinstance(node.request("word.twice", {"wrd": "hi"}).error, ValidationFailed)
    assert Value(1) == Value(1)
