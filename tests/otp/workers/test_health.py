"""How worker processes do: those that are blocked or stopped, their figures, and their log."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path

import gevent
import pytest

from packetflow.otp import (
    CallTimeout,
    Ref,
    ServerExited,
    System,
    WorkerInfo,
    WorkerSupervisor,
    call,
    stop,
    worker_info,
)
from tests.otp.actors import failure_of, until
from tests.otp.workers.starting import QUICK, child, owed, pid_of, records_of, single, spec, start

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
