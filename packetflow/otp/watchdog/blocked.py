"""The record of one time that the hub did not turn: who held it, with which message, where, and for how long."""

from __future__ import annotations

import linecache
from datetime import datetime
from types import FrameType
from typing import Any, Literal

from greenlet import greenlet

from packetflow.otp.process import DEAD, Call, Process
from packetflow.otp.ref import Ref
from packetflow.otp.turn import brief
from packetflow.otp.watchdog.breaking import WORK

Spot = tuple[str, int, str]  # file, line, function
_DEPTH = 64


class Blocked:
    """One time that the hub was held for longer than the limit.

    kind: "actor", "greenlet" (one that is none) or "hub" (a callback of the loop). who: its name. ref: the actor's.
    message: what it handled, shortened. at: when it was named (UTC). seconds: how long it had held the hub then, and once
    it is `over` how long in all. stack: the lines, innermost last. broken: how often the handler was broken.
    """

    __slots__ = ("_message", "_raw", "_stack", "_who", "at", "broken", "kind", "over", "ref", "seconds")

    kind: Literal["actor", "greenlet", "hub"]

    def __init__(
        self,
        running: greenlet | None,
        work: tuple[Process | None, Any] | None,
        frame: FrameType | None,
        hub: greenlet,
        at: datetime,
        seconds: float,
        who: str | None = None,
    ) -> None:
        process = None if work is None else work[0]
        self.kind = "actor" if process is not None else "hub" if running is hub else "greenlet"
        self.ref: Ref | None = None if process is None else process.ref
        self.at = at
        self.seconds = seconds
        self.over = False
        self.broken = 0
        # Made in a signal handler: what runs foreign code (repr) or reads files (the source) waits until somebody asks.
        self._raw: tuple[greenlet | None, Any, list[Spot]] | None = (
            running,
            None if work is None else work[1],
            spots(frame),
        )
        self._who = who or ""
        self._message: str | None = None
        self._stack: tuple[str, ...] = ()

    def settle(self) -> Blocked:
        """Reads what it was made of, and lets go of it."""
        raw = self._raw
        if raw is not None:
            running, item, found = raw
            if self.kind == "actor":
                self._who = str(self.ref)
                if item is not None and item is not DEAD:
                    self._message = brief(item.message if isinstance(item, Call) else item[1])
            elif self._who:
                pass  # the program has said it
            elif self.kind == "hub":
                self._who = "a callback of the hub"
            else:
                self._who = "a greenlet that is no actor" if running is None else brief(running)
            self._stack = lines(found)
            self._raw = None
        return self

    @property
    def who(self) -> str:
        """The actor's or greenlet's name."""
        return self.settle()._who

    @property
    def message(self) -> str | None:
        """What the actor handled, shortened."""
        return self.settle()._message

    @property
    def stack(self) -> tuple[str, ...]:
        """Where it was, innermost last."""
        return self.settle()._stack

    @property
    def line(self) -> str:
        """The innermost line."""
        return self.stack[-1] if self.stack else "an unknown line"

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "kind": self.kind,
            "who": self.who,
            "ref": None if self.ref is None else str(self.ref),
            "message": self.message,
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 3),
            "stack": list(self.stack),
            "over": self.over,
            "broken": self.broken,
        }

    def __str__(self) -> str:
        handled = "" if self.message is None else f" while it handled {self.message}"
        return f"{self.who} held the hub for {self.seconds:.1f} s{handled}, at {self.line}"

    def __repr__(self) -> str:
        return f"<blocked: {self}>"


def spots(frame: FrameType | None) -> list[Spot]:
    """Where a greenlet is, innermost last, without the worker's own loop. Cheap, and keeps no frame."""
    found: list[Spot] = []
    while frame is not None and frame.f_code is not WORK and len(found) < _DEPTH:
        found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name))
        frame = frame.f_back
    found.reverse()
    return found


def lines(found: list[Spot]) -> tuple[str, ...]:
    """The same for people, with the source."""
    return tuple(
        f"{file}:{line} in {function}: {linecache.getline(file, line).strip()}".removesuffix(": ")
        for file, line, function in found
    )
