"""Ruling 30: a system belongs to its hub's thread; from others it is reached on purpose or refused clearly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

import packetflow.otp
from packetflow.otp import (
    CallTimeout,
    NoProcess,
    NoReply,
    PacketFlowError,
    ServerExited,
    System,
    ThreadGone,
    WrongThread,
    call,
    cast,
    reply,
    send,
)
from tests.otp.actors import Puppet, crash, seen, until

TRACE: ContextVar[str] = ContextVar("trace", default="none")


def in_a_thread(action: Callable[[], Any]) -> Any:
    """Runs it in a native thread while this thread's greenlets go on."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(action())
        except PacketFlowError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: outcome)
    thread.join()
    return outcome[0]


@pytest.mark.parametrize("what", ["start", "stop", "monitor"])
def test_waiting_from_another_thread_is_refused_and_told_how(system: System, what: str) -> None:
    ref = Puppet.start(system=system)
    actions: dict[str, Callable[[], Any]] = {
        "start": lambda: Puppet.start(system=system),
        "stop": lambda: system.stop_process(ref),
        "monitor": lambda: system.monitor(ref),
    }
    refused = in_a_thread(actions[what])
    assert isinstance(refused, WrongThread)
    assert "from_thread" in str(refused)


def test_from_thread_runs_in_the_systems_thread(system: System) -> None:
    Puppet.start(name="one", system=system)
    assert in_a_thread(lambda: system.from_thread(system.call, "one", "asked")) == "asked"
    failed = in_a_thread(lambda: system.from_thread(system.call, "one", crash(ValueError("boom"))))
    assert isinstance(failed, ServerExited)
    assert system.from_thread(lambda: "here") == "here"


def test_a_call_from_another_thread_is_answered_there(system: System) -> None:
    ref = Puppet.start(name="one", system=system)
    assert in_a_thread(lambda: call(ref, "asked")) == "asked"
    assert in_a_thread(lambda: system.call("one", "asked")) == "asked"
    assert isinstance(in_a_thread(lambda: system.call("nobody", "asked")), NoProcess)
    assert isinstance(in_a_thread(lambda: call(ref, crash(ValueError("boom")))), ServerExited)
    assert isinstance(in_a_thread(lambda: call(ref, "asked")), NoProcess)


def test_a_call_from_another_thread_times_out_there(system: System) -> None:
    ref = Puppet.start(system=system)
    late: list[Any] = []
    wait_for_it = lambda server, caller: (late.append(caller), NoReply())[1]  # noqa: E731
    assert isinstance(in_a_thread(lambda: call(ref, wait_for_it, timeout=0.01)), CallTimeout)
    reply(late[0], "late")
    assert in_a_thread(lambda: call(ref, "asked")) == "asked"


def test_many_threads_call_at_once(system: System) -> None:
    ref = Puppet.start(system=system)
    answers: list[int] = []

    def ask(number: int) -> None:
        answers.extend(call(ref, number * 100 + i) for i in range(100))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: not any(thread.is_alive() for thread in threads), seconds=30.0)
    assert sorted(answers) == list(range(800))


def test_a_call_from_a_thread_with_greenlets_lets_them_go_on(system: System) -> None:
    ref = Puppet.start(system=system)
    release = Event()

    def held(server: Any, caller: Any) -> str:
        release.wait()
        return "released"

    def with_greenlets() -> list[Any]:
        asking = gevent.spawn(call, ref, held)
        going_on = gevent.spawn(lambda: cast(ref, "beside"))
        gevent.joinall([going_on])
        system.from_thread(release.set)
        gevent.joinall([asking])
        gevent.get_hub().destroy()
        return [asking.value]

    assert in_a_thread(with_greenlets) == ["released"]
    assert call(ref, seen) == ["beside"]


def test_context_variables_go_along_into_the_handler(system: System) -> None:
    ref = Puppet.start(system=system)

    def ask() -> Any:
        TRACE.set("t-1")
        return call(ref, lambda server, caller: TRACE.get())

    assert in_a_thread(ask) == "t-1"


def test_a_thread_that_has_ended_is_told() -> None:
    def live() -> Any:
        ref = Puppet.start(system=System("short"))
        gevent.get_hub().destroy()
        return ref

    ref = in_a_thread(live)
    with pytest.raises(ThreadGone):
        call(ref, "asked")


def test_cast_and_send_work_from_any_thread(system: System) -> None:
    ref = Puppet.start(system=system)
    in_a_thread(lambda: cast(ref, "cast"))
    in_a_thread(lambda: send(ref, "sent"))
    until(lambda: len(call(ref, seen)) == 2)
    assert call(ref, seen) == ["cast", "sent"]


def test_a_storm_of_casts_from_another_thread_leaves_the_loops_own_count_right(system: System) -> None:
    # Counted in the other thread, as gevent's run_callback_threadsafe does, some get lost, and the loop ends (LoopExit).
    hub: Any = gevent.get_hub()
    ref = Puppet.start(system=system)
    call(ref, "begun")
    hub.threadpool.apply(cast, (ref, "the first"))
    gevent.sleep(0.01)
    before = hub.loop.activecnt
    going = [True]

    def sleeper() -> None:
        while going[0]:
            gevent.sleep(0.0003)

    def storm() -> None:
        for _ in range(2000):
            cast(ref, "told")

    sleepers = [gevent.spawn(sleeper) for _ in range(30)]
    for _ in range(100):
        hub.threadpool.apply(storm)
    going[0] = False
    gevent.joinall(sleepers)
    assert call(ref, lambda server, caller: server.seen.count("told")) == 200_000
    gevent.sleep(0.01)
    assert hub.loop.activecnt == before


def test_no_file_of_the_runtime_counts_handles_in_another_thread() -> None:
    used = "loop.run_callback_" + "threadsafe"
    files = sorted(Path(packetflow.otp.__file__).parent.rglob("*.py"))
    # The watchdog asks from its own thread or signal, a few times a second.
    assert [file.name for file in files if used in file.read_text()] == ["watchdog.py"]
