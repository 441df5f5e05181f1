"""Fault cases: what a handler may do wrong at worst to itself, and to those that wait for it."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    CallTimeout,
    ChildSpec,
    Continue,
    Down,
    NoProcess,
    NoReply,
    Ref,
    Reply,
    ServerExited,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    call,
    cast,
    exit_signal,
    kill,
    monitor,
    reply,
    send,
    statistics,
    stop,
)
from tests.otp.actors import Puppet, crash, failure_of, until


class Homemade(BaseException):
    pass


FAULTS = [
    Homemade,
    BaseException,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    asyncio.CancelledError,
    gevent.GreenletExit,
    gevent.Timeout,
    MemoryError,
    RecursionError,
    StopIteration,
]


def overflow(*_: Any) -> Any:
    return overflow()


# ---- a handler that raises whatever can be raised -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("tell", [cast, send], ids=["cast", "info"])
def test_a_base_exception_out_of_a_handler_nobody_waits_for_ends_its_actor_alone(
    system: System, tell: Any, kind: type[BaseException]
) -> None:
    other, ref = Puppet.start(system=system), Puppet.start(system=system)
    watch, fault = monitor(ref), kind()
    tell(ref, crash(fault))
    assert watch.wait(5) == Down(watch, ref, fault)
    assert call(other, "alive") == "alive"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_base_exception_out_of_a_call_reaches_the_caller_and_the_next_life_answers(
    system: System, kind: type[BaseException]
) -> None:
    Supervisor.start([ChildSpec(Puppet, name="frail")], system=system)
    fault = kind()
    with pytest.raises(ServerExited) as failed:
        system.call("frail", crash(fault))
    assert failed.value.reason is fault
    until(lambda: system.whereis("frail"))
    assert system.call("frail", "again") == "again"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_base_exception_out_of_init_fails_the_start_and_leaves_nothing(
    system: System, kind: type[BaseException]
) -> None:
    fault = kind()
    with pytest.raises(StartFailed) as failed:
        Puppet.start(crash(fault), system=system, name="unborn")
    assert failed.value.reason is fault
    assert system.whereis("unborn") is None
    assert system.processes() == []


@pytest.mark.parametrize("kind", FAULTS)
def test_a_base_exception_out_of_continue_or_terminate_is_the_reason_of_death(
    system: System, kind: type[BaseException]
) -> None:
    class Rough(Puppet):
        def terminate(self, reason: object) -> None:
            raise fault

    fault = kind()
    for begin in (
        lambda ref: cast(ref, lambda server: Continue(crash(fault))),
        lambda ref: gevent.spawn(failing_stop, ref),
    ):
        ref = Rough.start(system=system)
        watch = monitor(ref)
        begin(ref)
        assert watch.wait(5) == Down(watch, ref, fault)


def failing_stop(ref: Ref) -> None:
    with pytest.raises(ServerExited):
        stop(ref)


def test_a_handler_without_an_end_to_its_recursion_crashes_and_its_supervisor_brings_it_back(
    system: System,
) -> None:
    Supervisor.start([ChildSpec(Puppet, name="deep")], system=system)
    with pytest.raises(ServerExited) as failed:
        system.call("deep", overflow)
    assert isinstance(failed.value.reason, RecursionError)
    until(lambda: system.whereis("deep"))
    assert system.call("deep", "again") == "again"


def test_a_caller_at_the_end_of_its_recursion_leaves_the_server_sound(system: System) -> None:
    refs = [Puppet.start(system=system) for _ in range(40)]
    answers: list[Any] = []

    def deeper(ref: Ref, left: int) -> None:
        if left:
            deeper(ref, left - 1)
        else:
            answers.append(call(ref, "from deep down", 5.0))

    # Somewhere near the limit every single step of a call is the one that fails.
    depth = len_of_stack()
    limit = sys.getrecursionlimit()
    for number, ref in enumerate(refs):
        while system.scheduler.pool:  # no worker is at hand: the longest way
            gevent.get_hub().loop.run_callback(system.scheduler.pool.pop().throw, gevent.GreenletExit)
        gevent.sleep(0)
        try:
            deeper(ref, limit - depth - number)
        except RecursionError:
            pass  # where there was no room even to begin
    assert answers
    assert [call(ref, "sound", 5.0) for ref in refs] == ["sound"] * len(refs)


@pytest.mark.parametrize("what", ["cast", "send", "reply", "start", "kill", "stop", "timer", "monitor"])
def test_whatever_fails_at_the_end_of_a_recursion_does_so_wholly(system: System, what: str) -> None:
    kept: list[Any] = []
    begun: list[Any] = []

    def keep(server: Any, caller: Any) -> NoReply:
        kept.append(caller)
        return NoReply()

    def act(ref: Ref) -> None:
        match what:
            case "cast":
                cast(ref, "message")
            case "send":
                send(ref, "message")
            case "reply":
                reply(kept[-1], "answer")
            case "start":
                begun.append(Puppet.start(system=system, name="begun", timeout=5.0))
            case "kill":
                kill(ref)
            case "stop":
                stop(ref)
            case "timer":
                system.send_after(0.0, ref, "message")
            case "monitor":
                begun.append(monitor(ref))
        done.append(ref)

    def deeper(ref: Ref, left: int) -> None:
        deeper(ref, left - 1) if left else act(ref)

    room = sys.getrecursionlimit() - len_of_stack()
    done: list[Ref] = []
    failed: list[Ref] = []
    for number in range(45):
        ref = Puppet.start(system=system)
        asked = gevent.spawn(call, ref, keep, None) if what == "reply" else None
        until(lambda number=number: what != "reply" or len(kept) == number + 1)
        try:
            deeper(ref, room - number)
        except RecursionError:
            failed.append(ref)
        alive = ref in failed or what not in ("kill", "stop")
        assert (ref in system.processes()) is alive
        assert (system.whereis("begun") is not None) is (what == "start" and ref in done)
        if what == "start" and ref in done:
            stop(begun.pop())
        if alive:
            if asked is not None:
                reply(kept[-1], "answer")  # the first counts; the second is for those that could not
                assert asked.get(timeout=5) == "answer"
            try:
                assert call(ref, "sound", 5.0) == "sound"
            except (ServerExited, NoProcess):
                assert what == "stop"  # asked for, though the one who asked could not wait
    assert done
    assert failed
    gevent.sleep(0)
    other = Puppet.start(system=system)
    fired: list[int] = []
    system.send_after(0.001, other, lambda server: fired.append(1))
    until(lambda: fired)
    with pytest.raises(CallTimeout):
        call(other, lambda server, caller: gevent.sleep(0.05), 0.01)


def test_a_child_killed_at_the_end_of_a_recursion_is_dead_for_everybody_or_for_nobody(system: System) -> None:
    specs = [ChildSpec(Puppet, name=f"child {number}") for number in range(60)]
    Supervisor.start(specs, max_restarts=1000, system=system)
    room = sys.getrecursionlimit() - len_of_stack()
    ends: set[bool] = set()

    def deeper(ref: Ref, left: int) -> None:
        deeper(ref, left - 1) if left else kill(ref)

    for number in range(60):
        ref = system.find(f"child {number}")
        watches = [monitor(ref), monitor(ref)]
        try:
            deeper(ref, room - number)
            died = True
        except RecursionError:
            died = False
        ends.add(died)
        assert (ref in system.processes()) is not died
        for watch in watches:
            assert watch.wait(5 if died else 0) == (Down(watch, ref, "killed") if died else None)
        until(lambda number=number: system.whereis(f"child {number}"))
        assert (system.whereis(f"child {number}") == ref) is not died
        assert system.call(f"child {number}", "sound") == "sound"
    assert ends == {True, False}


def test_a_call_of_a_busy_server_with_a_wrong_timeout_is_refused_and_never_answered(system: System) -> None:
    ref, gate = Puppet.start(system=system), Event()
    asked = gevent.spawn(call, ref, lambda server, caller: gate.wait(), None)
    until(lambda: statistics(ref).status == "busy")
    ran: list[Any] = []
    with pytest.raises(SpecError, match="timeout"):
        call(ref, lambda server, caller: ran.append(server), -1.0)
    gate.set()
    woken = Event()
    assert asked.get(timeout=5) is True
    assert not woken.wait(0.01)  # an answer to the refused call would end this wait
    assert call(ref, "sound") == "sound"
    assert ran == []


@pytest.mark.parametrize("ends", ["timeout", "deadline", "kill"])
def test_a_server_that_never_answers_keeps_nothing_of_callers_that_gave_up(system: System, ends: str) -> None:
    ref = Puppet.start(system=system)
    taken: list[Any] = []

    def take(server: Any, caller: Any) -> NoReply:
        taken.append(caller)
        return NoReply()

    def ask() -> None:
        if ends == "deadline":
            call(ref, take, None, deadline=system.clock.monotonic() + 0.005)
        else:
            call(ref, take, 0.005 if ends == "timeout" else None)

    for number in range(3):
        asked = gevent.spawn(failure_of, ask)
        until(lambda number=number: len(taken) == number + 1)
        if ends == "kill":
            asked.kill()
        asked.join(5)
        assert asked.ready()
    assert ref._process.bonds is None or not ref._process.bonds.owed
    reply(taken[0], "too late")
    assert call(ref, "sound") == "sound"


def len_of_stack() -> int:
    frame, depth = sys._getframe(1), 0
    while frame is not None:
        frame, depth = frame.f_back, depth + 1
    return depth


def test_a_worker_hired_by_a_deep_caller_has_the_whole_recursion_for_others(system: System) -> None:
    ref = Puppet.start(system=system)

    def deeper(left: int) -> Any:
        return deeper(left - 1) if left else call(ref, "hired")

    def dive(left: int) -> int:
        return dive(left - 1) + 1 if left else 0

    room = sys.getrecursionlimit() - len_of_stack()
    assert deeper(room - 150) == "hired"
    assert call(ref, lambda server, caller: dive(room - 150)) == room - 150


class Kept:
    """Something whose end can be seen."""


@pytest.mark.parametrize("how", ["call", "crash", "cast", "send", "start", "reply"])
def test_a_parked_worker_keeps_nothing_of_what_it_has_done(system: System, how: str) -> None:
    ref = Puppet.start(system=system)
    thing = Kept()
    seen = weakref.ref(thing)

    def take(server: Any, *_: Any, thing: Kept = thing) -> Any:
        return Reply(thing) if how == "reply" else None

    match how:
        case "call":
            assert call(ref, thing) is thing
        case "reply":
            assert call(ref, take) is thing
        case "crash":
            with pytest.raises(ServerExited):
                call(ref, lambda server, caller, thing=thing: 1 / 0)
        case "cast":
            cast(ref, take)
        case "send":
            send(ref, take)
        case "start":
            Puppet.start(take, system=system)
    until(lambda: how == "crash" or statistics(ref).status == "idle")
    until(lambda: len(system.scheduler.pool) == system.scheduler.workers)
    del thing, take
    gc.collect()
    assert seen() is None


# ---- a handler that ends its own actor ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (lambda server: kill(server.ref), "killed"),
        (lambda server: exit_signal(server.ref, "out"), "out"),
        (lambda server: exit_signal(server.ref, "kill"), "killed"),
    ],
    ids=["kill", "exit", "kill signal"],
)
def test_a_handler_that_ends_itself_does_not_go_on_whatever_it_handles(
    system: System, end: Any, reason: str
) -> None:
    went_on: list[Any] = []

    def ends(server: Any, *_: Any) -> None:
        end(server)
        went_on.append(server)

    for tell in (cast, send, lambda ref, message: cast(ref, lambda server: Continue(message))):
        ref = Puppet.start(system=system)
        watch = monitor(ref)
        tell(ref, ends)
        assert watch.wait(5) == Down(watch, ref, reason)
    called = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        call(called, ends)
    assert failed.value.reason == reason
    with pytest.raises(StartFailed) as unborn:
        Puppet.start(ends, system=system)
    assert unborn.value.reason == reason
    assert went_on == []


def test_a_killed_handler_that_was_woken_first_ties_itself_to_nobody_any_more(system: System) -> None:
    other, gate, went_on = Puppet.start(system=system), Event(), []

    def tie(what: str, server: Any) -> None:
        match what:
            case "link":
                server.link(other)
            case "monitor":
                server.monitor(other)
            case "start_link":
                Puppet.start_link()

    for what in ("link", "monitor", "start_link"):

        def wait_and_tie(server: Any, what: str = what) -> None:
            went_on.append("begun")
            gate.wait()
            went_on.append(what)
            tie(what, server)
            went_on.append("too far")

        ref = Puppet.start(system=system)
        cast(ref, wait_and_tie)
        until(lambda: went_on)
        gate.set()
        kill(ref)
        until(lambda: not system.scheduler.lingering)
        gate.clear()
        assert went_on == ["begun", what]  # it was woken before it was ended
        went_on.clear()
    assert system.processes() == [other]
    assert (statistics(other).links, statistics(other).monitors) == (0, 0)


@pytest.mark.parametrize("starter", ["start_link", "supervisor"])
def test_whoever_is_killed_while_the_hub_has_its_turn_in_the_midst_of_a_start_leaves_no_orphan(
    system: System, starter: str
) -> None:
    def kill_in_the_hubs_turn(ref: Ref) -> None:
        gevent.spawn(kill, ref)
        system.scheduler.slice_end = 0.0  # the next start lets the hub have its turn first

    def first(server: Any) -> None:
        kill_in_the_hubs_turn(server._process.parent.ref)

    def start(server: Any) -> None:
        kill_in_the_hubs_turn(server.ref)
        Puppet.start_link(name="orphan")

    if starter == "start_link":
        cast(Puppet.start(system=system), start)
    else:
        children = [ChildSpec(Puppet, first, name="first"), ChildSpec(Puppet, name="orphan")]
        with pytest.raises(StartFailed):
            Supervisor.start(children, system=system)
    until(lambda: not system.processes())
    until(lambda: not system.scheduler.lingering)
    gevent.sleep(0)
    assert system.processes() == []
    assert system.whereis("orphan") is None


def test_a_server_that_calls_itself_from_any_handler_is_told_so(system: System) -> None:
    told: list[str] = []

    def calls_itself(server: Any, *_: Any) -> None:
        with pytest.raises(CallCycle) as cycle:
            server.call(server.ref, "self", timeout=None)
        assert cycle.value.chain == (server.ref, server.ref)
        told.append(str(cycle.value))

    ref = Puppet.start(calls_itself, system=system)
    call(ref, calls_itself)
    cast(ref, calls_itself)
    send(ref, calls_itself)
    cast(ref, lambda server: Continue(calls_itself))
    until(lambda: len(told) == 5)
    assert all("calls itself" in text for text in told)
    assert call(ref, "lives") == "lives"
