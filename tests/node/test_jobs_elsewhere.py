"""Jobs of capabilities that run in pools, threads, processes and on the loop: their values, their ends, and what is left."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow import Context, Node, Pool, capability
from packetflow.otp.clock import Clock


@capability("j.pool", background=True, pool=Pool(1, queue=1, name="one"))
def in_pool(seconds: float) -> str:
    """Work in a place of a pool."""
    gevent.sleep(seconds)
    return "pool"


@capability("j.thread", background=True, blocking=True)
def in_thread(seconds: float, context: Context) -> str:
    """Work in a thread."""
    context.progress(1, 2, "half")
    time.sleep(min(seconds, 1.0))
    return "thread"


@capability("j.process", background=True, cpu=True)
def in_process(seconds: float) -> str:
    """Work in a process."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "process"


@capability("j.loop", background=True)
async def on_loop(seconds: float, context: Context) -> str:
    """Work on the loop."""
    await asyncio.sleep(seconds)
    return "loop"


KINDS = ["pool", "thread", "process", "loop"]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with Node(capabilities=[in_pool, in_thread, in_process, on_loop], log_stream=io.StringIO()) as node:
        yield node


def until(condition: Any, seconds: float = 20.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.005)


def ended(node: Node, id: str) -> dict[str, Any]:
    shown: dict[str, Any] = node.call("job.show", {"id": id, "wait": 20})
    return shown


def nothing_is_left(node: Node) -> bool:
    pools = [pool.statistics() for pool in node.surroundings.pools]
    quiet = all((one["running"], one["waiting"]) == (0, 0) for one in pools)
    return quiet and node.door.in_flight == {} and node.jobs.counts()["running"] == 0


@pytest.mark.parametrize("kind", KINDS)
def test_its_value_is_there_afterwards(node: Node, kind: str) -> None:
    shown = ended(node, node.call(f"j.{kind}", {"seconds": 0.01})["job"])
    assert (shown["status"], shown["value"]) == ("done", kind)
    if kind == "thread":
        assert shown["progress"] == {"done": 1, "total": 2, "text": "half"}
    until(lambda: nothing_is_left(node))


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_cancelled_in_the_midst(node: Node, kind: str) -> None:
    id = node.call(f"j.{kind}", {"seconds": 1000})["job"]
    gevent.sleep(0.05)
    assert node.call("job.cancel", {"id": id})["changed"]
    assert ended(node, id)["status"] == "cancelled"
    until(lambda: nothing_is_left(node))


def test_one_more_than_its_pool_takes_is_a_job_that_failed_as_overloaded(node: Node) -> None:
    ids = [node.call("j.pool", {"seconds": 0.2})["job"] for _ in range(3)]
    shown = [ended(node, id) for id in ids]
    assert [one["status"] for one in shown] == ["done", "done", "failed"]
    assert shown[2]["error"]["code"] == "overloaded"
    assert shown[2]["error"]["retry_after"] > 0


def test_one_that_waits_for_its_place_is_cancelled_and_takes_none(node: Node) -> None:
    first, second = (node.call("j.pool", {"seconds": 0.3})["job"] for _ in range(2))
    assert node.call("job.cancel", {"id": second})["changed"]
    assert ended(node, second)["status"] == "cancelled"
    assert ended(node, first)["status"] == "done"
    until(lambda: nothing_is_left(node))


def test_a_stop_ends_them_all() -> None:
    with Node(capabilities=[in_pool, in_thread, in_process, on_loop], log_stream=io.StringIO()) as node:
        ids = [node.call(f"j.{kind}", {"seconds": 1000})["job"] for kind in KINDS]
        gevent.sleep(0.05)
        node.stop(0.0)
        found = {node.jobs.find(id, node.session()).status for id in ids}
        assert found == {"cancelled"}
