"""The base of every error of ours, and the supervision runtime's own.

Each layer derives its own; `packetflow.errors` shows the whole tree.

PacketFlowError                code, message for people
├─ CallFailed                  a call has no answer: ref, reason
│  ├─ NoProcess                nobody is there
│  ├─ ServerExited             the server died first; reason is what it died of
│  ├─ CallTimeout              not answered in time; the server lives on
│  ├─ CallCycle                it would wait for itself: chain
│  ├─ MailboxFull              the server's mailbox is bounded and full
│  ├─ TaskExited               the awaited task died: reason, also the cause
│  └─ AwaitTimeout             the awaited task has not ended in time; it runs on
├─ StartFailed                 `init` raised, stopped or overran: reason, path
├─ NameTaken                   the name has a holder: name, holder
│  └─ AlreadyRegistered        the key of a registry has one: registry, key, holder
├─ NotRegistered               somebody does not hold the key: registry, key
├─ SpecError                   a child specification or option is wrong: field, given, accepted
├─ ChildError                  a supervisor refuses
│  ├─ AlreadyStarted  AlreadyPresent  ChildRunning  ChildRestarting  ChildNotFound  TooManyChildren
├─ WorkerFailed                a worker process raised: kind, text, traceback
├─ BadReturn                   a state machine's callback returned what it may not: given, reason
├─ BadAction                   an action of it is none, or is not one there: given, reason
├─ OffloadError                offloaded work has no result
│  ├─ PoolFull  PoolClosed     it was not taken
│  ├─ OffloadTimeout           not done in time
│  ├─ OffloadFailed            it raised what can't be handed on
│  └─ ProcessDied              the process that did it died: status
├─ WrongThread                 the system belongs to another thread
├─ ThreadGone                  the thread a system lived in has ended
├─ NotTheOwner                 only the one who started a task may await it
├─ AlreadyAwaited              a task is awaited once
├─ HubBlocked                  the hub's own greenlet must not wait
├─ NotASimulation              a file that can't be run as one
├─ SimulationFailed            a simulated program failed: seed
│  ├─ Deadlock                 nobody can go on: waiting
│  └─ Endless                  it made more turns than it may
└─ NotAnActor                  only an actor can do that

HandlerOverrun is a BaseException besides: what the watchdog raises inside a handler that holds the hub.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packetflow.otp.ref import Ref
    from packetflow.otp.via import Target


class PacketFlowError(Exception):
    """What every error that PacketFlow raises on purpose is derived from.

    `code` is a stable word for programs (one of the wire's codes, or a layer's own); `str(error)` is for people.
    """

    code: str = "internal"


def reason_text(reason: object) -> str:
    """An exit reason as one line for people; one whose text raises is told as such."""
    try:
        if isinstance(reason, PacketFlowError):
            return str(reason)
        if isinstance(reason, BaseException):
            text = str(reason)
            return f"{type(reason).__name__}: {text}" if text else type(reason).__name__
        return str(reason) if isinstance(reason, str) else repr(reason)
    except Exception as error:  # noqa: BLE001 - whoever tells of a crash must not crash of it
        return f"<{type(reason).__name__}, whose text raises {type(error).__name__}>"


class CallFailed(PacketFlowError):
    """A call that has no answer.

    ref: who was called (a name, if nobody holds it). reason: OTP's word, or what the server died of.
    """

    code = "unavailable"

    def __init__(self, text: str, ref: Target, reason: object) -> None:
        super().__init__(text)
        self.ref = ref
        self.reason = reason


class NoProcess(CallFailed):
    """Nobody is there: the target is dead, or no one holds the name."""

    def __init__(self, ref: Target) -> None:
        super().__init__(f"{ref}: no such process (noproc)", ref, "noproc")


class ServerExited(CallFailed):
    """The server died before it answered. `reason` is what it died of; an exception is also the cause of this one."""

    def __init__(self, ref: Target, reason: object) -> None:
        super().__init__(f"{ref} exited before it answered: {reason_text(reason)}", ref, reason)


class CallTimeout(CallFailed):
    """No answer within `timeout` seconds. The server lives on; its late answer is dropped."""

    code = "timeout"

    def __init__(self, ref: Target, timeout: float) -> None:
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


class TaskExited(CallFailed):
    """The awaited task died. `reason` is what it died of; an exception is also the cause of this one."""

    code = "execution_failed"

    def __init__(self, ref: Ref | None, reason: object) -> None:
        super().__init__(f"the task {ref} exited: {reason_text(reason)}", ref or "task", reason)


class AwaitTimeout(CallFailed):
    """The awaited task has not ended within `timeout` seconds. It runs on; await it again, or shut it down."""

    code = "timeout"

    def __init__(self, ref: Ref | None, timeout: float | None) -> None:
        super().__init__(f"the task {ref} has not ended within {timeout:g} s", ref or "task", "timeout")
        self.timeout = timeout


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
        self.name: object = name
        self.holder = holder


class AlreadyRegistered(NameTaken):
    """A registry of unique keys has a holder of this key already, who may be the one that asks."""

    def __init__(self, registry: str, key: object, holder: Ref) -> None:
        PacketFlowError.__init__(self, f"registry {registry}: the key {key!r} is held by {holder}")
        self.registry = registry
        self.name = self.key = key
        self.holder = holder


class NotRegistered(PacketFlowError):
    """The registry has no such key of this actor."""

    code = "not_found"

    def __init__(self, registry: str, key: object, ref: Ref) -> None:
        super().__init__(f"registry {registry}: the key {key!r} is not held by {ref}")
        self.registry = registry
        self.key = key
        self.ref = ref


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


class BadReturn(PacketFlowError):
    """A state machine's callback returned what it may not, or a state that is none.

    given: what it returned. reason: OTP's word, such as "bad_return_from_state_function".
    """

    code = "execution_failed"

    def __init__(self, text: str, given: object, reason: str) -> None:
        super().__init__(text)
        self.given = given
        self.reason = reason


class BadAction(BadReturn):
    """An action that a state machine's callback returned is none, or is not one there. given: the action."""


class NotTheOwner(PacketFlowError):
    """A task was awaited, yielded, shut down or ignored by somebody who did not start it."""

    def __init__(self, task: object, what: str = "the task") -> None:
        super().__init__(
            f"{what} {task} belongs to another: only the actor or greenlet that started it may await it"
        )
        self.task = task


class AlreadyAwaited(PacketFlowError):
    """A task was awaited twice; its result was given out, or it was shut down or ignored."""

    def __init__(self, task: object) -> None:
        super().__init__(
            f"the task {task} was awaited, shut down or ignored before; its result is given out once"
        )
        self.task = task


class WrongThread(PacketFlowError):
    """A system was used from a thread other than its hub's."""


class ThreadGone(PacketFlowError):
    """The thread that a system lived in has ended, and all of it with the thread."""

    code = "unavailable"


class HubBlocked(PacketFlowError):
    """The hub's own greenlet was to wait, which would stop every greenlet of the thread."""


class SimulationFailed(PacketFlowError):
    """A simulated program failed (see `simulation.simulate`); the cause is what it raised. `seed` makes it fail again."""

    def __init__(self, seed: int, text: str) -> None:
        super().__init__(f"seed {seed}: {text}")
        self.seed = seed


class NotASimulation(PacketFlowError):
    """A file that can't be run as a simulation; says why, and what is expected."""

    code = "validation_failed"


class Deadlock(SimulationFailed):
    """Nobody can go on, and no timer is to come. `waiting` tells who waits for whom."""

    def __init__(self, seed: int, waiting: tuple[str, ...]) -> None:
        super().__init__(seed, "nobody can go on: " + "; ".join(waiting))
        self.waiting = waiting


class Endless(SimulationFailed):
    """The program made more turns than it may."""


class NotAnActor(PacketFlowError):
    """Something only an actor can do was asked for outside of one."""


class HandlerOverrun(BaseException):
    """Raised by the watchdog inside a handler that holds the hub longer than its limit; its actor dies of it.

    A BaseException, so that `except Exception` does not swallow it. seconds: how long it held the hub.
    """

    def __init__(self, seconds: float, limit: float) -> None:
        super().__init__(f"the handler held the hub for {seconds:.1f} s; its limit is {limit:g} s")
        self.seconds = seconds
        self.limit = limit


class OffloadError(PacketFlowError):
    """Work that was given to a pool has no result. `work` names it."""

    code = "unavailable"

    def __init__(self, work: str, text: str) -> None:
        super().__init__(text)
        self.work = work


class PoolFull(OffloadError):
    """As many as may wait for the pool wait already."""

    code = "overloaded"

    def __init__(self, work: str, pool: str, waiting: int) -> None:
        super().__init__(work, f"{pool} is full: {work} would be behind {waiting} that wait")


class PoolClosed(OffloadError):
    """The pool is closed, or was closed before the work was done."""

    def __init__(self, work: str, pool: str) -> None:
        super().__init__(work, f"{pool} is closed: {work} has no result")


class OffloadTimeout(OffloadError):
    """Not done within `timeout` seconds. In a thread it goes on, and its result is dropped; a process is killed."""

    code = "timeout"

    def __init__(self, work: str, timeout: float) -> None:
        super().__init__(work, f"{work} was not done within {timeout:g} s")
        self.timeout = timeout


class OffloadFailed(OffloadError):
    """It raised something that can't be raised here: SystemExit and the like, or what no pickle can carry."""

    code = "execution_failed"

    def __init__(self, work: str, what: str) -> None:
        super().__init__(work, f"{work} failed: {what}")


class ProcessDied(OffloadError):
    """The process died while it did the work. status: its exit code, minus the signal's number if one ended it; None if
    it could not be learnt."""

    code = "execution_failed"

    def __init__(self, work: str, status: int | None) -> None:
        how = "" if status is None else f" (signal {-status})" if status < 0 else f" (exit code {status})"
        super().__init__(work, f"the process that did {work} died{how}")
        self.status = status
