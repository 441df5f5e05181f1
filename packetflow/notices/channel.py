"""A channel: a bounded line of notices, and the process that delivers them one after the other, again where it failed.

The line is kept apart from the process (in memory, or in the node's outbox) and outlives it: what dies while it delivers is
started again, and goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import gevent
from gevent.event import Event

from packetflow.notices.notice import NotDelivered
from packetflow.otp.clock import Clock
from packetflow.wire.errors import RequestError

FIRST_WAIT = 1.0  # seconds before the second try; each further wait is twice as long ...
AGAIN = 5.0  # seconds until the next look, where the line can't be read or written now
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


class Line(Protocol):
    """Where the items of a channel wait. All but `wake` may wait; RequestError: not now."""

    def __len__(self) -> int:
        """How many wait."""

    def put(self, item: Any) -> None:
        """Add one, the last."""

    def first(self) -> tuple[Any, int] | None:
        """The next one to be delivered, and how often that was tried; None if there is none."""

    def wait(self) -> None:
        """Wait until there may be one."""

    def wake(self) -> None:
        """There may be one."""

    def done(self, item: Any) -> None:
        """It was delivered."""

    def missed(self, item: Any, why: str) -> None:
        """It was not, and will be tried again."""

    def give_up(self, item: Any, why: str, tries: int) -> None:
        """It will not be tried again."""


class MemoryLine:
    """A line that ends with the node."""

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._tried = 0
        self._filled = Event()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, item: Any) -> None:
        """See Line."""
        self._waiting.append(item)
        self._filled.set()

    def first(self) -> tuple[Any, int] | None:
        """See Line."""
        return (self._waiting[0], self._tried) if self._waiting else None

    def wait(self) -> None:
        """See Line."""
        self._filled.clear()
        self._filled.wait()

    def wake(self) -> None:
        """See Line."""
        self._filled.set()

    def done(self, item: Any) -> None:
        """See Line."""
        self._waiting.popleft()
        self._tried = 0

    def missed(self, item: Any, why: str) -> None:
        """See Line."""
        self._tried += 1

    def give_up(self, item: Any, why: str, tries: int) -> None:
        """See Line."""
        self.done(item)


class Channel:
    """One channel. queue: notices that may wait; attempts: how often one is tried; timeout: seconds for each try. line: where
    they wait, in memory if none is given; lasting: whether that outlives the node.

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
        line: Line | None = None,
        lasting: Callable[[], bool] = lambda: False,
    ) -> None:
        self.name = name
        self.sent = self.failed = self.dropped = self.retried = 0
        self.last_error: str | None = None
        self.line: Line = MemoryLine() if line is None else line
        self._lasting = lasting
        self._delivery = delivery
        self._clock = clock
        self._log = log
        self._queue = queue
        self._attempts = attempts
        self._timeout = timeout
        self._first_wait = first_wait
        self._empty = Event()
        self._empty.set()
        self._closing = False

    def __len__(self) -> int:
        return len(self.line)

    @property
    def failing(self) -> bool:
        """Whether the last try failed."""
        return self.last_error is not None

    def takes(self) -> bool:
        """Whether there is room for one more; if not, it counts as dropped."""
        if len(self.line) < self._queue and not self._closing:
            self._empty.clear()
            return True
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1_000 == 0:
            self._log.warning(
                "notices are dropped", channel=self.name, dropped=self.dropped, queue=self._queue
            )
        return False

    def put(self, notice: Item) -> None:
        """Deliver a notice later; never waits where the line is in memory."""
        if self.takes():
            self.line.put(notice)

    def run(self) -> NoReturn:
        """Deliver for ever: the life of the channel's process."""
        while True:
            try:
                found = self.line.first()
                if found is None:
                    self._empty.set()
                    self.line.wait()
                else:
                    self._deliver(*found)
            except (
                RequestError
            ) as error:  # the store can't be read or written now; at worst one is sent twice
                self.last_error = f"the line can't be read: {error}"
                gevent.sleep(AGAIN)

    def _deliver(self, notice: Any, tried: int) -> None:
        self._empty.clear()
        try:
            with gevent.Timeout(self._timeout, NotDelivered(f"no answer within {self._timeout:g} s")):
                self._delivery.deliver(notice)
        except NotDelivered as error:
            self._missed(notice, error, tried + 1)
        except Exception as error:  # noqa: BLE001 - a fault of ours or the other side's: told, and the line goes on
            self._log.error("delivering a notice failed", channel=self.name, notice=notice.id, exc_info=error)
            self._missed(notice, NotDelivered(f"{type(error).__name__}: {error}"), tried + 1)
        else:
            self.sent += 1
            self.last_error = None
            self.line.done(notice)

    def _missed(self, notice: Any, error: NotDelivered, tries: int) -> None:
        self.last_error = str(error)
        # What ends with the node has its last chance now; what outlives it will be tried by the next one.
        last = tries >= self._attempts or (self._closing and not self._lasting())
        if not error.again or last:
            self.failed += 1
            self._log.error(
                "notice not delivered", channel=self.name, notice=notice.id, tries=tries, error=str(error)
            )
            self.line.give_up(notice, str(error), tries)
            return
        self.retried += 1
        self.line.missed(notice, str(error))
        wait = min(LONGEST_WAIT, self._first_wait * 2 ** (tries - 1))
        if error.after is not None:
            wait = min(LONGEST_WAIT, max(wait, error.after))
        gevent.sleep(wait)

    def close(self, seconds: float) -> None:
        """Take no more, and give what waits so many seconds; the rest is told, and counted as dropped where it ends with the
        node."""
        self._closing = True
        self._empty.wait(seconds)
        left = len(self.line)
        if left and self._lasting():
            self._log.info("notices wait for the node's next start", channel=self.name, waiting=left)
        elif left:
            self.dropped += left
            self._log.warning("notices are lost with the node's end", channel=self.name, lost=left)

    def as_data(self) -> dict[str, Any]:
        """Its figures."""
        return {
            "channel": self.name,
            "where": self._delivery.where(),
            "waiting": len(self.line),
            "sent": self.sent,
            "failed": self.failed,
            "dropped": self.dropped,
            "retried": self.retried,
            "last_error": self.last_error,
        }
