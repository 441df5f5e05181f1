"""otp.md, "State machine": wrong returns and actions, and a change of the callback class."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    BadAction,
    BadReturn,
    ChangeCallback,
    GenServer,
    KeepState,
    KeepStateAndData,
    NextState,
    NoReply,
    PopCallback,
    Postpone,
    PushCallback,
    Reply,
    ReplyTo,
    ServerExited,
    SpecError,
    StateMachine,
    Stop,
    StopAndReply,
    System,
    call,
    cast,
    get_state,
)
from tests.otp.actors import until
from tests.otp.state_machine.machines import EnterRecorder, Line, LineByEvents, Named, Recorder, Table

LINES = pytest.mark.parametrize("kind", [Line, LineByEvents])


def do(transition: Any) -> Any:
    """A message that makes the machine return what `transition(kind, data)` gives."""
    return Named("do", transition)


# ---- wrong returns ---------------------------------------------------------------------------------------------------------


@LINES
def test_a_bad_return_is_a_crash_that_names_it(system: System, kind: type[Line]) -> None:
    line = kind.start(system=system)
    with pytest.raises(
        ServerExited, match=r"returned 'bad return' for a call of .*accepted is NextState"
    ) as failed:
        call(line, "bad return", None)
    reason: Any = failed.value.reason
    assert (type(reason), reason.given) == (BadReturn, "bad return")
    assert reason.reason == "bad_return_from_state_function"


@LINES
def test_a_bad_action_is_a_crash_that_names_it(system: System, kind: type[Line]) -> None:
    line = kind.start(system=system)
    with pytest.raises(
        ServerExited, match=r"gave the action 'bad action'; accepted is ReplyTo, Postpone"
    ) as failed:
        call(line, "bad action", None)
    reason: Any = failed.value.reason
    assert (type(reason), reason.given) == (BadAction, "bad action")
    assert reason.reason == "bad_action_from_state_function"


@pytest.mark.parametrize(
    "wrong", [None, True, ("next_state", "b"), NoReply(), Reply(1), Postpone(), KeepState, Stop("x", reply=1)]
)
def test_what_is_no_transition_is_a_crash(system: System, wrong: Any) -> None:
    machine = Table.start({"a": lambda *_: wrong}, "a", system=system)
    server: Any = machine._process.server
    cast(machine, "go")
    until(lambda: server.ended)
    (reason, _, _) = server.ended[0]
    assert (type(reason), reason.given) == (BadReturn, wrong)


def test_none_is_a_crash_with_a_hint(system: System) -> None:
    machine = Table.start({"a": lambda *_: None}, "a", system=system)
    with pytest.raises(ServerExited, match="did no case of its match fit"):
        call(machine, "unforeseen", None)


@pytest.mark.parametrize(
    ("action", "accepted"),
    [
        ([ReplyTo(None, 1)], "each as an argument of its own"),  # type: ignore[arg-type]
        (("postpone",), "ReplyTo, Postpone, NextEvent"),
        (Postpone, "ReplyTo, Postpone, NextEvent"),
        (ReplyTo("cast", 1), r"ReplyTo\(caller, value\), where the caller is the kind"),
        (PopCallback(), "PopCallback after a PushCallback"),
        (KeepStateAndData(), "ReplyTo, Postpone, NextEvent"),
    ],
)
def test_what_is_no_action_is_a_crash(system: System, action: Any, accepted: str) -> None:
    machine = Table.start({"a": lambda *_: KeepState("new", action)}, "a", system=system)
    server: Any = machine._process.server
    with pytest.raises(ServerExited, match=accepted):
        call(machine, "go", None)
    assert server.ended[0][1:] == ("a", "new")


def test_a_reply_of_a_stop_that_is_none_is_a_crash_after_those_before_it(system: System) -> None:
    machine = Table.start(
        {"a": lambda kind, *_: StopAndReply("normal", ReplyTo(kind, 1), Postpone())},  # type: ignore[arg-type]
        "a",
        system=system,
    )
    server: Any = machine._process.server
    assert call(machine, "go") == 1
    until(lambda: server.ended)
    assert server.ended[0][0].reason == "bad_reply_action_from_state_function"


def test_the_replies_before_a_bad_action_are_sent(system: System) -> None:
    machine = Table.start(
        {"a": lambda kind, *_: KeepState(1, ReplyTo(kind, "sent"), "junk")}, "a", system=system
    )
    assert call(machine, "go") == "sent"
    until(lambda: machine not in system.processes())


def test_postpone_takes_true_or_false() -> None:
    with pytest.raises(SpecError, match=r"Postpone.postpone: given 'yes'; accepted is True or False"):
        Postpone("yes")  # type: ignore[arg-type]


# ---- another callback class ----------------------------------------------------------------------------------------------


class Other(StateMachine):
    """Knows the Recorder's first state, as a method; answers differently."""

    def init(self) -> NextState:
        return NextState("first", [])

    def first(self, kind: Any, content: Any, data: Any) -> Any:
        if callable(content):
            return content(kind, data)
        return KeepStateAndData(ReplyTo(kind, ("other", content)))


def test_a_change_of_the_callback_class_keeps_state_data_and_what_waits(system: System) -> None:
    machine = Recorder.start(system=system)
    put_off = gevent.spawn(
        call, machine, Named("x", lambda kind, data: KeepStateAndData(Postpone())
                             if len(data) < 2 else NextState("first", data, ReplyTo(kind, "came"))))  # fmt: skip
    until(lambda: get_state(machine)[1])
    call(machine, do(lambda kind, data: KeepStateAndData(ChangeCallback(Other), ReplyTo(kind, None))))
    assert call(machine, "who?") == ("other", "who?")
    assert [event[1] for event in get_state(machine)[1]] == ["x", "do"]
    call(
        machine,
        do(lambda kind, data: NextState("second", data, ChangeCallback(Recorder), ReplyTo(kind, None))),
    )
    assert put_off.get(timeout=5) == "came"
    assert call(machine, "who?") == "who?"


def test_pushed_callback_classes_come_back_in_turn(system: System) -> None:
    machine = Recorder.start(system=system)
    call(machine, do(lambda kind, data: KeepStateAndData(PushCallback(Other), ReplyTo(kind, None))))
    assert call(machine, 1) == ("other", 1)
    call(machine, do(lambda kind, data: KeepStateAndData(PushCallback(Recorder), ReplyTo(kind, None))))
    assert call(machine, 2) == 2
    call(machine, do(lambda kind, data: KeepStateAndData(PopCallback(), ReplyTo(kind, None))))
    assert call(machine, 3) == ("other", 3)
    call(machine, do(lambda kind, data: KeepStateAndData(PopCallback(), ReplyTo(kind, None))))
    assert call(machine, 4) == 4
    with pytest.raises(ServerExited, match="PopCallback after a PushCallback"):
        call(machine, do(lambda kind, data: KeepStateAndData(PopCallback())), None)


def test_the_enter_call_after_a_change_of_class_is_the_new_ones(system: System) -> None:
    machine = Recorder.start(system=system)
    cast(machine, do(lambda kind, data: NextState("second", data, ChangeCallback(EnterRecorder))))
    assert call(machine, "seen")[-1] == ("enter", "first", "second")


def test_a_class_that_does_not_know_the_state_is_a_crash(system: System) -> None:
    machine = Recorder.start("unknown", system=system)
    with pytest.raises(ServerExited, match="'unknown' is no state of Other"):
        call(machine, do(lambda kind, data: KeepStateAndData(ChangeCallback(Other))), None)


@pytest.mark.parametrize("wrong", [GenServer, object(), "Other", None])
def test_only_a_state_machine_class_takes_over(wrong: Any) -> None:
    with pytest.raises(SpecError, match=r"PushCallback.cls: given .*accepted is a StateMachine class"):
        PushCallback(wrong)
