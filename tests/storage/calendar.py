"""A clock that a test turns."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from packetflow.otp.clock import Clock


class Calendar:
    """now: what `clock.utc()` says."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.clock = Clock(utc=lambda: self.now)

    def turn(self, **by: float) -> None:
        self.now += timedelta(**by)
