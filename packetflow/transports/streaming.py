"""How a door sends what comes bit by bit: a stream's items, no faster than the peer takes them; progress, the latest only."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.hub import Waiter, get_hub

from packetflow.wire.codec import Unencodable, unsendable
from packetflow.wire.errors import RequestError, TooLarge
from packetflow.wire.stream import Making, Progress

if TYPE_CHECKING:
    from packetflow.transports.connection import Connection

BURST = 64  # items after which others have their turn
EVERY = 0.1  # seconds between two words about how far a request is


class Outlet:
    """The way of one stream to its peer. credit: how many items the peer lets come; None: as many as the connection takes.

    It belongs to the greenlet that runs `send`; everything else is called by the hub.
    """

    __slots__ = ("_burst", "_connection", "_credit", "_waiter", "sent")

    def __init__(self, connection: Connection, credit: int | None) -> None:
        self._connection = connection
        self._credit = credit
        self._burst = 0
        self._waiter: Waiter[None] | None = None
        self.sent = 0  # items

    def send(self, making: Making, name: str, write: Callable[[Any], None]) -> RequestError | None:
        """Make and write items until the stream has ended. Returns the error that ended it, None after its last item."""
        making.attach()
        try:
            while True:
                if not self._may_go_on():
                    making.wait(self._until_it_may)
                item = making.take()
                try:
                    write(item)
                except (Unencodable, TooLarge) as fault:
                    unfit = unsendable(f"an item of {name}", fault)
                    making.close(unfit)
                    return unfit
                self._burst += 1
                self.sent += 1
                if self._credit is not None:
                    self._credit -= 1
        except StopIteration:
            return None
        except RequestError as error:
            return error
        finally:
            making.detach()

    def _may_go_on(self) -> bool:
        return self._burst < BURST and self._credit != 0 and self._connection.has_room()

    def _until_it_may(self) -> None:
        if self._burst >= BURST:
            self._burst = 0
            waiter: Waiter[None] = Waiter()
            get_hub().loop.run_callback(waiter.switch, None)
            waiter.get()
        waiting = self._connection.waiting
        while not self._may_go_on():
            self._waiter = Waiter()
            waiting.append(self)
            try:
                self._waiter.get()
            finally:
                self._waiter = None
                waiting.remove(self)
            self._burst = 0

    def grant(self, items: int, most: int) -> None:
        """The peer lets so many more come, `most` altogether."""
        if self._credit is not None:
            self._credit = min(self._credit + items, most)
            self.wake()

    def wake(self) -> None:
        """There may be room now."""
        waiter = self._waiter
        if waiter is not None and self._may_go_on():
            self._waiter = None
            get_hub().loop.run_callback(waiter.switch, None)


class Telling:
    """Tells a peer how far its request is: at once, then the latest every tenth of a second while there is something new.

    say(progress): puts it into the connection's answers.
    """

    __slots__ = ("_connection", "_latest", "_say", "_timer")

    def __init__(self, connection: Connection, say: Callable[[Progress], None]) -> None:
        self._connection = connection
        self._say = say
        self._latest: Progress | None = None
        self._timer: Any = None

    def __call__(self, progress: Progress) -> None:
        """In the hub's thread."""
        self._latest = progress
        if self._timer is None:
            self._tell()

    def _tell(self) -> None:
        if self._connection.has_room() and self._latest is not None:
            latest, self._latest = self._latest, None
            try:
                self._say(latest)
            except (Unencodable, TooLarge) as fault:
                self._connection.listener.log.warning("progress can't be told", reason=str(fault))
        self._timer = self._connection.listener.loop.timer(EVERY)
        self._timer.start(self._tick)

    def _tick(self) -> None:
        self._disarm()
        if self._latest is not None and not self._connection.closed:
            self._tell()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    def end(self) -> None:
        """The request is answered: what was not told is of no use any more."""
        self._latest = None
        self._disarm()
