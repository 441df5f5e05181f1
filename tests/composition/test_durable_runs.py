"""Durable runs of a node: what waits, who decides, what a restart and a change of code leave."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow import capability
from packetflow.composition.building import approval, parallel, pipeline, step, wait_for
from packetflow.composition.building import sleep as wait_a_while
from packetflow.composition.nodes import PlanError
from packetflow.wire.errors import Conflict, Forbidden, NotFound, Rejected, RequestError, Timeout

from .durable import Place, ended, flow, left_waiting

PAID = flow("test.paid", pipeline(step("work.do"), wait_for("paid"), step("work.do", inputs={"word": "by"})))
ASKED = flow("test.asked", pipeline(approval(["ana"], outputs={"decided_by": "who"}), step("work.do")))


def test_a_run_that_waits_is_in_the_store_alone_and_wakes_on_its_event_only(place: Place) -> None:
    node = place.node(PAID)
    run = left_waiting(node, "test.paid", word="a")
    assert node.waking().runs.under_way == 0
    assert node.call("system.run.signal", {"event": "other", "payload": {"by": "x"}}) == {"runs": 0}
    assert node.call("system.run", {"id": run})["state"] == "waiting"
    assert node.call("system.run.signal", {"event": "paid", "payload": {"by": "card"}}) == {"runs": 1}
    assert ended(node, run) == {"did": "card"}
    assert place.done == ["a", "card"]


def test_who_can_not_wait_longer_is_told_which_run_goes_on(place: Place) -> None:
    node = place.node(PAID)
    left_waiting(node, "test.paid", word="a")  # so that the store is open by now
    answer = node.request("test.paid", {"word": "b"}, timeout=2.0)
    assert isinstance(answer.error, Timeout)
    node.call(
        "system.run.signal", {"event": "paid", "payload": {"by": "c"}, "run": answer.error.details["run"]}
    )
    assert ended(node, answer.error.details["run"]) == {"did": "c"}


def test_it_survives_a_restart_while_it_waits(place: Place) -> None:
    run = left_waiting(place.node(PAID), "test.paid", word="a")
    node = place.again(PAID)
    assert node.call("system.run.signal", {"event": "paid", "payload": {"by": "card"}}) == {"runs": 1}
    assert ended(node, run) == {"did": "card"}
    assert place.done == ["a", "card"], "the first step was not run again"


def test_an_event_for_one_run_is_kept_until_it_waits_for_it_and_a_repeated_one_is_dropped(
    place: Place,
) -> None:
    plan = flow(
        "test.late", pipeline(wait_for("first"), wait_for("second"), step("work.do", inputs={"word": "by"}))
    )
    node = place.node(plan)
    run = left_waiting(node, "test.late", word="a")
    for _ in range(2):
        node.call("system.run.signal", {"event": "second", "payload": {"by": "b"}, "run": run, "id": "one"})
    assert node.call("system.run", {"id": run})["state"] == "waiting"
    node.call("system.run.signal", {"event": "first", "run": run})
    assert ended(node, run) == {"did": "b"}
    with pytest.raises(Conflict, match="completed"):
        node.call("system.run.signal", {"event": "first", "run": run})


def test_an_event_that_does_not_match_is_not_this_runs(place: Place) -> None:
    plan = flow("test.match", pipeline(wait_for("paid", match="event.order == word"), step("work.do")))
    node = place.node(plan)
    first, second = (left_waiting(node, "test.match", word=word) for word in ("a", "b"))
    assert node.call("system.run.signal", {"event": "paid", "payload": {"order": "b"}}) == {"runs": 1}
    assert ended(node, second) == {"did": "b"}
    assert node.call("system.run", {"id": first})["state"] == "waiting"


def test_an_event_that_does_not_come_in_time_is_a_timeout_that_names_the_step(place: Place) -> None:
    node = place.node(flow("test.never", wait_for("never", timeout=0.05)))
    answer = node.request("test.never", {"word": "a"})
    assert isinstance(answer.error, Timeout)
    assert answer.error.details["step"] == "wait_for never"


def test_a_refused_step_is_never_run_and_a_second_decision_changes_nothing(place: Place) -> None:
    node = place.node(ASKED)
    run = left_waiting(node, "test.asked", word="a")
    (asked,) = node.call("system.approvals")["approvals"]
    assert (asked["run"], asked["who"], asked["state"]) == (run, ["ana"], "open")
    decide = {"id": asked["id"], "decision": "rejected", "comment": "too dear"}
    with pytest.raises(Forbidden, match="asks ana"):
        node.call("system.approval.decide", decide)
    ana = node.session("ana", ["system.*"])
    node.call("system.approval.decide", decide, session=ana)
    with pytest.raises(Conflict, match="rejected by ana already"):
        node.call("system.approval.decide", {**decide, "decision": "approved"}, session=ana)
    with pytest.raises(Rejected, match="too dear"):
        ended(node, run)
    assert place.done == []
    assert node.call("system.approvals", {"all": True})["approvals"][0]["decided_by"] == "ana"


@pytest.mark.parametrize(
    ("decision", "values", "word"), [("approved", None, "a"), ("modified", {"word": "b"}, "b")]
)
def test_an_approval_lets_the_run_go_on_perhaps_with_other_values(
    place: Place, decision: str, values: Any, word: str
) -> None:
    node = place.node(ASKED)
    run = left_waiting(node, "test.asked", word="a")
    (asked,) = node.call("system.approvals")["approvals"]
    given = {"id": asked["id"][:8], "decision": decision, "values": values}
    node.call("system.approval.decide", given, session=node.session("ana", ["system.*"]))
    assert ended(node, run) == {"did": word}


def test_an_approval_escalates_and_expires(place: Place) -> None:
    body = approval(["ana"], deadline=0.05, on_timeout="escalate", escalate_to=["ben"])
    node = place.node(flow("test.up", pipeline(body, step("work.do"))))
    answer = node.request("test.up", {"word": "a"})
    assert isinstance(answer.error, Rejected)
    assert answer.error.details["reason"] == "approval_expired"
    rows = node.call("system.approvals", {"all": True})["approvals"]
    assert [(row["who"], row["state"]) for row in rows] == [(["ana"], "expired"), (["ben"], "expired")]
    assert place.done == []


def test_a_cancelled_run_undoes_what_it_did_whether_it_waits_or_not(place: Place) -> None:
    undoable = step("work.do", compensate="work.undo")
    node = place.node(flow("test.undo", pipeline(undoable, wait_for("never"), step("work.do"))))
    run = left_waiting(node, "test.undo", word="a")
    assert node.call("system.run.cancel", {"id": run}) == {"id": run, "changed": True}
    with pytest.raises(RequestError, match="cancelled by local"):
        ended(node, run)
    assert place.done == ["a", "undo a"]
    assert node.call("system.run", {"id": run})["state"] == "cancelled"
    assert node.call("system.run.cancel", {"id": run})["changed"] is False


def test_a_run_ends_when_its_time_to_live_is_over(place: Place) -> None:
    node = place.node(flow("test.old", wait_for("never"), run_ttl=0.05))
    answer = node.request("test.old", {"word": "a"})
    assert isinstance(answer.error, Timeout)
    assert "run_ttl" in str(answer.error)


def test_strands_wait_for_themselves(place: Place) -> None:
    two = parallel(
        pipeline(wait_for("one"), step("work.do", name="x", outputs={"did": "x"}), name="left"),
        pipeline(wait_for("two"), step("work.do", name="y", outputs={"did": "y"}), name="right"),
    )
    node = place.node(flow("test.two", two, provides={"x": str, "y": str}))
    run = left_waiting(node, "test.two", word="a")
    node.call("system.run.signal", {"event": "two"})
    with gevent.Timeout(5):
        while place.done != ["a"]:
            gevent.sleep(0.01)
    assert node.call("system.run", {"id": run})["state"] != "completed"
    node = place.again(flow("test.two", two, provides={"x": str, "y": str}))
    node.call("system.run.signal", {"event": "one"})
    assert ended(node, run) == {"x": "a", "y": "a"}
    assert place.done == ["a", "a"]


def test_a_long_sleep_is_not_in_memory_and_survives_a_restart(place: Place) -> None:
    plan = flow("test.sleep", pipeline(step("work.do"), wait_a_while(1.2), step("work.do")))
    node = place.node(plan)
    run = left_waiting(node, "test.sleep", word="a")
    assert node.waking().runs.under_way == 0
    assert ended(place.again(plan), run) == {"did": "a"}
    assert place.done == ["a", "a"]


def test_a_drain_lets_the_step_end_and_the_next_start_goes_on_behind_it(place: Place) -> None:
    plan = flow("test.drain", pipeline(step("work.slow"), step("work.do")))
    node = place.node(plan)
    asking = gevent.spawn(node.request, "test.drain", {"word": "a"})
    while node.waking().runs.under_way == 0:
        gevent.sleep(0.01)
    node = place.again(plan)
    assert asking.get(timeout=5).error.code == "unavailable"
    (row,) = node.call("system.runs")["runs"]
    assert ended(node, row["id"]) == {"did": "a"}
    assert place.done == ["slow a", "a"]


def test_a_run_is_stranded_where_a_step_does_not_fit_any_more_and_goes_on_when_it_does(place: Place) -> None:
    run = left_waiting(place.node(PAID), "test.paid", word="a")

    @capability("work.do")
    def other(word: str, colour: str) -> dict[str, str]:
        """Do it in colour."""
        return {"did": word}

    node = place.again(more=[other])
    node.call("system.run.signal", {"event": "paid", "payload": {"by": "card"}})
    with pytest.raises(RequestError, match=r"stranded at 2: work\.do requires 'colour' now"):
        ended(node, run)
    assert node.call("system.run", {"id": run})["state"] == "stranded"
    node = place.again()
    assert node.call("system.run.resume", {"id": run})["changed"] is True
    with gevent.Timeout(5):
        while node.call("system.run", {"id": run})["state"] != "completed":
            gevent.sleep(0.01)
    assert place.done == ["a", "card"]


def test_a_run_asks_with_the_rights_of_who_began_it_and_is_forbidden_what_they_lack(place: Place) -> None:
    node = place.node(PAID)
    ben = node.session("ben", ["test.*"])
    answer = node.request("test.paid", {"word": "a"}, session=ben)
    assert isinstance(answer.error, Forbidden)
    (row,) = node.call("system.runs", {"state": "forbidden"})["runs"]
    assert row["composition"] == "test.paid"
    assert place.done == []


def test_what_can_not_be_stored_is_refused_when_it_is_written() -> None:
    from packetflow.composition.building import branch

    with pytest.raises(PlanError, match="durable, so its plan is stored"):
        flow("test.function", branch(lambda scope: True, then=step("work.do")))


def test_a_node_without_durable_runs_makes_no_file(place: Place) -> None:
    node = place.node(PAID)
    node.call("work.do", {"word": "a"})
    assert not (place.folder / "node.db").exists()


def test_an_id_has_to_be_one_runs(place: Place) -> None:
    node = place.node(PAID)
    left_waiting(node, "test.paid", word="a")
    with pytest.raises(RequestError, match="too short"):
        node.call("system.run", {"id": "a"})
    with pytest.raises(NotFound, match="no run"):
        node.call("system.run", {"id": "zzzz"})
