"""Operating-system processes under supervision, each test with real ones."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    Backoff,
    DynamicSupervisor,
    ServerExited,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    WorkerFailed,
    WorkerProcess,
    WorkerSpec,
    WorkerSupervisor,
    call,
    cast,
    monitor,
    send,
    stop,
    worker_info,
)
from tests.otp.actors import failure_of, until
from tests.otp.workers.starting import (
    PROGRAMS,
    child,
    children_of_this_process,
    end_of,
    is_there,
    owed,
    pid_of,
    single,
    spec,
    start,
)

# ---- what it is ---------------------------------------------------------------------------------------------------------


def test_start_returns_when_the_process_is_ready_and_calls_reach_it(system: System) -> None:
    worker = single(system, "serve", "a", {"b": 2}, id="till")
    assert call(worker, ("pid",)) == pid_of(worker) != os.getpid()
    assert call(worker, ("given",)) == ("a", {"b": 2})
    info = worker_info(worker)
    assert (info.id, info.status, info.blocked, info.silent) == ("till", "running", 0.0, 0.0)


def test_casts_and_sends_reach_it_in_order(system: System) -> None:
    worker = single(system, "serve")
    for number in range(50):
        cast(worker, number)
        send(worker, number)
    told = [(kind, number) for number in range(50) for kind in ("cast", "send")]
    assert call(worker, ("told",)) == told


def test_large_messages_pass_both_ways(system: System) -> None:
    worker = single(system, "serve")
    value = os.urandom(8 << 20)
    assert call(worker, ("echo", value), timeout=30) == value


def test_many_calls_are_under_way_at_once(system: System) -> None:
    worker = single(system, "asks", answers=lambda id, request: gevent.sleep(0.05) or request)
    calling = [gevent.spawn(call, worker, (5, number)) for number in range(100)]
    gevent.joinall(calling)
    assert [one.value for one in calling] == list(range(100))


def test_it_is_a_fresh_interpreter_and_gets_no_descriptor_of_the_parent(system: System) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        mine = os.readlink(f"/proc/self/fd/{writing}")
        worker = single(system, "serve")
        assert mine not in call(worker, ("files",))
        assert os.readlink("/proc/self/fd/1") in call(worker, ("files",))
    finally:
        os.close(reading)
        os.close(writing)
    assert not {"pytest", "tests.otp.actors"} & set(call(worker, ("modules",)))


def test_workers_start_side_by_side_and_drain_together(system: System, tmp_path: Path) -> None:
    """Each is ready only when both have begun, and ends only when both were asked to: one by one would never end."""
    folder = str(tmp_path)
    supervisor = start(
        system,
        spec("meets", folder, ["b"], id="a", start_timeout=20.0, shutdown=20.0),
        spec("meets", folder, ["a"], id="b", start_timeout=20.0, shutdown=20.0),
    )
    ends = [monitor(one.ref) for one in Supervisor.which_children(supervisor) if one.ref is not None]
    stop(supervisor)
    assert [down.reason for end in ends if (down := end.wait(1)) is not None] == ["shutdown", "shutdown"]
    assert {path.name for path in tmp_path.iterdir()} == {"begun-a", "begun-b", "ends-a", "ends-b"}


def test_workers_ask_the_parent_while_they_start_whoever_comes_first(system: System) -> None:
    """The parent lets nobody go on before both have asked."""
    asked: set[str] = set()

    def answers(id: str, request: str) -> None:
        asked.add(id)
        until(lambda: asked == {"a", "b"})

    start(
        system,
        spec("asks_before_it_is_ready", id="a", answers=answers),
        spec("asks_before_it_is_ready", id="b", answers=answers),
    )


# ---- what is wrong is told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "arguments", "options"),
    [
        ("target", ("no colon",), {}),
        ("target", ("a:b c",), {}),
        ("arguments", ("a:b", lambda: None), {}),
        ("drain_request", ("a:b",), {"drain_request": [lambda: None]}),
        ("id", ("a:b",), {"id": ""}),
        ("heartbeat", ("a:b",), {"heartbeat": 0}),
        ("unresponsive_after", ("a:b",), {"unresponsive_after": True}),
        ("answers", ("a:b",), {"answers": 7}),
        ("restart", ("a:b",), {"restart": "always"}),
        ("shutdown", ("a:b",), {"shutdown": -1}),
    ],
)
def test_a_wrong_specification_names_the_field(
    field: str, arguments: tuple[Any, ...], options: dict[str, Any]
) -> None:
    error = failure_of(WorkerProcess.child, *arguments, **options)
    assert isinstance(error, SpecError)
    assert error.field == field


@pytest.mark.parametrize(
    ("target", "kind", "words"),
    [
        ("no_such_module_anywhere:main", "ModuleNotFoundError", "no_such_module_anywhere"),
        (f"{PROGRAMS}:nobody", "AttributeError", "nobody"),
        (f"{PROGRAMS}:__name__", "TypeError", "no function"),
        (f"{PROGRAMS}:raises", "LookupError", "nothing there"),
    ],
)
def test_what_keeps_a_worker_from_starting_is_the_reason(
    target: str, kind: str, words: str, system: System
) -> None:
    error = failure_of(WorkerProcess.start, WorkerSpec(target), system=system)
    assert isinstance(error, StartFailed)
    assert isinstance(error.reason, WorkerFailed)
    assert error.reason.kind == kind
    assert words in str(error)
    assert "Traceback" in error.reason.traceback


@pytest.mark.parametrize("status", [0, 3])
def test_a_worker_that_ends_before_it_is_ready_has_not_started(status: int, system: System) -> None:
    error = failure_of(WorkerProcess.start, WorkerSpec(f"{PROGRAMS}:leaves", status), system=system)
    assert isinstance(error, StartFailed)
    assert error.reason == ("exit_status", status)


def test_a_worker_that_does_not_become_ready_in_time_is_killed(system: System) -> None:
    error = failure_of(start, system, spec("never_ready", start_timeout=0.5))
    assert isinstance(error, StartFailed)
    assert error.reason == "timeout"
    until(lambda: not children_of_this_process())


def test_the_others_are_ended_where_one_does_not_start(system: System) -> None:
    error = failure_of(start, system, spec("serve", id="a"), spec("raises", id="b"), spec("serve", id="c"))
    assert isinstance(error, StartFailed)
    assert error.path == ("b",)
    until(lambda: not children_of_this_process())


def test_a_starter_that_is_killed_leaves_no_process(system: System) -> None:
    starting = gevent.spawn(start, system, spec("never_ready", start_timeout=None))
    until(children_of_this_process)
    starting.kill()
    until(lambda: not children_of_this_process())


# ---- how it ends --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"), [(0, "normal"), (3, ("exit_status", 3))], ids=["normal", "status"]
)
def test_the_exit_status_is_the_reason(status: int, reason: object, system: System) -> None:
    worker = single(system, "leaves_when_told")
    pid = pid_of(worker)
    cast(worker, status)
    assert end_of(worker) == reason
    assert not is_there(pid), "it was not reaped"


def test_a_signal_is_the_reason_and_who_waits_learns_of_it_at_once(system: System) -> None:
    worker = single(system, "serve")
    calling = gevent.spawn(failure_of, call, worker, ("sleep", 600), timeout=None)
    until(lambda: owed(worker) == 1)
    os.kill(pid_of(worker), signal.SIGKILL)
    error = calling.get(timeout=10)
    assert isinstance(error, ServerExited)
    assert error.reason == ("signal", "SIGKILL")


def test_what_main_raises_is_the_reason(system: System) -> None:
    supervisor = start(system, spec("serve", restart="temporary"))
    worker = child(supervisor)
    assert worker is not None
    end = monitor(worker)
    refused = failure_of(call, worker, ("crash",))
    assert isinstance(refused, WorkerFailed | ServerExited)
    down = end.wait(10)
    assert down is not None
    assert isinstance(down.reason, WorkerFailed)
    assert down.reason.kind == "ServerExited"
    assert "no oil" in str(down.reason)


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("way", ["normal", "status", "kill -9"])
def test_it_is_restarted_by_the_ordinary_rules(restart: Any, way: str, system: System) -> None:
    supervisor = start(system, spec("leaves_when_told", restart=restart))
    before = child(supervisor)
    assert before is not None
    pid, end = pid_of(before), monitor(before)
    if way == "kill -9":
        os.kill(pid, signal.SIGKILL)
    else:
        cast(before, 0 if way == "normal" else 1)
    assert end.wait(10) is not None
    if restart == "permanent" or (restart == "transient" and way != "normal"):
        until(lambda: WorkerSupervisor.workers(supervisor)["w"])
        after = child(supervisor)
        assert after is not None
        assert pid_of(after) != pid
    else:
        children = Supervisor.which_children(supervisor)
        assert [one.ref for one in children] == ([] if restart == "temporary" else [None])
    assert not is_there(pid)


def test_too_many_restarts_end_the_supervisor_and_every_process(system: System) -> None:
    supervisor = start(system, spec("serve", id="a"), spec("serve", id="b"), max_restarts=2, max_seconds=60)
    end = monitor(supervisor)
    for _ in range(3):
        info = until(lambda: supervisor in system.processes() and WorkerSupervisor.workers(supervisor)["a"])
        os.kill(info.pid, signal.SIGKILL)
        until(lambda pid=info.pid: not is_there(pid))
    down = end.wait(10)
    assert down is not None
    assert down.reason == "shutdown"
    until(lambda: not children_of_this_process())


def test_a_backoff_delays_the_restart_and_shows(system: System) -> None:
    supervisor = start(system, spec("serve", backoff=Backoff(delay=60, jitter=0)))
    worker = child(supervisor)
    assert worker is not None
    os.kill(pid_of(worker), signal.SIGKILL)
    until(lambda: Supervisor.which_children(supervisor)[0].status == "backoff")
    assert WorkerSupervisor.workers(supervisor) == {"w": None}


def test_it_goes_under_any_supervisor(system: System) -> None:
    supervisor = DynamicSupervisor.start(system=system)
    worker = DynamicSupervisor.start_child(supervisor, spec("serve"))
    assert worker is not None
    first = pid_of(worker)
    os.kill(first, signal.SIGKILL)
    until(
        lambda: [info for info in WorkerSupervisor.workers(supervisor).values() if info and info.pid != first]
    )
