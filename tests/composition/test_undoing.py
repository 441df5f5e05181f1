"""What was done and does not count is undone: attempts that are tried again, those who lose, all that fails, in any hurry."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.composition.building import (
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
)
from packetflow.composition.nodes import Step, Value
from packetflow.testing import World, simulate
from packetflow.wire.errors import Timeout

from .desk import Desk, run_plan


def do(word: str, seconds: float = 0.0, undo: float = 0.0) -> Step:
    """A step that takes some seconds, and is undone in some."""
    return step(
        "test.do",
        inputs={"word": Value(word), "seconds": Value(seconds)},
        name=word,
        compensate=step("test.undo", inputs={"word": Value(word), "seconds": Value(undo)}),
    )


def each(seconds: float = 0.0) -> Step:
    """A step that does `item`, and says how it is undone."""
    return step(
        "test.do",
        inputs={"word": "item", "seconds": Value(seconds)},
        compensate=step("test.undo", inputs={"word": "item"}),
    )


def failing(**times: int) -> Any:
    """Words fail so often; `undo_x` is the undoing of x."""
    return lambda desk: desk.failing.update({word.replace("_", " "): n for word, n in times.items()})


# ---- an attempt that failed ------------------------------------------------------------------------------------------------


def test_what_a_failed_attempt_of_a_chunk_did_is_undone_before_the_next() -> None:
    plan = map_reduce("words", each(), chunk=2, attempts=2)
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1))
    assert answer.ok
    assert desk.done == ["a", "undo a", "a", "b"]
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=2))
    assert answer.error is not None
    assert desk.done == ["a", "undo a"] * 2


def test_what_a_failed_attempt_of_a_retry_did_is_undone_before_the_next() -> None:
    plan = retry(loop(each(), over="words", max_iterations=9), attempts=2)
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1))
    assert answer.ok
    assert desk.done == ["a", "undo a", "a", "b"]


def test_and_before_the_fallback() -> None:
    plan = retry(loop(each(), over="words", max_iterations=9), attempts=1, fallback=do("c"))
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1))
    assert answer.ok
    assert desk.done == ["a", "undo a", "c"]


@pytest.mark.parametrize("body", ["loop", "pipeline"])
def test_what_could_not_be_undone_is_not_tried_again(body: str) -> None:
    """Given an attempt whose compensation fails, when it would be tried again, then the retry ends and says so."""
    inner = loop(each(), over="words", max_iterations=9) if body == "loop" else pipeline(do("a"), do("b"))
    plan = retry(inner, attempts=5, fallback=do("c"))
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1, undo_a=1))
    assert answer.error.details["not_undone"] == ["test.do" if body == "loop" else "a"]
    assert desk.done == ["a"]
    assert "compensation failed" in desk.world.log


def test_a_chunk_that_could_not_be_undone_is_not_tried_again() -> None:
    plan = map_reduce("words", each(), chunk=2, attempts=5)
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1, undo_a=1))
    assert answer.error.details["not_undone"] == ["test.do"]
    assert desk.done == ["a"]


# ---- who loses -------------------------------------------------------------------------------------------------------------


def test_what_the_loser_of_a_race_did_is_undone() -> None:
    slow = loop(each(2.0), over="words", max_iterations=9)
    answer, desk, _ = run_plan(race(slow, do("quick", 3.0)), {"words": ["a", "b"]})
    assert answer.value == {"quick": "quick"}
    assert desk.done == ["a", "quick", "undo a"]


def test_a_loser_that_ends_at_the_same_time_is_undone_too() -> None:
    answer, desk, _ = run_plan(race(do("a", 1.0), do("b", 1.0)))
    (won,) = answer.value
    lost = {"a": "b", "b": "a"}[won]
    assert desk.done.count(f"undo {lost}") == desk.done.count(lost)
    assert f"undo {won}" not in desk.done


def test_what_the_loser_of_a_hedge_did_is_undone() -> None:
    plan = hedge(loop(each(2.0), over="words", max_iterations=9), after=1.0)
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]})
    assert answer.ok
    assert desk.done == ["a", "a", "b", "undo a"]


def test_what_the_winner_did_is_undone_when_a_later_step_fails() -> None:
    plan = pipeline(race(do("a", 1.0), do("b", 50.0)), do("c"))
    answer, desk, _ = run_plan(plan, None, failing(c=1))
    assert answer.error is not None
    assert desk.done == ["a", "undo a"]


def test_what_a_strand_did_that_failed_is_undone_and_the_others_stay() -> None:
    plan = parallel(loop(each(), over="words", max_iterations=9), do("c", 1.0), partial_failure="continue")
    answer, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(b=1))
    assert answer.ok
    assert desk.done == ["a", "undo a", "c"]


# ---- with what, and how often ----------------------------------------------------------------------------------------------


def test_each_iteration_is_undone_with_its_own_item() -> None:
    plan = pipeline(loop(each(), over="words", max_iterations=9), do("c"))
    _, desk, _ = run_plan(plan, {"words": ["a", "b"]}, failing(c=1))
    assert desk.done == ["a", "b", "undo b", "undo a"]


def test_a_step_is_undone_with_what_the_scope_had_when_it_was_done() -> None:
    plan = pipeline(
        step("test.do", inputs={"word": "w"}, compensate=step("test.undo", inputs={"word": "w"})),
        step("test.double", inputs={"number": Value(1)}, outputs={"result": "w"}),
        do("c"),
    )
    _, desk, _ = run_plan(plan, {"w": "a"}, failing(c=1))
    assert desk.done == ["a", "undo a"]


@pytest.mark.parametrize("where", ["inside", "after", "at once"])
def test_a_sagas_patience_holds_for_all_that_is_in_it(where: str) -> None:
    plan = {
        "inside": saga(pipeline(do("a"), do("b"))),
        "after": pipeline(saga(do("a")), do("b")),
        "at once": saga(parallel(do("a"), do("b", 1.0))),
    }[where]
    answer, desk, _ = run_plan(plan, None, failing(b=1, undo_a=4))
    assert "not_undone" not in answer.error.details
    assert desk.done == ["a", "undo a"]


def test_a_pipeline_beside_a_saga_has_none_of_its_patience() -> None:
    answer, _, _ = run_plan(pipeline(saga(do("x")), do("a"), do("b")), None, failing(b=1, undo_a=4))
    assert answer.error.details["not_undone"] == ["a"]


# ---- when there is no time -------------------------------------------------------------------------------------------------


def test_what_is_undone_has_time_of_its_own() -> None:
    """Given a request that is out of time, when what it did takes long to undo, then it is undone to its end, in order."""
    plan = pipeline(do("a", undo=3.0), pipeline(do("b", undo=2.0), do("c", 100.0)))
    answer, desk, took = run_plan(plan, timeout=5.0)
    assert isinstance(answer.error, Timeout)
    assert took < 6
    assert desk.done == ["a", "b", "undo b", "undo a"]


def test_what_is_being_undone_when_the_time_is_over_goes_on() -> None:
    plan = pipeline(do("a", undo=3.0), pipeline(do("b", undo=2.0), do("c", 4.0)))
    answer, desk, took = run_plan(plan, None, failing(c=1), timeout=5.0)
    assert isinstance(answer.error, Timeout)
    assert took < 6
    assert desk.done == ["a", "b", "undo b", "undo a"]


def test_a_strand_that_is_cancelled_is_undone_in_order_before_those_around_it() -> None:
    inner = pipeline(do("b", undo=2.0), do("c", 100.0))
    plan = pipeline(do("a", undo=3.0), parallel(inner, sleep(400.0)))
    answer, desk, _ = run_plan(plan, timeout=5.0)
    assert isinstance(answer.error, Timeout)
    assert desk.done == ["a", "b", "undo b", "undo a"]


def test_what_a_node_that_stops_ends_is_undone() -> None:
    """Given a run under way, when its node stops, then what it did is undone, though no new request is let in any more."""

    def program(world: World) -> list[str]:
        desk = Desk(world)
        made = composition("test.plan", "x", pipeline(do("a", undo=1.0), do("b", 100.0)), timeout=600.0)
        node = world.node(capabilities=[*desk.capabilities(), made])
        running = gevent.spawn(node.request, "test.plan", {})
        gevent.sleep(1.0)
        node.stop(drain=0.0)
        assert running.get().error.code == "cancelled"
        return desk.done

    assert simulate(program, 1).value == ["a", "undo a"]


def test_what_is_undone_is_seen_in_the_trace_of_the_run() -> None:
    seen: list[Any] = []

    def program(world: World) -> None:
        desk = Desk(world)
        desk.failing["b"] = 1
        made = composition("test.plan", "x", pipeline(do("a"), do("b")))
        node = world.node(capabilities=[*desk.capabilities(), made])
        answer = node.request("test.plan", {})
        seen.append(node.trace(answer.trace_id))
        seen.append([row["capability"] for row in node.recent(10)])

    simulate(program, 1)
    assert [child["capability"] for child in seen[0]["children"]] == ["test.do", "test.do", "test.undo"]
    assert seen[1] == ["test.plan"]
