"""Waiting for many tasks or for some time; shutting them down, ignoring them."""

from __future__ import annotations

import functools
from typing import Any

import gevent
import pytest
from gevent.event import Event
from greenlet import greenlet

from packetflow.otp import (
    AlreadyAwaited,
    AwaitTimeout,
    Exited,
    Ok,
    ServerExited,
    SpecError,
    Stop,
    System,
    Task,
    TaskExited,
    call,
    cast,
    exit_signal,
    kill,
    statistics,
    stop,
)
from tests.otp.actors import Puppet, Trapper, seen, until
from tests.otp.tasks.work import Run, boom, do, double, forever, is_alive

# ---- await many ------------------------------------------------------------------------------------------------------


def test_await_many_gives_results_in_the_order_of_the_tasks(system: System, as_owner: Run) -> None:
    gates = [Event() for _ in range(4)]

    def in_turn(number: int) -> int:
        gates[number].wait()
        if number:
            gates[number - 1].set()
        return number

    def owner() -> list[int]:
        tasks = [Task.async_(in_turn, number, system=system) for number in range(4)]
        gates[3].set()
        return Task.await_many(tasks)

    assert as_owner(owner) == [0, 1, 2, 3]


def test_await_many_of_none_is_empty_at_once(system: System, as_owner: Run) -> None:
    assert as_owner(lambda: Task.await_many([])) == []
    assert as_owner(lambda: Task.yield_many([])) == []


def test_await_many_raises_the_first_failure_at_once(system: System) -> None:
    tasks = [Task.async_(function, system=system) for function in (forever, boom, forever)]
    with pytest.raises(TaskExited) as failed:
        Task.await_many(tasks, None)
    assert isinstance(failed.value.reason, ValueError)
    assert [task.done for task in tasks] == [False, True, False]
    assert [task.shutdown() for task in (tasks[0], tasks[2])] == [None, None]


def test_await_many_raises_a_failure_that_was_there_before(system: System) -> None:
    running, failed = Task.async_(forever, system=system), Task.async_(boom, system=system)
    until(lambda: failed.done)
    with pytest.raises(TaskExited):
        Task.await_many([running, failed], None)


def test_await_many_ends_the_actor_when_one_of_them_crashes(system: System) -> None:
    owner = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        do(owner, lambda server: Task.await_many([Task.async_(forever), Task.async_(boom)], None))
    assert isinstance(failed.value.reason, ValueError)
    assert system.processes() == []


def test_await_many_times_out_and_leaves_them_running(system: System, as_owner: Run) -> None:
    gate = Event()

    def owner() -> Any:
        tasks = [Task.async_(double, 1, system=system), Task.async_(gate.wait, system=system)]
        with pytest.raises(AwaitTimeout):
            Task.await_many(tasks, 0.005)
        gate.set()
        return Task.await_many(tasks)

    assert as_owner(owner) == [2, True]


def test_await_many_takes_each_task_once(system: System) -> None:
    task = Task.async_(double, 1, system=system)
    with pytest.raises(AlreadyAwaited):
        Task.await_many([task, task])
    assert task.await_() == 2


def test_await_many_is_woken_by_a_kill(system: System) -> None:
    tasks = [Task.async_(forever, system=system) for _ in range(3)]
    gevent.spawn(kill, tasks[1].ref)
    with pytest.raises(TaskExited) as failed:
        Task.await_many(tasks, None)
    assert failed.value.reason == "killed"


def test_a_thousand_tasks_are_awaited_together(system: System, as_owner: Run) -> None:
    def owner() -> list[int]:
        return Task.await_many([Task.async_(double, number, system=system) for number in range(1000)])

    assert as_owner(owner) == [2 * number for number in range(1000)]


# ---- yield -----------------------------------------------------------------------------------------------------------


def test_yield_gives_the_result(system: System, as_owner: Run) -> None:
    assert as_owner(lambda: Task.async_(double, 2, system=system).yield_()) == Ok(4)


def test_yield_gives_none_when_it_is_not_ready_and_the_task_lives_on(system: System, as_owner: Run) -> None:
    gate = Event()

    def owner() -> Any:
        task = Task.async_(gate.wait, system=system)
        assert task.yield_(0) is None
        assert task.yield_(0.001) is None
        assert is_alive(task.ref)
        gate.set()
        return task.yield_()

    assert as_owner(owner) == Ok(True)


def test_yield_gives_the_exit(system: System, as_owner: Run) -> None:
    assert as_owner(lambda: Task.async_(lambda: Stop("normal"), system=system).yield_()) == Exited("normal")
    outcome = as_owner(lambda: Task.async_(boom, system=system).yield_())
    assert isinstance(outcome, Exited)
    assert isinstance(outcome.reason, ValueError)


def test_a_result_of_none_differs_from_no_result(system: System) -> None:
    assert Task.async_(lambda: None, system=system).yield_() == Ok(None)
    assert Ok(1) != Exited(1)


def test_yield_many_gives_each_its_outcome(system: System, as_owner: Run) -> None:
    def owner() -> None:
        tasks = [
            Task.async_(function, system=system) for function in (functools.partial(double, 1), forever, boom)
        ]
        outcomes = Task.yield_many(tasks, 0.01)
        assert [task for task, _ in outcomes] == tasks
        first, second, third = (outcome for _, outcome in outcomes)
        assert (first, second) == (Ok(2), None)
        assert isinstance(third, Exited)
        assert is_alive(tasks[1].ref)

    as_owner(owner)


def test_yield_many_waits_without_a_limit_of_time(system: System, as_owner: Run) -> None:
    def owner() -> Any:
        tasks = [Task.async_(gevent.sleep, 0.001, system=system), Task.async_(double, 1, system=system)]
        return [outcome for _, outcome in Task.yield_many(tasks, None)]

    assert as_owner(owner) == [Ok(None), Ok(2)]


def test_yield_many_stops_at_its_limit(system: System, as_owner: Run) -> None:
    def owner() -> Any:
        tasks = [
            Task.async_(function, system=system) for function in (forever, lambda: 1, lambda: 2, lambda: 3)
        ]
        outcomes = [outcome for _, outcome in Task.yield_many(tasks, None, limit=2)]
        assert sum(outcome is not None for outcome in outcomes) == 2
        return outcomes[0]

    assert as_owner(owner) is None


def test_yield_many_counts_those_that_are_over_already(system: System) -> None:
    over, running = Task.async_(double, 1, system=system), Task.async_(forever, system=system)
    until(lambda: over.done)
    assert Task.yield_many([running, over], None, limit=1) == [(running, None), (over, Ok(2))]


@pytest.mark.parametrize(("on_timeout", "lives"), [("nothing", True), ("ignore", True), ("kill_task", False)])
def test_yield_many_on_timeout(system: System, on_timeout: Any, lives: bool) -> None:
    task, quick = Task.async_(forever, system=system), Task.async_(double, 1, system=system)
    assert Task.yield_many([task, quick], 0.005, on_timeout=on_timeout) == [(task, None), (quick, Ok(2))]
    assert is_alive(task.ref) is lives
    if on_timeout == "nothing":
        assert task.yield_(0) is None
    else:
        with pytest.raises(AlreadyAwaited):
            task.yield_(0)
    if lives:
        kill(task.ref)  # type: ignore[arg-type]


def test_yield_many_checks_its_options(system: System) -> None:
    with pytest.raises(SpecError, match="limit"):
        Task.yield_many([], limit=0)
    with pytest.raises(SpecError, match="on_timeout"):
        Task.yield_many([], on_timeout="exit")  # type: ignore[arg-type]


# ---- shutdown, ignore, completed -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [5.0, None, "brutal_kill"])
def test_shutdown_stops_a_task(system: System, as_owner: Run, how: Any) -> None:
    def owner() -> None:
        task = Task.async_(forever, system=system)
        gevent.sleep(0)
        assert task.shutdown(how) is None
        assert not is_alive(task.ref)
        assert task.shutdown(how) == Exited("noproc")

    as_owner(owner)


@pytest.mark.parametrize("how", [5.0, "brutal_kill"])
def test_shutdown_of_a_task_that_has_not_begun(system: System, how: Any) -> None:
    ran: list[int] = []
    task = Task.async_(ran.append, 1, system=system)
    assert task.shutdown(how) is None
    gevent.sleep(0)
    assert ran == []


def test_shutdown_sends_no_exit_to_the_owner(system: System) -> None:
    trapper, plain = Trapper.start(system=system), Puppet.start(system=system)
    for owner in (trapper, plain):
        assert do(owner, lambda server: Task.async_(forever).shutdown()) is None
        assert do(owner, lambda server: Task.async_(forever).shutdown("brutal_kill")) is None
        assert call(owner, seen) == []
        assert statistics(owner).links == 0


@pytest.mark.parametrize("how", [5.0, "brutal_kill"])
@pytest.mark.parametrize("reason", ["normal", "abnormal", "shutdown"])
def test_shutdown_gives_the_result_that_came_just_before(system: System, how: Any, reason: str) -> None:
    task = Task.async_(lambda: Stop(reason, reply="result"), system=system)
    until(lambda: task.done)
    assert task.shutdown(how) == Ok("result")


@pytest.mark.parametrize(
    ("how", "reason", "outcome"),
    [
        (5.0, "normal", Exited("normal")),
        (5.0, "abnormal", Exited("abnormal")),
        (5.0, "shutdown", None),
        (5.0, "killed", Exited("killed")),
        ("brutal_kill", "normal", Exited("normal")),
        ("brutal_kill", "abnormal", Exited("abnormal")),
        ("brutal_kill", "shutdown", Exited("shutdown")),
        ("brutal_kill", "killed", None),
    ],
)
def test_shutdown_of_one_that_died_before(system: System, how: Any, reason: str, outcome: Any) -> None:
    task = Task.async_(lambda: Stop(reason), system=system)
    until(lambda: task.done)
    assert task.shutdown(how) == outcome


def test_shutdown_waits_for_the_cleanup(system: System, as_owner: Run) -> None:
    cleaned: list[str] = []

    def with_cleanup() -> None:
        try:
            forever()
        finally:
            gevent.sleep(0.002)
            cleaned.append("finally")

    def owner() -> Any:
        task = Task.async_(with_cleanup, system=system)
        gevent.sleep(0)
        return task.shutdown()

    assert as_owner(owner) is None
    assert cleaned == ["finally"]


def test_shutdown_kills_a_task_that_does_not_end_in_time(system: System, as_owner: Run) -> None:
    gate = Event()

    def stubborn() -> None:
        try:
            forever()
        finally:
            gate.wait()

    def owner() -> Any:
        task = Task.async_(stubborn, system=system)
        gevent.sleep(0)
        return task.shutdown(0.002)

    assert as_owner(owner) == Exited("killed")
    assert system.lingering()
    gate.set()


def test_a_task_told_to_stop_may_still_give_its_result(system: System) -> None:
    def finishes() -> str:
        try:
            forever()
        except greenlet.GreenletExit:
            return "in time"
        return "never"

    task = Task.async_(finishes, system=system)
    gevent.sleep(0)
    assert task.shutdown() == Ok("in time")


def test_a_cleanup_that_fails_is_told(system: System) -> None:
    def fails() -> None:
        try:
            forever()
        finally:
            boom()

    task = Task.async_(fails, system=system)
    gevent.sleep(0)
    outcome = task.shutdown()
    assert isinstance(outcome, Exited)
    assert isinstance(outcome.reason, ValueError)


def test_an_owner_killed_while_it_shuts_a_task_down_takes_it_along(system: System) -> None:
    gate = Event()

    def stubborn() -> None:
        try:
            forever()
        finally:
            gate.wait()

    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(stubborn))
    gevent.sleep(0)
    cast(owner, lambda server: task.shutdown(None))
    until(lambda: statistics(owner).waits_for == task.ref)
    kill(owner)
    until(lambda: not is_alive(task.ref))
    gate.set()


def test_stop_asks_a_task_to_end(system: System) -> None:
    cleaned: list[int] = []

    def with_cleanup() -> None:
        try:
            forever()
        finally:
            cleaned.append(1)

    ref = Task.start(with_cleanup, system=system)
    gevent.sleep(0)
    stop(ref)
    assert cleaned == [1]
    unbegun = Task.start(with_cleanup, system=system)
    stop(unbegun, "shutdown")
    assert system.processes() == []


def test_ignore_lets_it_run_and_drops_its_result(system: System, as_owner: Run) -> None:
    gate, done = Event(), Event()

    def late() -> None:
        gate.wait()
        done.set()

    def owner() -> Any:
        task = Task.async_(late, system=system)
        assert task.ignore() is None
        assert task.ignore() is None
        with pytest.raises(AlreadyAwaited):
            task.await_()
        return task

    task = as_owner(owner)
    assert is_alive(task.ref)
    gate.set()
    assert done.wait(5)
    until(lambda: not is_alive(task.ref))


def test_an_ignored_task_neither_follows_its_owner_nor_takes_it_along(system: System) -> None:
    owner = Puppet.start(system=system)
    failing, lasting = do(owner, lambda server: [Task.async_(gevent.sleep, 0), Task.async_(forever)])
    do(owner, lambda server: [failing.ignore(), lasting.ignore()])
    exit_signal(failing.ref, "out")
    assert is_alive(owner)
    kill(owner)
    assert is_alive(lasting.ref)
    kill(lasting.ref)


def test_ignore_gives_what_came_before(system: System) -> None:
    good, bad = Task.async_(double, 1, system=system), Task.async_(lambda: Stop("out"), system=system)
    until(lambda: good.done and bad.done)
    assert (good.ignore(), bad.ignore()) == (Ok(2), Exited("out"))


def test_completed_has_its_value_without_a_process(system: System, as_owner: Run) -> None:
    def owner() -> None:
        before = len(system.processes())
        assert Task.completed(7).await_() == 7
        assert Task.completed(7).yield_() == Ok(7)
        assert Task.completed(7).shutdown() == Ok(7)
        assert Task.completed(7).ignore() == Ok(7)
        assert Task.completed(7).ref is None
        mixed = [Task.completed(1), Task.async_(double, 1, system=system)]
        assert Task.await_many(mixed) == [1, 2]
        assert len(system.processes()) == before

    as_owner(owner)
    with pytest.raises(AlreadyAwaited):
        as_owner(lambda: [task := Task.completed(1), task.await_(), task.await_()])
