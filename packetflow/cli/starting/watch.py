"""`start --watch`: looks each second at the files a node is made of, and reloads when one changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import gevent

from packetflow.node.capability_files import Seen, look

EACH = 1.0  # seconds between two looks


class Watch:
    """Looks at files and folders until its greenlet is killed; calls `changed` when something did.

    seen: the look to begin with.
    """

    def __init__(self, paths: Callable[[], Iterable[Path]], changed: Callable[[], None], seen: Seen) -> None:
        self.paths = paths
        self.changed = changed
        self.settled = seen

    def run(self) -> None:
        """Looks for ever. A change counts when two looks see the same, so that half a save is not loaded."""
        now = look(self.paths())
        while True:
            gevent.sleep(EACH)
            before, now = now, look(self.paths())
            if now != self.settled and now == before:
                self.settled = now
                self.changed()
