"""The support desk's files, loaded as a node loads them, and ways to bring its database into trouble."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent

from packetflow.capabilities.source import Source
from packetflow.otp.clock import Clock

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "support_desk"


def load(name: str) -> ModuleType:
    return Source(FOLDER / f"{name}.py").namespace


capabilities: Any = load("capabilities")
Desk: Any = capabilities.Desk


class Calendar(Clock):
    """A clock that stands until it is turned."""

    __slots__ = ("now",)

    def __init__(self) -> None:
        self.now = datetime(2026, 3, 1, 12, tzinfo=UTC)
        super().__init__(utc=lambda: self.now)

    def turn(self, **units: float) -> None:
        self.now += timedelta(**units)


def eventually(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Give other greenlets turns until it holds. Fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "what was waited for did not come"
        gevent.sleep(0.001)
