"""A channel: a bounded line of notices, and the process that delivers them one after the other, again where it failed.

The line belongs to the channel and outlives the process: what dies while it delivers is started again, and goes on.
"""

from __future__ import annotations

from collections import deque
from typing import Any, NoReturn, Protocol

import gevent
from gevent.event import Event

from packetflow.notices.notice import NotDelivered
from packetflow.otp.clock import Clock

FIRST_WAIT = 1.0  # seconds before the second try; each further wait is twice as long ...
LONGEST_WAIT = 60.0  # ... up to this


class Item(Protocol):
    """What a channel delivers."""

    @property
    def id(self) -> str:
        """What it is known by in the log."""


class Delivery(Protocol):
    """How a channel delivers."""

    def deliver(self, notice: Any) -> None:
        """Deliver one notice, waiting for the other side's word. Raises NotDelivered."""

    def where(self) -> str:
        """Where to, for people; no secret."""


class Channel:
    """One channel. queue: notices that may wait; attempts: how often one is tried; timeout: seconds for each try.

    sent, failed, dropped, retried: counts. `failed` were given up, `dropped` found no room.
    """

    def __init__(
        self,
        name: str,
        delivery: Delivery,
        clock: Clock,
        log: Any,
        *,
        queue: int = 1_000,
        attempts: int = 5,
        timeout: float = 10.0,
        first_wait: float = FIRST_WAIT,
    ) -> None:
        self.name = name
        self.sent = self.failed = self.dropped = self.retried = 0
        self.last_error: str | None = None
        self._delivery = delivery
        self._clock = clock
        self._log = log
        self._queue = queue
        self._attempts = attempts
        self._timeout = timeout
        self._first_wait = first_wait
        self._waiting: deque[Item] = deque()
        self._tried = 0  # how often the first of the line was tried
        self._filled = Event()
        self._empty = Event()
        self._empty.set()
        self._closing = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self.last_error is not None

    def put(self, notice: Item) -> None:
        """Deliver a notice later; never waits."""
        if len(self._waiting) >= self._queue or self._closing:
            self.dropped += 1
            if self.dropped == 1 or self.dropped % 1_000 == 0:
                self._log.warning(
                    "notices are dropped", channel=self.name, dropped=self.dropped, queue=self._queue
                )
            return
        self._waiting.append(notice)
        self._filled.set()
        self._empty.clear()

    def run(self) -> NoReturn:
        """Deliver for ever: the life of the channel's process."""
        while True:
            if not self._waiting:
                self._filled.clear()
                self._empty.set()
                self._filled.wait()
            self._deliver(self._waiting[0])

    def _deliver(self, notice: Item) -> None:
        try:
            with gevent.Timeout(self._timeout, NotDelivered(f"no answer within {self._timeout:g} s")):
                self._delivery.deliver(notice)
        except NotDelivered as error:
            self._missed(notice, error)
        except Exception as error:  # noqa: BLE001 - a fault of ours or the other side's: told, and the line goes on
            self._log.error("delivering a notice failed", channel=self.name, notice=notice.id, exc_info=error)
            self._missed(notice, NotDelivered(f"{type(error).__name__}: {error}"))
        else:
            self.sent += 1
            self.last_error = None
            self._done()

    def _missed(self, notice: Item, error: NotDelivered) -> None:
        self._tried += 1
        self.last_error = str(error)
        if not error.again or self._tried >= self._attempts or self._closing:
            self.failed += 1
            self._log.error(
                "notice not delivered",
                channel=self.name,
                notice=notice.id,
                tries=self._tried,
                error=str(error),
            )
            self._done()
            return
        self.retried += 1
        wait = min(LONGEST_WAIT, self._first_wait * 2 ** (self._tried - 1))
        if error.after is not None:
            wait = min(LONGEST_WAIT, max(wait, error.after))
        gevent.sleep(wait)

    def _done(self) -> None:
        self._waiting.popleft()
        self._tried = 0

    def close(self, seconds: float) -> None:
        """Take no more, and give what waits so many seconds; the rest is counted as dropped, and told."""
        self._closing = True
        self._empty.wait(seconds)
        if self._waiting:
            self.dropped += len(self._waiting)
            self._log.warning(
                "notices are lost with the node's end", channel=self.name, lost=len(self._waiting)
            )
            self._waiting.clear()

    def as_data(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "channel": self.name,
            "where": self._delivery.where(),
            "waiting": len(self._waiting),
            "sent": self.sent,
            "failed": self.failed,
            "dropped": self.dropped,
            "retried": self.retried,
            "last_error": self.last_error,
        }
