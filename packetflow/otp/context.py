"""ActorContext: what a handler may know of the message at hand, besides the message itself. And whose trace it belongs to."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from packetflow.otp.envelope import Envelope
from packetflow.otp.process import Call, Job, Process
from packetflow.otp.ref import Ref
from packetflow.otp.signals import actor
from packetflow.otp.timeouts import DATED

if TYPE_CHECKING:
    from packetflow.otp.system import System

TRACE: ContextVar[str | None] = ContextVar("packetflow_trace", default=None)
"""The trace that the running code belongs to. Set by whoever begins something; a call takes it along, a cast does not."""

_log = logging.getLogger("packetflow.otp.actor")


class ActorContext:
    """An actor's view of itself and of the message it handles. Read during a handler; everything is looked up when asked."""

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def ref(self) -> Ref:
        """The actor's own address."""
        return self._process.ref

    @property
    def system(self) -> System:
        """The system it lives in."""
        return self._process.scheduler.system

    @property
    def sender(self) -> Ref | None:
        """Whom the message is from: who calls, if it is an actor, or an envelope's `reply_to`. None if that is not known."""
        call = self._call()
        if call is not None and call.caller is not None:
            return call.caller.ref
        envelope = self._envelope()
        return None if envelope is None else envelope.reply_to

    @property
    def deadline(self) -> float | None:
        """When who waits for this message gives up, at the earliest (`system.clock.monotonic()` seconds).

        None: never, or nobody waits. It is the call's timeout that counts, not an exact `deadline` that it may have besides.
        """
        call = self._call()
        timeout = getattr(call, "timeout", None)  # not set where there is none
        if call is None or timeout is None:
            return None
        if call.before is DATED:
            return call.deadline
        # The hub had no turn since the call was made: its time has not begun to run.
        scheduler = self._process.scheduler
        return scheduler.monotonic() + scheduler.timeouts.find(timeout).seconds

    @property
    def remaining(self) -> float | None:
        """The seconds until the deadline, 0 if it is over; None without one."""
        deadline = self.deadline
        return None if deadline is None else max(0.0, deadline - self._process.scheduler.monotonic())

    @property
    def trace(self) -> str | None:
        """The trace of the message: its envelope's, else the one that `TRACE` holds here."""
        envelope = self._envelope()
        return TRACE.get() if envelope is None or envelope.trace is None else envelope.trace

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines begin with the actor, and whose records have `actor` and `trace`."""
        return _ActorLog(_log, {"actor": repr(self.ref), "trace": self.trace})

    def _call(self) -> Call | None:
        current = self._process.current
        return current if isinstance(current, Call) and not isinstance(current, Job) else None

    def _envelope(self) -> Envelope[Any] | None:
        current = self._process.current
        message = (
            current.message if isinstance(current, Call) else current[1] if type(current) is tuple else None
        )
        return message if isinstance(message, Envelope) else None

    def __repr__(self) -> str:
        return f"<context of {self.ref}>"


def actor_context() -> ActorContext:
    """The context of the actor whose handler runs. Raises NotAnActor outside of one."""
    return ActorContext(actor("actor_context"))


class _ActorLog(logging.LoggerAdapter[logging.Logger]):
    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        actor = str((self.extra or {})["actor"]).replace("%", "%%")
        return f"{actor}: {msg}", kwargs
