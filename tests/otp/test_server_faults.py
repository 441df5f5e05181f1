"""otp.md, "Server": faults of handlers and callers, context variables, and fairness."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    HubBlocked,
    NoReply,
    NotAnActor,
    Reply,
    ServerExited,
    System,
    call,
    cast,
    get_state,
    kill,
    reply,
    statistics,
)
from tests.otp.actors import Puppet, Trapper, crash, seen, until

# ---- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, gevent.GreenletExit, MemoryError, RecursionError]
)
def test_whatever_user_code_raises_is_a_crash_of_it_and_of_nothing_else(
    system: System, kind: type[BaseException]
) -> None:
    fault = kind("by the user")
    log: list[Any] = []
    other = Puppet.start(system=system)
    ref = Puppet.start(None, log, system=system)
    with pytest.raises(ServerExited) as failed:
        call(ref, crash(fault), timeout=None)
    assert failed.value.reason is fault
    assert log == [("terminate", fault)]
    assert call(other, "alive") == "alive"


def test_a_server_that_calls_itself_is_told_so(system: System) -> None:
    ref = Puppet.start(system=system)

    def calls_itself(server: Any, caller: Any) -> str:
        with pytest.raises(CallCycle, match="calls itself"):
            server.call(server.ref, "self", timeout=None)
        return "lives"

    assert call(ref, calls_itself) == "lives"


def test_a_cycle_of_calls_fails_at_once_with_the_chain(system: System) -> None:
    other_system = System("elsewhere", incarnation=1)
    first = Puppet.start(name="first", system=system)
    second = Puppet.start(name="second", system=other_system)
    third = Puppet.start(name="third", system=system)

    def close(server: Any, caller: Any) -> object:
        with pytest.raises(CallCycle) as cycle:
            call(first, "round", timeout=None)
        return cycle.value

    found = call(first, lambda s, c: call(second, lambda s, c: call(third, close, None), None), None)
    assert found.chain == (third, first, second, third)
    assert "third test/" in str(found)
    assert str(found).count("->") == 3
    other_system.shutdown()


def test_an_edge_ends_when_the_handler_returns_without_an_answer(system: System) -> None:
    second = Puppet.start(system=system)
    kept: list[Any] = []

    def take(server: Any, caller: Any) -> NoReply:
        kept.append(caller)
        return NoReply()

    first = Puppet.start(system=system)
    asked = gevent.spawn(call, first, lambda s, c: call(second, take, None), None)
    until(lambda: kept)
    # second is free, and may call first: first waits for an answer, not for a handler.
    back = gevent.spawn(call, second, lambda s, c: call(first, "queued", None), None)
    until(lambda: statistics(first).mailbox == 1)
    reply(kept[0], "done")
    assert asked.get(timeout=5) == "done"
    assert back.get(timeout=5) == "queued"


def test_a_call_from_the_hub_is_told_so(system: System) -> None:
    ref = Puppet.start(system=system)
    caught = []

    def in_the_hub(_: object) -> None:
        try:
            call(ref, "never")
        except HubBlocked as error:
            caught.append(error)

    system.scheduler.timers.after(0.0, in_the_hub)
    until(lambda: caught)
    assert call(ref, "alive") == "alive"


def test_a_bad_return_value_of_a_cast_is_a_crash(system: System) -> None:
    log: list[Any] = []
    ref = Puppet.start(None, log, system=system)
    cast(ref, lambda server: Reply("to whom?"))
    until(lambda: log)
    assert isinstance(log[0][1], TypeError)


def test_outside_of_an_actor_start_needs_a_system() -> None:
    with pytest.raises(NotAnActor):
        Puppet.start()
    with pytest.raises(NotAnActor):
        Puppet.start_link()


def test_a_caller_that_is_killed_while_it_waits_leaves_the_server_sound(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    caller = gevent.spawn(call, ref, lambda s, c: gate.wait() and "late", None)
    until(lambda: statistics(ref).status == "busy")
    caller.kill()
    gate.set()
    assert call(ref, "own") == "own"


def test_a_gevent_timeout_around_a_call_works(system: System) -> None:
    never = Event()
    ref = Puppet.start(system=system)
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.01):
        call(ref, lambda s, c: never.wait(), None)


# ---- context variables and fairness --------------------------------------------------------------------------------------

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_a_call_is_handled_in_a_copy_of_the_callers_context_and_a_cast_in_a_fresh_one(system: System) -> None:
    def look(server: Any, caller: Any) -> str:
        found = WHO.get()
        WHO.set("changed by the handler")
        return found

    ref = Puppet.start(system=system)

    def client() -> list[str]:
        WHO.set("client")
        first = call(ref, look)
        return [first, call(ref, look), WHO.get()]

    assert gevent.spawn(client).get(timeout=5) == ["client", "client", "client"]
    cast(ref, lambda server: server.seen.append(WHO.get()))
    assert call(ref, seen) == ["nobody"]


def test_callers_and_casts_do_not_starve_timers(system: System) -> None:
    fired: list[int] = []
    ref = Puppet.start(system=system)
    system.scheduler.timers.after(0.001, lambda _: fired.append(1))
    until_fired = 0
    while not fired and until_fired < 1_000_000:
        call(ref, "again")
        until_fired += 1
    assert fired

    def forever(server: Any) -> None:
        if len(fired) < 2:
            cast(server.ref, forever)

    system.scheduler.timers.after(0.001, lambda _: fired.append(2))
    cast(ref, forever)
    until(lambda: len(fired) == 2)


def test_a_gevent_timeout_left_behind_in_a_handler_ends_no_innocent_caller(system: System) -> None:
    ref = Puppet.start(system=system)

    def careless(server: Any, caller: Any) -> str:
        server.left = gevent.Timeout(0.002)
        server.left.start()
        return "done"

    assert call(ref, careless) == "done"
    until(lambda: not call(ref, lambda s, c: s.left.pending))
    assert call(ref, "alive") == "alive"


def test_get_state_is_read_between_two_messages(system: System) -> None:
    ref = Puppet.start(system=system)
    cast(ref, "one")
    assert get_state(ref)["seen"] == ["one"]


def test_the_parents_exit_stops_a_server_that_traps_with_terminate(system: System) -> None:
    log: list[Any] = []
    parent = Puppet.start(lambda server: Trapper.start_link(None, log) and None, system=system)
    kill(parent)
    until(lambda: log)
    assert log == [("terminate", "killed")]
