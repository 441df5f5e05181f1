"""What a server answers with, the messages the runtime itself sends to a server, and how a task ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from packetflow.otp.ref import Ref
    from packetflow.otp.signals import Monitor
    from packetflow.otp.via import Target


T = TypeVar("T")


class _Mark:
    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


UNSET: Final[Any] = _Mark("UNSET")
IGNORE: Final[Any] = _Mark("IGNORE")
"""Returned by `init`: do not start, and that is no fault. `start` returns None."""


class Answer:
    """The base of what a handler may return instead of a plain value."""

    __slots__ = ()


class Reply(Answer):
    """From `handle_call`: answer with `value`. timeout: see NoReply."""

    __slots__ = ("timeout", "value")

    def __init__(self, value: Any, timeout: float | None = None) -> None:
        self.value = value
        self.timeout = timeout


class NoReply(Answer):
    """From `handle_call`: the answer comes later, by `reply(caller, value)`. From the others: nothing more to say.

    timeout: if no message comes within these seconds, `handle_info("timeout")` is called. From `init` it stands for
    success.
    """

    __slots__ = ("timeout",)

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout


class Stop(Answer):
    """Stop with this reason, after `terminate`. From `handle_call` with `reply`: the caller gets it first."""

    __slots__ = ("reason", "reply")

    def __init__(self, reason: object = "normal", reply: Any = UNSET) -> None:
        self.reason = reason
        self.reply = reply


class Continue(Answer):
    """Call `handle_continue(argument)` before any other message. From `handle_call` with `reply`: answer first."""

    __slots__ = ("argument", "reply")

    def __init__(self, argument: Any = None, reply: Any = UNSET) -> None:
        self.argument = argument
        self.reply = reply


ANSWERS: Final = frozenset((Reply, NoReply, Stop, Continue))
"""All of them, to be recognised by their class."""


class Down(NamedTuple):
    """A monitored process is gone. reason: what it died of; "noproc" if it was not there."""

    monitor: Monitor
    ref: Target
    reason: object


class Exit(NamedTuple):
    """A linked process is gone, or somebody sent an exit signal; only servers with `trap_exits` see it."""

    ref: Ref
    reason: object


@dataclass(frozen=True, slots=True)
class Ok(Generic[T]):
    """A task has this result."""

    value: T


@dataclass(frozen=True, slots=True)
class Exited:
    """A task ended without a result. reason: what it died of; of a stream that zips, (item, reason)."""

    reason: Any


def is_orderly(reason: object) -> bool:
    """Whether OTP counts it as an orderly end: normal, shutdown, ("shutdown", detail)."""
    if isinstance(reason, str):
        return reason in ("normal", "shutdown")
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"
