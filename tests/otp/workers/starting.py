"""How the tests of worker processes start them, and look at what they are."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest

from packetflow.otp import (
    ChildSpec,
    Down,
    Ref,
    Supervisor,
    System,
    WorkerProcess,
    WorkerSpec,
    WorkerSupervisor,
    monitor,
    worker_info,
)

ROOT = str(Path(__file__).resolve().parents[3])
PROGRAMS = "tests.otp.workers.programs"
QUICK = 0.05  # seconds between two heartbeats where a test waits for them
STRANGERS: set[str] = set()  # children of this process that were there before the test began


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


def children_of_this_process() -> list[str]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [pid for pid in children if pid not in STRANGERS and is_there(int(pid))]


def owed(ref: Ref) -> int:
    bonds = ref._process.bonds
    return 0 if bonds is None else len(bonds.owed)


def records_of(logger: str, caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.name == logger]
