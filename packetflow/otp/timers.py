"""Timers: everything that is due at some time, in one heap behind one timer of the loop."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any


class Timer:
    """Something that will happen at `due` (monotonic seconds), unless it is cancelled."""

    __slots__ = ("_action", "_argument", "_timers", "due")

    def __init__(self, timers: Timers, due: float, action: Callable[[Any], None], argument: Any) -> None:
        self._timers = timers
        self.due = due
        self._action: Callable[[Any], None] | None = action
        self._argument = argument

    def cancel(self) -> float | None:
        """Stops it. Returns the seconds that were left, or None if it had fired or was cancelled before."""
        if self._action is None:
            return None
        self._action = self._argument = None
        self._timers.forget(self)
        left = self.due - self._timers.monotonic()
        return left if left > 0.0 else 0.0

    @property
    def left(self) -> float | None:
        """The seconds that are left, or None if it has fired or was cancelled."""
        if self._action is None:
            return None
        return max(0.0, self.due - self._timers.monotonic())

    @property
    def waiting(self) -> bool:
        """Whether it is still to come."""
        return self._action is not None

    def fire(self) -> None:
        """Does what it was made for, once; nothing if it was cancelled."""
        action, argument = self._action, self._argument
        if action is not None:
            self._action = self._argument = None
            action(argument)


class Timers:
    """The timers of one scheduler. A cancelled one leaves the heap when it comes up, or when the cancelled are the most."""

    __slots__ = ("_armed", "_awake", "_cancelled", "_count", "_heap", "_loop", "_watcher", "monotonic")

    def __init__(self, loop: Any, monotonic: Callable[[], float]) -> None:
        self._loop = loop
        self.monotonic = monotonic
        self._heap: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._cancelled = 0
        self._watcher: Any = None
        self._armed = float("inf")
        self._awake = False

    def __len__(self) -> int:
        return len(self._heap) - self._cancelled

    def after(self, delay: float, action: Callable[[Any], None], argument: Any = None) -> Timer:
        """Has `action(argument)` run in the hub `delay` seconds from now. It must not wait and must not raise."""
        return self.at(self.monotonic() + delay, action, argument)

    def at(self, due: float, action: Callable[[Any], None], argument: Any = None) -> Timer:
        """The same, at `due` (monotonic seconds)."""
        timer = Timer(self, due, action, argument)
        # What may raise (a caller at the end of its recursion) stands before what can't be taken back.
        if due < self._armed:
            self._arm(due)
        elif not self._awake:
            self._watcher.ref = self._awake = True
        self._count += 1
        heappush(self._heap, (due, self._count, timer))
        return timer

    def forget(self, timer: Timer) -> None:
        """Drops a cancelled one: now if it is the last leaf of the heap, else once the cancelled are the most."""
        heap = self._heap
        if heap and heap[-1][2] is timer:
            heap.pop()
        else:
            self._cancelled += 1
            if self._cancelled > 64 and self._cancelled * 2 > len(heap):
                heap[:] = [entry for entry in heap if entry[2].waiting]
                heapify(heap)
                self._cancelled = 0
        if self._cancelled == len(heap) and self._watcher is not None:
            # Nothing is to come: a loop that has nothing else to do must not be kept awake for it.
            heap.clear()
            self._cancelled = 0
            self._watcher.ref = self._awake = False

    def close(self) -> None:
        """Drops them all."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        self._heap.clear()
        self._cancelled = 0
        self._armed = float("inf")
        self._awake = False

    def _arm(self, due: float) -> None:
        watcher = self._loop.timer(max(0.0, due - self.monotonic()))
        watcher.start(self._fire, update=True)
        before, self._watcher = self._watcher, watcher
        self._armed = due
        self._awake = True
        if before is not None:
            before.stop()
            before.close()

    def _fire(self) -> None:
        heap = self._heap
        now = self.monotonic()
        try:
            while heap and heap[0][0] <= now:
                timer = heappop(heap)[2]
                if timer.waiting:
                    timer.fire()
                else:
                    self._cancelled -= 1
        finally:
            self._armed = float("inf")
            if heap:
                self._arm(heap[0][0])
            else:
                self.close()
