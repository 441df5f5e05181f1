"""Signals of a running node (design ruling 32). Only this program installs handlers, and with `signal.signal`.

The first SIGTERM or SIGINT asks for a drain, the second ends the process from the handler itself, whatever the node
does. SIGHUP reloads, or drains if a person sat at stdin when the node started: then it means that the terminal closed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType

from gevent.event import Event

from packetflow.cli.exits import Exit

ENDS = {signal.SIGINT: Exit.INTERRUPTED, signal.SIGTERM: Exit.TERMINATED}


class Signals:
    """What signals ask for. `asked` is set when there is something new; `take()` answers it."""

    def __init__(self, at_terminal: bool) -> None:
        self.at_terminal = at_terminal
        self.asked = Event()
        self.stopping = False
        self.reload = False
        self.told: Callable[[str], None] = lambda text: None

    def install(self) -> None:
        """Takes SIGINT, SIGTERM and SIGHUP from now on."""
        signal.signal(signal.SIGINT, self.end)
        signal.signal(signal.SIGTERM, self.end)
        signal.signal(signal.SIGHUP, self.hang_up)

    def end(self, number: int, frame: FrameType | None) -> None:
        """Drain; at the second time end at once."""
        if self.stopping:
            os.write(2, b"\nstopped at once\n")
            os._exit(ENDS[signal.Signals(number)])
        self.stopping = True
        self.asked.set()

    def hang_up(self, number: int, frame: FrameType | None) -> None:
        """Reload, or drain where the terminal has gone."""
        if self.at_terminal:
            self.stopping = True
        else:
            self.reload = True
        self.asked.set()

    def done(self) -> None:
        """The node has ended: a signal that comes while the process goes changes nothing any more."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)

    def take(self) -> str:
        """What is asked for now: `stop`, `reload` or nothing."""
        self.asked.clear()
        if self.stopping:
            return "stop"
        if self.reload:
            self.reload = False
            return "reload"
        return ""
