"""The operator's socket."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from packetflow.transports.admin import AdminListener
from packetflow.transports.errors import AddressInUse, ListenFailed
from packetflow.wire.limits import Limits
from tests.transports.peers import Messages, TurnedClock
from tests.transports.small_door import SmallDoor

Make = Callable[..., AdminListener]


@pytest.fixture
def admin(door: SmallDoor, clock: TurnedClock, started: Any, tmp_path: Path) -> Make:
    def make(path: str | None = None) -> AdminListener:
        listener = AdminListener(door, clock, Limits(), path=path or str(tmp_path / "admin.sock"), sweep=0.02)
        return started(listener)  # type: ignore[no-any-return]

    return make


def test_it_is_for_its_owner_alone_and_opens_an_operators_session(admin: Make, door: SmallDoor) -> None:
    listener = admin()
    assert stat.S_IMODE(os.stat(listener.path).st_mode) == 0o600
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "echo", {"x": 1})
        assert peer.answer()["payload"] == {"x": 1}
    session = door.sessions[0]
    assert session.operator
    assert session.door == "admin"
    assert session.peer == f"uid {os.geteuid()} pid {os.getpid()}"


def test_another_user_is_refused(admin: Make, door: SmallDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    listener = admin()
    mine = os.geteuid()
    monkeypatch.setattr("packetflow.transports.admin.operators", lambda: (mine + 1,))
    with Messages(listener.address) as peer:
        goodbye = peer.answer()
        assert (goodbye["type"], goodbye["payload"]["code"]) == ("goodbye", "forbidden")
        assert peer.hear() is None
    assert not door.sessions


def test_a_socket_that_nobody_serves_is_replaced(admin: Make, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    listener = admin(str(path))
    with Messages(listener.address) as peer:
        peer.greet()


def test_a_socket_that_is_served_is_not_taken(admin: Make) -> None:
    first = admin()
    with pytest.raises(AddressInUse, match="another node serves it"):
        admin()
    with Messages(first.address) as peer:
        peer.greet()


def test_a_file_that_is_no_socket_is_left_alone(admin: Make, tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("mine")
    with pytest.raises(ListenFailed, match="a file is there that is no socket; move it away"):
        admin()
    assert path.read_text() == "mine"


def test_a_path_that_is_too_long_is_told(admin: Make, tmp_path: Path) -> None:
    with pytest.raises(ListenFailed, match="the path is too long for a socket"):
        admin(str(tmp_path / ("x" * 120)))


def test_its_file_goes_when_it_stops_unless_it_is_anothers(admin: Make) -> None:
    first = admin()
    first.stop_accepting()
    assert not os.path.exists(first.path)
    second = admin()
    first.close()
    assert os.path.exists(second.path)
