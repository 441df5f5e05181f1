"""What a node gives its capabilities to run with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.capabilities.cache import ENTRIES
from packetflow.capabilities.pools import Pools
from packetflow.capabilities.waiting import Waits
from packetflow.otp.clock import Clock

START = 30.0  # seconds


class Surroundings:
    """One a node. run_async runs a coroutine on the node's loop and waits for it; cache_entries: how many answers a cached
    capability keeps if it does not say itself; start: seconds that the code of a file may take to load, and a resource to open.
    """

    __slots__ = ("cache_entries", "clock", "pools", "run_async", "start", "waits")

    def __init__(
        self,
        run_async: Callable[[Any], Any],
        clock: Clock | None = None,
        cache_entries: int = ENTRIES,
        start: float = START,
    ) -> None:
        self.start = start
        self.run_async = run_async
        self.clock = clock or Clock()
        self.cache_entries = cache_entries
        self.waits = Waits()
        self.pools = Pools(self.clock, self.waits)
