"""Where results go: JSON lines, written in order of completion, off the hub, with workers held back if the reader is slow."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import gevent
from gevent.event import Event

from packetflow.cli.batch.journal import write_all

MOST_WAITING = 2000  # results that may wait to be written


class Results:
    """A writer of its own greenlet. failed: what the system said when it refused a write; nothing is written after it."""

    def __init__(
        self, descriptor: int, before: Callable[[], None], on_failure: Callable[[OSError], None]
    ) -> None:
        self.descriptor = descriptor
        self.before = before
        self.on_failure = on_failure
        self.waiting: list[bytes] = []
        self.failed: OSError | None = None
        self.something = Event()
        self.room = Event()
        self.closing = False
        self.greenlet = gevent.spawn(self.run)

    def add(self, row: Mapping[str, Any]) -> None:
        """One result; waits while too many wait to be written."""
        self.waiting.append(
            json.dumps(row, ensure_ascii=False, separators=(",", ":"), default=str).encode() + b"\n"
        )
        self.something.set()
        while len(self.waiting) > MOST_WAITING and self.failed is None:
            self.room.clear()
            self.room.wait()

    def run(self) -> None:
        """Writes what there is, in one write each time, in a thread because a pipe may block."""
        pool = gevent.get_hub().threadpool
        while True:
            self.something.wait()
            self.something.clear()
            batch, self.waiting = self.waiting, []
            self.room.set()
            if batch and self.failed is None:
                self.before()
                refused = pool.apply(write_or_refusal, (self.descriptor, b"".join(batch)))
                if refused is not None:
                    self.failed = refused
                    self.on_failure(refused)
            if self.closing and not self.waiting:
                return

    def close(self) -> None:
        """Returns when all is written, or can't be."""
        self.closing = True
        self.something.set()
        self.greenlet.join()


def write_or_refusal(descriptor: int, data: bytes) -> OSError | None:
    """Writes every byte; answers the system's refusal, because a thread of the pool would print what it raises."""
    try:
        write_all(descriptor, data)
    except OSError as error:
        return error
    return None
