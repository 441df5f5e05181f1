"""How the exit status of a child process is learned, also where libev asks the kernel first.

Once a program has used `gevent.subprocess`, libev waits for every child of the process and keeps the answers for its own
child watchers. Installing it for that would take the children of others from them, so it is used only where it is there.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

from gevent.hub import get_hub
from gevent.monkey import get_original

_waitpid: Callable[[int, int], tuple[int, int]] = get_original("os", "waitpid")
_getsignal: Callable[[int], Any] = get_original("signal", "getsignal")


class Reaper:
    """One child: whether it is gone, and then with which status. Made before the hub has a turn after its launch.

    told: called in the hub where libev has learned of its end.
    """

    __slots__ = ("_told", "_watcher", "gone", "pid", "status")

    def __init__(self, pid: int, told: Callable[[], object]) -> None:
        self.pid = pid
        self.gone = False
        self.status: int | None = None
        """Its exit code, or a signal's number below zero; None while it runs, and where somebody else keeps it."""
        self._told = told
        self._watcher: Any = None
        if _libev_reaps():
            try:
                self._watcher = get_hub().loop.child(pid, ref=False)
            except TypeError:
                return  # not the default loop: its thread gets no children's ends
            self._watcher.start(self._reaped)

    def look(self) -> bool:
        """Whether it is gone. Where libev reaps it, that is known once libev has told."""
        if not self.gone:
            try:
                pid, status = _waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.gone = (
                    self._watcher is None
                )  # somebody else asked the kernel first, who keeps the answer
            else:
                if pid:
                    self._learn(status)
        return self.gone

    def close(self) -> None:
        """Nobody wants to know any more."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def _reaped(self) -> None:
        self._learn(self._watcher.rstatus)
        self._told()

    def _learn(self, status: int) -> None:
        self.gone = True
        self.status = os.waitstatus_to_exitcode(status)
        self.close()


def _libev_reaps() -> bool:
    with open("/proc/self/status") as file:
        caught = next(int(line.split()[1], 16) for line in file if line.startswith("SigCgt:"))
    by_python = callable(_getsignal(signal.SIGCHLD))
    return bool(caught >> (signal.SIGCHLD - 1) & 1) and not by_python
