"""A worker's door: what concerns the whole node is asked of the parent, once, as the caller that asked, and can be given up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow.node.routes import Routes
from packetflow.node.worker import TRUSTED, WorkerDoor
from packetflow.otp.clock import Clock
from packetflow.otp.errors import CallTimeout, WorkerFailed
from packetflow.security.access import Session
from packetflow.telemetry.logs import make_logger
from packetflow.telemetry.traces import Traces
from packetflow.wire.codec import Msgpack
from packetflow.wire.errors import Cancelled, Forbidden
from packetflow.wire.values import Metadata


class Parent:
    """What a worker asks; `answer` says how."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, float]] = []
        self.given_up = 0

    def answer(self, request: Any) -> Any:
        return {
            "value": Msgpack(TRUSTED).encode({"n": 1}),
            "error": None,
            "trace": "4f2a",
            "duration": 0.25,
            "deprecated": None,
        }

    def call(self, request: Any, timeout: float) -> Any:
        self.asked.append((request, timeout))
        try:
            return self.answer(request)
        except gevent.GreenletExit:
            self.given_up += 1
            raise


@pytest.fixture
def parent() -> Parent:
    return Parent()


@pytest.fixture
def door(parent: Parent) -> Iterator[WorkerDoor]:
    clock = Clock()
    made = WorkerDoor(Routes(7.0), clock, Traces(clock))
    made.log = make_logger(clock, level="error")
    made.worker, made.codec = parent, Msgpack(TRUSTED)  # type: ignore[assignment]
    yield made
    assert made._asking == {}
    assert made._given_up == {}


def session(door: WorkerDoor) -> Session:
    return Session(
        "ana", door.routes.grants(["system.stats", "a.*"]), tenant="acme", door="tcp", peer="1.2.3.4:5"
    )


def test_a_system_request_is_asked_as_its_caller_and_answered_with_the_parents_trace(
    door: WorkerDoor, parent: Parent
) -> None:
    response = door.request("system.stats", {"words": "x"}, session(door), Metadata(2.0, None, None))
    assert (response.value, response.error) == ({"n": 1}, None)
    assert (response.trace_id, response.trace.duration) == ("4f2a", 0.25)
    ((request, timeout),) = parent.asked
    caller = ("ana", ["a.*", "system.stats"], "acme", "tcp", "1.2.3.4:5", [])
    assert request == ("request", "system.stats", {"words": "x"}, caller, (2.0, None, None), None)
    assert timeout == 3.0


def test_so_is_one_with_a_key_and_no_other(door: WorkerDoor, parent: Parent) -> None:
    assert door.request("a.b", {}, session(door), Metadata(None, "k", None)).value == {"n": 1}
    assert parent.asked[0][0][4] == (7.0, "k", None)
    local = door.request("a.b", {}, session(door))
    assert local.error is not None
    assert local.error.code == "not_found"
    assert len(parent.asked) == 1


def test_an_error_comes_back_as_it_was(door: WorkerDoor, parent: Parent) -> None:
    refused = Forbidden("not granted to you", {"capability": "system.stop"})
    parent.answer = lambda request: {  # type: ignore[method-assign]
        "value": b"", "error": refused.as_dict(), "trace": "77c0", "duration": 0.0, "deprecated": None,
    }  # fmt: skip
    response = door.request("system.stop", {}, session(door))
    assert isinstance(response.error, Forbidden)
    assert response.error.as_dict() == refused.as_dict()
    assert response.trace_id == "77c0"


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (CallTimeout("the parent", 8.0), "timeout"),
        (WorkerFailed("KeyError", "'x'"), "unavailable"),
        (ValueError("what is that"), "internal"),
    ],
    ids=["late", "failed", "unreadable"],
)
def test_a_parent_that_does_not_answer_well_is_a_typed_error(
    failure: Exception, code: str, door: WorkerDoor, parent: Parent
) -> None:
    def fail(request: Any) -> Any:
        raise failure

    parent.answer = fail  # type: ignore[method-assign]
    error = door.request("system.stats", {}, session(door)).error
    assert error is not None
    assert error.code == code


def test_a_request_that_waits_for_the_parent_can_be_cancelled(door: WorkerDoor, parent: Parent) -> None:
    parent.answer = lambda request: gevent.sleep(600)  # type: ignore[method-assign]
    waiting = gevent.spawn(door.request, "system.stats", {}, session(door))
    gevent.sleep(0)
    gevent.sleep(0)
    assert door.cancel(waiting, Cancelled("cancelled by the caller"))
    error = waiting.get(timeout=5).error
    assert str(error) == "cancelled by the caller"
    assert parent.given_up == 1
    assert not door.cancel(waiting, Cancelled("again"))


def test_who_is_killed_while_it_waits_leaves_nothing(door: WorkerDoor, parent: Parent) -> None:
    parent.answer = lambda request: gevent.sleep(600)  # type: ignore[method-assign]
    waiting = gevent.spawn(door.request, "system.stats", {}, session(door))
    gevent.sleep(0)
    gevent.sleep(0)
    waiting.kill()
    gevent.sleep(0)
    assert parent.given_up == 1


def test_a_nested_request_has_no_more_time_than_the_one_that_makes_it(
    door: WorkerDoor, parent: Parent
) -> None:
    class Outer:
        deadline = door._monotonic() + 1.0

    door.request("system.stats", {}, session(door), parent=Outer())  # type: ignore[arg-type]
    assert 1.5 < parent.asked[0][1] <= 2.0
