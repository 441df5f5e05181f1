"""State machines under random kills, in drawn schedules and virtual time: no call is lost, nothing is left behind."""

from __future__ import annotations

from collections import Counter
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallFailed,
    ChildSpec,
    EventTimeout,
    GenericTimeout,
    GenServer,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    ReplyTo,
    StateMachine,
    StateTimeout,
    Supervisor,
    System,
)
from packetflow.otp.simulation.world import World, explore
from packetflow.otp.state_machine.events import Expiry


class Gate(StateMachine):
    """Who comes while it is closed waits until it opens. Each number that passes gets itself as the answer; every third
    closes it, every fifth is answered only after a pause, and it beats all the while."""

    state_enter = True

    def init(self) -> NextState:
        return NextState("closed", 0, GenericTimeout("beat", 0.3))

    def closed(self, kind: Any, content: Any, passed: int) -> Any:
        match kind:
            case "enter":
                return KeepStateAndData(StateTimeout(0.5))
            case "state_timeout":
                return NextState("open", passed)
            case ("timeout", "beat"):
                return KeepStateAndData(GenericTimeout("beat", 0.3))
        return KeepStateAndData(Postpone())

    def open(self, kind: Any, content: Any, passed: int) -> Any:
        match kind, content:
            case "enter", _:
                return KeepStateAndData(EventTimeout(2.0))
            case ("timeout", "beat"), _:
                return KeepStateAndData(GenericTimeout("beat", 0.3))
            case ("timeout", ("late", caller, number)), _:
                return KeepStateAndData(ReplyTo(caller, number))
            case (("timeout" | "internal"), _):
                return NextState("closed", passed)
            case _, number if number % 5 == 0:
                gevent.sleep(0.01)
                return KeepState(passed + 1, GenericTimeout(("late", kind, number), 0.2))
            case _, number if number % 3 == 0:
                return KeepState(passed + 1, ReplyTo(kind, number), NextEvent("internal", "enough"))
            case _, number:
                return KeepState(passed + 1, ReplyTo(kind, number))


class Walker(GenServer):
    """An actor that passes the gate again and again."""

    def init(self, outcomes: Counter[str]) -> None:
        self.outcomes = outcomes
        self.number = 0
        self.send_after(0.05, "go")

    def handle_info(self, message: Any) -> None:
        self.number += 1
        self.outcomes["begun"] += 1
        try:
            self.outcomes[walk(self.system, self.number)] += 1
        except BaseException:
            self.outcomes["killed"] += 1
            raise
        self.send_after(0.05, "go")


def walk(system: System, number: int) -> str:
    try:
        answer = system.call("gate", number, timeout=2.0)
    except CallFailed as error:
        return type(error).__name__
    assert answer == number, "somebody else's answer"
    return "passed"


def check_timeouts(system: System) -> None:
    """No timeout runs but those of the gate that lives."""
    gate = system.whereis("gate")
    server: Any = None if gate is None else gate._process.server
    assert timeouts(system) <= len(getattr(server, "_timers", None) or ())


def timeouts(system: System) -> int:
    heap = system.scheduler.timers._heap
    return sum(1 for _, _, timer in heap if timer.waiting and isinstance(timer._argument, Expiry))


def crowd(world: World) -> Counter[str]:
    system = world.system()
    outcomes: Counter[str] = Counter()
    children = [ChildSpec(Gate, name="gate")] + [ChildSpec(Walker, outcomes, id=n) for n in range(3)]
    Supervisor.start(children, max_restarts=10_000, max_seconds=1, system=system)

    def guest() -> None:
        for number in range(1, 30):
            outcomes["begun"] += 1
            outcomes[walk(system, number)] += 1
            check_timeouts(system)
            gevent.sleep(0.1)

    guests = [gevent.spawn(guest) for _ in range(3)]
    world.kill_at_random(0.01, among=lambda server: isinstance(server, Gate | Walker))
    gevent.joinall(guests)
    world.kill_at_random(0.0)
    gevent.sleep(5)
    assert all(one.successful() for one in guests)
    assert system.call("gate", 1, timeout=10.0) == 1
    check_timeouts(system)
    system.shutdown()
    assert system.processes() == [] == system.names()
    return outcomes


def check(seeds: range) -> None:
    total: Counter[str] = Counter()
    for run in explore(crowd, seeds):
        begun = run.value.pop("begun")
        assert sum(run.value.values()) == begun, "a call has no outcome, or two"
        total += run.value
    assert {"passed", "ServerExited", "killed"} <= set(total)  # the accidents did happen


def test_no_call_is_lost_where_gates_and_walkers_are_killed_at_any_turn() -> None:
    check(range(8))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_call_is_lost_in_many_schedules() -> None:
    check(range(100, 400))
