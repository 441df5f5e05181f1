"""Capability options with `start --workers N`: jobs live in the parent, pools and caches in each worker."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.client import Client
from packetflow.wire.errors import NotFound

from .conftest import DESK, Desk, finish, until

MORE = '''

import os

from packetflow import Pool, ttl


@capability("work.cached", tags=["work"], cache=ttl(60))
def cached(number: int) -> int:
    """Which process made the answer."""
    return os.getpid()


@capability("work.pooled", tags=["work"], pool=Pool(1, queue=0, name="desk"))
def pooled(seconds: float) -> int:
    """Take the only place of this process."""
    gevent.sleep(seconds)
    return os.getpid()


@capability("work.computed", tags=["work"], cpu=True)
def computed() -> int:
    """Which process computes."""
    return os.getpid()


@capability("work.pid", tags=["work"])
def pid() -> int:
    """Which process serves this."""
    return os.getpid()
'''


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("workers") / "desk"
    shutil.copytree(DESK, folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
    project = Desk(folder)
    file = project.folder / "capabilities.py"
    file.write_text(file.read_text() + MORE)
    config = project.folder / "config" / "node.toml"
    config.write_text(
        config.read_text().replace('match = ["work.*", "ticket.*"]', 'match = ["work.limited"]')
    )
    project.start("--workers", "2")
    yield project
    finish(project)


def tcp(desk: Desk) -> str:
    return next(door["address"] for door in desk.ready["doors"] if door["door"] == "tcp")


def ask(desk: Desk, capability: str, **payload: Any) -> Any:
    with Client(f"unix://{desk.folder / 'run' / 'admin.sock'}") as operator:
        return operator.call(capability, payload)


def worker_pids(desk: Desk) -> set[int]:
    return {row["pid"] for row in ask(desk, "system.status")["workers"] if row["status"] != "down"}


def test_a_job_runs_in_the_parent_and_outlives_the_worker_that_took_it(node: Desk) -> None:
    with Client(tcp(node)) as client:
        serving = client.call("work.pid")
        assert serving in worker_pids(node)
        job = client.call("work.report", {"seconds": 1.0})["job"]
        detached = client.call("job.start", {"capability": "work.pid"})["job"]
        os.kill(serving, signal.SIGKILL)
    until(lambda: serving not in worker_pids(node) and len(worker_pids(node)) == 2)
    with Client(tcp(node)) as client:
        shown = client.call("job.show", {"id": job, "wait": 10})
        assert (shown["status"], shown["value"]) == ("done", {"pages": 3.0})
        assert client.call("job.show", {"id": detached, "wait": 10})["value"] == node.ready["pid"]
    listed = ask(node, "job.list")["jobs"]
    assert {(row["id"], row["principal"]) for row in listed} == {(job, "anonymous"), (detached, "anonymous")}


def test_a_job_that_is_refused_says_so_by_way_of_the_worker(node: Desk) -> None:
    with Client(tcp(node)) as client:
        wrong = client.request("work.report", {"seconds": "long"}).error
        assert wrong is not None
        assert wrong.code == "validation_failed"
        with pytest.raises(NotFound):
            client.call("job.start", {"capability": "work.nothing"})


def test_each_worker_has_its_own_cache_and_pool_and_their_figures_are_summed(node: Desk) -> None:
    by_pid: dict[int, Client] = {}
    while len(by_pid) < 2:
        client = Client(tcp(node))
        pid = client.call("work.pid")
        by_pid.setdefault(pid, client)
        if by_pid[pid] is not client:
            client.close()
    for pid, client in by_pid.items():
        assert [client.call("work.cached", {"number": 1}) for _ in range(2)] == [pid, pid]
    cache = ask(node, "system.capability", id="work.cached")["load"]["cache"]
    assert (cache["entries"], cache["hits"], cache["misses"]) == (2, 2, 2)
    holding = [gevent.spawn(client.call, "work.pooled", {"seconds": 0.2}) for client in by_pid.values()]
    assert {one.get(timeout=10) for one in holding} == set(by_pid)
    pool = ask(node, "system.stats")["pools"]["desk"]
    assert (pool["size"], pool["done"], pool["refused"]) == (3, 2, 0)
    for client in by_pid.values():
        client.close()


def test_what_computes_ends_with_the_worker_that_was_killed(node: Desk) -> None:
    with Client(tcp(node)) as client:
        serving = client.call("work.pid")
        computing = client.call("work.computed")
        assert computing not in worker_pids(node)
        os.kill(serving, signal.SIGKILL)
    until(
        lambda: not Path(f"/proc/{computing}").exists() or not Path(f"/proc/{computing}/cmdline").read_bytes()
    )
