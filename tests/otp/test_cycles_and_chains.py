"""Cycles of calls and chains of ten thousand: each is told, or ends, as one call would."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    CallFailed,
    CallTimeout,
    ChildSpec,
    GenServer,
    Ref,
    ServerExited,
    Supervisor,
    System,
    call,
    cast,
    kill,
    statistics,
    stop,
)
from tests.otp.actors import Puppet, crash, failure_of, until

# ---- cycles -----------------------------------------------------------------------------------------------------------


class Link(GenServer):
    """Asks the next of a ring or chain, whose messages say how the last of them answers."""

    def init(self, ring: list[Ref], at: int) -> None:
        self.ring = ring
        self.at = at

    def handle_call(self, last: Any, caller: Any) -> Any:
        following = self.at + 1
        if following == len(self.ring):
            return last(self)
        return call(self.ring[following], last, None) + 1


def ring_of(system: System, length: int) -> list[Ref]:
    ring: list[Ref] = []
    for at in range(length):
        ring.append(Link.start(ring, at, system=system, name=f"link {at}" if length <= 10 else None))
    return ring


@pytest.mark.parametrize("length", [2, 3, 10])
def test_a_cycle_of_calls_is_named_whole_and_everybody_lives_on(system: System, length: int) -> None:
    ring = ring_of(system, length)
    found: list[CallCycle] = []

    def close(server: Link) -> int:
        try:
            call(server.ring[0], None, None)
        except CallCycle as error:
            found.append(error)
        return 0

    assert call(ring[0], close, None) == length - 1
    (cycle,) = found
    assert cycle.chain == (ring[-1], *ring)
    for at in range(length):
        assert f"link {at}" in str(cycle)
    assert call(ring[0], lambda server: 0, None) == length - 1


def test_a_cycle_that_nobody_catches_crashes_those_in_it_with_the_cycle_as_the_cause(system: System) -> None:
    ring = ring_of(system, 3)
    with pytest.raises(ServerExited) as failed:
        call(ring[0], lambda server: call(server.ring[0], None, None), None)
    reason: Any = failed.value.reason
    while isinstance(reason, ServerExited):
        reason = reason.reason
    assert isinstance(reason, CallCycle)
    assert system.processes() == []


def test_a_cycle_that_closes_while_one_waits_for_room_is_told_too(system: System) -> None:
    class Narrow(Puppet):
        mailbox_limit = 1
        mailbox_full = "block"

    narrow, other, gate = Narrow.start(system=system), Puppet.start(system=system), Event()
    outcomes: list[Any] = []

    def ask(target: Ref) -> Any:
        def act(server: Any) -> None:
            try:
                outcomes.append(call(target, "asked", 5.0))
            except CallFailed as error:
                outcomes.append(error)

        return act

    cast(narrow, lambda server: gate.wait() and None)
    until(lambda: statistics(narrow).status == "busy")
    cast(narrow, ask(other))  # its mailbox is full now
    cast(other, ask(narrow))  # waits for room
    until(lambda: statistics(other).waits_for == narrow)
    gate.set()  # the next in the mailbox begins, and calls the one that has room now, and has not gone on yet
    until(lambda: len(outcomes) == 2)
    assert isinstance(outcomes[0], CallCycle)
    assert outcomes[0].chain == (other, narrow, other)
    assert outcomes[1] == "asked"


def test_a_call_that_waits_for_room_and_then_for_its_answer_tells_the_timeout_it_was_given(
    system: System,
) -> None:
    class Narrow(Puppet):
        mailbox_limit = 1
        mailbox_full = "block"

    ref, gate, never = Narrow.start(system=system), Event(), Event()
    cast(ref, lambda server: gate.wait() and None)
    until(lambda: statistics(ref).status == "busy")
    cast(ref, "fills it")
    asked = gevent.spawn(failure_of, call, ref, lambda server, caller: never.wait(), 0.05)
    until(lambda: ref._process.bonds is not None and ref._process.bonds.senders)
    gate.set()
    error = asked.get(timeout=5)
    assert isinstance(error, CallTimeout)
    assert error.timeout == 0.05
    never.set()


def test_the_room_of_one_who_is_killed_before_taking_it_goes_to_the_next(system: System) -> None:
    class Narrow(Puppet):
        mailbox_limit = 1
        mailbox_full = "block"

    ref, gate = Narrow.start(system=system), Event()

    def first(server: Any) -> None:
        gate.wait()
        killed.kill(block=False)

    def second(server: Any) -> None:
        system.scheduler.budget = 0  # the hub's turn comes before that of the one who has room now

    cast(ref, first)
    until(lambda: statistics(ref).status == "busy")
    cast(ref, second)
    killed = gevent.spawn(call, ref, "killed", None)
    until(lambda: ref._process.bonds is not None and len(ref._process.bonds.senders) == 1)
    waits = gevent.spawn(call, ref, "has room", None)
    late = gevent.spawn(failure_of, call, ref, "too late", 0.005)
    until(lambda: len(ref._process.bonds.senders) == 3)
    assert isinstance(late.get(timeout=5), CallTimeout)
    assert len(ref._process.bonds.senders) == 2
    gate.set()
    assert waits.get(timeout=5) == "has room"
    assert isinstance(killed.get(timeout=5), gevent.GreenletExit)


def test_a_call_to_a_circle_of_others_waits_and_does_not_go_round_for_ever(system: System) -> None:
    gate, begun = Event(), Event()

    class Slow(Puppet):
        def terminate(self, reason: object) -> None:
            begun.set()
            gate.wait()

    children = [
        ChildSpec(Puppet, name="asks", shutdown=0.2),
        ChildSpec(Slow, name="slow", shutdown="infinity"),
    ]
    tree = Supervisor.start(children, system=system)
    stopping = gevent.spawn(stop, tree)
    assert begun.wait(5)
    cast(system.find("asks"), lambda server: Supervisor.count_children(tree))
    until(lambda: system.whereis("asks") and statistics(system.find("asks")).waits_for == tree)
    gate.set()
    until(lambda: statistics(tree).waits_for == system.whereis("asks"))  # each waits for the other
    third = Puppet.start(system=system)
    asked = call(third, lambda server, caller: failure_of(call, tree, "hear me", 0.01), None)
    assert isinstance(asked, CallTimeout)
    stopping.get(timeout=5)


# ---- chains of ten thousand ---------------------------------------------------------------------------------------------

LENGTH = 10_000


def test_an_answer_comes_back_through_ten_thousand_servers(system: System) -> None:
    ring = ring_of(system, LENGTH)
    for _ in range(2):  # the second time with the workers of the first
        assert call(ring[0], lambda server: 0, None) == LENGTH - 1
    assert all(statistics(ref).status == "idle" for ref in ring)


def test_a_crash_at_the_end_of_ten_thousand_comes_back_to_the_first_caller(system: System) -> None:
    ring = ring_of(system, LENGTH)
    fault = ValueError("at the end")
    with pytest.raises(ServerExited) as failed:
        call(ring[0], crash(fault), None)
    depth, reason = 0, failed.value.reason
    while isinstance(reason, ServerExited):
        depth, reason = depth + 1, reason.reason
    assert (depth, reason) == (LENGTH - 1, fault)
    assert system.processes() == []


def test_a_kill_in_the_middle_of_ten_thousand_fails_those_before_and_spares_those_after(
    system: System,
) -> None:
    ring = ring_of(system, LENGTH)
    gate = Event()
    asked = gevent.spawn(call, ring[0], lambda server: gate.wait() and 0, None)
    until(lambda: statistics(ring[-1]).status == "busy")
    middle = LENGTH // 2
    kill(ring[middle])
    with pytest.raises(ServerExited):
        asked.get()
    assert set(system.processes()) == set(ring[middle + 1 :])
    gate.set()
    assert call(ring[middle + 1], lambda server: 0, None) == LENGTH - middle - 2


def test_a_timeout_in_the_middle_of_ten_thousand_ends_the_half_before_it(system: System) -> None:
    patience = 0.01

    class Impatient(Link):
        def handle_call(self, last: Any, caller: Any) -> Any:
            try:
                return call(self.ring[self.at + 1], last, patience) + 1
            except CallTimeout:
                return 0

    ring: list[Ref] = []
    middle = LENGTH // 2
    for at in range(LENGTH):
        ring.append((Impatient if at == middle else Link).start(ring, at, system=system))
    gate = Event()
    answers: list[int] = []

    def late(server: Link) -> int:
        gate.wait()
        answers.append(1)
        return 0

    assert call(ring[0], late, None) == middle
    assert statistics(ring[middle]).status == "idle"
    assert statistics(ring[middle + 1]).status == "busy"
    gate.set()
    until(lambda: statistics(ring[middle + 1]).status == "idle")
    assert answers == [1]
    patience = 60.0
    assert call(ring[0], lambda server: 0, None) == LENGTH - 1
