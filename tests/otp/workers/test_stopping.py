"""Worker processes are drained, ended and killed, and end with their parent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallTimeout,
    PacketFlowError,
    Supervisor,
    System,
    WorkerSupervisor,
    call,
    kill,
    monitor,
    stop,
    worker_info,
)
from tests.otp.actors import failure_of, until
from tests.otp.workers.starting import (
    ROOT,
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

# ---- stopping -----------------------------------------------------------------------------------------------------------


def test_a_stop_drains_what_is_in_flight_is_answered(system: System) -> None:
    supervisor = start(system, spec("serve"))
    worker = child(supervisor)
    assert worker is not None
    pid = pid_of(worker)
    calling = [gevent.spawn(call, worker, ("sleep", 0.3)), gevent.spawn(call, worker, ("echo", 7))]
    until(lambda: owed(worker) == 2)
    stop(supervisor)
    assert [one.get(timeout=1) for one in calling] == ["slept", 7]
    assert not is_there(pid)


def test_sigterm_to_a_worker_drains_it_and_it_is_restarted(system: System) -> None:
    supervisor = start(system, spec("serve"))
    worker = child(supervisor)
    assert worker is not None
    end = monitor(worker)
    calling = gevent.spawn(call, worker, ("sleep", 0.3))
    until(lambda: owed(worker) == 1)
    os.kill(pid_of(worker), signal.SIGTERM)
    assert calling.get(timeout=10) == "slept"
    down = end.wait(10)
    assert down is not None
    assert down.reason == "normal"
    assert until(lambda: WorkerSupervisor.workers(supervisor)["w"])


def test_a_worker_hears_what_it_was_given_for_its_drain(system: System) -> None:
    said: list[Any] = []
    worker = single(
        system,
        "drains",
        drain_request=lambda: {"within": 7},
        answers=lambda id, word: said.append((id, word)),
    )
    stop(worker)
    assert said == [("worker", {"within": 7})]


@pytest.mark.parametrize("shutdown", [0.2, "brutal_kill"])
def test_one_that_does_not_end_in_its_time_is_killed(shutdown: Any, system: System) -> None:
    supervisor = start(system, spec("deaf", shutdown=shutdown))
    worker = child(supervisor)
    assert worker is not None
    pid = call(worker, "pid")
    stop(supervisor, timeout=10)
    until(lambda: not is_there(pid))


def test_one_with_all_the_time_in_the_world_is_never_killed_by_its_supervisor(system: System) -> None:
    supervisor = start(system, spec("deaf", shutdown="infinity"))
    worker = child(supervisor)
    assert worker is not None
    pid = call(worker, "pid")
    assert isinstance(failure_of(stop, supervisor, timeout=0.5), CallTimeout)
    assert worker_info(worker).status == "draining"
    assert is_there(pid)
    kill(worker)
    assert end_of(supervisor) in ("normal", "noproc")
    until(lambda: not is_there(pid))


@pytest.mark.parametrize("whom", ["the worker's actor", "the supervisor"])
def test_a_kill_reaches_the_process(whom: str, system: System) -> None:
    supervisor = start(system, spec("deaf", restart="temporary"))
    worker = child(supervisor)
    assert worker is not None
    pid = pid_of(worker)
    kill(worker if whom == "the worker's actor" else supervisor)
    until(lambda: not is_there(pid))


PARENT = """
import sys
from packetflow.otp import *
if {patched}:
    from gevent import monkey
    monkey.patch_all()
import gevent
system = System("parent")
supervisor = WorkerSupervisor.start(
    [WorkerProcess.child("tests.otp.workers.programs:serve", id=id) for id in ("a", "b")], system=system
)
print(*[info.pid for info in WorkerSupervisor.workers(supervisor).values()], flush=True)
blocked = [one.ref for one in Supervisor.which_children(supervisor) if one.id == "b"][0]
gevent.spawn(call, blocked, ("block", 600), timeout=None)
gevent.sleep(0.1)
print("blocked", flush=True)
gevent.sleep(600)
"""


@pytest.mark.parametrize("patched", [False, True], ids=["unpatched", "patched"])
def test_the_parents_death_ends_its_workers_also_one_whose_hub_is_blocked(patched: bool) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(patched=patched)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert parent.stdout.readline() == b"blocked\n"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: not any(lives(pid) for pid in pids), seconds=10)


def lives(pid: int) -> bool:
    """Whether it is there and no zombie: its new parent may be slow to wait for it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


BESIDE_SUBPROCESSES = """
import gevent, os
from gevent import subprocess
subprocess.check_call(["true"])
from packetflow.otp import *
system = System("parent")
for status in (0, 3):
    worker = WorkerProcess.start(WorkerSpec("tests.otp.workers.programs:leaves_when_told"), system=system)
    end = monitor(worker)
    cast(worker, status)
    reason = end.wait(10).reason
    print(reason == "normal", reason[0] == "exit_status")
system.shutdown()
"""


def test_it_stands_beside_gevents_subprocesses_which_wait_for_every_child() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BESIDE_SUBPROCESSES], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.splitlines() == ["True False", "False True"], done.stderr


@pytest.mark.slow
def test_random_ends_leave_no_process_no_descriptor_and_no_caller_without_an_answer(system: System) -> None:
    """Given callers at work, when processes and their actors are ended at random, then each call has its one outcome."""
    rng = random.Random(4711)
    supervisor = start(
        system,
        *[spec("serve", id=id, shutdown=1.0, log_level=None) for id in ("a", "b", "c")],
        max_restarts=10_000,
        max_seconds=1.0,
    )
    outcomes: list[str] = []
    over = gevent.event.Event()

    def running() -> list[Any]:
        return [one for one in Supervisor.which_children(supervisor) if one.ref is not None]

    def calls_on() -> None:
        while not over.is_set():
            value = rng.random()
            try:
                (one,) = rng.sample(running(), 1)
                assert call(one.ref, ("echo", value), timeout=20) == value
                outcomes.append("answered")
            except (PacketFlowError, ValueError) as error:
                outcomes.append(type(error).__name__)
            gevent.sleep(rng.random() * 0.005)

    callers = [gevent.spawn(calls_on) for _ in range(8)]
    ends = 0
    while ends < 25:
        gevent.sleep(rng.random() * 0.1)
        for one in rng.sample(running(), 1) if running() else ():
            ends += 1
            info = worker_info(one.ref)
            match rng.randrange(5):
                case 0:
                    os.kill(info.pid, signal.SIGKILL)
                case 1:
                    os.kill(info.pid, signal.SIGTERM)
                case 2:
                    kill(one.ref)
                case 3:
                    os.kill(info.pid, signal.SIGSTOP)
                    gevent.sleep(0.02)
                    os.kill(info.pid, signal.SIGKILL)
                case _:
                    Supervisor.terminate_child(supervisor, one.id)
                    Supervisor.restart_child(supervisor, one.id)
    over.set()
    gevent.joinall(callers, timeout=30)
    assert all(one.successful() for one in callers)
    assert outcomes.count("answered") > 100
    assert "CallTimeout" not in outcomes, "somebody was not told that the worker had died"
    until(lambda: len(running()) == 3)
    until(lambda: len(children_of_this_process()) == 3)
