"""Servers through whole lives: what OTP's and Elixir's own suites of gen_server and proc_lib ask beyond the single rules."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    CallCycle,
    Continue,
    Down,
    Exit,
    GenServer,
    NameTaken,
    NoProcess,
    NoReply,
    NotAnActor,
    Reply,
    ServerExited,
    SpecError,
    StartFailed,
    Stop,
    System,
    call,
    cast,
    get_state,
    monitor,
    reply,
    send,
    stop,
)
from tests.otp.actors import Puppet, Trapper, crash, failure_of, seen, until


def start_outside(system: System, *arguments: Any, **options: Any) -> Any:
    return Puppet.start(*arguments, system=system, **options)


def start_monitored(system: System, *arguments: Any, **options: Any) -> Any:
    return Puppet.start_monitor(*arguments, system=system, **options)


def start_linked(system: System, *arguments: Any, **options: Any) -> Any:
    """Started by an actor that traps exits, which tells what came of it and what it was sent."""
    starter = Trapper.start(system=system)

    def begin(server: Any, caller: Any) -> Any:
        try:
            return Puppet.start_link(*arguments, **options)
        except (StartFailed, NameTaken) as error:
            return error

    outcome = call(starter, begin, None)
    assert call(starter, seen) == [], "a start that fails sends its starter no exit signal"
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


STARTS = (start_outside, start_linked, start_monitored)

# ---- starting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        (lambda server: Stop("failed_to_start"), "failed_to_start"),
        (lambda server: Stop("normal"), "normal"),
        (lambda server: 4711, TypeError),
        (crash(ValueError("bailout")), ValueError),
        (crash(SystemExit("bailout")), SystemExit),
        (lambda server: Event().wait(), "timeout"),
    ],
)
def test_a_start_that_fails_leaves_nothing_however_often(
    system: System, start: Any, begin: Any, reason: Any
) -> None:
    for _ in range(3):
        error = failure_of(start, system, begin, name="tried", timeout=0.01 if reason == "timeout" else None)
        assert isinstance(error, StartFailed)
        assert error.reason == reason or isinstance(error.reason, reason)
        assert system.whereis("tried") is None
        assert not any(
            isinstance(ref._process.server, Puppet) and ref._process.name for ref in system.processes()
        )
    until(lambda: not system.scheduler.lingering)


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_is_ignored_leaves_nothing_however_often(system: System, start: Any) -> None:
    for _ in range(3):
        assert start(system, lambda server: IGNORE, name="tried") is None
        assert system.whereis("tried") is None


@pytest.mark.parametrize("start", STARTS)
def test_a_name_that_is_held_is_told_with_its_holder(system: System, start: Any) -> None:
    holder = Puppet.start(name="held", system=system)
    error = failure_of(start, system, name="held")
    assert isinstance(error, NameTaken)
    assert error.holder == holder
    stop(holder)
    assert start(system, name="held") is not None
    system.stop_process("held")


@pytest.mark.parametrize("name", [5, "", ("via", "x"), b"bytes"])
def test_what_is_no_name_is_told_and_nothing_starts(system: System, name: Any) -> None:
    with pytest.raises(SpecError) as refused:
        Puppet.start(name=name, system=system)
    assert refused.value.field == "name"
    assert f"given {name!r}" in str(refused.value)
    assert system.processes() == []


@pytest.mark.parametrize("timeout", ["soon", -1, float("nan")])
def test_a_wrong_start_timeout_is_told_and_nothing_starts(system: System, timeout: Any) -> None:
    with pytest.raises(SpecError, match="timeout"):
        Puppet.start(name="named", timeout=timeout, system=system)
    assert (system.processes(), system.names()) == ([], [])


def test_without_a_name_it_has_none(system: System) -> None:
    Puppet.start(name=None, system=system)
    assert system.names() == []


def test_a_started_one_is_not_linked_and_a_linked_one_is(system: System) -> None:
    starter = Trapper.start(system=system)
    started, linked = call(
        starter, lambda server, caller: (Puppet.start(system=system), Puppet.start_link(name="linked"))
    )
    for ref in (started, linked):
        assert call(ref, lambda server, caller: Stop("stopped", reply="ok")) == "ok"
    until(lambda: get_state(starter)["seen"])
    assert call(starter, seen) == [Exit(linked, "stopped")]


def test_a_monitored_start_misses_no_end(system: System) -> None:
    ref, watch = Puppet.start_monitor(lambda server: Continue(lambda s: Stop("at once")), system=system)
    assert watch.wait(5) == Down(watch, ref, "at once")


def test_a_monitored_start_inside_an_actor_gives_a_message(system: System) -> None:
    starter = Puppet.start(system=system)
    ref, watch = call(starter, lambda server, caller: Puppet.start_monitor(name="watched"))
    assert call(ref, lambda server, caller: Stop("stopped", reply="ok")) == "ok"
    assert call(starter, seen) == [Down(watch, ref, "stopped")]


def test_start_waits_for_init(system: System) -> None:
    gate = Event()
    begun: list[str] = []

    def begin(server: Any) -> None:
        begun.append("init")
        gate.wait()

    starting = gevent.spawn(Puppet.start, begin, system=system)
    until(lambda: begun)
    gevent.idle()
    assert not starting.ready()
    gate.set()
    assert starting.get(timeout=5) is not None


# ---- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_name", [False, True])
def test_stop_ends_it_with_the_reason_and_the_next_is_noproc(system: System, by_name: bool) -> None:
    ref = Puppet.start(name="to_stop", system=system)
    target: Any = "to_stop" if by_name else ref
    watch = monitor(ref)
    system.stop_process(target, "other_reason")
    assert watch.wait(0).reason == "other_reason"
    assert isinstance(failure_of(system.stop_process, target), NoProcess)


@pytest.mark.parametrize("timeout", ["invalid", -1])
def test_a_stop_with_a_wrong_timeout_is_told_and_stops_nothing(system: System, timeout: Any) -> None:
    ref = Puppet.start(system=system)
    with pytest.raises(SpecError, match="timeout"):
        stop(ref, "other_reason", timeout)
    assert call(ref, "alive") == "alive"


def test_a_server_that_stops_itself_by_stop_is_told_of_the_cycle(system: System) -> None:
    ref = Puppet.start(system=system)
    assert isinstance(call(ref, lambda server, caller: failure_of(stop, server.ref)), CallCycle)
    assert call(ref, "alive") == "alive"


def test_a_stop_of_one_that_dies_of_something_else_tells_that(system: System) -> None:
    class Failing(Puppet):
        def terminate(self, reason: object) -> None:
            if reason == "crash":
                raise ValueError("bad match")

    error = failure_of(stop, Failing.start(system=system), "crash")
    assert isinstance(error, ServerExited)
    assert str(error.reason) == "bad match"


def test_terminate_runs_when_the_parent_has_a_name(system: System) -> None:
    log: list[Any] = []
    parent = Puppet.start(name="foobar", system=system)
    child = call(parent, lambda server, caller: Trapper.start_link(None, log))
    stop(parent, "shutdown")
    until(lambda: child not in system.processes())
    assert log == [("terminate", "shutdown")]


# ---- crash reports ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "why")])
def test_an_orderly_end_is_not_told(system: System, caplog: pytest.LogCaptureFixture, reason: object) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    ref = Puppet.start(system=system)
    error = failure_of(call, ref, lambda server, caller: Stop(reason))
    assert error.reason == reason
    assert caplog.records == []


def test_a_crash_is_told_once_with_what_it_handled_and_its_traceback(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")

    class Crashing(GenServer):
        def handle_call(self, request: Any, caller: Any) -> Any:
            raise ValueError("crashed")

    ref = Crashing.start(name="state4", system=system)
    error = failure_of(call, ref, ("crash", "x" * 1000))
    assert isinstance(error.__cause__, ValueError)
    (record,) = caplog.records
    line = record.getMessage()
    assert line.startswith("<state4 test/1> crashed while it handled ('crash', 'xxx")
    assert len(line) < 300, "a large message is cut"
    assert record.exc_info is not None
    assert record.exc_info[1] is error.__cause__


def test_a_crash_in_terminate_is_told(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")

    class Crashing(Puppet):
        def terminate(self, reason: object) -> None:
            raise ValueError("in terminate")

    failure_of(stop, Crashing.start(system=system))
    (record,) = caplog.records
    assert "crashed in terminate" in record.getMessage()


def test_an_odd_stop_reason_is_told(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    failure_of(call, Puppet.start(system=system), lambda server, caller: Stop("odd"))
    assert [record.getMessage() for record in caplog.records] == ["<Puppet test/1> stopped: 'odd'"]


# ---- idle timeouts ----------------------------------------------------------------------------------------------------


# Each sends a message after which the server waits 20 ms for the next one.
WAYS: dict[str, Any] = {
    "call": lambda ref: call(ref, lambda server, caller: Reply("ok", timeout=0.02)),
    "call answered later": lambda ref: call(
        ref, lambda server, caller: reply(caller, "ok") or NoReply(timeout=0.02)
    ),
    "cast": lambda ref: cast(ref, lambda server: NoReply(timeout=0.02)),
    "info": lambda ref: send(ref, lambda server: NoReply(timeout=0.02)),
    "continue": lambda ref: cast(ref, lambda server: Continue(lambda s: NoReply(timeout=0.02))),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("interrupted", [False, True])
def test_an_idle_timeout_comes_unless_a_message_does(system: System, way: str, interrupted: bool) -> None:
    ref = Puppet.start(system=system)
    WAYS[way](ref)
    if interrupted:
        assert call(ref, "ping") == "ping"
        gevent.sleep(0.04)
        assert get_state(ref)["seen"] == []
    else:
        until(lambda: get_state(ref)["seen"] == ["timeout"])


@pytest.mark.parametrize(
    "begin", [lambda s: NoReply(timeout=0.01), lambda s: Continue(lambda s: NoReply(timeout=0.01))]
)
@pytest.mark.parametrize("interrupted", [False, True])
def test_an_idle_timeout_from_init(system: System, begin: Any, interrupted: bool) -> None:
    ref = Puppet.start(begin, system=system)
    if interrupted:
        assert call(ref, "ping") == "ping"
        gevent.sleep(0.03)
        assert get_state(ref)["seen"] == []
    else:
        until(lambda: get_state(ref)["seen"] == ["timeout"])


def test_an_idle_timeout_of_zero_comes_when_nothing_waits(system: System) -> None:
    ref = Puppet.start(system=system)

    def with_one_waiting(server: Any) -> NoReply:
        send(server.ref, "was there first")
        return NoReply(timeout=0)

    cast(ref, lambda server: NoReply(timeout=0))
    until(lambda: get_state(ref)["seen"] == ["timeout"])
    cast(ref, with_one_waiting)
    until(lambda: len(get_state(ref)["seen"]) == 2)
    gevent.sleep(0.01)
    assert get_state(ref)["seen"] == ["timeout", "was there first"]


def test_two_requests_within_a_time(system: System) -> None:
    class Within(GenServer):
        def init(self) -> None:
            self.in_time = False

        def handle_call(self, request: Any, caller: Any) -> Any:
            if request == "call_within":
                self.in_time = True
                return Reply("ok", timeout=0.03)
            return self.in_time

        def handle_info(self, message: Any) -> None:
            self.in_time = message != "timeout"

    ref = Within.start(system=system)
    call(ref, "call_within")
    assert call(ref, "next_call") is True
    call(ref, "call_within")
    until(lambda: not get_state(ref)["in_time"])
    assert call(ref, "next_call") is False


# ---- handle_continue --------------------------------------------------------------------------------------------------

CONTINUES: dict[str, Any] = {
    "init": None,
    "a call with its reply": lambda ref: call(ref, lambda server, caller: Continue(goes_on, reply="ok")),
    "a call answered before": lambda ref: call(
        ref, lambda server, caller: reply(caller, "ok") or Continue(goes_on)
    ),
    "a cast": lambda ref: cast(ref, lambda server: Continue(goes_on)),
    "an info": lambda ref: send(ref, lambda server: Continue(goes_on)),
}


def goes_on(server: Any) -> None:
    server.seen.append("continue")
    send(server.ref, "after_continue")


@pytest.mark.parametrize("way", CONTINUES)
def test_continue_comes_next_whatever_it_follows(system: System, way: str) -> None:
    begin = (lambda server: Continue(goes_on)) if way == "init" else None
    ref = Puppet.start(begin, system=system)
    if way != "init":
        CONTINUES[way](ref)
    until(lambda: len(get_state(ref)["seen"]) == 2)
    assert call(ref, seen) == ["continue", "after_continue"]


def test_continue_may_continue_and_stop(system: System) -> None:
    log: list[Any] = []
    ref = Puppet.start(None, log, system=system)
    watch = monitor(ref)

    def before(server: Any) -> Any:
        server.seen.append("before_continue")
        return Continue(then_stop)

    def then_stop(server: Any) -> Any:
        server.seen.append("continue")
        return Stop("normal")

    send(ref, lambda server: Continue(before))
    cast(ref, "never handled")
    assert watch.wait(5).reason == "normal"
    assert log == ["before_continue", "continue", ("terminate", "normal")]


# ---- the rest ---------------------------------------------------------------------------------------------------------


def test_a_caller_with_a_full_mailbox_of_its_own_gets_its_answers(system: System) -> None:
    echo, caller_ref = Puppet.start(system=system), Puppet.start(system=system)
    gate = Event()
    asked = gevent.spawn(
        call,
        caller_ref,
        lambda server, caller: gate.wait() and [call(echo, number) for number in range(100)],
        None,
    )
    for number in range(10_000):
        cast(caller_ref, number)
    gate.set()
    assert asked.get(timeout=10) == list(range(100))


def test_a_server_is_found_by_its_name_or_its_ref(system: System) -> None:
    ref = Puppet.start(name="whereis", system=system)
    assert system.whereis("whereis") == ref
    assert system.find("whereis") == system.find(ref) == ref
    assert system.whereis("bad") is None
    assert isinstance(failure_of(system.find, "bad"), NoProcess)


def test_what_is_said_of_a_call_that_fails(system: System) -> None:
    ref, stopped = Puppet.start(name="there", system=system), Puppet.start(name="gone", system=system)
    stop(stopped)
    assert "calls itself" in str(call(ref, lambda server, caller: failure_of(call, server.ref, "hello")))
    assert (
        str(failure_of(call, ref, lambda server, caller: NoReply(), 0.001))
        == f"{ref} did not answer within 0.001 s"
    )
    assert "noproc" in str(failure_of(call, stopped, "hello"))
    assert "nobody: no such process (noproc)" in str(failure_of(system.call, "nobody", "hello"))
    with pytest.raises(TypeError, match="names live in a system"):
        call("there", "hello")  # type: ignore[arg-type]


def test_a_start_link_outside_of_an_actor_is_refused() -> None:
    with pytest.raises(NotAnActor):
        Puppet.start_link()
