"""What every supervisor does with a child: start it, stop it, count its restarts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import gevent

from packetflow.otp import turn
from packetflow.otp.answers import Exit, NoReply, is_orderly
from packetflow.otp.calls import await_stop, call, post_stop
from packetflow.otp.errors import (
    CallTimeout,
    ChildError,
    NameTaken,
    PacketFlowError,
    SpecError,
    StartFailed,
    reason_text,
)
from packetflow.otp.process import DEAD, SIGNAL, Failed, Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.signals import die, log
from packetflow.otp.start import begin_process
from packetflow.otp.supervision.child_spec import ChildSpec
from packetflow.otp.via import Target, locate

if TYPE_CHECKING:
    from packetflow.otp.clock import Seconds
    from packetflow.otp.timers import Timer

ORPHANS = 5.0  # seconds that the children of a supervisor that was killed have to end in
LOOK_AGAIN = 0.005
_LONGEST = 500  # characters of a reason in a log line
Status = Literal["running", "undefined", "restarting", "backoff"]


class Child:
    """One child of a supervisor, as it stands now."""

    __slots__ = ("alarm", "failures", "left", "patience", "process", "restarts", "spec", "status")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: Process | None = None
        self.status: Status = "undefined"
        self.restarts = 0
        self.failures = 0  # restarts in a row, for the backoff
        self.alarm: Timer | None = None
        self.left: tuple[
            Process, ...
        ] = ()  # of a supervisor that died: its own children, until they are dead too
        self.patience = 0.0  # until when they may take

    def hold(self, process: Process | None) -> None:
        """This process is the child now; None: it ignored."""
        self.process = process
        if process is None:
            self.status = "undefined"
        else:
            process.child = self
            self.status = "running"
            if self.spec.restart == "temporary":
                self.spec = self.spec.without_arguments()

    @property
    def info(self) -> ChildInfo:
        """Its line of `which_children`."""
        ref = None if self.process is None else self.process.ref
        return ChildInfo(self.spec.id, ref, self.spec.type, self.status)

    def forget_backoff(self) -> None:
        """A restart that waits is off."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None


class ChildInfo(NamedTuple):
    """A line of `which_children`. ref: None where it is not running; status says why."""

    id: Any
    ref: Ref | None
    type: Literal["worker", "supervisor"]
    status: Status


class ChildCount(NamedTuple):
    """What `count_children` tells: specifications, running children, and how many of the specified are of which type."""

    specs: int
    active: int
    supervisors: int
    workers: int


class SupervisorReport(NamedTuple):
    """What a supervisor has to say of a child, as OTP's supervisor reports; the `report` of a log record.

    context: "child_terminated" (it ended, and that was not asked for), "start_error" (it did not start, or come back),
    "shutdown_error" (it was to stop and ended otherwise, "killed" when its time was over), "shutdown" (the supervisor
    gives up). reason: what it died of.
    """

    supervisor: Ref
    context: Literal["child_terminated", "start_error", "shutdown_error", "shutdown"]
    reason: object
    id: Any
    ref: Ref | None
    restart: str
    shutdown: float | str
    type: Literal["worker", "supervisor"]


def report(
    supervisor: Ref,
    context: Literal["child_terminated", "start_error", "shutdown_error", "shutdown"],
    reason: object,
    spec: ChildSpec,
    ref: Ref | None,
) -> None:
    """Writes a SupervisorReport into the log."""
    if log.isEnabledFor(logging.ERROR):
        text = reason_text(reason)
        log.error(
            "%s: %s: child %s %s(%s): %s",
            supervisor,
            context,
            spec.id,
            "" if ref is None else f"{ref} ",
            spec.restart,
            text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…",
            extra={
                "report": SupervisorReport(
                    supervisor, context, reason, spec.id, ref, spec.restart, spec.shutdown, spec.type
                )
            },
        )


class ChildExit(NamedTuple):
    """To a supervisor: this child is dead."""

    process: Process
    reason: object
    left: tuple[Process, ...]  # its own children, if it was a supervisor: they end now, each in its time


class TryAgain(NamedTuple):
    """To a supervisor: the time to start this child again has come."""

    child: Child


class Refusal:
    """A supervisor's answer that is an error of the one who asked, and no crash."""

    __slots__ = ("error",)

    def __init__(self, error: PacketFlowError) -> None:
        self.error = error


def ask(supervisor: Target, request: tuple[Any, ...], timeout: Seconds | None) -> Any:
    """A request to a supervisor, which an actor may also name. Raises what it refuses with."""
    answer = call(locate(supervisor), request, timeout)
    if isinstance(answer, Refusal):
        raise answer.error
    return answer


def start_child(owner: Process, spec: ChildSpec, arguments: tuple[Any, ...]) -> Process | None:
    """Starts a child below a supervisor. Returns None if it ignored. Raises StartFailed."""
    start: Any = spec.start
    try:
        if isinstance(start, type):
            return begin_process(
                owner.scheduler, start, arguments, spec.options, spec.name, spec.start_timeout, owner
            )
        return _start_by_callable(owner, spec, arguments)
    except StartFailed as error:
        raise StartFailed(str(spec.id), error.reason, (spec.id, *error.path)) from error
    except NameTaken as error:
        raise StartFailed(str(spec.id), error, (spec.id,)) from error


def _start_by_callable(owner: Process, spec: ChildSpec, arguments: tuple[Any, ...]) -> Process | None:
    start: Any = spec.start
    overrun = gevent.Timeout(spec.start_timeout)
    try:
        with overrun:
            ref = start(*arguments, **spec.options)
    except gevent.Timeout as error:
        if error is not overrun:
            raise
        raise StartFailed(str(spec.id), "timeout") from None
    except (StartFailed, NameTaken):
        raise
    except (Exception, SystemExit, KeyboardInterrupt) as error:
        raise StartFailed(str(spec.id), error) from error
    if ref is None:
        return None
    if not isinstance(ref, Ref):
        raise StartFailed(str(spec.id), TypeError(f"{start!r} returned {ref!r}; a Ref or None is wanted"))
    process = ref._process
    if process.current is DEAD or process.scheduler is not owner.scheduler:
        raise StartFailed(str(spec.id), "noproc")
    process.parent = owner
    for each, other in ((process, owner), (owner, process)):
        if each.bonds is not None:
            each.bonds.links.discard(other)  # started by start_link: being its parent says it all
    return process


def stop_children(supervisor: Ref, children: Iterable[Child], together: bool) -> None:
    """Ends children, each by its `shutdown`. together: all at once, else each after the one before."""
    begun: deque[Any] = deque()
    try:
        for child in children:
            child.forget_backoff()
            process = child.process
            child.status = "undefined"
            if process is None:
                continue
            scheduler = process.scheduler
            if scheduler.monotonic() >= scheduler.slice_end:
                scheduler.pass_through_hub()  # many children must not starve I/O
            process.parent = None  # its end is what is asked for: no exit for the supervisor to judge
            shutdown = child.spec.shutdown
            if shutdown == "brutal_kill":
                die(process, "killed")
                child.process = None
                continue
            request = post_stop(process, "shutdown")
            if request is None:
                child.process = None  # it was idle and had nothing to clean up
                continue
            begun.append((child, process, request, None if shutdown == "infinity" else shutdown))
            if not together:
                _settle(supervisor, begun)
        _settle(supervisor, begun)
    finally:
        for _, process, _, _ in begun:
            die(process, "killed")  # only if this supervisor itself is being ended


def _settle(supervisor: Ref, begun: deque[Any]) -> None:
    while begun:
        child, process, request, seconds = begun[0]
        await_stop(process, request, seconds)
        child.process = None
        begun.popleft()
        if request.value.__class__ is Failed:
            error = request.value.error(None)
            reason = "killed" if isinstance(error, CallTimeout) else getattr(error, "reason", error)
            if not is_orderly(reason) or (reason == "normal" and child.spec.restart == "permanent"):
                report(supervisor, "shutdown_error", reason, child.spec, process.ref)


def wants_restart(spec: ChildSpec, reason: object) -> bool:
    """Whether a child that ended like this is to be started again."""
    return spec.restart == "permanent" or (spec.restart == "transient" and not is_orderly(reason))


class Intensity:
    """Counts restarts in a window of time."""

    __slots__ = ("_restarts", "limit", "seconds")

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit = limit
        self.seconds = seconds
        self._restarts: deque[float] = deque()

    def exceeded(self, now: float) -> bool:
        """Counts one more. Returns whether that is more than the limit within the window."""
        restarts = self._restarts
        restarts.append(now)
        while restarts[0] < now - self.seconds:
            restarts.popleft()
        return len(restarts) > self.limit


class Overseer(GenServer):
    """What the two kinds of supervisor share: they trap exits and judge their children's ends."""

    supervises = True
    trap_exits = True

    def child_exited(self, process: Process, reason: object) -> None:
        """Has the end of a child judged in this supervisor's turn."""
        left = tuple(process.server.orphans()) if process.server.supervises else ()
        self._process.scheduler.deliver(self._process, (SIGNAL, ChildExit(process, reason, left)))

    def must_wait_for_orphans(self, child: Child) -> bool:
        """Whether a supervisor is not to be started again yet, because children of the one before still hold what its own
        will want, such as names. Then it is tried again soon; after ORPHANS seconds they are killed. Beyond OTP, where the
        restarts fail until the intensity is reached."""
        child.left = tuple(one for one in child.left if one.current is not DEAD)
        if not child.left:
            child.patience = 0.0
            return False
        scheduler = self._process.scheduler
        now = scheduler.monotonic()
        if child.patience == 0.0:
            child.patience = now + ORPHANS
        elif now >= child.patience:
            for one in child.left:
                die(one, "killed")
            child.left, child.patience = (), 0.0
            return False
        child.status = "restarting"
        child.alarm = scheduler.timers.after(LOOK_AGAIN, self.try_again, child)
        return True

    def try_again(self, child: Child) -> None:
        """Has a child tried again in a turn of its own."""
        self._process.scheduler.deliver(self._process, (SIGNAL, TryAgain(child)))

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answers the requests that the class's methods send. What else somebody calls with is that one's error."""
        handler = None
        if isinstance(request, tuple) and request and isinstance(request[0], str):
            handler = getattr(self, f"_on_{request[0]}", None)
        if handler is None:
            refused = SpecError("request", request, "what the supervisor's own methods send")
            turn.answer(caller, Failed(lambda timeout: refused))
            return NoReply()
        try:
            return handler(*request[1:])
        except (ChildError, SpecError, StartFailed) as error:
            return Refusal(error)

    def handle_cast(self, message: Any) -> None:
        """Nobody has to cast to a supervisor; it is told in the log and ends nothing."""
        log.error("%s got an unexpected cast: %s", self.ref, turn.brief(message))

    def unexpected(self, message: Any) -> None:
        """What came to `handle_info` and means nothing. Exit signals of strangers are ignored silently, as in OTP."""
        if not isinstance(message, Exit | ChildExit | TryAgain):
            log.error("%s got an unexpected message: %s", self.ref, turn.brief(message))

    def list_children(self) -> list[Child]:
        """The children in the order of their start, as they stand; to be read, not changed."""
        raise NotImplementedError

    def orphans(self) -> list[Process]:
        """The children that run."""
        return [child.process for child in reversed(self.list_children()) if child.process is not None]

    def get_state(self) -> dict[str, Any]:
        """Its children, by id."""
        return {str(child.spec.id): child.status for child in self.list_children()}

    def _named(self, child: Hashable) -> Child:
        raise NotImplementedError

    def _on_which_children(self) -> list[ChildInfo]:
        return [child.info for child in self.list_children()]

    def _on_which_child(self, child: Hashable) -> ChildInfo:
        return self._named(child).info

    def _on_get_childspec(self, child: Hashable) -> ChildSpec:
        return self._named(child).spec

    def _on_count_children(self) -> ChildCount:
        children = self.list_children()
        supervisors = sum(1 for child in children if child.spec.type == "supervisor")
        active = sum(1 for child in children if child.process is not None)
        return ChildCount(len(children), active, supervisors, len(children) - supervisors)
