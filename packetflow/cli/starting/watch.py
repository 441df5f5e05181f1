"""`start --watch`: looks each second at the files a node is made of, and reloads when one changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import gevent

EACH = 1.0  # seconds between two looks
SUFFIXES = (".py", ".toml")
SKIPPED = {"__pycache__", ".git", ".venv", "node_modules"}
Seen = dict[str, tuple[int, int]]


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


def look(paths: Iterable[Path]) -> Seen:
    """Time and size of each file; a file that is gone meanwhile is not there."""
    seen: Seen = {}
    for path in paths:
        for file in files_below(path):
            try:
                about = os.stat(file)
            except OSError:
                continue
            seen[file] = (about.st_mtime_ns, about.st_size)
    return seen


def files_below(path: Path) -> Iterator[str]:
    """The file itself, or the sources in a folder and below."""
    if path.is_file():
        yield str(path)
        return
    for folder, folders, files in os.walk(path):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for name in files:
            if name.endswith(SUFFIXES):
                yield os.path.join(folder, name)
