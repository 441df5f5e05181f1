"""otp.md, "State machine": state, event and generic timeouts, and when each is cancelled."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    EventTimeout,
    GenericTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    SpecError,
    StateTimeout,
    StopAndReply,
    System,
    call,
    cast,
    get_state,
    kill,
    monitor,
    send,
    statistics,
    stop,
)
from packetflow.otp.state_machine.events import Expiry
from tests.otp.actors import until
from tests.otp.state_machine.machines import EnterRecorder, Named, Recorder, Table

SOON = 0.002
FENCE = GenericTimeout("fence", 0.02)  # comes after what comes SOON, if that comes at all


def do(transition: Any) -> Any:
    """A message that makes the machine return what `transition(kind, data)` gives."""
    return Named("do", transition)


def running(system: System) -> int:
    """How many timeouts of state machines run."""
    heap = system.scheduler.timers._heap
    return sum(1 for _, _, timer in heap if timer.waiting and isinstance(timer._argument, Expiry))


def timeouts(system: System, *steps: Any, kind: type[Recorder] = Recorder) -> list[Any]:
    """What timeouts a machine sees which is told to make these transitions in a row, until the fence comes."""
    machine = kind.start("first", FENCE, system=system)
    for step in steps:
        cast(machine, do(lambda _, data, step=step: step(data)))
    until(lambda: get_state(machine)[1][-1][0] == ("timeout", "fence"))
    seen = [event for event in get_state(machine)[1][:-1] if event[0] not in ("cast", "enter")]
    assert running(system) == 0
    return seen


def stays(*actions: Any) -> Any:
    return lambda data: KeepStateAndData(*actions)


def goes(state: Any, *actions: Any) -> Any:
    return lambda data: NextState(state, data, *actions)


# ---- each kind -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "kind"),
    [
        (StateTimeout(SOON, "x"), "state_timeout"),
        (EventTimeout(SOON, "x"), "timeout"),
        (GenericTimeout("n", SOON, "x"), ("timeout", "n")),
        (GenericTimeout(("any", 1), SOON, "x"), ("timeout", ("any", 1))),
    ],
)
def test_a_timeout_comes_once_as_an_event_of_its_kind_with_its_content(
    system: System, timeout: Any, kind: Any
) -> None:
    assert timeouts(system, stays(timeout)) == [(kind, "x", "first")]
    assert timeouts(system, goes("second", timeout)) == [(kind, "x", "second")]


def test_a_timeout_of_init(system: System) -> None:
    machine = Recorder.start("first", StateTimeout(SOON, "x"), system=system)
    until(lambda: get_state(machine)[1])
    assert get_state(machine)[1] == [("state_timeout", "x", "first")]


def test_a_change_of_state_cancels_the_state_timeout(system: System) -> None:
    assert timeouts(system, stays(StateTimeout(SOON, "x")), goes("second")) == []


@pytest.mark.parametrize("kind", [Recorder, EnterRecorder])
@pytest.mark.parametrize(
    "step",
    [
        stays(),
        goes("first"),
        lambda data: KeepState(data),
        lambda data: RepeatState(data),
        lambda data: RepeatStateAndData(),
    ],
)
def test_a_state_timeout_lives_on_while_the_state_stays(
    system: System, step: Any, kind: type[Recorder]
) -> None:
    assert timeouts(system, stays(StateTimeout(SOON, "x")), step, kind=kind) == [
        ("state_timeout", "x", "first")
    ]


def test_a_state_timeout_set_with_the_change_of_state_is_the_new_states(system: System) -> None:
    assert timeouts(
        system, stays(StateTimeout(SOON, "old")), goes("second", StateTimeout(SOON, "new")), stays()
    ) == [("state_timeout", "new", "second")]


@pytest.mark.parametrize("step", [stays(), goes("second"), stays(StateTimeout(None)), stays(Postpone())])
def test_any_event_cancels_the_event_timeout(system: System, step: Any) -> None:
    assert timeouts(system, stays(EventTimeout(SOON, "x")), step) == []


def test_a_message_of_any_kind_and_an_inserted_event_cancel_the_event_timeout(system: System) -> None:
    for disturb in (
        lambda ref: cast(ref, 1),
        lambda ref: send(ref, 1),
        lambda ref: call(ref, 1),
        lambda ref: cast(ref, do(lambda *_: KeepStateAndData(EventTimeout(SOON), NextEvent("internal")))),
    ):
        machine = Recorder.start("first", FENCE, system=system)
        cast(machine, do(lambda *_: KeepStateAndData(EventTimeout(SOON))))
        disturb(machine)
        until(lambda ref=machine: get_state(ref)[1][-1][0] == ("timeout", "fence"))
        assert "timeout" not in [event[0] for event in get_state(machine)[1]]


def test_looking_inside_is_no_event(system: System) -> None:
    machine = Recorder.start(system=system)
    cast(machine, do(lambda *_: KeepStateAndData(EventTimeout(SOON, "x"))))
    until(lambda: len(get_state(machine)[1]) == 2)  # asks again and again meanwhile
    assert get_state(machine)[1][1] == ("timeout", "x", "first")


def test_a_generic_timeout_lives_through_events_and_changes_of_state(system: System) -> None:
    assert timeouts(
        system, stays(GenericTimeout("n", SOON, "x")), stays(), goes("second"), goes("third")
    ) == [(("timeout", "n"), "x", "third")]


def test_any_number_of_generic_timeouts_run_at_once(system: System) -> None:
    # Different times, as two timers of one due time need not keep an order.
    assert timeouts(system, stays(*(GenericTimeout(n, SOON * (1 + n / 8), n) for n in range(8)))) == [
        (("timeout", n), n, "first") for n in range(8)
    ]


@pytest.mark.parametrize(
    ("long", "short", "kind"),
    [
        (StateTimeout(90, "long"), StateTimeout(SOON, "short"), "state_timeout"),
        (EventTimeout(90, "long"), EventTimeout(SOON, "short"), "timeout"),
        (GenericTimeout("n", 90, "long"), GenericTimeout("n", SOON, "short"), ("timeout", "n")),
    ],
)
def test_a_new_one_takes_the_place_of_the_running_one(
    system: System, long: Any, short: Any, kind: Any
) -> None:
    assert timeouts(system, stays(long), stays(short)) == [(kind, "short", "first")]
    assert timeouts(system, stays(long, short)) == [(kind, "short", "first")]  # the last of a kind wins
    assert timeouts(system, stays(short, long), stays(type(long).cancel("n") if "n" in kind else
                                                      type(long).cancel())) == []  # fmt: skip


# ---- cancel and update ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "cancel"),
    [
        (StateTimeout(SOON), StateTimeout.cancel()),
        (StateTimeout(SOON), StateTimeout(None)),
        (EventTimeout(SOON), EventTimeout.cancel()),
        (EventTimeout(SOON), EventTimeout(None)),
        (GenericTimeout("n", SOON), GenericTimeout.cancel("n")),
        (GenericTimeout("n", SOON), GenericTimeout("n", None)),
    ],
)
def test_a_cancelled_timeout_does_not_come(system: System, timeout: Any, cancel: Any) -> None:
    assert timeouts(system, stays(timeout), stays(cancel)) == []
    assert timeouts(system, stays(timeout, cancel)) == []
    assert timeouts(system, stays(cancel), stays(cancel)) == []  # nothing runs: nothing happens


def test_a_cancelled_generic_timeout_leaves_the_others(system: System) -> None:
    assert timeouts(
        system, stays(GenericTimeout("a", SOON), GenericTimeout("b", SOON)), stays(GenericTimeout.cancel("a"))
    ) == [(("timeout", "b"), None, "first")]


def test_a_timeout_that_is_in_the_mailbox_already_can_be_cancelled_and_updated(system: System) -> None:
    def late(action: Any) -> Any:
        def step(data: Any) -> Any:
            until(lambda: [ref for ref in system.processes() if statistics(ref).mailbox >= 2])
            return KeepStateAndData(action)

        return step

    both = stays(StateTimeout(SOON, "old"), GenericTimeout("n", SOON, "other"))
    assert timeouts(system, both, late(StateTimeout.cancel())) == [(("timeout", "n"), "other", "first")]
    assert timeouts(system, both, late(GenericTimeout.update("n", "new")))[-1] == (
        ("timeout", "n"),
        "new",
        "first",
    )


def test_an_update_changes_the_content_of_a_running_timeout_only(system: System) -> None:
    assert timeouts(system, stays(StateTimeout(SOON, "old")), stays(StateTimeout.update("new"))) == [
        ("state_timeout", "new", "first")
    ]
    assert timeouts(
        system, stays(GenericTimeout("n", SOON, "old")), stays(GenericTimeout.update("n", "new"))
    ) == [(("timeout", "n"), "new", "first")]


def test_an_update_of_none_that_runs_comes_at_once(system: System) -> None:
    machine = Recorder.start(system=system)
    updates = (StateTimeout.update(1), GenericTimeout.update("n", 2), EventTimeout.update(3))
    cast(machine, do(lambda *_: KeepStateAndData(*updates)))
    assert [event[:2] for event in call(machine, "seen")[1:]] == [("state_timeout", 1), (("timeout", "n"), 2)]
    cast(machine, do(lambda *_: KeepStateAndData(EventTimeout.update(4))))
    assert call(machine, "seen")[-1] == ("timeout", 4, "first")


# ---- the clock ------------------------------------------------------------------------------------------------------------


def test_an_absolute_time_is_one_of_the_systems_clock(system: System) -> None:
    now = system.clock.monotonic()
    assert timeouts(system, stays(GenericTimeout("n", now + SOON, "x", absolute=True))) == [
        (("timeout", "n"), "x", "first")
    ]
    assert timeouts(system, stays(StateTimeout(now - 1, "past", absolute=True))) == [
        ("state_timeout", "past", "first")
    ]


def test_a_chain_of_generic_timeouts_answers_the_call_it_began_with(system: System) -> None:
    def start(kind: Any, content: Any, data: Any) -> Any:
        return NextState(
            "one",
            None,
            GenericTimeout("a", 90, 1),
            StateTimeout(90, 1),
            GenericTimeout("b", 90, 1),
            NextEvent(kind, content),
        )

    def one(kind: Any, content: Any, data: Any) -> Any:
        due = system.clock.monotonic() + SOON
        return NextState(
            "two",
            None,
            GenericTimeout("c", due, 2, absolute=True),
            GenericTimeout("d", 0, 2, absolute=False),
            EventTimeout(0, 2),
            GenericTimeout("b", None, 2),
            GenericTimeout("a", 2 * SOON, (kind, content)),
        )

    def expects(wanted: Any, result: Any) -> Any:
        def behave(kind: Any, content: Any, data: Any) -> Any:
            assert kind == ("timeout", wanted)
            return result(content)

        return behave

    machine = Table.start(
        {
            "start": start,
            "one": one,
            "two": expects("d", lambda content: NextState("three", None)),
            "three": expects("c", lambda content: NextState("four", None)),
            "four": expects("a", lambda content: StopAndReply("shutdown", ReplyTo(content[0], content[1]))),
        },
        "start",
        system=system,
    )
    down = monitor(machine)
    assert call(machine, "stop") == "stop"
    assert down.wait(5).reason == "shutdown"


# ---- nothing is left ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [kill, stop])
def test_running_timeouts_end_with_the_machine(system: System, end: Any) -> None:
    actions = (StateTimeout(90), EventTimeout(90), GenericTimeout("a", 90), GenericTimeout("b", 90))
    machine = Recorder.start("first", *actions, system=system)
    assert running(system) == 4
    end(machine)
    assert running(system) == 0


def test_an_idle_machine_has_no_greenlet_and_nothing_that_waits(system: System) -> None:
    machine = Recorder.start(system=system)
    first = (StateTimeout(SOON), Postpone())
    cast(machine, do(lambda _, data: KeepStateAndData(*(first if data[-1][2] == "first" else ()))))
    until(lambda: len(get_state(machine)[1]) == 2)
    cast(machine, do(lambda _, data: NextState("second", data)))
    until(lambda: len(get_state(machine)[1]) == 4)
    process = machine._process
    server: Any = process.server
    assert (process.worker, process.mailbox, process.current) == (None, None, None)
    assert (server._timers, server._postponed) == (None, None)


def test_a_timeout_that_comes_while_the_machine_is_at_work_waits_its_turn(system: System) -> None:
    machine = Recorder.start("first", StateTimeout(SOON, "x"), system=system)
    slow = do(lambda *_: until(lambda: statistics(machine).mailbox) and KeepStateAndData())
    asked = gevent.spawn(cast, machine, slow)
    until(lambda: len(get_state(machine)[1]) == 2)
    asked.get(timeout=5)
    assert [event[0] for event in get_state(machine)[1]] == ["cast", "state_timeout"]


# ---- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-1, -0.001, True, "1", float("nan"), float("inf"), [1]])
@pytest.mark.parametrize(
    "make",
    [StateTimeout, EventTimeout, lambda seconds: GenericTimeout("n", seconds)],
)
def test_a_time_that_is_none_is_refused_where_it_is_made(make: Any, seconds: Any) -> None:
    with pytest.raises(SpecError, match=r"Timeout.seconds: given .*accepted is a number of seconds from 0"):
        make(seconds)


def test_other_wrong_options_are_refused() -> None:
    with pytest.raises(SpecError, match=r"StateTimeout.absolute: given 1; accepted is True or False"):
        StateTimeout(1, None, 1)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match=r"GenericTimeout.name: given \[\]; accepted is something hashable"):
        GenericTimeout([], 1)  # type: ignore[arg-type]


def test_a_wrong_timeout_crashes_the_machine_that_makes_it(system: System) -> None:
    machine = Recorder.start(system=system)
    down = monitor(machine)
    cast(machine, do(lambda *_: KeepStateAndData(StateTimeout("soon"))))  # type: ignore[arg-type]
    reason = down.wait(5).reason
    assert isinstance(reason, SpecError)
    assert reason.field == "StateTimeout.seconds"
