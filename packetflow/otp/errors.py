"""The base of every error of ours, and the supervision runtime's own.

Each layer derives its own; `packetflow.errors` shows the whole tree.

PacketFlowError                code, message for people
├─ CallFailed                  a call has no answer: ref, reason
│  ├─ NoProcess                nobody is there
│  ├─ ServerExited             the server died first; reason is what it died of
│  ├─ CallTimeout              not answered in time; the server lives on
│  ├─ CallCycle                it would wait for itself: chain
│  └─ MailboxFull              the server's mailbox is bounded and full
├─ StartFailed                 `init` raised, stopped or overran: reason, path
├─ NameTaken                   the name has a holder: name, holder
├─ SpecError                   a child specification or option is wrong: field, given, accepted
├─ ChildError                  a supervisor refuses
│  ├─ AlreadyStarted  AlreadyPresent  ChildRunning  ChildRestarting  ChildNotFound  TooManyChildren
├─ WorkerFailed                a worker process raised: kind, text, traceback
├─ WrongThread                 the system belongs to another thread
├─ HubBlocked                  the hub's own greenlet must not wait
└─ NotAnActor                  only an actor can do that
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packetflow.otp.ref import Ref


class PacketFlowError(Exception):
    """What every error that PacketFlow raises on purpose is derived from.

    `code` is a stable word for programs (one of the wire's codes, or a layer's own); `str(error)` is for people.
    """

    code: str = "internal"


def reason_text(reason: object) -> str:
    """An exit reason as one line for people."""
    if isinstance(reason, PacketFlowError):
        return str(reason)
    if isinstance(reason, BaseException):
        return f"{type(reason).__name__}: {reason}" if str(reason) else type(reason).__name__
    return str(reason) if isinstance(reason, str) else repr(reason)


class CallFailed(PacketFlowError):
    """A call that has no answer.

    ref: who was called (a name, if nobody holds it). reason: OTP's word, or what the server died of.
    """

    code = "unavailable"

    def __init__(self, text: str, ref: Ref | str, reason: object) -> None:
        super().__init__(text)
        self.ref = ref
        self.reason = reason


class NoProcess(CallFailed):
    """Nobody is there: the target is dead, or no one holds the name."""

    def __init__(self, ref: Ref | str) -> None:
        super().__init__(f"{ref}: no such process (noproc)", ref, "noproc")


class ServerExited(CallFailed):
    """The server died before it answered. `reason` is what it died of; an exception is also the cause of this one."""

    def __init__(self, ref: Ref | str, reason: object) -> None:
        super().__init__(f"{ref} exited before it answered: {reason_text(reason)}", ref, reason)


class CallTimeout(CallFailed):
    """No answer within `timeout` seconds. The server lives on; its late answer is dropped."""

    code = "timeout"

    def __init__(self, ref: Ref | str, timeout: float) -> None:
        super().__init__(f"{ref} did not answer within {timeout:g} s", ref, "timeout")
        self.timeout = timeout


class CallCycle(CallFailed):
    """The call would wait for itself. `chain` leads from the caller by whom each one waits for back to the caller."""

    def __init__(self, chain: tuple[Ref, ...]) -> None:
        drawn = " -> ".join(str(ref) for ref in chain)
        text = f"this call would wait for itself: {drawn}; reply or return first, or cast"
        if len(chain) == 2:
            text = f"{chain[0]} calls itself, and would wait for ever; call its method, or cast"
        super().__init__(text, chain[1], "cycle")
        self.chain = chain


class MailboxFull(CallFailed):
    """The target's mailbox is bounded and full."""

    code = "overloaded"

    def __init__(self, ref: Ref, limit: int) -> None:
        super().__init__(f"{ref}: its mailbox is full ({limit} messages)", ref, "full")
        self.limit = limit


class StartFailed(PacketFlowError):
    """A process did not start. `reason` is what its `init` raised or stopped with, or "timeout".

    Where it was a child, `path` holds the ids from the outermost supervisor down to it.
    """

    def __init__(self, what: str, reason: object, path: tuple[Any, ...] = ()) -> None:
        place = f" (child {' / '.join(str(step) for step in path)})" if path else ""
        super().__init__(f"{what}{place} did not start: {reason_text(reason)}")
        self.reason = reason
        self.path = path


class NameTaken(PacketFlowError):
    """The name has a holder already."""

    code = "conflict"

    def __init__(self, name: str, holder: Ref) -> None:
        super().__init__(f"the name {name!r} is held by {holder}")
        self.name = name
        self.holder = holder


class SpecError(PacketFlowError):
    """A specification or option is wrong, found before anything was started."""

    code = "validation_failed"

    def __init__(self, field: str, given: object, accepted: str) -> None:
        super().__init__(f"{field}: given {given!r}; accepted is {accepted}")
        self.field = field
        self.given = given
        self.accepted = accepted


class ChildError(PacketFlowError):
    """A supervisor refuses what was asked about a child. `reason` is OTP's word."""

    code = "conflict"
    reason = "refused"

    def __init__(self, child: object, text: str) -> None:
        super().__init__(text)
        self.child = child


class AlreadyStarted(ChildError):
    """A child of this id runs already; `ref` is its."""

    reason = "already_started"

    def __init__(self, child: object, ref: Ref) -> None:
        super().__init__(child, f"child {child} is started already: {ref}")
        self.ref = ref


class AlreadyPresent(ChildError):
    """A child of this id is specified already, and does not run."""

    reason = "already_present"

    def __init__(self, child: object) -> None:
        super().__init__(child, f"child {child} is present already; restart it, or delete it first")


class ChildRunning(ChildError):
    """The child runs, and that forbids it."""

    reason = "running"

    def __init__(self, child: object) -> None:
        super().__init__(child, f"child {child} is running; terminate it first")


class ChildRestarting(ChildError):
    """The child is being restarted, and that forbids it."""

    reason = "restarting"

    def __init__(self, child: object) -> None:
        super().__init__(child, f"child {child} is being restarted; terminate it first")


class ChildNotFound(ChildError):
    """The supervisor has no such child."""

    code = "not_found"
    reason = "not_found"

    def __init__(self, child: object) -> None:
        super().__init__(child, f"there is no child {child}")


class TooManyChildren(ChildError):
    """The dynamic supervisor has `max_children` already."""

    code = "overloaded"
    reason = "max_children"

    def __init__(self, child: object, limit: int) -> None:
        super().__init__(child, f"child {child} is not started: {limit} run already (max_children)")
        self.limit = limit


class WorkerFailed(PacketFlowError):
    """What was raised in a worker process. kind: the exception's class by name. traceback: its traceback, as text."""

    code = "execution_failed"

    def __init__(self, kind: str, text: str, traceback: str = "") -> None:
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text
        self.traceback = traceback

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.kind, self.text, self.traceback)


class WrongThread(PacketFlowError):
    """A system was used from a thread other than its hub's."""


class HubBlocked(PacketFlowError):
    """The hub's own greenlet was to wait, which would stop every greenlet of the thread."""


class NotAnActor(PacketFlowError):
    """Something only an actor can do was asked for outside of one."""
