"""state_machine: states, events, guards, actions; between two events the run is in the store alone."""

from __future__ import annotations

import gevent
import pytest

from packetflow.composition.building import composition, state_machine, step, transition
from packetflow.composition.data import from_data
from packetflow.composition.nodes import PlanError
from packetflow.composition.plan import node_at, replaced
from packetflow.composition.writing import to_data
from packetflow.wire.errors import TooLarge

from .durable import Place, ended, left_waiting

STATES = {
    "draft": [
        transition("sent", "review", when="event.total <= most", do=step("work.do", name="small")),
        transition("sent", "draft", when="event.total > 1000"),
        transition("dropped", "gone"),
    ],
    "review": [
        transition("approved", "done", do=step("work.do", inputs={"word": "by"})),
        transition("returned", "draft", do=step("work.undo")),
    ],
    "done": [],
    "gone": [],
}
MACHINE = composition(
    "test.machine", "A document", state_machine("draft", STATES), requires={"word": str, "most": int}, provides={"state": str}
)  # fmt: skip


def send(place: Place, event: str, run: str, **payload: object) -> int:
    """Send an event to all; how many took it, after which the run waits again or has ended."""
    node = place.nodes[-1]
    taken = int(node.call("system.run.signal", {"event": event, "payload": payload})["runs"])
    node.call("system.run.wait", {"id": run, "parked": True, "seconds": 10.0})
    with gevent.Timeout(10):
        while node.waking().runs.under_way:
            gevent.sleep(0.01)
    return taken


def test_events_lead_from_state_to_state_over_a_restart(place: Place) -> None:
    run = left_waiting(place.node(MACHINE), "test.machine", word="a", most=100)
    assert send(place, "approved", run) == 0, "no way out of this state"
    assert send(place, "sent", run, total=500) == 0, "no guard holds"
    assert send(place, "sent", run, total=5_000) == 1
    assert place.done == [], "back to where it was, without an action"
    assert send(place, "sent", run, total=50) == 1
    assert place.done == ["a"]
    assert place.nodes[-1].waking().runs.under_way == 0
    node = place.again(MACHINE)
    (wait,) = {row["label"] for row in node.call("system.run", {"id": run})["waits"]}
    assert wait == "state_machine in review"
    assert send(place, "returned", run) == 1
    assert send(place, "sent", run, total=1) == 1
    assert send(place, "approved", run, by="ana") == 1
    assert ended(node, run) == {"state": "done"}
    assert place.done == ["a", "undo a", "a", "ana"]


def test_it_has_a_bound(place: Place) -> None:
    machine = state_machine("on", {"on": [transition("tick", "on")]}, max_events=2)
    plan = composition("test.ticks", "Ticks", machine)
    run = left_waiting(place.node(plan), "test.ticks")
    for _ in range(2):
        send(place, "tick", run)
    with pytest.raises(TooLarge, match="still in on after 2 events; max_events is 2"):
        ended(place.nodes[-1], run)


def test_it_is_data_like_every_node() -> None:
    data = to_data(MACHINE)
    assert data["plan"]["state_machine"] == "draft"
    assert data["plan"]["states"]["draft"][2] == {"event": "dropped", "to": "gone"}
    again = from_data(data)
    assert again.body == MACHINE.body
    other = replaced(again.body, "review.1", step("work.slow"))
    assert node_at(other, "review.1").label == "work.slow"


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ({"state_machine": "draft", "states": {"done": []}}, "initial is 'draft'; expected one of 'done'"),
        ({"state_machine": "a", "states": {"a": [{"event": "x", "to": "b"}]}}, "'b'; expected one of 'a'"),
        ({"state_machine": "a", "states": {"a": [{"event": "x"}]}}, "event, to, and perhaps when and do"),
        ({"state_machine": "a", "states": {"a": [{"event": "x", "to": "a", "when": "1 +"}]}}, "no CEL"),
        ({"state_machine": "a", "states": {"a": [{"event": "x", "to": "a", "dO": "a.b"}]}}, "nearest do"),
        ({"state_machine": "a", "states": 5}, "a list of ways out for each state"),
        ({"state_machine": "a"}, "a state_machine needs states"),
        ({"state_machine": "a", "states": {"a": []}, "max_events": 0}, "a whole number from 1"),
    ],
)
def test_what_is_no_machine_is_refused(plan: object, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        from_data({"id": "test.bad", "intent": "Bad", "plan": plan})
