"""otp.md, "State machine": events that are put off until the state changes."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    Call,
    CallTimeout,
    KeepState,
    KeepStateAndData,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    System,
    call,
    cast,
    get_state,
    kill,
    stop,
)
from tests.otp.actors import failure_of, until
from tests.otp.state_machine.machines import EnterRecorder, Named, Recorder

# ---- postponed events ----------------------------------------------------------------------------------------------------


def postpones(until_state: str) -> Any:
    """A message that is put off until the machine is in a state; a call is then answered."""

    def act(kind: Any, data: Any) -> Any:
        if data[-1][2] != until_state:
            return KeepStateAndData(Postpone())
        return KeepStateAndData(ReplyTo(kind, "at last")) if isinstance(kind, Call) else KeepStateAndData()

    return Named(f"until {until_state}", act)


def go(state: Any) -> Any:
    return Named(f"go {state}", lambda kind, data: NextState(state, data))


def test_a_postponed_event_comes_again_after_each_change_of_state(system: System) -> None:
    machine = Recorder.start(system=system)
    asked = gevent.spawn(call, machine, postpones("third"))
    until(lambda: get_state(machine)[1])
    for state in ("second", "third"):
        cast(machine, go(state))
    assert asked.get(timeout=5) == "at last"
    assert [event[1:] for event in call(machine, "seen")] == [
        ("until third", "first"),
        ("go second", "first"),
        ("until third", "second"),
        ("go third", "second"),
        ("until third", "third"),
    ]


@pytest.mark.parametrize(
    "stays",
    [
        lambda kind, data: KeepState(data),
        lambda kind, data: KeepStateAndData(),
        lambda kind, data: RepeatState(data),
        lambda kind, data: RepeatStateAndData(),
        lambda kind, data: NextState("first", data),
    ],
)
@pytest.mark.parametrize("machine_class", [Recorder, EnterRecorder])
def test_a_postponed_event_stays_put_off_while_the_state_stays(
    system: System, stays: Any, machine_class: type[Recorder]
) -> None:
    machine = machine_class.start(system=system)
    cast(machine, postpones("second"))
    cast(machine, Named("stays", stays))
    assert [event[1] for event in call(machine, "seen") if event[0] != "enter"] == ["until second", "stays"]


def test_the_event_that_changes_the_state_may_itself_be_postponed_and_comes_after_the_earlier(
    system: System,
) -> None:
    machine = Recorder.start(system=system)
    cast(machine, postpones("second"))

    def both(kind: Any, data: Any) -> Any:
        if data[-1][2] == "second":
            return KeepStateAndData()
        return NextState("second", data, Postpone())

    cast(machine, Named("both", both))
    assert [event[1:] for event in call(machine, "seen")] == [
        ("until second", "first"),
        ("both", "first"),
        ("until second", "second"),
        ("both", "second"),
    ]


def test_the_last_word_on_postponing_counts(system: System) -> None:
    machine = Recorder.start(system=system)
    cast(machine, Named("no", lambda kind, data: KeepStateAndData(Postpone(), Postpone(False))))
    cast(machine, go("second"))
    assert [event[1] for event in call(machine, "seen")] == ["no", "go second"]


def test_a_postponed_call_fails_at_once_when_the_machine_dies(system: System) -> None:
    machine = Recorder.start(system=system)
    asked = [
        gevent.spawn(lambda: failure_of(call, machine, postpones("never"), None).reason) for _ in range(2)
    ]
    until(lambda: len(get_state(machine)[1]) == 2)
    kill(machine)
    assert [one.get(timeout=5) for one in asked] == ["killed", "killed"]


def test_a_postponed_call_fails_with_the_reason_of_a_stop(system: System) -> None:
    machine = Recorder.start(system=system)
    asked = gevent.spawn(lambda: failure_of(call, machine, postpones("never"), None).reason)
    until(lambda: get_state(machine)[1])
    stop(machine, "shutdown")
    assert asked.get(timeout=5) == "shutdown"


def test_a_postponed_call_whose_caller_gave_up_does_not_come_again(system: System) -> None:
    machine = Recorder.start(system=system)
    with pytest.raises(CallTimeout):
        call(machine, postpones("second"), timeout=0.001)
    cast(machine, go("second"))
    assert [event[1] for event in call(machine, "seen")] == ["until second", "go second"]
    assert machine._process.bonds is None or not machine._process.bonds.owed


def test_a_postponed_call_that_was_answered_already_comes_again(system: System) -> None:
    machine = Recorder.start(system=system)

    def answered(kind: Any, data: Any) -> Any:
        if data[-1][2] == "second":
            return KeepStateAndData(ReplyTo(kind, "again"))  # a second answer, which is dropped
        return KeepStateAndData(ReplyTo(kind, "now"), Postpone())

    assert call(machine, Named("answered", answered)) == "now"
    cast(machine, go("second"))
    assert [event[1:] for event in call(machine, "seen")] == [
        ("answered", "first"),
        ("go second", "first"),
        ("answered", "second"),
    ]


def test_calls_that_were_given_up_do_not_pile_up_in_a_state_that_stays(system: System) -> None:
    machine = Recorder.start(system=system)
    callers = []
    for number in range(200):
        callers.append(gevent.spawn(call, machine, postpones("never"), None))
        until(lambda number=number: len(get_state(machine)[1]) == number + 1)
        if number % 10:
            callers[-1].kill()
    server = machine._process.server
    assert 20 <= len(server._postponed) < 64  # type: ignore[attr-defined]
    assert len(machine._process.bonds.owed) < 64
    kill(machine)
    gevent.joinall(callers, timeout=5)
