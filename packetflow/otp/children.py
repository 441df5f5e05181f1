"""What every supervisor does with a child: start it, stop it, count its restarts."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import gevent

from packetflow.otp.answers import is_orderly
from packetflow.otp.calls import await_stop, call, post_stop
from packetflow.otp.child_spec import ChildSpec
from packetflow.otp.errors import ChildError, NameTaken, PacketFlowError, SpecError, StartFailed
from packetflow.otp.process import DEAD, SIGNAL, Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.signals import die
from packetflow.otp.start import start_process
from packetflow.otp.via import Target, locate

if TYPE_CHECKING:
    from packetflow.otp.timers import Timer

Status = Literal["running", "undefined", "restarting", "backoff"]


class Child:
    """One child of a supervisor, as it stands now."""

    __slots__ = ("alarm", "failures", "process", "restarts", "spec", "status")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: Process | None = None
        self.status: Status = "undefined"
        self.restarts = 0
        self.failures = 0  # restarts in a row, for the backoff
        self.alarm: Timer | None = None

    def hold(self, process: Process | None) -> None:
        """This process is the child now; None: it ignored."""
        self.process = process
        if process is None:
            self.status = "undefined"
        else:
            process.child = self
            self.status = "running"

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


class ChildExit(NamedTuple):
    """To a supervisor: this child is dead."""

    process: Process
    reason: object


class TryAgain(NamedTuple):
    """To a supervisor: the time to start this child again has come."""

    child: Child


class Refusal:
    """A supervisor's answer that is an error of the one who asked, and no crash."""

    __slots__ = ("error",)

    def __init__(self, error: PacketFlowError) -> None:
        self.error = error


def ask(supervisor: Target, request: tuple[Any, ...], timeout: float | None) -> Any:
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
            ref = start_process(
                owner.scheduler, start, arguments, spec.options, spec.name, spec.start_timeout, owner
            )
        else:
            ref = _start_by_callable(owner, spec, arguments)
    except StartFailed as error:
        raise StartFailed(str(spec.id), error.reason, (spec.id, *error.path)) from error
    except NameTaken as error:
        raise StartFailed(str(spec.id), error, (spec.id,)) from error
    return None if ref is None else ref._process


def _start_by_callable(owner: Process, spec: ChildSpec, arguments: tuple[Any, ...]) -> Ref | None:
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
    except Exception as error:
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
    return ref


def stop_children(children: Iterable[Child], together: bool) -> None:
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
                _settle(begun)
        _settle(begun)
    finally:
        for _, process, _, _ in begun:
            die(process, "killed")  # only if this supervisor itself is being ended


def _settle(begun: deque[Any]) -> None:
    while begun:
        child, process, request, seconds = begun[0]
        await_stop(process, request, seconds)
        child.process = None
        begun.popleft()


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
        self._process.scheduler.deliver(self._process, (SIGNAL, ChildExit(process, reason)))

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answers the requests that the class's methods send."""
        try:
            return getattr(self, f"_on_{request[0]}")(*request[1:])
        except (ChildError, SpecError, StartFailed) as error:
            return Refusal(error)

    def list_children(self) -> list[Child]:
        """The children in the order of their start, as they stand; to be read, not changed."""
        raise NotImplementedError

    def orphans(self) -> list[Process]:
        """The children that run."""
        return [child.process for child in reversed(self.list_children()) if child.process is not None]

    def get_state(self) -> dict[str, Any]:
        """Its children, by id."""
        return {str(child.spec.id): child.status for child in self.list_children()}

    def _on_which_children(self) -> list[ChildInfo]:
        return [
            ChildInfo(
                child.spec.id,
                None if child.process is None else child.process.ref,
                child.spec.type,
                child.status,
            )
            for child in self.list_children()
        ]

    def _on_count_children(self) -> ChildCount:
        children = self.list_children()
        supervisors = sum(1 for child in children if child.spec.type == "supervisor")
        active = sum(1 for child in children if child.process is not None)
        return ChildCount(len(children), active, supervisors, len(children) - supervisors)
