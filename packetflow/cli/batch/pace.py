"""How many requests may be under way: as many as asked for, fewer while the node asks for patience."""

from __future__ import annotations

from collections.abc import Callable

from gevent.event import Event

LONGEST_WAIT = 30.0  # seconds that one refusal may hold the batch up, whatever the node asks
WITHOUT_WORD = 0.1  # seconds to wait when a refusal does not say how long


class Pace:
    """Lets workers send. A refusal halves the room and closes it for the time the node asked; answers widen it again.

    So a rate limit is met by waiting at the right speed, not by many workers burning their retries on one token.
    """

    def __init__(self, most: int, stop: Event, monotonic: Callable[[], float]) -> None:
        self.most = most
        self.room = float(most)
        self.under_way = 0
        self.closed_until = 0.0
        self.stop = stop
        self.monotonic = monotonic
        self.freed = Event()

    def enter(self) -> bool:
        """Waits for room. False if the batch is to stop instead."""
        while not self.stop.is_set():
            wait = self.closed_until - self.monotonic()
            if wait > 0:
                self.stop.wait(wait)
            elif self.under_way < int(self.room):
                self.under_way += 1
                return True
            else:
                self.freed.clear()
                self.freed.wait(1.0)
        return False

    def leave(self, refused_for: float | None) -> None:
        """A request has its answer. refused_for: None, or the seconds after which the node wants to see it again."""
        self.under_way -= 1
        now = self.monotonic()
        if refused_for is None:
            self.room = min(float(self.most), self.room + 1.0 / self.room)
        elif now >= self.closed_until:
            # Refusals of one burst count once.
            self.room = max(1.0, self.room / 2)
            self.closed_until = now + min(LONGEST_WAIT, refused_for)
        self.freed.set()
