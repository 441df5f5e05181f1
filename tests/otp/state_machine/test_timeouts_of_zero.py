"""otp.md, "State machine": timeouts of no time at all, and their order among other events."""

from __future__ import annotations

from typing import Any

from packetflow.otp import (
    Call,
    EventTimeout,
    GenericTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    ReplyTo,
    StateTimeout,
    StopAndReply,
    System,
    call,
    cast,
    monitor,
    send,
    statistics,
)
from tests.otp.actors import until
from tests.otp.state_machine.machines import Named, Recorder, Table
from tests.otp.state_machine.test_timeouts import SOON, do

# ---- no time at all ------------------------------------------------------------------------------------------------------


def test_timeouts_of_zero_come_in_their_order_after_inserted_events_and_before_messages(
    system: System,
) -> None:
    machine = Recorder.start(system=system)

    def act(kind: Any, data: Any) -> Any:
        cast(machine, "message")
        return KeepStateAndData(
            GenericTimeout("a", 0, 1), StateTimeout(0, 2), GenericTimeout("b", 0, 3), NextEvent("internal", 0)
        )

    cast(machine, do(act))
    call(machine, "seen")  # was in the mailbox before the message
    assert [event[:2] for event in call(machine, "seen")[1:]] == [
        ("internal", 0),
        (("timeout", "a"), 1),
        ("state_timeout", 2),
        (("timeout", "b"), 3),
        ("cast", "message"),
    ]


def test_an_event_timeout_of_zero_comes_only_if_nothing_else_waits(system: System) -> None:
    machine = Recorder.start(system=system)
    cast(machine, do(lambda *_: KeepStateAndData(EventTimeout(0, "comes"))))
    cast(machine, do(lambda *_: KeepStateAndData(EventTimeout(0, "not"), NextEvent("internal"))))
    cast(machine, do(lambda *_: KeepStateAndData(StateTimeout(0, "first"), EventTimeout(0, "not"))))
    cast(machine, do(lambda *_: KeepStateAndData(EventTimeout(0, "first"), StateTimeout(0, "second"))))
    assert [event[1] for event in call(machine, "seen") if event[0] != "cast"] == [
        "comes",
        None,
        "first",
        "first",
        "second",
    ]


def test_events_inserted_and_postponed_ones_cancel_an_event_timeout_of_zero(system: System) -> None:
    machine = Recorder.start(system=system)
    later = Named(
        "later", lambda _, data: KeepStateAndData(*([Postpone()] if data[-1][2] == "first" else []))
    )
    cast(machine, later)
    cast(machine, do(lambda _, data: NextState("second", data, EventTimeout(0, "not"))))
    assert [event[:2] for event in call(machine, "seen")] == [
        ("cast", "later"),
        ("cast", "do"),
        ("cast", "later"),
    ]


def test_a_change_of_state_cancels_a_state_timeout_of_zero_that_waits(system: System) -> None:
    machine = Recorder.start(system=system)
    go = Named("go", lambda _, data: NextState("second", data))
    cast(machine, do(lambda *_: KeepStateAndData(StateTimeout(0, "not"), NextEvent("internal", go))))
    assert [event[1] for event in call(machine, "seen")] == ["do", "go"]


def test_a_timeout_of_zero_can_be_cancelled_updated_and_set_anew_before_it_comes(system: System) -> None:
    machine = Recorder.start(system=system)

    def after(*actions: Any) -> list[Any]:
        before = len(call(machine, "seen"))
        then = Named("then", lambda *_: KeepStateAndData(*actions))
        waiting = (StateTimeout(0, "s"), GenericTimeout("g", 0, "g"))
        cast(machine, do(lambda *_: KeepStateAndData(*waiting, NextEvent("internal", then))))
        return [event[1] for event in call(machine, "seen")[before + 2 :]]

    assert after() == ["s", "g"]
    assert after(StateTimeout.cancel()) == ["g"]
    assert after(StateTimeout.update("new")) == ["new", "g"]  # in its place
    assert after(StateTimeout(0, "new")) == ["g", "new"]  # at the end
    assert after(GenericTimeout("g", 90), GenericTimeout.cancel("g")) == ["s"]


def test_a_trip_of_timeouts_of_zero_as_otp_orders_them(system: System) -> None:
    log: list[Any] = []

    def start(kind: Any, content: Any, data: Any) -> Any:
        send(machine, "message to itself")
        return NextState("one", kind, EventTimeout(SOON, 1), StateTimeout(SOON, 1), NextEvent("internal", 1))

    def one(kind: Any, content: Any, data: Any) -> Any:
        log.append((kind, content))
        return NextState("two", data, EventTimeout(0, 2), StateTimeout(0, 2), NextEvent("internal", 2))

    def two(kind: Any, content: Any, data: Any) -> Any:
        log.append((kind, content))
        match kind, content:
            case "internal", 2:
                return KeepState(data, EventTimeout(0, 3))
            case "state_timeout", 2:
                return KeepState(data, EventTimeout(0, 4), StateTimeout(0, 5))
            case "timeout", 4:
                return KeepState(data, StateTimeout(0, 6), EventTimeout(0, 7))
            case "state_timeout", 6:
                return NextState("three", None, ReplyTo(data, "ok"), StateTimeout(SOON, 8))
        raise AssertionError((kind, content))

    def three(kind: Any, content: Any, data: Any) -> Any:
        log.append(("call" if isinstance(kind, Call) else kind, content))
        if isinstance(kind, Call):
            return KeepState(kind)
        return StopAndReply("normal", ReplyTo(data, "ok")) if kind == "state_timeout" else KeepStateAndData()

    machine = Table.start({"start": start, "one": one, "two": two, "three": three}, "start", system=system)
    down = monitor(machine)
    assert call(machine, "go") == "ok"
    assert call(machine, "check") == "ok"
    assert down.wait(5).reason == "normal"
    assert log == [
        ("internal", 1),
        ("internal", 2),
        ("state_timeout", 2),
        ("timeout", 4),
        ("state_timeout", 6),
        ("info", "message to itself"),
        ("call", "check"),
        ("state_timeout", 8),
    ]


def test_cancel_and_update_through_three_states(system: System) -> None:
    log: list[Any] = []

    def start(kind: Any, content: Any, data: Any) -> Any:
        send(machine, "message to itself")
        return NextState("one", kind, StateTimeout(SOON, 1), NextEvent("internal", 1))

    def one(kind: Any, content: Any, data: Any) -> Any:
        log.append((kind, content))
        if kind == "internal":
            return KeepStateAndData(StateTimeout.cancel(), GenericTimeout("a", SOON, 1))
        if kind == "info":
            return KeepStateAndData(GenericTimeout.update("a", "a"))
        return NextState("two", data, StateTimeout(SOON, 2), NextEvent("internal", 2))

    def two(kind: Any, content: Any, data: Any) -> Any:
        log.append((kind, content))
        if kind == "internal":
            until(lambda: statistics(machine).mailbox)  # the state timeout has come meanwhile
            return KeepStateAndData(StateTimeout.update("b"), EventTimeout(SOON, 2))
        return NextState("three", 3, ReplyTo(data, "ok"), EventTimeout(17))

    machine = Table.start(
        {"start": start, "one": one, "two": two, "three": lambda *_: KeepStateAndData()},
        "start",
        system=system,
    )
    assert call(machine, "test") == "ok"
    assert log == [
        ("internal", 1),
        ("info", "message to itself"),
        (("timeout", "a"), "a"),
        ("internal", 2),
        ("state_timeout", "b"),
    ]
    assert list(machine._process.server._timers) == ["timeout"]  # type: ignore[attr-defined]
