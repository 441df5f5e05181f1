"""otp.md, "State machine": what a callback may return and what becomes of it; enter calls; the end; wrong returns."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    BadAction,
    BadReturn,
    Call,
    ChangeCallback,
    EventTimeout,
    GenericTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    NoReply,
    PopCallback,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    Reply,
    ReplyTo,
    ServerExited,
    StateMachine,
    StateTimeout,
    Stop,
    StopAndReply,
    System,
    call,
    cast,
    get_state,
    kill,
    monitor,
    reply,
    statistics,
    stop,
)
from tests.otp.actors import failure_of, until
from tests.otp.state_machine.machines import (
    EnterRecorder,
    EnterTable,
    Line,
    LineByEvents,
    Named,
    Recorder,
    Table,
)

LINES = pytest.mark.parametrize("kind", [Line, LineByEvents])


def do(transition: Any) -> Any:
    """A message that makes the machine return what `transition(kind, data)` gives."""
    return Named("do", transition)


# ---- transitions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("messages", ["calls", "casts"])
@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (lambda actions: KeepState("new", *actions), ("a", "new")),
        (lambda actions: KeepStateAndData(*actions), ("a", "old")),
        (lambda actions: RepeatState("new", *actions), ("a", "new")),
        (lambda actions: RepeatStateAndData(*actions), ("a", "old")),
        (lambda actions: NextState("b", "new", *actions), ("b", "new")),
        (lambda actions: NextState("a", "new", *actions), ("a", "new")),
    ],
)
@pytest.mark.parametrize("machine_class", [Table, EnterTable])
def test_state_and_data_after_each_transition(
    system: System, result: Any, expected: Any, messages: str, machine_class: type[Table]
) -> None:
    def behave(kind: Any, content: Any, data: Any) -> Any:
        if kind == "enter":
            return None
        return result([ReplyTo(kind, "answer")] if isinstance(kind, Call) else [])

    machine = machine_class.start({"a": behave, "b": behave}, "a", "old", system=system)
    if messages == "calls":
        assert call(machine, "go") == "answer"
    else:
        cast(machine, "go")
    assert get_state(machine) == expected


def test_replies_are_sent_in_their_order_and_to_anybody_who_waits(system: System) -> None:
    log: list[Any] = []
    kept: list[Any] = []

    def behave(kind: Any, content: Any, data: Any) -> Any:
        if content == "wait":
            kept.append(kind)
            return KeepStateAndData()
        return KeepStateAndData(*(ReplyTo(one, n) for n, one in enumerate([*kept, kind])))

    machine = Table.start({"a": behave}, "a", system=system)

    def ask(name: str, request: str) -> None:
        log.append((name, call(machine, request)))

    clients = [gevent.spawn(ask, "first", "wait"), gevent.spawn(ask, "second", "wait")]
    until(lambda: len(kept) == 2)
    clients.append(gevent.spawn(ask, "third", "answer all"))
    gevent.joinall(clients, timeout=5)
    assert sorted(log) == [("first", 0), ("second", 1), ("third", 2)]
    assert [name for name, _ in log if name != "third"] == ["first", "second"]
    assert not machine._process.bonds.owed


def test_only_the_first_reply_counts(system: System) -> None:
    machine = Recorder.start(system=system)
    assert call(machine, do(lambda kind, data: KeepStateAndData(ReplyTo(kind, 1), ReplyTo(kind, 2)))) == 1

    def by_hand(kind: Any, data: Any) -> Any:
        reply(kind, 3)
        return KeepStateAndData(ReplyTo(kind, 4))

    assert call(machine, do(by_hand)) == 3
    assert call(machine, "next") == "next"


@pytest.mark.parametrize("value", [None, Reply("x"), NoReply(), Stop("no"), KeepStateAndData()])
def test_any_value_can_be_an_answer(system: System, value: Any) -> None:
    machine = Recorder.start(system=system)
    assert call(machine, do(lambda kind, data: KeepStateAndData(ReplyTo(kind, value)))) is value
    assert (
        call(machine, do(lambda kind, data: KeepStateAndData(ReplyTo(kind, value), StateTimeout(9)))) is value
    )


def test_a_reply_goes_out_before_what_follows_it_is_done(system: System) -> None:
    gate, log = Event(), []
    slow = Named("slow", lambda kind, data: (gate.wait() and log.append("slow")) or KeepStateAndData())
    machine = Recorder.start(system=system)
    answer = call(
        machine, do(lambda kind, data: KeepStateAndData(NextEvent("internal", slow), ReplyTo(kind, 1)))
    )
    assert (answer, log) == (1, [])
    gate.set()
    until(lambda: log)


def test_a_reply_goes_out_before_the_enter_call_is_made(system: System) -> None:
    gate = Event()

    def second(kind: Any, content: Any, data: Any) -> Any:
        gate.wait()
        return KeepStateAndData()

    def first(kind: Any, content: Any, data: Any) -> Any:
        return None if kind == "enter" else NextState("second", data, ReplyTo(kind, "go on"))

    machine = EnterTable.start({"first": first, "second": second}, "first", system=system)
    assert call(machine, "go", 5.0) == "go on"
    assert statistics(machine).status == "busy"
    gate.set()


def test_a_call_that_gets_no_answer_waits_and_fails_with_the_machine(system: System) -> None:
    machine = Recorder.start(system=system)
    asked = gevent.spawn(lambda: failure_of(call, machine, do(lambda *_: KeepStateAndData()), None).reason)
    until(lambda: get_state(machine)[1])
    kill(machine)
    assert asked.get(timeout=5) == "killed"


def test_a_machine_that_is_killed_in_the_middle_leaves_nothing(system: System) -> None:
    gate = Event()

    def block(kind: Any, data: Any) -> Any:
        try:
            gate.wait()
        finally:
            data.append("ended")
        return NextState("b", data, StateTimeout(100), GenericTimeout("g", 100))

    machine = Recorder.start("a", GenericTimeout("running", 100), system=system)
    asked = gevent.spawn(lambda: failure_of(call, machine, do(block), None).reason)
    until(lambda: statistics(machine).status == "busy")
    data = machine._process.server._data  # type: ignore[attr-defined]
    kill(machine)
    assert asked.get(timeout=5) == "killed"
    until(lambda: data[-1] == "ended")
    assert len(system.scheduler.timers) == 0


def test_a_machine_that_kills_itself_starts_no_timeouts(system: System) -> None:
    def suicide(kind: Any, data: Any) -> Any:
        try:
            kill(machine)
        except BaseException:  # noqa: BLE001 - the handler insists on going on
            return NextState("b", data, StateTimeout(100), NextEvent("internal", "after death"))
        raise AssertionError("it should be dead")

    machine = Recorder.start(system=system)
    data = machine._process.server._data  # type: ignore[attr-defined]
    assert failure_of(call, machine, do(suicide), None).reason == "killed"
    assert [event[1] for event in data] == ["do"]
    assert len(system.scheduler.timers) == 0


# ---- enter calls -----------------------------------------------------------------------------------------------------------


def test_enter_calls_at_the_start_on_a_change_and_on_a_repeat_only(system: System) -> None:
    machine = EnterRecorder.start(system=system)

    def returns(transition: Any) -> list[Any]:
        before = len(get_state(machine)[1])
        cast(machine, do(lambda kind, data: transition))
        return [event for event in get_state(machine)[1][before:] if event[0] == "enter"]

    data = get_state(machine)[1]
    assert data == [("enter", "first", "first")]
    assert returns(KeepState(data)) == []
    assert returns(KeepStateAndData()) == []
    assert returns(NextState("first", data)) == []
    assert returns(RepeatState(data)) == [("enter", "first", "first")]
    assert returns(RepeatStateAndData()) == [("enter", "first", "first")]
    assert returns(NextState("second", data)) == [("enter", "first", "second")]
    assert returns(NextState("first", data)) == [("enter", "second", "first")]


def test_there_are_no_enter_calls_unless_the_class_wants_them(system: System) -> None:
    machine = Recorder.start(system=system)
    cast(machine, do(lambda kind, data: NextState("second", data)))
    cast(machine, do(lambda kind, data: RepeatState(data)))
    assert [event[0] for event in call(machine, "seen")] == ["cast", "cast"]


def test_an_enter_call_comes_before_inserted_and_postponed_events(system: System) -> None:
    machine = EnterRecorder.start(system=system)
    cast(machine, Named("later", lambda kind, data: KeepStateAndData(Postpone()) if data[-1][2] == "first" else
                        KeepStateAndData()))  # fmt: skip
    cast(machine, do(lambda kind, data: NextState("second", data, NextEvent("internal", "inserted"))))
    assert call(machine, "seen")[-3:] == [
        ("enter", "first", "second"),
        ("internal", "inserted", "second"),
        ("cast", "later", "second"),
    ]


def test_enter_calls_in_state_functions(system: System) -> None:
    class Lamp(StateMachine):
        state_enter = True

        def init(self) -> NextState:
            return NextState("off", [])

        def off(self, kind: Any, content: Any, data: list[Any]) -> Any:
            if kind == "enter":
                return KeepState([*data, ("off", content)])
            return NextState("on", data)

        def on(self, kind: Any, content: Any, data: list[Any]) -> Any:
            if kind == "enter":
                return KeepState([*data, ("on", content)], StateTimeout(0, "burnt"))
            return NextState("off", [*data, content])

    lamp = Lamp.start(system=system)
    cast(lamp, "press")
    assert get_state(lamp) == ("off", [("off", "off"), ("on", "off"), "burnt", ("off", "on")])


def test_a_trip_through_two_states_with_enter_calls_repeats_and_timeouts_of_zero(system: System) -> None:
    log: list[Any] = []

    def start(kind: Any, content: Any, n: int) -> Any:
        match kind, content:
            case "enter", before:
                log.append((n, "enter start", before))
            case "internal", what:
                log.append((n, "internal", what))
            case Call(), "repeat":
                return RepeatState(n + 1, ReplyTo(kind, n))
            case Call(), "echo":
                return NextState("wait", n + 1, ReplyTo(kind, n), EventTimeout(0, n))
            case Call(), ("stop", reason):
                return StopAndReply(reason, ReplyTo(kind, n), data=n + 1)
        return KeepState(n + 1)

    def wait(kind: Any, content: Any, n: int) -> Any:
        match kind, content:
            case "enter", before if n < 5:
                log.append((n, "again", before))
                return RepeatState(n + 1, EventTimeout(0, n), StateTimeout(0, n))
            case "enter", before:
                log.append((n, "enter wait", before))
                return KeepState(n + 1, EventTimeout(0, n), StateTimeout(0, n))
            case (("timeout" | "state_timeout"), set_at):
                log.append((n, kind, set_at))
                return KeepState(n + 1)
            case Call(), "repeat":
                return RepeatStateAndData(ReplyTo(kind, n), EventTimeout(0, n))
        return NextState("start", n + 1, NextEvent("internal", "back"), ReplyTo(kind, n))

    machine = EnterTable.start({"start": start, "wait": wait}, "start", 1, system=system)
    down = monitor(machine)
    server: Any = machine._process.server
    assert [call(machine, "echo"), get_state(machine)] == [2, ("wait", 8)]
    assert log == [
        (1, "enter start", "start"),
        (3, "again", "start"),
        (4, "again", "start"),
        (5, "enter wait", "start"),
        (6, "timeout", 5),
        (7, "state_timeout", 5),
    ]
    log.clear()
    assert [call(machine, "repeat"), get_state(machine)] == [8, ("wait", 11)]
    assert log == [(8, "enter wait", "wait"), (9, "timeout", 8), (10, "state_timeout", 8)]
    log.clear()
    assert [call(machine, "echo"), get_state(machine)] == [11, ("start", 14)]
    assert log == [(12, "enter start", "wait"), (13, "internal", "back")]
    assert [call(machine, "repeat"), get_state(machine)] == [14, ("start", 16)]
    assert call(machine, ("stop", "bye")) == 16
    assert down.wait(5).reason == "bye"
    assert server.ended == [("bye", "start", 17)]


@pytest.mark.parametrize(
    ("wrong", "error", "word"),
    [
        (NextState("elsewhere", []), BadReturn, "bad_state_enter_return_from_state_function"),
        (KeepStateAndData(Postpone()), BadAction, "bad_state_enter_action_from_state_function"),
        (KeepStateAndData(NextEvent("internal")), BadAction, "bad_state_enter_action_from_state_function"),
        (KeepStateAndData(ChangeCallback(Table)), BadAction, "bad_state_enter_action_from_state_function"),
        (KeepStateAndData(PopCallback()), BadAction, "bad_state_enter_action_from_state_function"),
        (KeepStateAndData("junk"), BadAction, "bad_action_from_state_function"),  # type: ignore[arg-type]
        ("junk", BadReturn, "bad_return_from_state_function"),
    ],
)
def test_what_an_enter_call_may_not_is_a_crash_that_says_what_it_may(
    system: System, wrong: Any, error: type[BadReturn], word: str
) -> None:
    def second(kind: Any, content: Any, data: Any) -> Any:
        return wrong if kind == "enter" else KeepStateAndData()

    def first(kind: Any, content: Any, data: Any) -> Any:
        return None if kind == "enter" else NextState("second", data)

    machine = EnterTable.start({"first": first, "second": second}, "first", system=system)
    reason: Any = failure_of(call, machine, "go", None).reason
    assert (type(reason), reason.reason) == (error, word)
    assert "accepted is" in str(reason)


def test_an_enter_call_that_takes_postponing_back_or_stops_may(system: System) -> None:
    def second(kind: Any, content: Any, data: Any) -> Any:
        return StopAndReply("entered", ReplyTo(data, "bye"), data="gone")

    def first(kind: Any, content: Any, data: Any) -> Any:
        return None if kind == "enter" else NextState("second", kind)

    machine = EnterTable.start({"first": first, "second": second}, "first", system=system)
    server: Any = machine._process.server
    assert call(machine, "go") == "bye"
    until(lambda: server.ended)
    assert server.ended == [("entered", "second", "gone")]


def test_the_first_enter_call_that_fails_ends_the_machine_after_its_start(system: System) -> None:
    ended: list[Any] = []

    class Short(EnterTable):
        def terminate(self, reason: object, state: Any, data: Any) -> None:
            ended.append((str(reason), state, data))

    def first(kind: Any, content: Any, data: Any) -> Any:
        raise OSError("no disk")

    machine = Short.start({"first": first}, "first", "data", system=system)
    assert machine is not None
    until(lambda: ended)
    assert ended == [("no disk", "first", "data")]
    assert machine not in system.processes()


# ---- the end ---------------------------------------------------------------------------------------------------------------


def test_stop_runs_terminate_with_reason_state_and_data(system: System) -> None:
    machine = Table.start({"a": lambda *_: Stop(("shutdown", "done"))}, "a", 5, system=system)
    server: Any = machine._process.server
    assert failure_of(call, machine, "go", None).reason == ("shutdown", "done")
    assert server.ended == [(("shutdown", "done"), "a", 5)]
    again = Table.start({"b": lambda *_: KeepStateAndData()}, "b", 6, system=system)
    server = again._process.server
    stop(again, "shutdown")
    assert server.ended == [("shutdown", "b", 6)]


def test_a_stop_may_answer_the_call_it_came_of(system: System) -> None:
    machine = Table.start({"a": lambda *_: Stop("normal", reply="bye")}, "a", system=system)
    assert call(machine, "go") == "bye"
    until(lambda: machine not in system.processes())


def test_a_stop_with_replies_sends_them_in_order_before_terminate(system: System) -> None:
    log: list[Any] = []

    class Ending(Table):
        def terminate(self, reason: object, state: Any, data: Any) -> None:
            log.append((reason, state, data, [client.value for client in kept]))

    kept: list[Any] = []

    def behave(kind: Any, content: Any, data: Any) -> Any:
        if isinstance(kind, Call):
            kept.append(kind)
            return KeepStateAndData()
        return StopAndReply("because", *(ReplyTo(one, n) for n, one in enumerate(kept)), data="last")

    machine = Ending.start({"a": behave}, "a", system=system)
    asked = [gevent.spawn(call, machine, "wait", None) for _ in range(2)]
    until(lambda: len(kept) == 2)
    down = monitor(machine)
    cast(machine, "stop")
    assert [one.get(timeout=5) for one in asked] == [0, 1]
    assert down.wait(5).reason == "because"
    assert log == [("because", "a", "last", [0, 1])]
    assert failure_of(call, machine, "anybody?").reason == "noproc"


@LINES
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "reason"), "other"])
def test_a_line_stops_with_an_answer(system: System, kind: type[Line], reason: object) -> None:
    line = kind.start(system=system)
    down = monitor(line)
    assert call(line, "stop" if reason == "normal" else ("stop", reason)) == "stopped"
    assert down.wait(5).reason == reason
    assert failure_of(call, line, "anybody?").reason == "noproc"


def test_events_that_wait_are_dropped_at_a_stop(system: System) -> None:
    machine = Recorder.start(system=system)
    server: Any = machine._process.server
    cast(machine, Named("later", lambda kind, data: KeepStateAndData(Postpone())))
    ends = Named("ends", lambda kind, data: Stop("normal"))
    cast(machine, do(lambda kind, data: NextState("b", data, NextEvent("internal", ends))))
    until(lambda: machine not in system.processes())
    assert [event[1] for event in server._data] == ["later", "do", "ends"]


def test_a_terminate_that_raises_is_the_reason(system: System) -> None:
    class Clumsy(Line):
        def terminate(self, reason: object, state: Any, data: Any) -> None:
            raise OSError("disk")

    line = Clumsy.start(system=system)
    with pytest.raises(ServerExited, match="disk"):
        stop(line)
    line = Clumsy.start(system=system)
    down = monitor(line)
    assert call(line, "stop") == "stopped"
    assert isinstance(down.wait(5).reason, OSError)


def test_a_callback_that_raises_crashes_the_machine_and_terminate_runs(system: System) -> None:
    fault = ValueError("boom")

    def behave(kind: Any, content: Any, data: Any) -> Any:
        raise fault

    machine = Table.start({"a": behave}, "a", 1, system=system)
    server: Any = machine._process.server
    assert failure_of(call, machine, "go", None).reason is fault
    assert server.ended == [(fault, "a", 1)]


def test_the_log_of_a_crash_names_event_state_and_what_was_postponed(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    machine = Recorder.start("ringing", system=system)
    cast(machine, Named("later", lambda kind, data: KeepStateAndData(Postpone())))
    inner = Named("inner", lambda kind, data: 1 / 0)
    cast(machine, do(lambda kind, data: KeepStateAndData(NextEvent("internal", inner))))
    until(lambda: machine not in system.processes())
    assert "in the state 'ringing', with 'internal' <tests.otp.state_machine.machines.Named" in caplog.text
    assert "and 1 postponed" in caplog.text
    assert "division by zero" in caplog.text
