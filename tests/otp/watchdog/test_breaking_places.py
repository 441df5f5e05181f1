"""Where the code of a program runs: as a handler, which may be broken, or while the runtime is half way, which may not.

In both forms of the core: compiled, it has no frames that would tell.
"""

from __future__ import annotations

import functools
import logging
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import greenlet
import pytest

from packetflow.otp import (
    ActorSystem,
    Agent,
    Clock,
    Continue,
    GenServer,
    KeepStateAndData,
    Message,
    NextState,
    Registry,
    ReplyTo,
    Response,
    StateMachine,
    System,
    Task,
    call,
    cast,
    change_code,
    exit_signal,
    get_state,
    kill,
    link,
    replace_state,
    resume,
    send,
    start_actor,
    stop,
    suspend,
    trace,
)
from packetflow.otp.watchdog.breaking import may_break, work_of
from tests.otp.actors import Puppet, failure_of, until

found: list[bool] = []


@pytest.fixture(autouse=True)
def nothing_found(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO, logger="packetflow.otp")
    found.clear()
    yield
    found.clear()


def look(*_: Any) -> None:
    """What a program does where it is looked at."""
    found.append(may_break(sys._getframe()))


def all_found(system: System) -> set[bool]:
    until(lambda: found)
    return set(found)


# ---- handlers --------------------------------------------------------------------------------------------------------


def wrapped(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def around(*arguments: Any) -> Any:
        return method(*arguments)

    return around


class Handles(GenServer):
    def init(self, *_: Any) -> None:
        look()

    @wrapped
    def handle_call(self, request: Any, caller: Any) -> Any:
        look()
        return Continue("on", reply="answered")

    def handle_cast(self, message: Any) -> None:
        look()

    def any_name(self, message: Any) -> None:
        look()

    handle_info = any_name

    def handle_continue(self, argument: Any) -> None:
        look()

    def terminate(self, reason: object) -> None:
        look()

    def get_state(self) -> Any:
        look()
        return super().get_state()

    def code_change(self, old_version: object, state: dict[str, Any]) -> None:
        look()


class Light(StateMachine):
    state_enter = True

    def init(self) -> Any:
        look()
        return NextState("off", None)

    def off(self, kind: Any, content: Any, data: Any) -> Any:
        look()
        if kind == "enter":
            return None
        return KeepStateAndData(ReplyTo(kind, "off"))

    def terminate(self, reason: object, state: Any, data: Any) -> None:
        look()


def every_handler(system: System) -> None:
    ref = Handles.start(1, system=system)
    assert call(ref, "request") == "answered"
    cast(ref, "message")
    send(ref, "message")
    get_state(ref)
    replace_state(ref, lambda state: look() or state)
    change_code(ref, Handles)
    stop(ref)
    assert len(found) == 9


class Plain(Handles):
    get_state = GenServer.get_state  # a trace asks for it, and is the runtime's


def a_traced_one(system: System) -> None:
    ref = Plain.start(1, system=system)
    trace(ref, lambda event: None)
    call(ref, "request")
    stop(ref)


def a_state_machine(system: System) -> None:
    ref = Light.start(system=system)
    assert call(ref, "request") == "off"
    stop(ref)
    assert len(found) == 4


def a_task(system: System) -> None:
    Task.async_(look, system=system).await_()


def an_agent(system: System) -> None:
    ref = Agent.start(look, 1, system=system)
    Agent.get(ref, look)
    Agent.cast(ref, look)
    stop(ref)
    assert len(found) == 3


def a_behaviour(system: System) -> None:
    stop_it = start_actor(lambda context, message: look(), system=system)
    call(stop_it, 1)
    stop(stop_it)


def a_small_actor(system: System) -> None:
    def receive(message: Message) -> Response:
        look()
        return Response(message.id, "ok")

    class Small:
        def __init__(self, data: Any, send: Any) -> None:
            look()

        def send(self, message: Message) -> Response:
            look()
            return Response(message.id, "ok")

    world = ActorSystem(system)
    world.register("small", Small, None)
    world.send("small", Message("1", "greet"))
    world.close()


def a_dispatch(system: System) -> None:
    registry = Registry.start(keys="duplicate", name="topics", system=system)

    def handler(server: Any, caller: Any) -> None:
        table = Registry.named("topics", server.system)
        table.register("news")
        table.dispatch("news", look)

    call(Puppet.start(system=system), handler)
    stop(registry.ref)


def a_killed_one(system: System) -> None:
    def stubborn(server: Any) -> None:
        kill(server.ref)

    def goes_on(server: Any) -> None:
        try:
            stubborn(server)
        except BaseException:
            look()
            raise

    cast(Puppet.start(system=system), goes_on)
    until(lambda: found)


@pytest.mark.parametrize(
    "program",
    [
        every_handler,
        a_traced_one,
        a_state_machine,
        a_task,
        an_agent,
        a_behaviour,
        a_small_actor,
        a_dispatch,
        a_killed_one,
    ],
)
def test_what_an_actor_runs_may_be_broken(system: System, program: Callable[[System], None]) -> None:
    program(system)
    assert all_found(system) == {True}


# ---- while the runtime is half way -----------------------------------------------------------------------------------


class Shown:
    def __repr__(self) -> str:
        look()
        return "shown"


class Same:
    def __eq__(self, other: object) -> bool:
        look()
        return False

    def __ne__(self, other: object) -> bool:
        look()
        return True

    __hash__ = None  # type: ignore[assignment]


class Pretends:
    @property
    def __class__(self) -> Any:
        look()
        return int


class Loud(GenServer):
    def handle_call(self, request: Any, caller: Any) -> Any:
        raise ValueError("loud")


def in_the_log_of_a_crash(system: System) -> None:
    failure_of(call, Loud.start(system=system), Shown())


def in_a_handler_of_the_log(system: System) -> None:
    class Looks(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            look()

    handler = Looks()
    logging.getLogger("packetflow.otp").addHandler(handler)
    try:
        failure_of(call, Loud.start(system=system), 1)
    finally:
        logging.getLogger("packetflow.otp").removeHandler(handler)


def in_the_comparison_of_a_reason(system: System) -> None:
    other = Puppet.start(system=system)

    def handler(server: Any, caller: Any) -> None:
        exit_signal(other, Same())

    call(Puppet.start(system=system), handler)


def in_a_linked_ones_property(system: System) -> None:
    class Asked(Puppet):
        @property
        def trap_exits(self) -> bool:  # type: ignore[override]
            look()
            return False

    other = Asked.start(system=system)

    def handler(server: Any, caller: Any) -> None:
        link(other)
        found.clear()
        exit_signal(other, "broken")

    failure_of(call, Puppet.start(system=system), handler)


def in_what_it_returned(system: System) -> None:
    call(Puppet.start(system=system), lambda server, caller: Pretends())


def in_the_making_of_a_server(system: System) -> None:
    class Made(Puppet):
        def __init__(self) -> None:
            look()

    call(Puppet.start(system=system), lambda server, caller: kill(Made.start()))


def in_a_tracer_of_switches(system: System) -> None:
    ref = Puppet.start(system=system)

    def handler(server: Any, caller: Any) -> None:
        before = greenlet.settrace(look)
        try:
            call(ref, "there and back")
        finally:
            greenlet.settrace(before)

    call(Puppet.start(system=system), handler)


def in_a_sink_of_a_trace(system: System) -> None:
    ref = Puppet.start(system=system)
    trace(ref, look)
    call(ref, "traced")


def in_the_state_of_a_suspended_one(system: System) -> None:
    ref = Handles.start(1, system=system)
    suspend(ref)
    found.clear()
    get_state(ref)
    seen = list(found)
    resume(ref)
    stop(ref)
    found[:] = seen


@pytest.mark.parametrize(
    "program",
    [
        in_the_log_of_a_crash,
        in_a_handler_of_the_log,
        in_the_comparison_of_a_reason,
        in_a_linked_ones_property,
        in_what_it_returned,
        in_the_making_of_a_server,
        in_a_tracer_of_switches,
        in_a_sink_of_a_trace,
        in_the_state_of_a_suspended_one,
    ],
)
def test_what_the_runtime_runs_half_way_is_not_broken(
    system: System, program: Callable[[System], None]
) -> None:
    program(system)
    assert all_found(system) == {False}


def test_the_systems_clock_is_not_broken() -> None:
    def monotonic() -> float:
        look()
        return time.monotonic()

    system = System("timed", clock=Clock(monotonic=monotonic))
    ref = Puppet.start(system=system)
    call(ref, lambda server, caller: server.send_after(60.0, "never").cancel())
    system.shutdown()
    assert all_found(system) == {False}


# ---- who it is, seen from another thread -----------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["call", "cast", "info", "init", "state", "task"])
def test_whose_frames_they_are_can_be_told_from_them(system: System, handler: str) -> None:
    seen: list[Any] = []

    def tell(*_: Any) -> None:
        seen.append(work_of(sys._getframe()))

    class Tells(GenServer):
        def init(self, first: Any = None) -> None:
            if first is not None:
                first()

        def handle_call(self, request: Any, caller: Any) -> Any:
            return request()

        def handle_cast(self, message: Any) -> None:
            message()

        handle_info = handle_cast

        def get_state(self) -> Any:
            tell()

    if handler == "task":
        task = Task.async_(tell, system=system)
        ref = task.ref
        task.await_()
    elif handler == "init":
        ref = Tells.start(tell, system=system)
    else:
        ref = Tells.start(None, system=system)
        {"call": call, "cast": cast, "info": send, "state": lambda ref, _: get_state(ref)}[handler](ref, tell)
    until(lambda: seen)
    ((process, item),) = seen
    assert process.ref == ref
    assert item is not None
