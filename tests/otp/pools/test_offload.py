"""offload to native threads: the hub turns meanwhile; results, errors, limits, and callers that give up."""

from __future__ import annotations

import contextvars
import subprocess
import sys
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.hub import get_hub

from packetflow.otp import (
    ChildSpec,
    GenServer,
    HubBlocked,
    NoProcess,
    NotAnActor,
    OffloadFailed,
    OffloadTimeout,
    PacketFlowError,
    PoolClosed,
    PoolFull,
    PoolServer,
    ServerExited,
    SpecError,
    Supervisor,
    System,
    ThreadPool,
    WrongThread,
    call,
    cast,
    kill,
    offload,
)
from packetflow.otp.pools import threads as home
from tests.otp.actors import Puppet, failure_of, until

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def pool() -> Iterator[ThreadPool]:
    made = ThreadPool(2, name="the pool")
    yield made
    made.close(timeout=5.0)
    assert made.statistics()[1:5] == (0, 0, 0, 0)


class Gate:
    """Work that a test holds up: a native lock, so that a thread really waits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.begun: list[int] = []
        self.ended: list[int] = []

    def work(self, number: int = 0) -> int:
        self.begun.append(number)
        with self.lock:
            self.ended.append(number)
        return number

    def open(self) -> None:
        self.lock.release()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    if made.lock.locked():
        made.open()


def living_threads() -> int:
    return len(sys._current_frames())


# ---- results and errors ------------------------------------------------------------------------------------------------


def test_it_runs_in_another_thread_and_gives_the_result(pool: ThreadPool) -> None:
    here = threading.get_ident()
    assert pool.run(threading.get_ident) != here
    assert pool.run(partial(int, base=2), "101") == 5
    assert offload(max, 3, 7, pool=pool) == 7
    assert pool.statistics().done == 3


def test_the_hub_turns_meanwhile(pool: ThreadPool, gate: Gate) -> None:
    work = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    turns = [gevent.spawn(lambda: "turned").get() for _ in range(3)]
    assert turns == ["turned"] * 3
    assert not work.ready()
    gate.open()
    assert work.get() == 1


def test_an_error_is_raised_with_the_line_where_it_happened(pool: ThreadPool) -> None:
    def deep() -> None:
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom") as caught:
        pool.run(lambda: deep())
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-1] == "deep"
    assert "_serve" not in names


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), gevent.GreenletExit()])
def test_what_would_end_a_program_is_a_failure_of_that_work(pool: ThreadPool, error: BaseException) -> None:
    def leave() -> None:
        raise error

    failed = failure_of(pool.run, leave)
    assert isinstance(failed, OffloadFailed)
    assert failed.__cause__ is error
    assert pool.run(int) == 0


def test_context_variables_go_along_and_do_not_come_back(pool: ThreadPool) -> None:
    trace: contextvars.ContextVar[str] = contextvars.ContextVar("trace", default="none")

    def work() -> str:
        before = trace.get()
        trace.set("changed there")
        return before

    trace.set("here")
    assert pool.run(work) == "here"
    assert trace.get() == "here"
    assert pool.run(work) == "here"


# ---- slots -------------------------------------------------------------------------------------------------------------


def test_no_more_than_size_run_at_once_and_the_rest_in_order(pool: ThreadPool, gate: Gate) -> None:
    works = [gevent.spawn(pool.run, gate.work, number) for number in range(6)]
    until(lambda: len(gate.begun) == 2)
    gevent.sleep(0.01)
    assert pool.statistics() == (2, 2, 4, 0, 2, 0)
    assert sorted(gate.begun) == [0, 1]
    gate.open()
    assert [work.get() for work in works] == list(range(6))
    assert pool.statistics().workers == 2


def test_a_full_queue_refuses_at_once_where_that_was_chosen(gate: Gate) -> None:
    pool = ThreadPool(1, queue=1, full="fail", name="the narrow pool")
    first = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    second = gevent.spawn(pool.run, gate.work, 2)
    until(lambda: pool.statistics().waiting == 1)
    failed = failure_of(pool.run, gate.work, 3)
    assert isinstance(failed, PoolFull)
    assert failed.code == "overloaded"
    assert "the narrow pool is full" in str(failed)
    assert "Gate.work" in str(failed)
    gate.open()
    assert (first.get(), second.get()) == (1, 2)
    pool.close()


def test_a_full_queue_makes_wait_otherwise(gate: Gate) -> None:
    pool = ThreadPool(1, queue=0, full="wait")
    works = [gevent.spawn(pool.run, gate.work, number) for number in range(3)]
    until(lambda: pool.statistics().waiting == 2)
    gate.open()
    assert [work.get() for work in works] == [0, 1, 2]
    pool.close()


def test_queue_zero_takes_only_what_can_begin_at_once(gate: Gate) -> None:
    pool = ThreadPool(1, queue=0, full="fail")
    first = gevent.spawn(pool.run, gate.work)
    until(lambda: gate.begun)
    assert isinstance(failure_of(pool.run, int), PoolFull)
    gate.open()
    first.join()
    assert pool.run(int) == 0
    pool.close()


def test_many_callers_and_every_one_gets_its_own(pool: ThreadPool) -> None:
    works = [gevent.spawn(pool.run, str, number) for number in range(500)]
    assert [work.get() for work in works] == [str(number) for number in range(500)]
    assert pool.statistics() == (2, 0, 0, 0, 2, 500)


# ---- giving up ---------------------------------------------------------------------------------------------------------


def test_who_is_killed_is_released_at_once_and_the_slot_stays_taken(pool: ThreadPool, gate: Gate) -> None:
    work = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    work.kill()
    assert work.ready()
    assert pool.statistics()[1:4] == (1, 0, 1)
    ((name, line),) = pool.lingering()
    assert name.endswith("Gate.work")
    assert Path(__file__).name in line
    gate.open()
    until(lambda: pool.statistics()[1:4] == (0, 0, 0))
    assert gate.ended == [1]


def test_a_timeout_releases_the_caller_and_drops_the_result(pool: ThreadPool, gate: Gate) -> None:
    failed = failure_of(offload, gate.work, pool=pool, timeout=0.01)
    assert isinstance(failed, OffloadTimeout)
    assert failed.code == "timeout"
    assert failed.timeout == 0.01
    assert pool.statistics().lingering == 1
    gate.open()
    until(lambda: pool.statistics()[1:4] == (0, 0, 0))
    assert pool.run(int) == 0  # and nobody gets the late one


def test_who_gives_up_in_the_line_is_never_begun(gate: Gate) -> None:
    pool = ThreadPool(1)
    first = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    assert isinstance(failure_of(pool.run, gate.work, 2, timeout=0.01), OffloadTimeout)
    third = gevent.spawn(pool.run, gate.work, 3)
    until(lambda: pool.statistics().waiting == 1)
    third.kill()
    assert pool.statistics().waiting == 0
    gate.open()
    first.join()
    assert pool.run(int) == 0
    assert gate.begun == [1]
    pool.close()


def test_a_killed_actor_lets_go_of_what_it_offloaded(system: System, gate: Gate) -> None:
    ref = Puppet.start(system=system)
    cast(ref, lambda server: offload(gate.work))
    until(lambda: gate.begun)
    kill(ref)
    until(lambda: not system.scheduler.lingering)
    assert system.threads.statistics().lingering == 1
    gate.open()
    until(lambda: system.threads.statistics().lingering == 0)


def test_a_later_wait_is_not_disturbed_by_work_that_was_given_up(pool: ThreadPool, gate: Gate) -> None:
    woken: list[str] = []

    def caller() -> None:
        failure_of(pool.run, gate.work, timeout=0.01)
        try:
            gevent.get_hub().switch()  # wakes by any switch at all
            woken.append("by a switch")
        except gevent.GreenletExit:
            woken.append("by its end")

    one = gevent.spawn(caller)
    until(lambda: pool.statistics().lingering == 1)
    gate.open()
    until(lambda: pool.statistics().lingering == 0)
    gevent.sleep(0)
    one.kill()
    assert woken == ["by its end"]


# ---- the end of a pool -------------------------------------------------------------------------------------------------


def test_close_ends_the_threads_and_refuses_more() -> None:
    before = living_threads()
    pool = ThreadPool(3)
    gevent.joinall([gevent.spawn(pool.run, int) for _ in range(9)], raise_error=True)
    pool.close()
    until(lambda: living_threads() <= before)
    refused = failure_of(pool.run, int)
    assert isinstance(refused, PoolClosed)
    assert pool.closed
    pool.close()


def test_close_lets_what_runs_end_and_refuses_what_waits(gate: Gate) -> None:
    pool = ThreadPool(1)
    first = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    second = gevent.spawn(failure_of, pool.run, gate.work, 2)
    until(lambda: pool.statistics().waiting == 1)
    closing = gevent.spawn(pool.close, 5.0)
    assert isinstance(second.get(), PoolClosed)
    assert not closing.ready()
    gate.open()
    assert first.get() == 1
    closing.get()
    assert gate.begun == [1]


def test_close_does_not_wait_for_ever(gate: Gate) -> None:
    before = living_threads()
    pool = ThreadPool(1)
    first = gevent.spawn(failure_of, pool.run, gate.work, 1)
    until(lambda: gate.begun)
    pool.close(timeout=0.01)
    assert isinstance(first.get(), PoolClosed)
    assert pool.statistics().lingering == 1
    gate.open()
    until(lambda: pool.statistics()[1:5] == (0, 0, 0, 0))
    until(lambda: living_threads() <= before)


def test_idle_threads_end_and_come_again() -> None:
    before = living_threads()
    pool = ThreadPool(2, idle=0.02)
    assert pool.run(int) == 0
    until(lambda: pool.statistics().workers == 0 and living_threads() <= before)
    assert pool.run(int) == 0
    pool.close()


def test_a_thread_that_can_not_be_started_is_told(monkeypatch: pytest.MonkeyPatch, gate: Gate) -> None:
    def refuse(*_: Any) -> int:
        raise RuntimeError("can't start new thread")

    start = home._start_new_thread
    pool = ThreadPool(2)
    monkeypatch.setattr(home, "_start_new_thread", refuse)
    failed = failure_of(pool.run, int)
    assert isinstance(failed, OffloadFailed)
    assert "no thread" in str(failed)
    assert pool.statistics().running == 0
    monkeypatch.setattr(home, "_start_new_thread", start)
    first = gevent.spawn(pool.run, gate.work, 1)
    until(lambda: gate.begun)
    monkeypatch.setattr(home, "_start_new_thread", refuse)
    second = gevent.spawn(pool.run, gate.work, 2)  # done by the one thread there is
    gevent.sleep(0)
    gate.open()
    assert (first.get(), second.get()) == (1, 2)
    pool.close()


def test_a_program_waits_for_the_work_of_its_greenlets() -> None:
    """Nothing else keeps the loop alive while a thread works, and nothing does when none works."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import time, gevent
                from packetflow.otp import ThreadPool
                pool = ThreadPool(2)
                work = gevent.spawn(pool.run, time.sleep, 0.1)
                work.join()
                print("worked", work.successful())
                gevent.wait()
                print("nothing left")
            """),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["worked True", "nothing left"], done.stderr


# ---- actors and trees --------------------------------------------------------------------------------------------------


def test_an_actor_offloads_to_its_systems_threads(system: System) -> None:
    ref = Puppet.start(system=system)
    here = threading.get_ident()
    assert call(ref, lambda server, caller: offload(threading.get_ident)) != here
    assert system.threads.statistics().done == 1
    assert isinstance(failure_of(offload, int), NotAnActor)
    assert isinstance(failure_of(offload, int, pool="somewhere"), NotAnActor)


def test_a_systems_threads_end_with_it() -> None:
    world = System("short")
    threads = world.threads
    assert threads.run(int) == 0
    world.shutdown()
    assert threads.closed


def test_a_pool_under_a_supervisor_is_found_by_name_and_ends_with_the_tree(system: System) -> None:
    tree = Supervisor.start(
        [ChildSpec(PoolServer, ThreadPool, name="disk", options={"size": 2})],
        max_restarts=3, max_seconds=5, system=system,
    )  # fmt: skip
    ref = system.find("disk")
    puppet = Puppet.start(system=system)
    assert call(puppet, lambda server, caller: offload(int, "7", pool="disk")) == 7
    assert offload(int, "8", pool=ref) == 8
    assert call(ref, "statistics").done == 2
    pool = ref._process.server.pool
    assert pool.name == "disk"
    system.stop_process(tree, "shutdown")
    assert pool.closed
    assert isinstance(failure_of(offload, int, pool=ref), NoProcess)
    failed = call(puppet, lambda server, caller: failure_of(offload, int, pool="disk"))
    assert isinstance(failed, NoProcess)


def test_a_pool_whose_server_is_killed_is_closed_too(system: System) -> None:
    ref = PoolServer.start(ThreadPool, system=system)
    pool = ref._process.server.pool
    kill(ref)
    until(lambda: pool.closed)


def test_what_is_no_pool_is_refused(system: System) -> None:
    ref = Puppet.start(system=system)
    assert isinstance(failure_of(offload, int, pool=ref), SpecError)
    failed = failure_of(PoolServer.start, dict, system=system)
    assert isinstance(failed.reason, SpecError)


# ---- where it can't be -------------------------------------------------------------------------------------------------


def test_the_hub_itself_and_other_threads_are_refused_clearly(pool: ThreadPool) -> None:
    refused: list[PacketFlowError] = []

    def attempt() -> None:
        refused.append(failure_of(pool.run, int))

    get_hub().loop.run_callback(attempt)
    until(lambda: refused)
    pool.run(attempt)
    assert [type(one) for one in refused] == [HubBlocked, WrongThread]
    assert isinstance(pool.run(failure_of, pool.close), WrongThread)
    assert not pool.closed


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("size", {"size": 0}),
        ("size", {"size": True}),
        ("queue", {"size": 1, "queue": -1}),
        ("full", {"size": 1, "full": "drop"}),
        ("idle", {"size": 1, "idle": 0}),
    ],
)
def test_wrong_options_are_told(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=field):
        ThreadPool(**options)


@pytest.mark.parametrize("timeout", [-1, True, "1s", float("nan")])
def test_a_wrong_timeout_is_told(pool: ThreadPool, timeout: Any) -> None:
    with pytest.raises(SpecError, match="timeout"):
        pool.run(int, timeout=timeout)
    assert pool.statistics().done == 0


def test_a_crash_in_offloaded_work_is_a_crash_of_the_actor_that_asked(system: System) -> None:
    class Asks(GenServer):
        def handle_call(self, request: Callable[[], Any], caller: Any) -> Any:
            return offload(request)

    failed = failure_of(call, Asks.start(system=system), lambda: 1 / 0)
    assert isinstance(failed, ServerExited)
    assert isinstance(failed.reason, ZeroDivisionError)
