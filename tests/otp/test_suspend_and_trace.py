"""What OTP's `sys` does with a running server: suspend, replace_state, get_status; and servers of other kinds."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Agent,
    CallTimeout,
    Continue,
    GenServer,
    KeepState,
    NextState,
    NoProcess,
    NoReply,
    Reply,
    ReplyTo,
    ServerExited,
    SpecError,
    StateMachine,
    StateTimeout,
    Stop,
    Supervisor,
    System,
    TraceEvent,
    call,
    cast,
    change_code,
    get_state,
    get_status,
    kill,
    replace_state,
    reply,
    resume,
    statistics,
    stop,
    suspend,
    trace,
    untrace,
)
from tests.otp.actors import Puppet, Trapper, failure_of, seen, until
from tests.otp.supervision.test_supervisor import journals


class Counter(GenServer):
    version = 1

    def init(self, start: int = 0) -> None:
        self.value = start

    def handle_call(self, request: Any, caller: Any) -> Any:
        match request:
            case ("add", number):
                self.value += number
                return self.value
            case "later":
                self.caller = caller
                return NoReply()
            case "answer":
                reply(self.caller, "late")
                return "answered"
            case "crash":
                raise ValueError("boom")
            case "stop":
                return Stop("normal", reply="bye")
            case "continue":
                return Continue("on", reply="first")
            case "explicit":
                return Reply("said")
        raise AssertionError(request)

    def handle_cast(self, message: Any) -> None:
        self.value += message

    def handle_info(self, message: Any) -> None:
        self.info = message

    def handle_continue(self, argument: Any) -> None:
        self.value += 100


# ---- suspend and resume -----------------------------------------------------------------------------------------------


def test_a_suspended_server_takes_no_message_until_it_is_resumed(system: System) -> None:
    ref = Counter.start(system=system)
    suspend(ref)
    assert failure_of(call, ref, ("add", 1), 0.01).reason == "timeout"
    cast(ref, 10)
    asked = gevent.spawn(call, ref, ("add", 1), None)
    until(lambda: statistics(ref).mailbox >= 2)
    assert get_state(ref) == {"value": 0}
    resume(ref)
    assert asked.get(timeout=5) == 11, "the call that timed out is gone, the rest came in order"


def test_suspending_and_resuming_twice_is_no_error(system: System) -> None:
    ref = Counter.start(system=system)
    suspend(ref)
    suspend(ref)
    assert get_status(ref).status == "suspended"
    resume(ref)
    assert get_status(ref).status == "running"
    resume(ref)
    assert call(ref, ("add", 1)) == 1


def test_a_server_is_suspended_after_the_message_it_handles(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    asked = gevent.spawn(call, ref, lambda server, caller: gate.wait() and "done", None)
    until(lambda: statistics(ref).status == "busy")
    suspending = gevent.spawn(suspend, ref)
    gevent.sleep(0)
    assert statistics(ref).status == "busy"
    gate.set()
    assert asked.get(timeout=5) == "done"
    suspending.get(timeout=5)
    assert statistics(ref).status == "suspended"


def test_a_suspended_server_still_answers_the_system(system: System) -> None:
    class Second(Counter):
        version = 2

        def code_change(self, old_version: object, state: dict[str, Any]) -> None:
            super().code_change(old_version, state)
            self.was = old_version

    ref = Counter.start(5, system=system)
    suspend(ref)
    assert replace_state(ref, lambda state: {"value": state["value"] * 2}) == {"value": 10}
    change_code(ref, Second)
    assert get_state(ref) == {"value": 10, "was": 1}
    failing = failure_of(replace_state, ref, lambda state: 3)
    assert isinstance(failing, SpecError)
    resume(ref)
    assert call(ref, ("add", 1)) == 11


@pytest.mark.parametrize("kind", [Puppet, Trapper])
def test_a_suspended_server_can_be_stopped_in_order(system: System, kind: type[Puppet]) -> None:
    log: list[Any] = []
    ref = kind.start(None, log, system=system)
    suspend(ref)
    waiting = gevent.spawn(failure_of, call, ref, "never", None)
    until(lambda: statistics(ref).mailbox == 1)
    stop(ref, "shutdown")
    assert log == [("terminate", "shutdown")]
    assert isinstance(waiting.get(timeout=5), ServerExited)


def test_a_supervisor_stops_a_suspended_child(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log), system=system)
    suspend(system.find("b"))
    stop(tree, "shutdown")
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_a_parents_exit_stops_a_suspended_server_that_traps(system: System) -> None:
    log: list[Any] = []
    parent = Puppet.start(system=system)
    child = call(parent, lambda server, caller: Trapper.start_link(None, log))
    suspend(child)
    stop(parent, "shutdown")
    until(lambda: child not in system.processes())
    assert log == [("terminate", "shutdown")]


def test_a_suspended_server_can_be_killed(system: System) -> None:
    ref = Counter.start(system=system)
    suspend(ref)
    waiting = gevent.spawn(failure_of, call, ref, ("add", 1), None)
    until(lambda: statistics(ref).mailbox == 1)
    kill(ref)
    assert waiting.get(timeout=5).reason == "killed"
    assert isinstance(failure_of(resume, ref), NoProcess)


def test_a_suspended_supervisor_judges_its_children_when_it_is_resumed(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "a"), system=system)
    suspend(tree)
    dead = system.find("a")
    kill(dead)
    gevent.sleep(0)
    assert system.whereis("a") is None
    resume(tree)
    until(lambda: system.whereis("a"))
    assert log == ["+a", "+a"]


def test_who_gave_up_to_suspend_suspends_nothing(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    asked = gevent.spawn(call, ref, lambda server, caller: gate.wait(), None)
    until(lambda: statistics(ref).status == "busy")
    assert isinstance(failure_of(suspend, ref, timeout=0.01), CallTimeout)
    gate.set()
    asked.get(timeout=5)
    assert call(ref, "alive") == "alive"


def test_a_server_cannot_suspend_itself(system: System) -> None:
    ref = Puppet.start(system=system)
    assert call(ref, lambda server, caller: failure_of(suspend, server.ref).reason) == "cycle"


# ---- the idle timeout -------------------------------------------------------------------------------------------------


def test_a_system_message_does_not_cancel_the_idle_timeout_and_a_call_does(system: System) -> None:
    ref = Puppet.start(system=system)
    cast(ref, lambda server: NoReply(timeout=0.03))
    get_status(ref)
    get_state(ref)
    until(lambda: call(ref, seen) == ["timeout"] if get_state(ref)["seen"] else False)
    cast(ref, lambda server: NoReply(timeout=0.03))
    call(ref, "a message")
    gevent.sleep(0.06)
    assert get_state(ref)["seen"] == ["timeout"]


def test_an_idle_timeout_that_is_due_while_the_server_is_suspended_comes_after_it(system: System) -> None:
    ref = Puppet.start(system=system)
    cast(ref, lambda server: NoReply(timeout=0.01))
    suspend(ref)
    gevent.sleep(0.03)
    assert get_state(ref)["seen"] == []
    resume(ref)
    until(lambda: get_state(ref)["seen"] == ["timeout"])


# ---- state and status -------------------------------------------------------------------------------------------------


def test_replace_state_gives_the_new_state_and_the_server_goes_on_with_it(system: System) -> None:
    ref = Counter.start(1, system=system)
    assert replace_state(ref, lambda state: {**state, "value": 40}) == {"value": 40}
    assert get_state(ref) == {"value": 40}
    assert call(ref, ("add", 2)) == 42


def test_a_replace_state_that_raises_changes_nothing_and_is_the_askers_error(system: System) -> None:
    ref = Counter.start(1, system=system)

    def spoil(state: dict[str, Any]) -> dict[str, Any]:
        state["value"] = "spoiled"
        raise KeyError("fail")

    with pytest.raises(KeyError, match="fail"):
        replace_state(ref, spoil)
    with pytest.raises(SpecError, match="dictionary of attributes"):
        replace_state(ref, lambda state: "no dict")  # type: ignore[arg-type,return-value]
    assert get_state(ref) == {"value": 1}


def test_a_supervisors_state_is_not_replaced(system: System) -> None:
    tree = Supervisor.start([], system=system)
    with pytest.raises(SpecError, match="upgrade"):
        replace_state(tree, lambda state: state)


def test_the_status_tells_what_a_server_is(system: System) -> None:
    parent = Puppet.start(system=system)
    ref = call(parent, lambda server, caller: Counter.start_link(3, name="counter"))
    trace(ref, print)
    status = get_status(ref)
    assert (status.ref, status.name, status.server, status.parent) == (ref, "counter", "Counter", parent)
    assert (status.status, status.trap_exits, status.mailbox, status.traced) == ("running", False, 0, 1)
    assert status.state == {"value": 3}


def test_get_state_is_what_a_status_shows_of_the_state(system: System) -> None:
    class Secretive(GenServer):
        def init(self) -> None:
            self.password = "secret"

        def get_state(self) -> dict[str, Any]:
            return {"password": "***"}

    assert get_status(Secretive.start(system=system)).state == {"password": "***"}


def test_a_get_state_that_raises_ends_nothing(system: System) -> None:
    class Broken(Puppet):
        def get_state(self) -> dict[str, Any]:
            raise ValueError("no state")

    ref = Broken.start(system=system)
    assert str(get_status(ref).state["get_state raised"]) == "no state"
    with pytest.raises(ValueError, match="no state"):
        get_state(ref)
    assert call(ref, "alive") == "alive"


@pytest.mark.parametrize(
    "ask", [suspend, resume, get_status, get_state, lambda ref: trace(ref, print), untrace]
)
def test_the_dead_are_asked_nothing(system: System, ask: Any) -> None:
    ref = Puppet.start(system=system)
    kill(ref)
    assert isinstance(failure_of(ask, ref), NoProcess)


# ---- servers of other kinds -------------------------------------------------------------------------------------------


class Light(StateMachine):
    """Goes round by calls, and off by itself."""

    def init(self) -> Any:
        return NextState("red", 0)

    def red(self, kind: Any, content: Any, data: int) -> Any:
        return NextState("green", data + 1, ReplyTo(kind, "go"), StateTimeout(0.01))

    def green(self, kind: Any, content: Any, data: int) -> Any:
        if kind == "state_timeout":
            return NextState("red", data)
        return KeepState(data, ReplyTo(kind, "is green"))


def test_an_agent_is_suspended_traced_and_repaired_too(system: System) -> None:
    ref = Agent.start(lambda: 1, system=system)
    events: list[TraceEvent] = []
    suspend(ref)
    asked = gevent.spawn(Agent.get, ref, lambda value: value)
    until(lambda: statistics(ref).mailbox == 1)
    trace(ref, events.append)
    replace_state(ref, lambda state: {"state": 41})
    resume(ref)
    assert asked.get(timeout=5) == 41
    Agent.update(ref, lambda value: value + 1)
    assert [(event.kind, event.what) for event in events] == [("in", "call"), ("out", "reply")] * 2
    assert events[3].state == {"state": 42}


def test_a_state_machine_is_suspended_traced_and_repaired_too(system: System) -> None:
    ref = Light.start(system=system)
    events: list[TraceEvent] = []
    trace(ref, events.append)
    assert call(ref, "go?") == "go"
    suspend(ref)
    gevent.sleep(0.02)
    assert get_state(ref) == ("green", 1), "its state timeout waits too"
    replace_state(ref, lambda state: (state[0], 10))
    resume(ref)
    until(lambda: get_state(ref) == ("red", 10))
    assert call(ref, "go?") == "go"
    assert get_state(ref) == ("green", 11)
    assert [event.kind for event in events if event.kind in ("in", "out")] == ["in", "out"] * 2


def test_a_get_state_that_wants_to_end_the_program_ends_a_suspended_server_and_fails_its_asker(
    system: System,
) -> None:
    class Leaves(Puppet):
        def get_state(self) -> Any:
            raise SystemExit(3)

    ref = Leaves.start(system=system)
    suspend(ref)
    error = failure_of(get_state, ref, timeout=30.0)
    assert isinstance(error, ServerExited)
    assert isinstance(error.reason, SystemExit)
    assert ref not in system.processes()
