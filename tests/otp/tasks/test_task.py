"""otp.md, "Task", and Elixir's Task: how a result, and a failure, reaches the one who started the task."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from greenlet import greenlet

from packetflow.otp import (
    AlreadyAwaited,
    AwaitTimeout,
    Exit,
    Exited,
    HubBlocked,
    NotAnActor,
    NotTheOwner,
    Ok,
    ServerExited,
    SpecError,
    Stop,
    System,
    Task,
    TaskExited,
    WrongThread,
    call,
    kill,
    monitor,
    statistics,
    tree,
)
from packetflow.otp.signals import current_process
from tests.otp.actors import Puppet, Trapper, crash, failure_of, seen, until
from tests.otp.tasks.work import Run, boom, do, double, forever, is_alive, within
from tests.otp.test_threads import in_a_thread

# ---- async and await -------------------------------------------------------------------------------------------------


def test_await_gives_the_result(system: System, as_owner: Run) -> None:
    assert as_owner(lambda: Task.async_(double, 21, system=system).await_()) == 42


def test_await_reads_as_in_elixir_too(system: System) -> None:
    assert Task.await_(Task.async_(double, 21, system=system), 1.0) == 42


def test_a_task_begins_without_being_awaited(system: System) -> None:
    begun = Event()
    Task.async_(begun.set, system=system)
    assert begun.wait(5)


def test_async_returns_before_the_task_begins(system: System) -> None:
    order: list[str] = []
    task = Task.async_(order.append, "task", system=system)
    order.append("owner")
    task.await_()
    assert order == ["owner", "task"]


def test_several_tasks_wait_at_the_same_time(system: System, as_owner: Run) -> None:
    gates = [Event() for _ in range(3)]

    def meet(number: int) -> int:
        gates[number].set()
        for gate in gates:
            gate.wait()
        return number

    def owner() -> list[int]:
        return [task.await_() for task in [Task.async_(meet, number, system=system) for number in range(3)]]

    assert as_owner(owner) == [0, 1, 2]


def test_a_task_is_a_process_with_its_functions_name(system: System) -> None:
    task = Task.async_(forever, system=system)
    assert task.ref in system.processes()
    assert repr(task.ref).startswith("<forever test/")
    assert repr(task).startswith("<Task <forever test/")
    assert tree(task.ref).id == "forever"  # type: ignore[arg-type]
    gevent.sleep(0)
    figures = statistics(task.ref)  # type: ignore[arg-type]
    assert figures.status == "busy"
    assert "forever" in str(figures.current)


def test_the_name_of_a_dead_task_stays_in_its_ref(system: System) -> None:
    awaited = Task.async_(double, 1, system=system)
    awaited.await_()
    assert repr(awaited.ref).startswith("<double ")
    killed = Task.async_(forever, system=system)
    killed.shutdown("brutal_kill")
    assert repr(killed.ref).startswith("<forever ")


@pytest.mark.parametrize(
    ("function", "label"),
    [
        (functools.partial(double, 1), "double"),
        (lambda: None, "<lambda>"),
        (Puppet().terminate, "Puppet.terminate"),
        (len, "len"),
        (Event(), "Event"),
    ],
)
def test_names_of_functions(system: System, function: Any, label: str) -> None:
    if isinstance(function, Event):

        class Called:
            def __call__(self) -> None: ...

        function, label = Called(), "Called"
    task = Task.async_(function, system=system)
    assert repr(task) == f"<Task <{label} test/{task.ref.id}>>"  # type: ignore[union-attr]
    task.shutdown("brutal_kill")


def test_a_task_is_linked_with_the_actor_that_started_it(system: System) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(forever))
    assert statistics(owner).links == 1
    kill(owner)
    assert not is_alive(task.ref)


def test_a_finished_task_leaves_no_link(system: System) -> None:
    owner = Puppet.start(system=system)
    do(owner, lambda server: Task.async_(double, 1).await_())
    assert statistics(owner).links == 0
    assert do(owner, lambda server: server.seen) == []


def test_a_plain_greenlet_has_no_links(system: System) -> None:
    task = Task.async_(forever, system=system)
    assert statistics(task.ref).links == 0  # type: ignore[arg-type]


def test_the_crash_reaches_the_awaiter_with_its_cause(system: System, as_owner: Run) -> None:
    with pytest.raises(TaskExited) as failed:
        as_owner(lambda: Task.async_(boom, system=system).await_())
    assert isinstance(failed.value.reason, ValueError)
    assert failed.value.__cause__ is failed.value.reason
    assert failed.value.code == "execution_failed"
    assert "boom" in str(failed.value)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, MemoryError, greenlet.GreenletExit])
def test_whatever_a_task_raises_is_its_crash(system: System, kind: type[BaseException]) -> None:
    fault = kind()
    task = Task.async_(lambda: crash(fault)(), system=system)
    assert task.yield_() == Exited(fault)


def test_the_crash_of_a_task_is_the_crash_of_the_actor_that_started_it(system: System) -> None:
    owner = Puppet.start(system=system)
    watch = monitor(owner)
    after: list[str] = []

    def await_it(server: Any) -> None:
        try:
            Task.async_(boom).await_()
        finally:
            after.append("finally")
        after.append("never")

    with pytest.raises(ServerExited) as failed:
        do(owner, await_it)
    assert isinstance(failed.value.reason, ValueError)
    assert watch.wait(5).reason is failed.value.reason  # type: ignore[union-attr]
    until(lambda: after == ["finally"])


def test_an_actor_that_traps_exits_gets_the_failure_and_the_exit(system: System) -> None:
    owner = Trapper.start(system=system)
    reason = do(owner, lambda server: failure_of(Task.async_(boom).await_).reason)  # type: ignore[attr-defined]
    assert isinstance(reason, ValueError)
    (exit_message,) = call(owner, seen)
    assert isinstance(exit_message, Exit)
    assert exit_message.reason is reason


def test_an_actor_that_traps_exits_is_told_of_a_normal_end_too(system: System) -> None:
    owner = Trapper.start(system=system)
    ref = do(owner, lambda server: [task := Task.async_(double, 1), task.await_()][0].ref)
    assert call(owner, seen) == [Exit(ref, "normal")]


def test_a_task_may_exit_with_a_reason(system: System, as_owner: Run) -> None:
    for reason in ("normal", "shutdown", ("shutdown", 3), "unknown"):
        failed = failure_of(
            lambda reason=reason: as_owner(Task.async_(lambda: Stop(reason), system=system).await_)
        )
        assert isinstance(failed, NotTheOwner) or failed.reason == reason
        failed = failure_of(
            lambda reason=reason: as_owner(lambda: Task.async_(lambda: Stop(reason), system=system).await_())
        )
        assert isinstance(failed, TaskExited)
        assert failed.reason == reason


def test_a_result_and_a_reason(system: System) -> None:
    task = Task.async_(lambda: Stop("abnormal", reply="result"), system=system)
    watch = monitor(task.ref)  # type: ignore[arg-type]
    assert task.await_() == "result"
    assert watch.wait(5).reason == "abnormal"  # type: ignore[union-attr]


def test_await_exits_when_the_task_is_killed(system: System, as_owner: Run) -> None:
    def owner() -> None:
        task = Task.async_(forever, system=system)
        gevent.spawn(kill, task.ref)
        task.await_()

    with pytest.raises(TaskExited) as failed:
        as_owner(owner)
    assert failed.value.reason == "killed"


def test_a_task_killed_before_it_began_never_runs(system: System, as_owner: Run) -> None:
    ran: list[int] = []

    def owner() -> Any:
        task = Task.async_(ran.append, 1, system=system)
        kill(task.ref)  # type: ignore[arg-type]
        return task.yield_()

    assert as_owner(owner) == Exited("killed")
    assert ran == []


def test_a_task_that_kills_itself(system: System) -> None:
    def suicide() -> None:
        process = current_process()
        assert process is not None
        kill(process.ref)

    assert Task.async_(suicide, system=system).yield_() == Exited("killed")


def test_await_that_times_out_leaves_the_task_running(system: System, as_owner: Run) -> None:
    gate = Event()

    def owner() -> Any:
        task = Task.async_(gate.wait, system=system)
        failed = failure_of(task.await_, 0.001)
        assert isinstance(failed, AwaitTimeout)
        assert failed.timeout == 0.001
        assert failed.code == "timeout"
        assert is_alive(task.ref)
        gate.set()
        return task.await_()

    assert as_owner(owner) is True


def test_await_without_time_gives_others_a_turn(system: System) -> None:
    task = Task.async_(forever, system=system)
    assert isinstance(failure_of(task.await_, 0), AwaitTimeout)
    quick = Task.async_(double, 1, system=system)
    assert until(lambda: quick.yield_(0)) == Ok(2)


def test_await_without_a_limit(system: System, as_owner: Run) -> None:
    assert as_owner(lambda: Task.async_(lambda: gevent.sleep(0.001), system=system).await_(None)) is None


@pytest.mark.parametrize("timeout", [-1, "soon", float("inf"), True])
def test_what_is_no_timeout_is_refused(system: System, timeout: Any) -> None:
    task = Task.async_(forever, system=system)
    for ask in (task.await_, task.yield_, lambda timeout: Task.await_many([task], timeout)):
        with pytest.raises(SpecError):
            ask(timeout)


def test_awaiting_twice_is_an_error(system: System, as_owner: Run) -> None:
    def owner() -> None:
        task = Task.async_(double, 1, system=system)
        task.await_()
        for again in (task.await_, task.yield_):
            with pytest.raises(AlreadyAwaited):
                again()
        for several in (Task.await_many, Task.yield_many):
            with pytest.raises(AlreadyAwaited):
                several([task])

    as_owner(owner)


def test_after_a_failure_it_is_awaited_too(system: System) -> None:
    task = Task.async_(boom, system=system)
    with pytest.raises(TaskExited):
        task.await_()
    with pytest.raises(AlreadyAwaited):
        task.await_()


@pytest.mark.parametrize(
    "ask",
    [
        Task.await_,
        Task.yield_,
        Task.shutdown,
        Task.ignore,
        lambda task: Task.await_many([task]),
        lambda task: Task.yield_many([task]),
    ],
)
def test_only_the_owner_may_ask(system: System, ask: Callable[[Task], Any]) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(forever))
    mine = Task.async_(forever, system=system)
    refused = failure_of(ask, task)
    assert isinstance(refused, NotTheOwner)
    assert "forever" in str(refused)
    with pytest.raises(ServerExited) as failed:
        do(owner, lambda server: ask(mine))
    assert isinstance(failed.value.reason, NotTheOwner)
    other: list[Any] = []
    gevent.spawn(lambda: other.append(failure_of(ask, mine))).join()
    assert isinstance(other[0], NotTheOwner)


def test_the_handlers_of_one_actor_share_its_tasks(system: System) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(double, 4))
    assert do(owner, lambda server: task.await_()) == 8


def test_a_task_owns_tasks(system: System) -> None:
    def fibonacci(number: int) -> int:
        if number < 2:
            return number
        left, right = Task.async_(fibonacci, number - 1), Task.async_(fibonacci, number - 2)
        return left.await_() + right.await_()  # type: ignore[no-any-return]

    assert Task.async_(fibonacci, 9, system=system).await_() == 34
    assert system.processes() == []


def test_the_crash_of_an_inner_task_goes_up(system: System) -> None:
    outer = Task.async_(lambda: Task.async_(boom).await_(), system=system)
    failed = failure_of(outer.await_)
    assert isinstance(failed, TaskExited)
    assert isinstance(failed.reason, ValueError)


# ---- where and with what ---------------------------------------------------------------------------------------------


def test_outside_of_an_actor_the_system_has_to_be_said(system: System) -> None:
    for start in (Task.async_, Task.start):
        refused = failure_of(start, double, 1)
        assert isinstance(refused, NotAnActor)
        assert "system=system" in str(refused)
    with pytest.raises(NotAnActor):
        Task.start_link(double, 1)


@pytest.mark.parametrize("start", [Task.async_, Task.start, Task.child])
def test_what_cannot_be_called_is_refused(system: System, start: Any) -> None:
    where = {} if start is Task.child else {"system": system}
    with pytest.raises(SpecError, match="function"):
        start("double", **where)


def test_from_another_thread_it_is_refused(system: System) -> None:
    assert isinstance(in_a_thread(lambda: Task.async_(double, 1, system=system)), WrongThread)
    assert isinstance(in_a_thread(lambda: Task.start(double, 1, system=system)), WrongThread)
    assert system.processes() == []
    assert (
        in_a_thread(lambda: system.from_thread(lambda: Task.async_(double, 1, system=system).await_())) == 2
    )


def test_the_hub_may_start_one_and_not_wait(system: System) -> None:
    outcome: list[Any] = []

    def in_the_hub() -> None:
        Task.start(outcome.append, "ran", system=system)
        outcome.append(failure_of(Task.async_(double, 1, system=system).await_))

    gevent.get_hub().loop.run_callback(in_the_hub)
    until(lambda: len(outcome) == 2)
    assert isinstance(outcome[0], HubBlocked)
    assert outcome[1] == "ran"


def test_a_task_in_another_system(system: System) -> None:
    other = System("other")
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(forever, system=other))
    assert task.ref in other.processes()
    kill(owner)
    assert other.processes() == []
    until(lambda: not other.scheduler.lingering)
    other.shutdown()


def test_the_task_runs_in_a_copy_of_its_starters_context(system: System, as_owner: Run) -> None:
    def inner() -> str:
        before = within.get()
        within.set("the task")
        return before

    def owner() -> tuple[str, str]:
        within.set("the owner")
        task = Task.async_(inner, system=system)
        within.set("later")
        return task.await_(), within.get()

    assert as_owner(owner) == ("the owner", "later")


def test_the_context_goes_along_to_tasks_of_tasks_and_to_calls(system: System) -> None:
    server = Puppet.start(system=system)
    token = within.set("here")
    try:
        task = Task.async_(
            lambda: Task.async_(lambda: call(server, lambda *_: within.get())).await_(), system=system
        )
    finally:
        within.reset(token)
    assert task.await_() == "here"
