"""The one clock of a node. No other file reads time: a test and a simulation put their own clock here."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

Seconds: TypeAlias = float
"""A time somebody asks for, in seconds; not yet checked."""


class Clock:
    """Time as a node sees it.

    `monotonic()` (float seconds, never goes back) measures durations, deadlines and windows; `utc()` (an aware datetime)
    is for people. `monotonic` is an attribute, not a method, because it is read several times a request.
    """

    __slots__ = ("monotonic", "utc")

    def __init__(
        self,
        monotonic: Callable[[], float] = time.monotonic,
        utc: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.monotonic = monotonic
        self.utc = utc
