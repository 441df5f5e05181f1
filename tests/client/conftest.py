from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packetflow.client import Client
from packetflow.otp.clock import Clock
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.transports.small_door import ServedThread, SmallDoor


@pytest.fixture
def door() -> SmallDoor:
    return SmallDoor()


@pytest.fixture
def served(door: SmallDoor) -> Iterator[Callable[..., TcpListener]]:
    """Listeners in this thread's hub, for clients that run greenlets."""
    made: list[TcpListener] = []

    def make(limits: Limits | None = None, **options: Any) -> TcpListener:
        listener = TcpListener(door, Clock(), limits or Limits(), **{"port": 0, "sweep": 0.02, **options})
        listener.start()
        made.append(listener)
        return listener

    yield make
    for listener in made:
        listener.close()


@pytest.fixture
def node() -> Iterator[ServedThread]:
    """A listener in a thread of its own, for clients that block their thread."""
    with ServedThread(lambda door: TcpListener(door, Clock(), Limits(), port=0, sweep=0.02)) as served:
        yield served


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def make(url: str, **options: Any) -> Client:
        client = Client(url if "://" in url else f"tcp://{url}", **{"concurrency": "gevent", **options})
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
