"""A task and its owner: how one ends with the other, waits for the other, and what is left of it."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import gevent
import pytest
from gevent.event import Event
from greenlet import greenlet

from packetflow.otp import (
    CallCycle,
    ChildSpec,
    Exit,
    Exited,
    GenServer,
    NameTaken,
    NoProcess,
    ServerExited,
    SpecError,
    Supervisor,
    System,
    Task,
    call,
    cast,
    change_code,
    exit_signal,
    get_state,
    kill,
    link,
    monitor,
    send,
    statistics,
    stop,
    tree,
)
from tests.otp.actors import Puppet, Trapper, failure_of, seen, until
from tests.otp.tasks.work import Run, boom, do, double, forever, is_alive

# ---- how it ends with its owner --------------------------------------------------------------------------------------


def test_a_task_ends_with_its_owner_and_its_cleanup_runs(system: System) -> None:
    cleaned: list[str] = []

    def with_cleanup() -> None:
        try:
            forever()
        finally:
            cleaned.append("finally")

    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(with_cleanup))
    gevent.sleep(0)
    kill(owner)
    assert not is_alive(task.ref)
    until(lambda: cleaned == ["finally"])


@pytest.mark.parametrize("reason", ["normal", "shutdown"])
def test_a_task_ends_with_an_owner_that_ends_in_order(system: System, reason: str) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(forever))
    watch = monitor(task.ref)
    stop(owner, reason)
    assert watch.wait(5).reason == "shutdown"  # type: ignore[union-attr]


def test_cancellation_goes_down_the_call_tree(system: System) -> None:
    cleaned: list[int] = []

    def nest(depth: int) -> None:
        try:
            if depth:
                Task.async_(nest, depth - 1).await_(None)
            else:
                forever()
        finally:
            cleaned.append(depth)

    task = Task.async_(nest, 4, system=system)
    until(lambda: len(system.processes()) == 5)
    gevent.sleep(0)
    assert task.shutdown() is None
    assert system.processes() == []
    until(lambda: sorted(cleaned) == [0, 1, 2, 3, 4])


@pytest.mark.parametrize("how", ["killed", "finished", "crashed"])
def test_a_task_ends_with_the_greenlet_that_started_it(system: System, how: str) -> None:
    tasks: list[Task] = []
    gate = Event()

    def owner() -> None:
        tasks.append(Task.async_(forever, system=system))
        tasks.append(Task.async_(forever, system=system))
        gate.wait()
        if how == "crashed":
            raise ValueError("boom")

    def quiet(*_: Any) -> None: ...

    started = gevent.spawn(owner)
    started.print_exception = quiet  # type: ignore[attr-defined]
    gevent.get_hub().NOT_ERROR, before = (ValueError, *gevent.get_hub().NOT_ERROR), gevent.get_hub().NOT_ERROR
    try:
        until(lambda: len(tasks) == 2)
        watch = monitor(tasks[0].ref)  # type: ignore[arg-type]
        if how == "killed":
            started.kill()
        else:
            gate.set()
        down = watch.wait(5)
    finally:
        gevent.get_hub().NOT_ERROR = before
    assert down is not None
    if how == "crashed":
        assert isinstance(down.reason, ValueError)
    else:
        assert down.reason == "shutdown"
    assert system.processes() == []


def test_a_greenlet_is_not_kept_by_its_finished_tasks(system: System) -> None:
    def owner() -> None:
        for number in range(3):
            Task.async_(double, number, system=system).await_()

    started = gevent.spawn(owner)
    started.join()
    gevent.sleep(0)  # its links are told
    Task.async_(double, 1, system=system).await_()  # the scheduler remembers who waited last
    seen_by_all = weakref.ref(started)
    del started
    gc.collect()
    assert seen_by_all() is None


def test_an_owner_whose_handler_ended_may_await_later(system: System) -> None:
    gate = Event()
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(gate.wait))
    assert is_alive(task.ref)
    gate.set()
    assert do(owner, lambda server: task.await_()) is True


def test_a_caller_that_gives_up_its_call_does_not_stop_the_tasks_of_the_server(system: System) -> None:
    gate = Event()
    owner = Puppet.start(system=system)
    seen_result: list[Any] = []
    failure_of(do, owner, lambda server: seen_result.append(Task.async_(gate.wait).await_()), 0.001)
    gate.set()
    until(lambda: seen_result == [True])


def test_unlinked_it_lives_on_without_its_owner(system: System) -> None:
    owner = Puppet.start(system=system)
    gate = Event()
    task = do(owner, lambda server: Task.async_(gate.wait))
    do(owner, lambda server: server.unlink(task.ref))
    kill(owner)
    assert is_alive(task.ref)
    gate.set()
    until(lambda: not is_alive(task.ref))


def test_linked_by_others_it_takes_them_along(system: System) -> None:
    other = Puppet.start(system=system)
    task = Task.async_(forever, system=system)
    do(other, lambda server: link(task.ref))  # type: ignore[arg-type]
    exit_signal(task.ref, "out")  # type: ignore[arg-type]
    assert not is_alive(other)
    assert task.yield_() == Exited("out")


def test_an_owner_that_links_again_is_told_once(system: System) -> None:
    owner = Trapper.start(system=system)
    task = do(owner, lambda server: Task.async_(forever))
    do(owner, lambda server: server.link(task.ref))
    exit_signal(task.ref, "out")
    assert call(owner, seen) == [Exit(task.ref, "out")]
    assert statistics(owner).links == 0


def test_messages_to_a_task_are_nobodys_and_calls_fail_when_it_ends(system: System) -> None:
    gate = Event()
    task = Task.async_(gate.wait, system=system)
    assert task.ref is not None
    cast(task.ref, "cast")
    send(task.ref, "sent")
    outcome: list[Any] = []
    asks = [gevent.spawn(lambda: outcome.append(failure_of(call, task.ref, "asked", None))) for _ in range(2)]
    gevent.sleep(0)
    gate.set()
    gevent.joinall(asks)
    assert task.await_() is True
    assert [type(one) for one in outcome] == [ServerExited, ServerExited]
    assert isinstance(failure_of(call, task.ref, "asked"), NoProcess)


def test_the_state_of_a_task_is_what_it_runs_and_for_whom(system: System) -> None:
    owner = Puppet.start(system=system)
    task = do(owner, lambda server: Task.async_(double, 4))
    assert get_state(task.ref) == {"function": "double", "arguments": "(4,)", "owner": repr(owner)}
    assert get_state(Task.start(forever, system=system))["owner"] == "None"
    refused = failure_of(change_code, task.ref, Puppet)
    assert isinstance(refused, SpecError)
    assert refused.field == "ref"


def test_monitoring_a_task(system: System) -> None:
    task = Task.async_(double, 1, system=system)
    watch = monitor(task.ref)  # type: ignore[arg-type]
    task.await_()
    assert watch.wait(5).reason == "normal"  # type: ignore[union-attr]
    assert monitor(task.ref).wait(5).reason == "noproc"  # type: ignore[union-attr, arg-type]


def test_a_task_can_hold_a_name(system: System) -> None:
    gate = Event()
    task = Task.async_(gate.wait, system=system)
    system.register("worker", task.ref)  # type: ignore[arg-type]
    with pytest.raises(NameTaken):
        Puppet.start(name="worker", system=system)
    gate.set()
    task.await_()
    assert system.whereis("worker") is None


# ---- waiting for one another -----------------------------------------------------------------------------------------


def test_a_task_that_calls_the_actor_that_awaits_it_is_told(system: System) -> None:
    owner = Trapper.start(system=system)
    failed = do(owner, lambda server: failure_of(Task.async_(lambda: call(server.ref, "asked")).await_))
    assert isinstance(failed.reason, CallCycle)
    assert [ref._process.label() for ref in failed.reason.chain][1:2] == ["Trapper"]


def test_an_actor_that_awaits_a_task_that_calls_it_is_told(system: System) -> None:
    owner = Puppet.start(system=system)

    def await_late(server: Any) -> Any:
        task = Task.async_(lambda: call(server.ref, "asked"))
        gevent.sleep(0.001)
        failed = failure_of(task.await_)
        assert isinstance(failed, CallCycle)
        server.task = task
        return task

    do(owner, await_late)
    assert do(owner, lambda server: server.task.await_()) == "asked"


def test_one_of_many_that_calls_the_actor_that_awaits_them_is_told(system: System) -> None:
    owner = Trapper.start(system=system)

    def await_them(server: Any) -> Any:
        tasks = [Task.async_(gevent.sleep, 5), Task.async_(lambda: call(server.ref, "asked"))]
        return failure_of(Task.await_many, tasks)

    failed = do(owner, await_them)
    assert isinstance(failed.reason, CallCycle)


def test_the_edge_of_an_await_can_be_seen(system: System) -> None:
    owner = Puppet.start(system=system)
    tasks: list[Task] = []

    def await_it(server: Any) -> None:
        tasks.append(Task.async_(forever))
        tasks[0].await_(None)

    cast(owner, await_it)
    until(lambda: tasks and statistics(owner).waits_for == tasks[0].ref)


# ---- start, start_link, below a supervisor ---------------------------------------------------------------------------


def test_start_runs_it_on_its_own(system: System) -> None:
    owner, gate = Puppet.start(system=system), Event()
    ref = do(owner, lambda server: Task.start(gate.wait))
    assert statistics(owner).links == 0
    kill(owner)
    assert is_alive(ref)
    gate.set()
    until(lambda: not is_alive(ref))


def test_start_of_one_that_crashes_harms_nobody(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", logger="packetflow.otp")
    owner = Puppet.start(system=system)
    ref = do(owner, lambda server: Task.start(boom))
    until(lambda: not is_alive(ref))
    assert is_alive(owner)
    (record,) = caplog.records
    assert "boom" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], ValueError)


def test_start_link_links(system: System) -> None:
    owner = Puppet.start(system=system)
    ref = do(owner, lambda server: Task.start_link(forever))
    assert statistics(owner).links == 1
    exit_signal(ref, "out")
    assert not is_alive(owner)
    other = Puppet.start(system=system)
    ref = do(other, lambda server: Task.start_link(forever))
    kill(other)
    assert not is_alive(ref)


def test_start_link_ends_without_a_trace(system: System) -> None:
    owner = Trapper.start(system=system)
    ref = do(owner, lambda server: Task.start_link(double, 1))
    until(lambda: call(owner, seen))
    assert call(owner, seen) == [Exit(ref, "normal")]
    assert statistics(owner).links == 0


def test_the_child_spec_of_a_task() -> None:
    spec = Task.child(double, 1)
    assert (spec.id, spec.restart, spec.shutdown, spec.type) == ("double", "temporary", 5.0, "worker")
    other = Task.child(double, 1, id="mine", restart="permanent", shutdown="infinity")
    assert (other.id, other.restart, other.shutdown) == ("mine", "permanent", "infinity")
    with pytest.raises(SpecError, match="restart"):
        Task.child(double, restart="sometimes")  # type: ignore[arg-type]


def test_a_task_below_a_supervisor(system: System) -> None:
    ran: list[int] = []
    supervisor = Supervisor.start([Task.child(ran.append, 1), Task.child(forever)], system=system)
    until(lambda: ran == [1])
    until(lambda: [child.id for child in Supervisor.which_children(supervisor)] == ["forever"])
    assert [branch.id for branch in tree(supervisor).children] == ["forever"]
    stop(supervisor)
    assert system.processes() == []


@pytest.mark.parametrize(("restart", "runs"), [("temporary", 1), ("transient", 3), ("permanent", 4)])
def test_restarts_of_a_task_below_a_supervisor(system: System, restart: Any, runs: int) -> None:
    ran: list[int] = []

    def work() -> None:
        ran.append(1)
        if len(ran) < 3:
            raise ValueError("not yet")
        if len(ran) > 3:
            forever()

    supervisor = Supervisor.start([Task.child(work, restart=restart)], system=system)
    until(lambda: len(ran) >= runs)
    gevent.sleep(0)
    Supervisor.count_children(supervisor)
    assert len(ran) == runs


def test_a_supervisor_waits_for_the_cleanup_of_a_task_before_it_stops_the_one_before(system: System) -> None:
    order: list[str] = []

    class Store(GenServer):
        def handle_call(self, request: str, caller: Any) -> None:
            order.append(request)

        def terminate(self, reason: object) -> None:
            order.append("store ends")

    def work() -> None:
        try:
            forever()
        finally:
            system.call("store", "last words")

    supervisor = Supervisor.start([ChildSpec(Store, name="store"), Task.child(work)], system=system)
    gevent.sleep(0)
    stop(supervisor)
    assert order == ["last words", "store ends"]


@pytest.mark.parametrize("shutdown", [0.002, "brutal_kill"])
def test_a_supervisor_kills_a_task_that_does_not_end(system: System, shutdown: Any) -> None:
    gate = Event()

    def stubborn() -> None:
        while not gate.is_set():
            try:
                gate.wait()
            except greenlet.GreenletExit:
                continue

    supervisor = Supervisor.start([Task.child(stubborn, shutdown=shutdown)], system=system)
    gevent.sleep(0)
    stop(supervisor)
    assert system.processes() == []
    gate.set()


# ---- nothing is left -------------------------------------------------------------------------------------------------


def test_a_finished_task_keeps_nothing_of_its_run(system: System) -> None:
    class Big:
        pass

    def work(big: Big) -> None: ...

    big = Big()
    alive = weakref.ref(big)
    task = Task.async_(work, big, system=system)
    ref = task.ref
    task.await_()
    del big, task
    gc.collect()
    assert alive() is None
    assert repr(ref).startswith("<work ")


def test_tasks_leave_no_process_link_timer_or_wait(system: System, as_owner: Run) -> None:
    def owner() -> None:
        for number in range(200):
            Task.async_(double, number, system=system).await_()
            Task.async_(gevent.sleep, 0, system=system).await_()
        slow = Task.async_(forever, system=system)
        for _ in range(100):
            slow.yield_(0.001) if _ % 50 == 0 else slow.yield_(0)
        slow.shutdown()

    as_owner(owner)
    assert [ref for ref in system.processes() if ref._process.label() != "Trapper"] == []
    until(lambda: not system.scheduler.run_queue)
    gevent.sleep(0.01)
    assert system.scheduler.timeouts.waiting() == []


def test_a_task_waits_for_what_it_monitors(system: System) -> None:
    watched = Puppet.start(system=system)

    def watches() -> Any:
        watch = monitor(watched)
        assert watch.wait(0.001) is None
        stop(watched)
        return watch.wait(5), monitor(watched).wait(5)

    first, second = Task.async_(watches, system=system).await_()
    assert (first.reason, second.reason) == ("normal", "noproc")


def test_a_dead_task_monitors_nobody(system: System) -> None:
    watched = Puppet.start(system=system)
    task = Task.async_(lambda: monitor(watched).wait(), system=system)
    until(lambda: statistics(watched).monitors == 1)
    task.shutdown()
    assert statistics(watched).monitors == 0
