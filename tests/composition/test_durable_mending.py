"""Runs by hand: retried, forked, resumed on another plan, replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from packetflow import Context, capability
from packetflow.composition.building import (
    approval,
    branch,
    loop,
    parallel,
    pipeline,
    saga,
    step,
    wait_for,
)
from packetflow.composition.nodes import Node as PlanNode
from packetflow.composition.nodes import Step
from packetflow.wire.errors import Conflict, NotFound, Rejected, RequestError, ValidationFailed

from .durable import Place, ended, flow, left_waiting


class Work:
    """A step that fails as long as it is told to, and the keys that it was asked with."""

    def __init__(self) -> None:
        self.fails = True
        self.keys: list[str] = []

    def capabilities(self, place: Place) -> list[Callable[..., Any]]:
        @capability("work.may")
        def may(word: str, context: Context) -> dict[str, str]:
            """Do it, if that is possible."""
            self.keys.append(str(context.idempotency_key).partition("/")[2])
            if self.fails:
                raise ValueError("not yet")
            place.done.append(f"may {word}")
            return {"did": word}

        return [*place.capabilities(), may]


def begin(node: Any, id: str, **payload: Any) -> str:
    """Begin a run and let it end; its id."""
    run: str = node.call("system.run.start", {"composition": id, "payload": payload})["id"]
    node.call("system.run.wait", {"id": run})
    return run


FAILS = flow("test.fails", pipeline(step("work.do"), step("work.may"), step("work.do", name="last")))


def test_a_failed_run_goes_on_where_it_failed_with_the_same_key(place: Place) -> None:
    work = Work()
    node = place.node(FAILS, more=work.capabilities(place))
    run = begin(node, "test.fails", word="a")
    assert node.call("system.run", {"id": run})["state"] == "failed"
    work.fails = False
    node.call("system.run.retry", {"id": run})
    assert ended(node, run) == {"did": "a"}
    assert place.done == ["a", "may a", "a"]
    assert work.keys == ["1", "1"]
    with pytest.raises(Conflict, match="is completed, so there is nothing to retry"):
        node.call("system.run.retry", {"id": run})


def test_what_was_undone_is_done_again_with_new_keys(place: Place) -> None:
    work = Work()
    keys: list[str] = []

    @capability("work.take")
    def take(word: str, context: Context) -> None:
        """Take it."""
        keys.append(str(context.idempotency_key))

    body = saga(step("work.do"), step("work.take", compensate="work.undo"), step("work.may"))
    node = place.node(flow("test.saga", body), more=[*work.capabilities(place), take])
    run = begin(node, "test.saga", word="a")
    assert place.done == ["a", "undo a"]
    work.fails = False
    node.call("system.run.retry", {"id": run})
    assert ended(node, run) == {"did": "a"}
    assert place.done == ["a", "undo a", "may a"], "what was not undone is not done again"
    assert len(keys) == len(set(keys)) == 2


def test_a_retry_from_a_step_forgets_what_comes_after_it_and_nothing_else(place: Place) -> None:
    two = parallel(
        step("work.do", name="x", outputs={"did": "x"}),
        pipeline(step("work.do", name="y", outputs={"did": "y"}), step("work.may")),
    )
    work = Work()
    node = place.node(
        flow("test.two", pipeline(two, step("work.do", name="z"))), more=work.capabilities(place)
    )
    run = begin(node, "test.two", word="a")
    assert place.done == ["a", "a"]
    work.fails = False
    node.call("system.run.retry", {"id": run, "step": "y"})
    assert ended(node, run) == {"did": "a"}
    assert place.done == ["a", "a", "a", "may a", "a"], "y, may, z; x stays"


def test_a_rejected_approval_is_asked_again(place: Place) -> None:
    node = place.node(flow("test.asked", pipeline(approval(["ana"]), step("work.do"))))
    run = left_waiting(node, "test.asked", word="a")
    ana = node.session("ana", ["system.*"])
    node.call("system.approval.decide", {"id": run, "decision": "rejected"}, session=ana)
    with pytest.raises(Rejected):
        ended(node, run)
    node.call("system.run.retry", {"id": run})
    node.call("system.run.wait", {"id": run, "parked": True})
    node.call("system.approval.decide", {"id": run, "decision": "approved"}, session=ana)
    assert ended(node, run) == {"did": "a"}
    assert len(node.call("system.approvals", {"all": True})["approvals"]) == 2


def test_a_step_has_to_be_one_step(place: Place) -> None:
    each = loop(step("work.do"), over="[1, 2]", max_iterations=2)
    work = Work()
    node = place.node(
        flow("test.each", pipeline(step("work.do", name="one"), each, step("work.may"))),
        more=work.capabilities(place),
    )
    run = begin(node, "test.each", word="a")
    with pytest.raises(NotFound, match=r"no step 'work\.nothing'"):
        node.call("system.run.retry", {"id": run, "step": "work.nothing"})
    with pytest.raises(ValidationFailed, match="lies in the loop at 1"):
        node.call("system.run.retry", {"id": run, "step": "1/body"})
    with pytest.raises(ValidationFailed, match="stands at 2 places"):
        node.call("system.run.retry", {"id": run, "step": "work.do"})
    assert place.done == ["a", "a", "a"]
    work.fails = False
    node.call("system.run.retry", {"id": run, "step": "1[1]"})
    assert ended(node, run) == {"did": "a"}
    assert place.done == ["a", "a", "a", "a", "may a"], "the second iteration, and what comes after it"


def test_a_fork_is_a_run_of_its_own_and_the_old_one_stays(place: Place) -> None:
    work = Work()
    node = place.node(FAILS, more=work.capabilities(place))
    run = begin(node, "test.fails", word="a")
    work.fails = False
    forked = node.call("system.run.fork", {"id": run, "step": "work.may"})
    assert forked["origin"] == run
    assert ended(node, forked["id"]) == {"did": "a"}
    assert place.done == ["a", "may a", "a"], "the first step's result was taken over"
    assert node.call("system.run", {"id": run})["state"] == "failed"
    whole = node.call("system.run.fork", {"id": run})["id"]
    assert ended(node, whole) == {"did": "a"}
    assert place.done[3:] == ["a", "may a", "a"]


def mended(*steps: PlanNode | Step) -> Any:
    return flow("test.fails", pipeline(*steps), version="1.1.0")


def test_a_failed_run_goes_on_with_a_mended_plan_where_that_leads_to_where_it_stands(place: Place) -> None:
    work = Work()
    run = begin(place.node(FAILS, more=work.capabilities(place)), "test.fails", word="a")
    better = mended(step("work.do"), step("work.do", name="instead", inputs={"word": "did"}))
    node = place.again(better, more=work.capabilities(place))
    node.call("system.run.retry", {"id": run, "step": "0", "version": "latest"})
    assert ended(node, run) == {"did": "a"}
    assert node.call("system.run", {"id": run})["version"] == "1.1.0"
    other = begin(place.again(FAILS, more=work.capabilities(place)), "test.fails", word="b")
    node = place.again(mended(step("work.may"), step("work.do")), more=work.capabilities(place))
    with pytest.raises(Conflict, match=r"can't go on with test\.fails@1\.1\.0") as refused:
        node.call("system.run.retry", {"id": other, "version": "latest"})
    assert refused.value.details["faults"][0]["path"] == "0"
    with pytest.raises(NotFound, match=r"serves no composition 'test.fails@7.0.0'"):
        node.call("system.run.retry", {"id": other, "version": "7.0.0"})


def test_a_replay_asks_for_nothing_and_says_where_new_code_would_differ(place: Place) -> None:
    body = pipeline(step("work.do"), branch("did == 'a'", then=step("work.do", name="yes")), step("work.do"))
    node = place.node(flow("test.way", body))
    run = begin(node, "test.way", word="a")
    same = node.call("system.run.replay", {"id": run})
    assert (same["same"], same["differences"], same["ahead"]) == (True, [], [])
    changed = pipeline(
        step("work.do"), branch("did == 'b'", then=step("work.do", name="yes")), step("work.slow")
    )
    node = place.again(flow("test.way", changed, version="2.0.0"))
    told = node.call("system.run.replay", {"id": run})
    assert (told["same"], told["against"]) == (False, "2.0.0")
    assert [(one["place"], one["now"]) for one in told["differences"]] == [
        ("2", "work.slow stands there"),
        ("1/0", "it would not run"),
    ]
    assert node.call("system.run.replay", {"id": run, "version": "keep"})["same"]
    assert place.done == ["a", "a", "a"]


def test_a_replay_of_an_open_run_says_what_comes_next(place: Place) -> None:
    plan = flow("test.open", pipeline(step("work.do"), wait_for("paid"), step("work.do")))
    node = place.node(plan)
    run = left_waiting(node, "test.open", word="a")
    assert node.call("system.run.replay", {"id": run})["same"]
    node = place.again(flow("test.open", pipeline(step("work.do"), step("work.do")), version="2.0.0"))
    told = node.call("system.run.replay", {"id": run})
    assert [one["was"] for one in told["differences"]] == ["it waits there"]
    assert [one["place"] for one in told["ahead"]] == ["1"]


def test_runs_are_found_by_a_filter(place: Place) -> None:
    work = Work()
    node = place.node(FAILS, flow("test.good", step("work.do")), more=work.capabilities(place))
    failed, good = begin(node, "test.fails", word="a"), begin(node, "test.good", word="b")

    def found(where: str) -> list[str]:
        return [row["id"] for row in node.call("system.runs", {"where": where})["runs"]]

    assert found('state == "failed" && error == "execution_failed"') == [failed]
    assert found('!(state == "failed")') == [good]
    assert found('composition.startsWith("test.") && age < 60.0 && duration < 60.0') == [good, failed]
    assert found('text("work.may ValueError")') == [failed]
    assert found('started < "2000-01-01T00:00:00Z"') == []
    with pytest.raises(RequestError, match="nearest composition"):
        found('compositon == "x"')


def test_only_what_is_stuck_is_resumed(place: Place) -> None:
    node = place.node(flow("test.wait", wait_for("never")))
    run = left_waiting(node, "test.wait", word="a")
    with pytest.raises(Conflict, match="is waiting, so there is nothing to resume"):
        node.call("system.run.resume", {"id": run})
