"""The client in a program of plain threads."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packetflow.client import Client
from packetflow.wire.errors import Timeout
from tests.transports.small_door import ServedThread

Connect = Callable[..., Client]


@pytest.fixture
def client(node: ServedThread, connect: Connect) -> Client:
    return connect(node.address, concurrency="threads")


def run(*jobs: Callable[[], Any]) -> list[Any]:
    """Runs each in a thread; gives what they returned."""
    results: list[Any] = [None] * len(jobs)

    def one(index: int, job: Callable[[], Any]) -> None:
        results[index] = job()

    threads = [threading.Thread(target=one, args=pair) for pair in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return results


def test_many_threads_share_one_connection_and_get_their_own_answers(
    client: Client, node: ServedThread
) -> None:
    def caller(number: int) -> bool:
        return all(
            client.call("echo", {"n": number, "turn": turn}) == {"n": number, "turn": turn}
            for turn in range(100)
        )

    assert all(run(*[lambda number=number: caller(number) for number in range(8)]))  # type: ignore[misc]
    assert len(node.listener.connections) == 1


def test_one_that_waits_long_reads_for_the_others(client: Client, node: ServedThread) -> None:
    slow = client.submit("wait", {"name": "slow"})
    waiting = threading.Thread(target=slow.result)
    waiting.start()
    try:
        assert client.call("echo", {"n": 1}) == {"n": 1}
        assert all(run(*[lambda: client.call("echo", {"n": 2}) == {"n": 2}] * 4))
    finally:
        node.do(lambda: node.door.release("slow"))
        waiting.join(10)
    assert not waiting.is_alive()


def test_a_reader_that_gives_up_hands_the_reading_on(client: Client, node: ServedThread) -> None:
    slow, other = client.submit("wait", {"name": "slow"}), client.submit("wait", {"name": "other"})

    def impatient() -> str:
        try:
            slow.result(0.05)
        except Timeout:
            node.do(lambda: node.door.release("other"))
            return "gave up"
        return "answered"

    assert run(impatient, lambda: other.result(20)) == ["gave up", "other"]
    node.do(lambda: node.door.release("slow"))
    assert slow.result(20) == "slow"


def test_two_threads_may_wait_for_one_pending(client: Client, node: ServedThread) -> None:
    pending = client.submit("wait", {"name": "w"})
    node.do(lambda: node.door.release("w"))
    assert run(*[lambda: pending.result(20)] * 3) == ["w"] * 3


def test_maps_of_several_threads_do_not_mix(client: Client) -> None:
    def mapped(name: str) -> bool:
        got = dict(client.map((("echo", {"who": name, "n": n}) for n in range(300)), concurrency=20))
        return all(got[n].value == {"who": name, "n": n} for n in range(300))

    assert run(lambda: mapped("a"), lambda: mapped("b"), lambda: mapped("c")) == [True] * 3


def test_large_payloads_from_several_threads_do_not_lock_each_other_out(client: Client) -> None:
    payload = {"text": "x" * 200_000}

    def mapped() -> bool:
        return all(
            reply.value == payload
            for _, reply in client.map((("echo", payload) for _ in range(60)), concurrency=32)
        )

    assert run(mapped, mapped, lambda: client.call("echo", payload) == payload) == [True] * 3


def test_it_loads_neither_gevent_nor_pydantic() -> None:
    script = (
        "import sys; from packetflow.client import Client; c = Client('unix:///nowhere/admin.sock');"
        "e = c.request('echo', {'a': 1}).error; assert e.code == 'unavailable', e;"
        "found = {'gevent', 'pydantic', 'pydantic_core', 'structlog'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2], timeout=30)


def test_gevent_is_the_default_where_sockets_are_patched_and_threads_can_still_be_asked_for() -> None:
    script = (
        "from gevent import monkey; monkey.patch_all();"
        "from packetflow.client import Client; from packetflow.client.concurrency import original; import _thread;"
        "assert Client('tcp://h:1')._side.mode == 'gevent';"
        "assert Client('tcp://h:1', concurrency='threads')._side.mode == 'threads';"
        "assert original('_thread', 'allocate_lock') is not _thread.allocate_lock"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[2], timeout=30)
    assert Client("tcp://h:1")._side.mode == "threads"
