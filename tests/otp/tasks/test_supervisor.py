"""Tasks below a TaskSupervisor, as Elixir's Task.Supervisor has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    AwaitTimeout,
    ChildNotFound,
    DynamicSupervisor,
    Exit,
    Exited,
    NoProcess,
    Ok,
    Ref,
    ServerExited,
    SpecError,
    Stop,
    Supervisor,
    System,
    Task,
    TaskExited,
    TaskSupervisor,
    TooManyChildren,
    call,
    cast,
    exit_signal,
    kill,
    monitor,
    statistics,
    stop,
    tree,
)
from tests.otp.actors import Puppet, Trapper, failure_of, seen, until
from tests.otp.tasks.work import Run, boom, do, double, forever, is_alive, wait_or_give, within


@pytest.fixture
def supervisor(system: System) -> Ref:
    return TaskSupervisor.start(system=system)


FORMS = [TaskSupervisor.async_, TaskSupervisor.async_nolink]
STARTS: list[Callable[..., Any]] = [*FORMS, TaskSupervisor.start_child]


def ref_of(started: Task | Ref) -> Ref:
    ref = started.ref if isinstance(started, Task) else started
    assert ref is not None
    return ref


# ---- the supervisor itself -------------------------------------------------------------------------------------------


def test_it_stands_below_another_supervisor_by_name(system: System) -> None:
    top = Supervisor.start([TaskSupervisor.child(name="tasks", max_children=5)], system=system)
    assert TaskSupervisor.children(system.find("tasks")) == []
    (info,) = Supervisor.which_children(top)
    assert (info.id, info.type) == ("tasks", "supervisor")


def test_several_stand_below_one_supervisor(system: System) -> None:
    names = ["first", "second"]
    top = Supervisor.start([TaskSupervisor.child(name=name) for name in names], system=system)
    added = Supervisor.start_child(top, TaskSupervisor.child())
    assert added is not None
    for ref in (added, *(system.find(name) for name in names)):
        assert TaskSupervisor.children(ref) == []
    assert failure_of(Supervisor.start_child, top, TaskSupervisor.child()).ref == added  # type: ignore[attr-defined]


def test_it_counts_and_lists_its_tasks(system: System, supervisor: Ref) -> None:
    assert TaskSupervisor.children(supervisor) == []
    assert DynamicSupervisor.count_children(supervisor) == (0, 0, 0, 0)
    tasks = [TaskSupervisor.async_(supervisor, forever) for _ in range(2)]
    assert TaskSupervisor.children(supervisor) == [task.ref for task in tasks]
    assert TaskSupervisor.count_children(supervisor) == (2, 2, 0, 2)
    assert [info.id for info in TaskSupervisor.which_children(supervisor)] == ["forever", "forever"]
    assert [branch.id for branch in tree(supervisor).children] == ["forever", "forever"]


def test_a_finished_task_is_forgotten(system: System, supervisor: Ref) -> None:
    assert TaskSupervisor.async_(supervisor, double, 1).await_() == 2
    assert TaskSupervisor.children(supervisor) == []
    assert system.processes() == [supervisor]


def test_its_options_are_checked(system: System) -> None:
    with pytest.raises(SpecError, match="max_children"):
        TaskSupervisor.start(max_children=-1, system=system)
    with pytest.raises(SpecError, match="max_restarts"):
        TaskSupervisor.child(max_restarts=-1)


@pytest.mark.parametrize("start", STARTS)
def test_what_cannot_run_is_refused(supervisor: Ref, start: Any) -> None:
    with pytest.raises(SpecError, match="function"):
        start(supervisor, "double")
    with pytest.raises(SpecError, match="shutdown"):
        start(supervisor, double, 1, shutdown="slowly")
    with pytest.raises(SpecError, match="shutdown"):
        start(supervisor, double, 1, shutdown=[])
    assert TaskSupervisor.children(supervisor) == []


@pytest.mark.parametrize("start", STARTS)
def test_a_dead_supervisor_starts_nothing(supervisor: Ref, start: Any, as_owner: Run) -> None:
    stop(supervisor)
    with pytest.raises(NoProcess):
        as_owner(lambda: start(supervisor, double, 1))


@pytest.mark.parametrize("start", STARTS)
def test_max_children(system: System, start: Any, as_owner: Run) -> None:
    supervisor = TaskSupervisor.start(max_children=1, system=system)

    def owner() -> None:
        first = start(supervisor, forever)
        with pytest.raises(TooManyChildren):
            start(supervisor, double, 1)
        TaskSupervisor.terminate_child(supervisor, ref_of(first))
        start(supervisor, double, 1)

    as_owner(owner)


# ---- async and async_nolink ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_supervised_task_gives_its_result(supervisor: Ref, form: Any, as_owner: Run) -> None:
    assert as_owner(lambda: form(supervisor, double, 21).await_()) == 42


def test_async_links_with_the_caller(system: System, supervisor: Ref) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: TaskSupervisor.async_(supervisor, forever))
    assert statistics(owner).links == 1
    exit_signal(task.ref, "out")
    assert not is_alive(owner)
    assert is_alive(supervisor)
    other = Puppet.start(system=system)
    task = do(other, lambda server: TaskSupervisor.async_(supervisor, forever))
    kill(other)
    assert not is_alive(task.ref)
    assert TaskSupervisor.children(supervisor) == []


def test_async_nolink_links_neither_way(system: System, supervisor: Ref) -> None:
    owner = Puppet.start(system=system)
    failing, lasting = do(
        owner, lambda server: [TaskSupervisor.async_nolink(supervisor, forever) for _ in range(2)]
    )
    assert statistics(owner).links == 0
    exit_signal(failing.ref, "out")
    assert do(owner, lambda server: failing.yield_()) == Exited("out")
    kill(owner)
    assert TaskSupervisor.children(supervisor) == [lasting.ref]


@pytest.mark.parametrize("form", FORMS)
def test_the_failure_reaches_the_awaiter(supervisor: Ref, form: Any, as_owner: Run) -> None:
    with pytest.raises(TaskExited) as failed:
        as_owner(lambda: form(supervisor, boom).await_())
    assert isinstance(failed.value.__cause__, ValueError)
    with pytest.raises(TaskExited) as failed:
        as_owner(lambda: form(supervisor, lambda: Stop("unknown")).await_())
    assert failed.value.reason == "unknown"


def test_nolink_failures_spare_an_actor_that_traps_nothing(system: System, supervisor: Ref) -> None:
    owner = Puppet.start(system=system)
    reason = do(owner, lambda server: failure_of(TaskSupervisor.async_nolink(supervisor, boom).await_)).reason
    assert isinstance(reason, ValueError)


def test_an_await_that_times_out_leaves_no_message(system: System, supervisor: Ref) -> None:
    gate = Event()
    owner = Trapper.start(system=system)
    task = do(owner, lambda server: TaskSupervisor.async_nolink(supervisor, gate.wait))
    assert isinstance(do(owner, lambda server: failure_of(task.await_, 0)), AwaitTimeout)
    watch = monitor(task.ref)
    gate.set()
    assert watch.wait(5) is not None
    assert call(owner, seen) == []


@pytest.mark.parametrize("start", STARTS)
def test_the_context_goes_along(system: System, supervisor: Ref, start: Any, as_owner: Run) -> None:
    found: list[str] = []

    def owner() -> None:
        within.set("the owner")
        start(supervisor, lambda: found.append(within.get()))

    as_owner(owner)
    until(lambda: found == ["the owner"])


def test_a_caller_that_gives_up_its_call_leaves_no_task(system: System) -> None:
    gate = Event()
    begun: list[int] = []

    class Slow(TaskSupervisor):
        def handle_call(self, request: Any, caller: Any) -> Any:
            answer = super().handle_call(request, caller)
            begun.append(1)
            gate.wait()
            return answer

    supervisor = Slow.start(system=system)
    ran: list[int] = []

    def hasty(start: Any) -> None:
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.002):
            start(supervisor, ran.append, 1)

    hasty(TaskSupervisor.async_nolink)
    assert begun == [1]
    gate.set()
    until(lambda: TaskSupervisor.children(supervisor) == [])


def test_an_owner_killed_before_its_task_was_started_gets_none(system: System) -> None:
    owner = Puppet.start(system=system)
    gate, ran = Event(), []

    class Slow(TaskSupervisor):
        def _on_start_task(self, *request: Any) -> bool:
            gate.wait()
            return super()._on_start_task(*request)

    slow = Slow.start(system=system)
    cast(owner, lambda server: TaskSupervisor.async_(slow, ran.append, 1))
    until(lambda: statistics(owner).waits_for == slow)
    kill(owner)
    gate.set()
    assert TaskSupervisor.children(slow) == []
    assert ran == []


# ---- start_child and restarts ----------------------------------------------------------------------------------------


def test_start_child_runs_it_for_nobody(system: System, supervisor: Ref) -> None:
    owner = Puppet.start(system=system)
    ref = do(owner, lambda server: TaskSupervisor.start_child(supervisor, forever))
    assert TaskSupervisor.children(supervisor) == [ref]
    assert statistics(owner).links == 0
    kill(owner)
    assert is_alive(ref)


@pytest.mark.parametrize(
    ("restart", "reason", "again"),
    [
        ("temporary", "out", False),
        ("transient", "out", True),
        ("transient", "shutdown", False),
        ("permanent", "shutdown", True),
    ],
)
def test_start_child_restarts_as_it_is_told(
    system: System, supervisor: Ref, restart: Any, reason: str, again: bool
) -> None:
    token = within.set("first")
    found: list[str] = []

    def work() -> None:
        found.append(within.get())
        within.set("changed")
        forever()

    ref = TaskSupervisor.start_child(supervisor, work, restart=restart)
    within.reset(token)
    until(lambda: found == ["first"])
    exit_signal(ref, reason)
    children = TaskSupervisor.children(supervisor)
    assert (children != []) is again
    assert ref not in children
    if again:
        until(lambda: found == ["first", "first"])


def test_a_task_that_dies_too_often_ends_the_supervisor(system: System) -> None:
    supervisor = TaskSupervisor.start(max_restarts=2, system=system)
    watch = monitor(supervisor)
    TaskSupervisor.start_child(supervisor, boom, restart="permanent")
    assert watch.wait(5).reason == "shutdown"  # type: ignore[union-attr]
    assert system.processes() == []


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("shutdown", [None, "brutal_kill"])
def test_when_the_supervisor_ends_its_tasks_end(
    system: System, supervisor: Ref, start: Any, shutdown: Any
) -> None:
    owner = Trapper.start(system=system)
    started = do(owner, lambda server: start(supervisor, forever, shutdown=shutdown))
    gevent.sleep(0)
    watch = monitor(ref_of(started))
    stop(supervisor, "shutdown")
    reason = "killed" if shutdown == "brutal_kill" else "shutdown"
    assert watch.wait(5).reason == reason  # type: ignore[union-attr]
    linked = start is TaskSupervisor.async_
    assert call(owner, seen) == ([Exit(ref_of(started), reason)] if linked else [])


@pytest.mark.parametrize("start", STARTS)
def test_its_tasks_have_their_time_to_clean_up(system: System, supervisor: Ref, start: Any) -> None:
    order: list[str] = []

    def work() -> None:
        try:
            forever()
        finally:
            gevent.sleep(0.001)
            order.append("cleaned")

    start(supervisor, work)
    gevent.sleep(0)
    stop(supervisor)
    order.append("stopped")
    assert order == ["cleaned", "stopped"]


def test_a_killed_supervisor_takes_its_tasks_along(system: System, supervisor: Ref) -> None:
    task = TaskSupervisor.async_nolink(supervisor, forever)
    gevent.sleep(0)
    kill(supervisor)
    assert task.yield_() == Exited("killed")
    assert system.processes() == []


def test_terminate_child(system: System, supervisor: Ref) -> None:
    ref = TaskSupervisor.start_child(supervisor, forever, restart="permanent")
    assert TaskSupervisor.children(supervisor) == [ref]
    TaskSupervisor.terminate_child(supervisor, ref)
    assert TaskSupervisor.children(supervisor) == []
    with pytest.raises(ChildNotFound):
        TaskSupervisor.terminate_child(supervisor, ref)


def test_terminate_child_is_an_exit_for_the_owner(system: System, supervisor: Ref) -> None:
    task = TaskSupervisor.async_nolink(supervisor, forever)
    gevent.sleep(0)
    TaskSupervisor.terminate_child(supervisor, ref_of(task))
    assert task.yield_() == Exited("shutdown")
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: TaskSupervisor.async_(supervisor, forever))
    TaskSupervisor.terminate_child(supervisor, ref_of(task))
    assert not is_alive(owner)


def test_a_task_may_ask_its_supervisor_to_end_it(system: System, supervisor: Ref) -> None:
    refs: list[Ref] = []
    task = TaskSupervisor.async_nolink(
        supervisor, lambda: TaskSupervisor.terminate_child(supervisor, refs[0])
    )
    refs.append(ref_of(task))
    assert task.yield_() == Exited("shutdown")


def test_a_call_to_a_supervisor_that_waits_for_a_task_that_waits_for_it_ends(system: System) -> None:
    supervisor = TaskSupervisor.start(system=system)
    gate = Event()

    def slow() -> None:
        try:
            forever()
        finally:
            gate.wait()

    def asks_at_the_end() -> None:
        try:
            forever()
        finally:
            TaskSupervisor.children(supervisor)

    TaskSupervisor.start_child(supervisor, slow)
    asking = TaskSupervisor.start_child(supervisor, asks_at_the_end, shutdown=0.02)
    gevent.sleep(0)
    stopping = gevent.spawn(stop, supervisor)
    until(lambda: statistics(asking).waits_for == supervisor)
    gate.set()
    until(lambda: statistics(supervisor).waits_for == asking)
    stranger = Puppet.start(system=system)
    failed = do(stranger, lambda server: failure_of(TaskSupervisor.children, supervisor))
    assert isinstance(failed, ServerExited)
    stopping.get(timeout=5)


@pytest.mark.parametrize("form", FORMS)
def test_shutdown_and_ignore_of_supervised_tasks(
    system: System, supervisor: Ref, form: Any, as_owner: Run
) -> None:
    def owner() -> Task:
        task = form(supervisor, forever)
        assert task.shutdown() is None
        quick = form(supervisor, double, 1)
        assert quick.yield_() == Ok(2)
        ignored = form(supervisor, forever)
        assert ignored.ignore() is None
        return ignored

    ignored = as_owner(owner)
    assert TaskSupervisor.children(supervisor) == [ignored.ref]


def test_a_crashed_owner_names_its_reason(system: System, supervisor: Ref) -> None:
    owner = Puppet.start(system=system)
    with pytest.raises(ServerExited) as failed:
        do(owner, lambda server: TaskSupervisor.async_(supervisor, boom).await_())
    assert isinstance(failed.value.reason, ValueError)


# ---- streams ----------------------------------------------------------------------------------------------


def test_the_tasks_of_a_supervised_stream_are_its_supervisors(system: System) -> None:
    supervisor = TaskSupervisor.start(system=system)
    flow = TaskSupervisor.async_stream(supervisor, [1, None], wait_or_give)
    next(flow)
    assert len(TaskSupervisor.children(supervisor)) == 1
    flow.close()
    assert TaskSupervisor.children(supervisor) == []


@pytest.mark.parametrize("form", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink])
def test_a_stream_that_finds_too_many_children_stops_in_order(
    system: System, form: Any, as_owner: Run
) -> None:
    supervisor = TaskSupervisor.start(max_children=1, system=system)
    with pytest.raises(TooManyChildren):
        as_owner(lambda: list(form(supervisor, [None] * 3, wait_or_give, max_concurrency=2)))
    assert TaskSupervisor.children(supervisor) == []


@pytest.mark.parametrize("form", [TaskSupervisor.async_stream, TaskSupervisor.async_stream_nolink])
def test_a_supervised_stream_checks_its_shutdown(system: System, form: Any) -> None:
    supervisor = TaskSupervisor.start(system=system)
    with pytest.raises(SpecError, match="shutdown"):
        form(supervisor, [], double, shutdown="unknown")


def test_a_supervisor_that_ends_ends_the_stream(system: System) -> None:
    supervisor = TaskSupervisor.start(system=system)
    flow = TaskSupervisor.async_stream_nolink(supervisor, [1, None, None], wait_or_give, timeout=None)
    next(flow)
    kill(supervisor)
    assert next(flow) == Exited("killed")
