"""How many requests a node takes at once: a bound, and a short queue before the rest is refused as `overloaded`."""

from __future__ import annotations

from collections.abc import Sized

from gevent import Timeout as GeventTimeout
from gevent.hub import Waiter, get_hub
from greenlet import getcurrent, greenlet

from packetflow.wire.errors import Overloaded, RequestError, Timeout

RETRY_AFTER = 0.1  # seconds after which one that was refused may try again


class Admission:
    """Room for outermost requests. limit: how many may be in flight; queue: how many more may wait for room, in order."""

    def __init__(self, limit: int, queue: int, in_flight: Sized) -> None:
        self.limit = limit
        self.queue = queue
        self._in_flight = in_flight
        self.apart = 0  # of those in flight, the jobs: they have a limit of their own
        self._reserved = 0  # let in, and not yet counted among those in flight
        self.waiting: dict[greenlet, Waiter[None]] = {}

    def full(self) -> bool:
        """Whether one more has to wait."""
        return self._taken() >= self.limit or bool(self.waiting)

    def _taken(self) -> int:
        return len(self._in_flight) - self.apart + self._reserved

    def wait(self, seconds: float) -> RequestError | None:
        """Wait in order for room, at most so long. Gives the error if there will be none, None once there is."""
        if len(self.waiting) >= self.queue:
            text = f"{self.limit} requests are in flight on this node and {self.queue} wait, its limits"
            return Overloaded(text, retry_after=RETRY_AFTER)
        waiter: Waiter[None] = Waiter()
        me = getcurrent()
        self.waiting[me] = waiter
        late = GeventTimeout.start_new(max(0.0, seconds))
        goes_in = False
        try:
            waiter.get()
            goes_in = True
        except GeventTimeout as timeout:
            if timeout is not late:
                raise
            return Timeout(f"no room on this node within {seconds:.3g} s")
        except _Ended as ended:
            return ended.error
        finally:
            late.close()
            if self.waiting.pop(me, None) is None:  # its place was kept for it
                self._reserved -= 1
                if not goes_in:
                    self.leave()
        return None

    def leave(self) -> None:
        """One request has ended: let in who waits longest."""
        while self.waiting and self._taken() < self.limit:
            heir = next(iter(self.waiting))
            self._reserved += 1
            get_hub().loop.run_callback(self.waiting.pop(heir).switch, None)

    def reserve(self) -> None:
        """Count one that is under way without being in flight by its greenlet: a stream that nobody reads at this moment."""
        self._reserved += 1

    def unreserve(self) -> None:
        """Count one of those no more."""
        self._reserved -= 1

    def cancel(self, waiting: greenlet, error: RequestError) -> bool:
        """End the wait of this greenlet with an error. False if it does not wait."""
        waiter = self.waiting.get(waiting)
        if waiter is None:
            return False
        get_hub().loop.run_callback(waiter.throw, _Ended(error))
        return True

    def cancel_all(self, error: RequestError) -> None:
        """End every wait with an error."""
        for waiting in list(self.waiting):
            self.cancel(waiting, error)

    def __len__(self) -> int:
        return len(self.waiting)


class _Ended(BaseException):
    """Thrown into one who waits, to end that."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(str(error))
        self.error = error
