from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packetflow.transports.http import HttpListener
from packetflow.transports.listener import Listener
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.transports.peers import TurnedClock
from tests.transports.small_door import SmallDoor


@pytest.fixture
def door() -> SmallDoor:
    return SmallDoor()


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def started() -> Iterator[Callable[[Listener], Any]]:
    """Starts listeners, and closes them after the test."""
    listeners: list[Listener] = []

    def start(listener: Listener) -> Listener:
        listener.start()
        listeners.append(listener)
        return listener

    yield start
    for listener in listeners:
        listener.close()


@pytest.fixture
def tcp(door: SmallDoor, clock: TurnedClock, started: Any) -> Callable[..., TcpListener]:
    def make(limits: Limits | None = None, **options: Any) -> TcpListener:
        options = {"port": 0, "sweep": 0.02, **options}
        return started(TcpListener(door, clock, limits or Limits(), **options))  # type: ignore[no-any-return]

    return make


CATALOGUE = {"capabilities": [{"id": "echo", "version": 1}]}


@pytest.fixture
def http(door: SmallDoor, clock: TurnedClock, started: Any) -> Callable[..., HttpListener]:
    def make(limits: Limits | None = None, **options: Any) -> HttpListener:
        options = {
            "port": 0,
            "sweep": 0.02,
            "live": lambda: (True, {"live": True}),
            "ready": lambda: (True, {"ready": True}),
            "catalogue": lambda session: CATALOGUE,
            "describe": lambda session, id: {"id": id, "for": session.door} if id == "echo" else None,
            **options,
        }
        return started(HttpListener(door, clock, limits or Limits(), **options))  # type: ignore[no-any-return]

    return make


@pytest.fixture
def shared() -> dict[str, Any]:
    """What the examples of one property share."""
    return {}
