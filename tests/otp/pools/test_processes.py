"""offload to processes: fresh interpreters, one piece of work at a time each, killed when the caller gives up."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    ChildSpec,
    OffloadFailed,
    OffloadTimeout,
    PoolClosed,
    PoolFull,
    PoolServer,
    ProcessDied,
    ProcessPool,
    SpecError,
    Supervisor,
    System,
    call,
    cast,
    kill,
    offload,
)
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.pools import work

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))  # where the processes find `tests.otp.pools.work`


@pytest.fixture
def pool() -> Iterator[ProcessPool]:
    before = descriptors()
    made = ProcessPool(2, spare=0, name="the pool")
    yield made
    pids = made.processes()
    made.close()
    assert made.statistics()[1:5] == (0, 0, 0, 0)
    assert not any(alive(pid) for pid in pids)
    assert descriptors() <= before  # fewer: those of an earlier test were given back late


def descriptors() -> int:
    gevent.get_hub()
    return len(os.listdir("/proc/self/fd"))


def alive(pid: int) -> bool:
    """Whether a process is there and is more than a dead one that nobody asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_in(mark: Path) -> int:
    return int(until(lambda: mark.exists() and mark.read_text()))


# ---- results and errors ------------------------------------------------------------------------------------------------


def test_it_runs_in_another_process_and_gives_the_result(pool: ProcessPool) -> None:
    assert pool.run(work.pid) == pool.processes()[0] != os.getpid()
    assert offload(work.echo, 1, work.Point(2), pool=pool) == ((1, work.Point(2)), {})
    outer = functools.partial(functools.partial(work.echo, 1, key="a"), 2, other="b")
    assert pool.run(outer, 3) == ((1, 2, 3), {"key": "a", "other": "b"})
    assert pool.run(work.Point.origin) == work.Point(0)
    assert pool.run(work.Point.double, work.Point(4)) == work.Point(8)
    assert pool.run(len, "four") == 4


def test_a_process_is_used_again(pool: ProcessPool) -> None:
    assert len({pool.run(work.pid) for _ in range(5)}) == 1


def test_much_data_goes_both_ways_and_the_hub_turns_meanwhile(pool: ProcessPool) -> None:
    turned = gevent.spawn_later(0, lambda: "turned")
    ((back,), _) = pool.run(work.echo, b"x" * 5_000_000)
    assert len(back) == 5_000_000
    assert turned.get() == "turned"
    assert len(pool.run(work.big, 5_000_000)) == 5_000_000


def test_an_error_is_raised_here_with_the_traceback_there_as_its_cause(pool: ProcessPool) -> None:
    with pytest.raises(KeyError, match="lost") as caught:
        pool.run(work.fail, KeyError("lost"))
    told = str(caught.value.__cause__)
    assert "in fail" in told
    assert "raise error" in told
    assert "pools/child.py" not in told
    assert pool.run(len, "ok") == 2


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (work.fail_stubbornly, "Stubborn: this and that"),
        (work.fail_with_what_no_pickle_carries, "ValueError"),
        (work.unpicklable, "can't be pickled"),
        (functools.partial(work.fail, SystemExit(3)), "SystemExit: 3"),
        (functools.partial(work.fail, KeyboardInterrupt()), "KeyboardInterrupt"),
    ],
)
def test_what_can_not_be_handed_on_is_told_in_words(
    pool: ProcessPool, function: Callable[..., Any], text: str
) -> None:
    # The result's own fault is a TypeError in the process, which can be handed on.
    with pytest.raises((OffloadFailed, TypeError)) as caught:
        pool.run(function)
    assert text in str(caught.value)
    assert "Traceback" in str(caught.value.__cause__)
    assert pool.run(len, "ok") == 2  # the process lives on


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (lambda: None, "lambda"),
        (lambda: work, "lambda"),
        (work.Point(1).double, "bound method"),
        (work.Point.made, "bound method"),
        (functools.partial(lambda: None), "lambda"),
        (work.original_wrapped, "leads to something else"),
        (work.Point(3), "no module and name"),
    ],
)
def test_what_another_process_can_not_find_is_refused_when_it_is_given(
    pool: ProcessPool, function: Any, why: str
) -> None:
    refused = failure_of(pool.run, function)
    assert isinstance(refused, SpecError)
    assert why in str(refused)
    assert pool.processes() == []


def test_a_closure_is_refused(pool: ProcessPool) -> None:
    def inner() -> None: ...

    assert "made inside a function" in str(failure_of(pool.run, inner))


def test_a_function_of_the_script_itself_is_refused() -> None:
    done = program("""
        from packetflow.otp import ProcessPool, SpecError
        def mine(): ...
        pool = ProcessPool(1)
        try:
            pool.run(mine)
        except SpecError as error:
            print("move it to a module" in str(error))
    """)
    assert done.stdout.split() == ["True"], done.stderr


def test_arguments_that_can_not_be_pickled_are_refused(pool: ProcessPool) -> None:
    refused = failure_of(pool.run, work.echo, lambda: None)
    assert isinstance(refused, SpecError)
    assert refused.field == "arguments"
    assert pool.processes() == []


# ---- slots -------------------------------------------------------------------------------------------------------------


def test_no_more_than_size_work_at_once_and_the_rest_in_order(pool: ProcessPool, tmp_path: Path) -> None:
    marks = [str(tmp_path / str(number)) for number in range(5)]
    works = [gevent.spawn(pool.run, work.wait_for, mark) for mark in marks]
    until(lambda: pool.statistics().waiting == 3)
    assert pool.statistics()[:5] == (2, 2, 3, 0, 2)
    for mark in marks:
        Path(mark).touch()
    assert len({one.get() for one in works}) == 2


def test_a_full_queue_refuses_at_once_where_that_was_chosen(tmp_path: Path) -> None:
    pool = ProcessPool(1, queue=1, full="fail", spare=0)
    mark = tmp_path / "go"
    first, second = (gevent.spawn(pool.run, work.wait_for, str(mark)) for _ in range(2))
    until(lambda: pool.statistics().waiting == 1)
    assert isinstance(failure_of(pool.run, work.pid), PoolFull)
    mark.touch()
    assert first.get() == second.get()
    pool.close()


def test_a_spare_is_kept_warm_and_takes_the_place_of_one_that_was_killed() -> None:
    pool = ProcessPool(1, spare=1)
    first = pool.run(work.pid)
    (spare,) = set(pool.processes()) - {first}
    assert isinstance(failure_of(pool.run, work.hang, timeout=0.05), OffloadTimeout)
    after = pool.run(work.pid)
    assert after in (first, spare)
    assert len(pool.processes()) == 2
    pool.close()


def test_a_process_ends_after_so_much_work_where_that_was_chosen() -> None:
    pool = ProcessPool(1, spare=0, max_tasks=2)
    pids = [pool.run(work.pid) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]
    pool.close()
    assert not any(alive(pid) for pid in pids)


def test_idle_processes_end_and_come_again() -> None:
    before = descriptors()
    pool = ProcessPool(2, idle=0.05)
    pids = {pool.run(work.pid)} | set(pool.processes())
    until(lambda: pool.processes() == [] and not any(alive(pid) for pid in pids))
    assert pool.run(work.pid) not in pids
    pool.close()
    assert descriptors() <= before  # fewer: those of an earlier test were given back late


# ---- giving up, dying --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [work.hang, work.hang_in_c])
def test_a_timeout_kills_the_process(
    pool: ProcessPool, tmp_path: Path, function: Callable[..., None]
) -> None:
    mark = tmp_path / "mark"
    caller = gevent.spawn(failure_of, pool.run, function, str(mark), timeout=1.0)
    pid = pid_in(mark)
    assert isinstance(caller.get(), OffloadTimeout)
    until(lambda: not alive(pid))
    assert pool.run(work.pid) != pid


def test_who_is_killed_takes_the_work_and_all_that_it_started_along(
    pool: ProcessPool, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    caller = gevent.spawn(pool.run, work.hang_with_a_child, str(mark))
    grandchild = pid_in(mark)
    (pid,) = pool.processes()
    caller.kill()
    assert pool.statistics()[1:5] == (0, 0, 0, 0)
    until(lambda: not alive(pid) and not alive(grandchild))


def test_a_killed_actor_takes_its_process_along(system: System, pool: ProcessPool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    ref = Puppet.start(system=system)
    cast(ref, lambda server: offload(work.hang, str(mark), pool=pool))
    pid = pid_in(mark)
    kill(ref)
    until(lambda: not alive(pid))


def test_who_gives_up_in_the_line_starts_nothing(pool: ProcessPool, tmp_path: Path) -> None:
    mark = tmp_path / "go"
    first, second = (gevent.spawn(pool.run, work.wait_for, str(mark)) for _ in range(2))
    until(lambda: pool.statistics().running == 2)
    failed = failure_of(pool.run, work.say, str(tmp_path / "never"), timeout=0.01)
    assert isinstance(failed, OffloadTimeout)
    mark.touch()
    gevent.joinall([first, second], raise_error=True)
    assert pool.run(work.pid)
    assert not (tmp_path / "never").exists()


def test_who_gives_up_in_the_moment_it_gets_its_slot_leaves_it_to_the_next(
    pool: ProcessPool, tmp_path: Path
) -> None:
    mark = tmp_path / "go"
    works = [gevent.spawn(pool.run, work.wait_for, str(mark)) for _ in range(2)]
    waits = gevent.spawn(pool.run, work.pid)
    until(lambda: pool.statistics().waiting == 1)
    task = pool._line[0]
    mark.touch()
    until(lambda: task.begun)
    waits.kill()
    gevent.joinall(works, raise_error=True)
    assert pool.statistics()[1:3] == (0, 0)
    assert pool.run(work.pid)


@pytest.mark.parametrize(
    ("function", "arguments", "status"),
    [
        (os._exit, (3,), 3),
        (signal.raise_signal, (signal.SIGKILL,), -signal.SIGKILL),
        (signal.raise_signal, (signal.SIGSEGV,), -signal.SIGSEGV),
    ],
)
def test_a_process_that_dies_is_told_and_replaced(
    pool: ProcessPool, function: Callable[..., Any], arguments: tuple[Any, ...], status: int
) -> None:
    before = pool.run(work.pid)
    failed = failure_of(pool.run, function, *arguments)
    assert isinstance(failed, ProcessDied)
    assert failed.status == status
    assert str(abs(status)) in str(failed)
    assert pool.run(work.pid) != before


def test_a_child_of_the_work_that_lives_on_does_not_hide_the_death(pool: ProcessPool, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    try:
        failed = failure_of(pool.run, work.fork_and_die, str(mark), timeout=10.0)
    finally:
        os.kill(pid_in(mark), signal.SIGKILL)
    assert isinstance(failed, ProcessDied)
    assert failed.status == 3


def test_a_process_that_closes_its_channel_is_ended(pool: ProcessPool) -> None:
    failed = failure_of(pool.run, work.close_channel)
    assert isinstance(failed, ProcessDied)
    assert pool.run(work.pid)


def test_an_idle_process_that_dies_is_found_out_and_not_used(pool: ProcessPool) -> None:
    pid = pool.run(work.pid)
    os.kill(pid, signal.SIGKILL)
    until(lambda: pool.processes() == [])
    assert pool.run(work.pid) != pid


def test_a_process_that_died_in_this_very_moment_is_not_given_work(pool: ProcessPool) -> None:
    pid = pool.run(work.pid)
    os.kill(pid, signal.SIGKILL)  # and the hub does not turn before the next line
    end = time.monotonic() + 5
    while alive(pid) and time.monotonic() < end:
        pass
    assert pool.run(work.pid) != pid


def test_an_interpreter_that_can_not_be_started_is_told(
    pool: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    failed = failure_of(pool.run, work.pid)
    assert isinstance(failed, OffloadFailed)
    assert "no process can be started" in str(failed)
    assert pool.statistics().running == 0


# ---- the end of a pool -------------------------------------------------------------------------------------------------


def test_close_kills_what_runs_too_long_and_refuses_what_waits(tmp_path: Path) -> None:
    before = descriptors()
    pool = ProcessPool(1)
    mark = tmp_path / "mark"
    runs = gevent.spawn(failure_of, pool.run, work.hang, str(mark))
    waits = gevent.spawn(failure_of, pool.run, work.pid)
    pid_in(mark)
    pids = pool.processes()
    pool.close(timeout=0.05)
    assert not any(alive(pid) for pid in pids)
    assert descriptors() <= before  # fewer: those of an earlier test were given back late
    assert isinstance(runs.get(), PoolClosed)
    assert isinstance(waits.get(), PoolClosed)
    assert isinstance(failure_of(pool.run, work.pid), PoolClosed)


def test_close_lets_what_runs_end(tmp_path: Path) -> None:
    pool = ProcessPool(1)
    mark = tmp_path / "go"
    runs = gevent.spawn(pool.run, work.wait_for, str(mark))
    until(lambda: pool.statistics().running == 1)
    closing = gevent.spawn(pool.close, 10.0)
    gevent.sleep(0.01)
    mark.touch()
    assert runs.get() > 0
    closing.get()
    assert pool.processes() == []


def test_a_pool_under_a_supervisor_ends_with_the_tree_also_by_a_kill(system: System) -> None:
    spec = ChildSpec(PoolServer, ProcessPool, name="cpu", options={"size": 1})
    tree = Supervisor.start([spec], max_restarts=3, max_seconds=5, system=system)
    first = system.find("cpu")
    pid = offload(work.pid, pool=first)
    kill(first)
    until(lambda: not alive(pid))
    until(lambda: system.whereis("cpu"))
    puppet = Puppet.start(system=system)
    pid = call(puppet, lambda server, caller: offload(work.pid, pool="cpu"))
    system.stop_process(tree, "shutdown")
    assert not alive(pid)


def program(text: str, *arguments: str, patch: bool = False) -> subprocess.CompletedProcess[str]:
    lines = "import gevent.monkey; gevent.monkey.patch_all()\n" if patch else ""
    return subprocess.run(
        [sys.executable, "-c", lines + textwrap.dedent(text), *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=50,
    )  # fmt: skip


@pytest.mark.parametrize("function", ["hang", "hang_in_c"])
def test_the_processes_end_when_their_parent_is_killed(tmp_path: Path, function: str) -> None:
    mark = tmp_path / "mark"
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import sys
from packetflow.otp import ProcessPool
from tests.otp.pools import work
ProcessPool(1, spare=1).run(work.{function}, sys.argv[1])
""",
            str(mark),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        pid = int(until(lambda: mark.exists() and mark.read_text(), 20))
        others = [child for child in children(parent.pid) if child != pid]
        assert len(others) == 1  # the spare
    finally:
        parent.kill()
        parent.wait()
    until(lambda: not alive(pid) and not any(alive(child) for child in others))


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("patch", [False, True])
def test_it_works_with_and_without_gevents_patches(patch: bool) -> None:
    done = program(
        """
        import os, gevent, subprocess
        from packetflow.otp import OffloadTimeout, ProcessPool, ThreadPool
        from tests.otp.pools import work
        threads = ThreadPool(2)
        print(threads.run(len, "four"))
        pool = ProcessPool(2)
        print(pool.run(work.pid) != os.getpid())
        try:
            pool.run(work.hang, timeout=0.1)
        except OffloadTimeout:
            print("timeout")
        subprocess.run(["true"], check=True)  # gevent's own way to wait for children, where it is patched
        print(pool.run(len, "four"))
        pool.close()
        threads.close()
        gevent.wait(timeout=5)
        print(len(pool.processes()))
        """,
        patch=patch,
    )
    assert done.stdout.split() == ["4", "True", "timeout", "4", "0"], done.stderr


def test_a_program_that_ends_without_close_leaves_no_process() -> None:
    done = program("""
        from packetflow.otp import ProcessPool
        from tests.otp.pools import work
        pool = ProcessPool(2)
        pool.run(work.pid)
        print(*pool.processes())
    """)
    assert done.returncode == 0, done.stderr
    pids = [int(one) for one in done.stdout.split()]
    assert len(pids) == 2
    until(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize(
    ("field", "options"), [("size", {"size": 0}), ("spare", {"spare": -1}), ("max_tasks", {"max_tasks": 0})]
)
def test_wrong_options_are_told(field: str, options: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=field):
        ProcessPool(**options)
