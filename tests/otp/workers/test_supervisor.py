"""Operating-system processes under supervision, each test with real ones."""

from __future__ import annotations

import logging
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    Backoff,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisor,
    PacketFlowError,
    Ref,
    ServerExited,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    WorkerFailed,
    WorkerInfo,
    WorkerProcess,
    WorkerSpec,
    WorkerSupervisor,
    call,
    cast,
    kill,
    monitor,
    send,
    stop,
    worker_info,
)
from tests.otp.actors import Puppet, failure_of, until

ROOT = str(Path(__file__).resolve().parents[3])
PROGRAMS = "tests.otp.workers.programs"
QUICK = 0.05  # seconds between two heartbeats where a test waits for them


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", ROOT)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(system: System) -> Iterator[None]:
    gevent.get_hub().threadpool  # noqa: B018 - it keeps descriptors of its own
    before = len(os.listdir("/proc/self/fd"))
    yield
    system.shutdown(timeout=5.0)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


def spec(program: str, *arguments: Any, id: str = "w", **options: Any) -> ChildSpec:
    return WorkerProcess.child(f"{PROGRAMS}:{program}", *arguments, id=id, **options)


def start(system: System, *specs: ChildSpec, **options: Any) -> Ref:
    return WorkerSupervisor.start(list(specs), system=system, **options)


def single(system: System, program: str, *arguments: Any, **options: Any) -> Ref:
    ref = WorkerProcess.start(WorkerSpec(f"{PROGRAMS}:{program}", *arguments, **options), system=system)
    assert ref is not None
    return ref


def child(supervisor: Ref, id: str = "w") -> Ref | None:
    return next(one.ref for one in Supervisor.which_children(supervisor) if one.id == id)


def is_there(pid: int) -> bool:
    """Also as a zombie."""
    return Path(f"/proc/{pid}").exists()


def pid_of(ref: Ref) -> int:
    return worker_info(ref).pid


def end_of(ref: Ref) -> object:
    """What it died of, as soon as it did."""
    down = monitor(ref).wait(10)
    assert isinstance(down, Down)
    return down.reason


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


STRANGERS: set[str] = set()


@pytest.fixture(autouse=True)
def _strangers() -> None:
    """Children of this process that were there before the test began are no concern of it."""
    STRANGERS.clear()
    STRANGERS.update(children_of_this_process())


def children_of_this_process() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if pid not in STRANGERS and is_there(int(pid))]


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


def owed(ref: Ref) -> int:
    bonds = ref._process.bonds
    return 0 if bonds is None else len(bonds.owed)


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


# ---- how it is doing ------------------------------------------------------------------------------------------------------


def test_a_blocked_hub_is_told_from_a_dead_one_and_nothing_is_lost(system: System) -> None:
    supervisor = start(system, spec("serve", heartbeat=QUICK))
    worker = child(supervisor)
    assert worker is not None
    pid = pid_of(worker)
    calling = gevent.spawn(call, worker, ("block", 1.0), timeout=None)
    info = until(lambda: is_status(worker, "blocked"))
    assert info.blocked > 2 * QUICK
    assert calling.get(timeout=10) == "blocked"
    until(lambda: is_status(worker, "running"))
    assert pid_of(worker) == pid


def is_status(ref: Ref, status: str) -> WorkerInfo | None:
    info = worker_info(ref)
    return info if info.status == status else None


def test_a_stopped_process_is_silent_until_it_goes_on(system: System) -> None:
    worker = single(system, "serve", heartbeat=QUICK)
    os.kill(pid_of(worker), signal.SIGSTOP)
    info = until(lambda: is_status(worker, "silent"))
    assert info.silent > 2 * QUICK
    assert isinstance(failure_of(call, worker, ("pid",), timeout=0.05), CallTimeout)
    os.kill(pid_of(worker), signal.SIGCONT)
    until(lambda: is_status(worker, "running"))
    assert call(worker, ("pid",)) == pid_of(worker)


def test_a_parent_that_was_blocked_itself_blames_no_worker(system: System) -> None:
    import time

    worker = single(system, "serve", heartbeat=QUICK, unresponsive_after=QUICK * 4)
    pid = pid_of(worker)
    time.sleep(QUICK * 20)
    assert worker_info(worker).status == "running"
    assert call(worker, ("pid",)) == pid
    assert worker_info(worker).status == "running"


def test_one_that_must_not_be_unresponsive_is_killed_and_restarted(system: System) -> None:
    supervisor = start(system, spec("serve", heartbeat=QUICK, unresponsive_after=0.3))
    worker = child(supervisor)
    assert worker is not None
    error = failure_of(call, worker, ("block", 600), timeout=None)
    assert isinstance(error, ServerExited)
    assert isinstance(error.reason, tuple)
    assert error.reason[0] == "unresponsive"
    until(lambda: WorkerSupervisor.workers(supervisor)["w"])


def test_metrics_of_all_are_merged_and_who_gives_none_is_named(system: System) -> None:
    supervisor = start(
        system, spec("counts", 3, 10, id="a"), spec("counts", 4, 7, id="b"), spec("counts", 5, 99, id="c")
    )
    assert WorkerSupervisor.metrics(supervisor, largest=["peak"], timeout=10) == (
        {"served": 12, "peak": 99},
        (),
    )
    blocked = child(supervisor, "c")
    assert blocked is not None
    gevent.spawn(call, blocked, 1.0, timeout=None)
    until(lambda: owed(blocked) == 1)
    assert WorkerSupervisor.metrics(supervisor, largest=["peak"], timeout=0.3) == (
        {"served": 7, "peak": 10},
        ("c",),
    )


def test_all_are_called_at_once_and_each_ones_outcome_is_told(system: System) -> None:
    supervisor = start(system, spec("serve", id="a", shutdown=0.1), spec("serve", id="b", shutdown=0.1))
    told = WorkerSupervisor.call_all(supervisor, ("echo", 7))
    assert told == {"a": 7, "b": 7}
    told = WorkerSupervisor.call_all(supervisor, ("sleep", 600), timeout=0.1)
    assert [type(one) for one in told.values()] == [CallTimeout, CallTimeout]


# ---- the log ------------------------------------------------------------------------------------------------------------


def test_its_log_records_come_to_this_process_with_its_id(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    worker = single(system, "logs", id="till")
    records = until(lambda: len(found := records_of("shop.till", caplog)) == 3 and found)
    assert [record.getMessage() for record in records] == [
        "opened <class 'object'>",
        "stuck",
        "from a thread",
    ]
    assert {record.worker for record in records} == {"till"}  # type: ignore[attr-defined]
    assert {record.process for record in records} == {pid_of(worker)}
    assert "ValueError: no change" in str(records[1].exc_text)


def records_of(logger: str, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == logger]


def test_where_nobody_takes_its_records_they_are_counted_and_dropped(
    system: System, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Given a parent whose hub is blocked, when a worker logs without end, then it goes on, and every record is accounted for."""
    caplog.set_level(logging.WARNING, logger="packetflow.otp")
    caplog.set_level(logging.INFO)
    done = tmp_path / "done"
    worker = single(system, "floods", 8_000, str(done))
    deadline = system.clock.monotonic() + 20
    while not done.exists():  # nothing else runs in this process meanwhile
        assert system.clock.monotonic() < deadline
    stop(worker)
    flood = [record.getMessage() for record in records_of("flood", caplog)]
    dropped = sum(record.args[0] for record in caplog.records if "were dropped" in record.msg)  # type: ignore[index, misc]
    assert flood[0] == "record 0"
    assert dropped > 0
    assert len(flood) + dropped == 8_001


# ---- asking the parent ----------------------------------------------------------------------------------------------------


def test_it_asks_a_function_of_the_parent(system: System) -> None:
    worker = single(system, "asks", id="till", answers=lambda id, request: (id, request, os.getpid()))
    assert call(worker, (5, "price")) == ("till", "price", os.getpid())


def test_it_asks_an_actor_of_the_parent_by_name(system: System) -> None:
    Puppet.start(name="prices", system=system)
    worker = single(system, "asks", answers="prices")
    assert call(worker, (5, {"apple": 3})) == {"apple": 3}
    assert isinstance(failure_of(call, single(system, "asks", answers="nobody"), (5, 1)), WorkerFailed)


def test_what_the_parent_raises_is_raised_there_and_a_late_answer_is_dropped(system: System) -> None:
    asked = []

    def answers(id: str, request: Any) -> Any:
        asked.append(request)
        if request == "slow":
            gevent.sleep(0.2)
            return "too late"
        raise ZeroDivisionError(request)

    worker = single(system, "asks", answers=answers)
    with pytest.raises(ZeroDivisionError, match="odd"):
        call(worker, (5, "odd"))
    refused = failure_of(call, worker, (0.05, "slow"))
    assert "did not answer within 0.05 s" in str(refused)
    until(lambda: asked == ["odd", "slow"])


def test_what_a_cast_fails_of_is_logged_on_the_side_where_it_failed(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")

    def answers(id: str, request: Any) -> None:
        raise KeyError(request)

    worker = single(system, "asks", id="till", answers=answers)
    cast(worker, "unknown article")
    send(worker, "nobody takes this")
    until(lambda: {record.getMessage() for record in records_of("packetflow.otp", caplog)} == {
        "worker till: what it cast failed here", "worker till: what the parent told it failed here",
    })  # fmt: skip
    here = {record.getMessage()[13:]: record.process for record in records_of("packetflow.otp", caplog)}
    assert here == {
        "what it cast failed here": os.getpid(),
        "what the parent told it failed here": pid_of(worker),
    }


def test_without_answers_it_is_told_so(system: System) -> None:
    with pytest.raises(NotImplementedError, match="nobody answers worker"):
        call(single(system, "asks"), (5, "price"))


def test_what_can_not_be_pickled_is_the_callers_fault_and_the_worker_lives_on(system: System) -> None:
    worker = single(system, "serve")
    with pytest.raises(Exception, match="pickle"):
        call(worker, ("echo", lambda: None))
    with pytest.raises(Exception, match="pickle"):
        call(worker, ("unpicklable",))
    assert call(worker, ("echo", 1)) == 1


def test_a_class_that_only_one_side_has_is_refused_by_name(system: System) -> None:
    worker = single(system, "serve")
    local = type("Local", (), {"__module__": "no_such_module_there", "__qualname__": "Local"})
    sys.modules["no_such_module_there"] = type(sys)("no_such_module_there")
    sys.modules["no_such_module_there"].Local = local  # type: ignore[attr-defined]
    try:
        refused = failure_of(call, worker, ("echo", local()))
    finally:
        del sys.modules["no_such_module_there"]
    assert "no_such_module_there" in str(refused)
    assert call(worker, ("echo", 1)) == 1
