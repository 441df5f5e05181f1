"""Greenlets that run requests. A connection has none: it borrows one for a batch, and for as long as a request blocks."""

from __future__ import annotations

from typing import Protocol

import structlog
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

MOST_PARKED = 64  # greenlets kept for the next batch; more of them end when their request does


class Serving(Protocol):
    """What a worker serves."""

    def serve(self) -> None:
        """Runs what is ready. It may block; it returns when nothing is left for this greenlet."""
        ...

    def close(self) -> None:
        """Ends the connection at once."""
        ...


class Workers:
    """A pool of parked greenlets. `serve()` belongs to the hub: it returns when the work is done or blocks."""

    __slots__ = ("_ended", "_log", "parked")

    def __init__(self) -> None:
        self.parked: list[greenlet] = []
        self._ended = False
        self._log = structlog.get_logger("packetflow")

    def serve(self, connection: Serving) -> None:
        """Let a greenlet serve the connection. Only the hub may call this."""
        if self.parked:
            self.parked.pop().switch(connection)
        else:
            greenlet(self._work, get_hub()).switch(connection)

    def close(self) -> None:
        """End the parked greenlets; those at work end after it."""
        self._ended = True
        callback = get_hub().loop.run_callback
        for one in self.parked:
            callback(one.throw)
        self.parked = []

    def _work(self, connection: Serving) -> None:
        me = getcurrent()
        wait = get_hub().switch
        while True:
            try:
                connection.serve()
            except Exception:  # noqa: BLE001 - logged, and its connection closed
                # A fault of the transport itself: it must cost its own connection and no other.
                self._log.exception("a connection failed", connection=repr(connection))
                connection.close()
            parked = self.parked
            if self._ended or len(parked) >= MOST_PARKED:
                return
            parked.append(me)
            try:
                got = wait()
                # A wait that was broken off may wake this greenlet once more, with something else.
                while not hasattr(got, "serve"):
                    got = wait()
            except GreenletExit:
                if me in self.parked:
                    self.parked.remove(me)
                return
            connection = got
