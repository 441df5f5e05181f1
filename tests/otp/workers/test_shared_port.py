"""A port that several processes share: who gets a connection, what becomes of it when one dies, who may not have it."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import gevent.socket
import pytest

from packetflow.otp import (
    System,
    WorkerProcess,
    WorkerSupervisor,
    listen_shared,
    reserve_port,
)
from tests.otp.actors import until

ROOT = str(Path(__file__).resolve().parents[3])
LISTENS = "tests.otp.workers.programs:listens"


@pytest.fixture
def port() -> Iterator[int]:
    with reserve_port("127.0.0.1", 0) as reserved:
        yield reserved.getsockname()[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", ROOT)


class Caller:
    """A connection to whoever took it."""

    def __init__(self, port: int) -> None:
        self.sock = gevent.socket.create_connection(("127.0.0.1", port), timeout=10)
        self.lines = self.sock.makefile("rb")
        self.pid = int(self.lines.readline())

    def ask(self) -> int:
        """Who answers on it now; 0: nobody any more."""
        try:
            self.sock.sendall(b"again\n")
            return int(self.lines.readline() or 0)
        except ConnectionError:
            return 0

    def close(self) -> None:
        self.lines.close()
        self.sock.close()


def reach(port: int, pids: set[int]) -> dict[int, Caller]:
    """A connection to each of these processes."""
    found: dict[int, Caller] = {}

    def all_reached() -> bool:
        caller = Caller(port)
        if caller.pid in found or caller.pid not in pids:
            caller.close()
        else:
            found[caller.pid] = caller
        return found.keys() == pids

    until(all_reached)
    return found


def test_both_workers_take_connections_and_the_death_of_one_is_nothing_to_the_other(
    system: System, port: int
) -> None:
    supervisor = WorkerSupervisor.start(
        [WorkerProcess.child(LISTENS, port, id=id) for id in ("a", "b")], system=system
    )
    pids = {info.pid for info in WorkerSupervisor.workers(supervisor).values() if info}
    callers = reach(port, pids)
    dead, alive = sorted(pids)
    os.kill(dead, signal.SIGKILL)
    assert callers[dead].ask() == 0
    assert callers[alive].ask() == alive

    def back() -> set[int]:
        pids = {info.pid for info in WorkerSupervisor.workers(supervisor).values() if info}
        return pids if len(pids) == 2 and dead not in pids else set()

    again = reach(port, until(back))
    for caller in [*callers.values(), *again.values()]:
        caller.close()


def test_a_drain_takes_no_new_connection_and_finishes_what_was_begun(system: System, port: int) -> None:
    supervisor = WorkerSupervisor.start([WorkerProcess.child(LISTENS, port)], system=system)
    caller = Caller(port)
    stopping = gevent.spawn(system.stop_process, supervisor)

    def refused() -> bool:
        try:
            gevent.socket.create_connection(("127.0.0.1", port), timeout=10).close()
        except ConnectionRefusedError:
            return True
        except ConnectionResetError:
            return False  # it stood in the queue when the listener closed
        return False

    until(refused)
    assert caller.ask() == caller.pid
    stopping.get(timeout=10)
    caller.close()


def test_a_reserved_port_takes_no_connection_until_somebody_listens(port: int) -> None:
    with pytest.raises(ConnectionRefusedError):
        gevent.socket.create_connection(("127.0.0.1", port), timeout=10)
    with listen_shared("127.0.0.1", port), gevent.socket.create_connection(("127.0.0.1", port), timeout=10):
        pass


def test_a_port_on_which_others_listen_is_refused_also_where_they_would_share_it(port: int) -> None:
    for listening in (listen_shared("127.0.0.1", port), socket.create_server(("127.0.0.1", 0))):
        with listening, pytest.raises(OSError, match=os.strerror(errno.EADDRINUSE)):
            reserve_port("127.0.0.1", listening.getsockname()[1])


def test_a_port_just_left_by_an_ordinary_listener_can_be_reserved() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        taken, _ = listening.accept()
        taken.close()  # this side closes first, so that the kernel keeps the pair for a while
        client.close()
    reserve_port("127.0.0.1", port).close()
