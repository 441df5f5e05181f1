"""Watches the folders of capability files: looks each second, and has what changed put in place when it has settled."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from packetflow.otp import GenServer
from packetflow.otp.errors import PacketFlowError

EACH = 1.0  # seconds between two looks
SUFFIXES = (".py", ".toml")
SKIPPED = {"__pycache__", ".git", ".venv", "node_modules"}
Seen = dict[str, tuple[int, int]]


class CapabilityFiles(GenServer):
    """Of one node. Cast "look" tells it that the folders may be others. While there are none it does nothing."""

    hub_limit = 30.0  # what it has loaded is loaded in the registry, as long as the usual `timeouts.start`

    def init(self, folders: Callable[[], Iterable[Path]], changed: Callable[[], list[str]], log: Any) -> None:
        """Begin with what was loaded at the start. changed: takes on what the files are now, and says what that changed."""
        self._folders = folders
        self._changed = changed
        self._log = log
        self._settled = self._before = look(self._folders())
        self._looking = False
        self.handle_cast("look")

    def handle_cast(self, message: Any) -> None:
        """Look from now on, if there is something to look at."""
        if self._folders() and not self._looking:
            self._looking = True
            self.send_after(EACH, "look")

    def handle_info(self, message: Any) -> None:
        """One look. A change counts when two looks see the same, so that half a save is not loaded."""
        if message != "look":
            return
        self._looking = False
        now = look(self._folders())
        before, self._before = self._before, now
        if now != self._settled and now == before:
            self._settled = now
            self._take_on()
        self.handle_cast("look")

    def _take_on(self) -> None:
        try:
            changed = self._changed()
        except PacketFlowError as error:
            # Nothing was changed; the next change of a file tries again.
            self._log.error("watched capability files were not taken on", error=str(error))
        else:
            if changed:
                self._log.info("watched capability files changed", changed=changed)


def look(paths: Iterable[Path]) -> Seen:
    """Time and size of each file; a file that is gone meanwhile is not there."""
    seen: Seen = {}
    for path in paths:
        for file in files_below(path):
            try:
                about = os.stat(file)
            except OSError:
                continue
            if not stat.S_ISREG(about.st_mode):
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
