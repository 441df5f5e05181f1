"""Looking inside: the tree as data, one process's figures, its state, and a change of it or of its code.

The figures are read where they lie, so that a busy server answers too; the state is asked for in the server's turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, NamedTuple

from packetflow.otp.calls import check_cycle, wait, waiting_for
from packetflow.otp.errors import NoProcess, SpecError
from packetflow.otp.process import DEAD, Call, Job, Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.supervision.children import Child, Overseer
from packetflow.otp.turn import brief, start_idling


class Branch(NamedTuple):
    """A process in the tree. age: seconds since its start. current: the message it handles, shortened; None if idle.

    ref and the figures are of nobody (None, 0) where a child does not run; status says why.
    """

    id: Any
    name: str | None
    ref: Ref | None
    kind: Literal["supervisor", "worker"]
    status: str
    restarts: int
    mailbox: int
    handled: int
    age: float
    current: str | None
    children: tuple[Branch, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, ids and refs as text."""
        data = self._asdict()
        data["id"] = str(self.id)
        data["ref"] = None if self.ref is None else repr(self.ref)
        data["children"] = [child.as_dict() for child in self.children]
        return data


class Statistics(NamedTuple):
    """What one process has done. dropped: messages that its bounded mailbox refused."""

    ref: Ref
    status: Literal["idle", "busy", "suspended"]
    mailbox: int
    handled: int
    dropped: int
    age: float
    current: str | None
    links: int
    monitors: int
    waits_for: Ref | None


def tree(ref: Ref) -> Branch:
    """A process and everybody below it. Raises NoProcess if it is dead."""
    process = living(ref)
    return _branch(process.label(), process, "running", 0, "worker")


def statistics(ref: Ref) -> Statistics:
    """One process's figures. Raises NoProcess if it is dead."""
    process = living(ref)
    bonds = process.bonds
    waiting = process.waiting
    return Statistics(
        ref,
        "idle" if process.current is None else "suspended" if is_suspended(process) else "busy",
        0 if process.mailbox is None else len(process.mailbox),
        process.handled,
        0 if bonds is None else bonds.dropped,
        process.scheduler.monotonic() - process.started,
        _current(process),
        0 if bonds is None else len(bonds.links),
        0 if bonds is None else len(bonds.monitors),
        None if waiting is None else waiting.target.ref,
    )


def get_state(ref: Ref, timeout: float | None = 5.0) -> Any:
    """A server's state by its `get_state`, read between two messages: its attributes; (state, data) of a state machine.
    Of a task, at once. Raises what `call` raises, and what `get_state` raises."""
    server = living(ref).server
    if server.is_task:
        return server.get_state()
    return visit(ref, _GetState, None, timeout)


def replace_state(ref: Ref, function: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Gives a server, between two messages, the state that `function` makes of the one it has. Returns it.

    The state is what `get_state` shows: attributes; (state, data) of a state machine. For repairs of a running system, as
    OTP's `sys:replace_state`. If the function raises, so does this, and nothing has changed. Raises SpecError for a
    supervisor (see `Supervisor.upgrade`), and what `call` raises.
    """
    if isinstance(living(ref).server, Overseer):
        raise SpecError("ref", ref, "a server that is no supervisor; see upgrade")
    return visit(ref, _ReplaceState, function, timeout)


def change_code(ref: Ref, cls: type[GenServer], timeout: float | None = 5.0) -> None:
    """Puts a new class in the place of a server's, between two messages; ref, name, links and mailbox stay.

    The new one's `code_change(old_version, state)` takes the state over. If it raises, the caller gets that and the old
    one goes on. A supervisor's place takes a supervisor of its kind, whose children are upgraded (see
    `Supervisor.upgrade`). Raises SpecError, and what `call` raises.
    """
    if not (isinstance(cls, type) and issubclass(cls, GenServer)):
        raise SpecError("cls", cls, "a GenServer class")
    if living(ref).server.is_task:
        raise SpecError("ref", ref, "a server's; a task has no code to change")
    if _kind_of_supervisor(cls) is not _kind_of_supervisor(type(living(ref).server)):
        raise SpecError("cls", cls, "a class of the same kind: a supervisor follows a supervisor only")
    visit(ref, _ChangeCode, cls, timeout)


def _kind_of_supervisor(cls: type) -> type | None:
    return next((base for base in cls.__mro__ if Overseer in base.__bases__), None)


# ---- system messages -------------------------------------------------------------------------------------------------


class SystemMessage(Job):
    """A message to the runtime inside a server. Done between two messages, also while the server is suspended; it is no
    message to the server, so that an idle timeout goes on."""

    __slots__ = ()
    suspends: ClassVar[bool] = False

    def perform(self, process: Process) -> Any:
        """Answers it."""
        try:
            self.value = self.answer(process)
        finally:
            bonds = process.bonds
            if bonds is not None and bonds.idle_timer is not None and bonds.idle_mark == process.handled:
                start_idling(process, max(0.0, bonds.idle_due - process.scheduler.monotonic()))

    def answer(self, process: Process) -> Any:
        """What who asked gets; what it raises, that one gets."""
        raise NotImplementedError


def visit(ref: Ref, kind: type[SystemMessage], message: Any, timeout: float | None) -> Any:
    """Sends a system message and waits for its answer. Raises what `call` raises."""
    process = living(ref)
    process.scheduler.check_may_wait()
    if timeout is not None:
        process.scheduler.timeouts.find(timeout)
    job = waiting_for(process, kind, message)
    check_cycle(job.caller, process)
    process.scheduler.deliver(process, job)
    return wait(job, timeout)


class _GetState(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> Any:
        return process.server.get_state()


class _ReplaceState(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> Any:
        return process.server.replace_state(self.message)


class _ChangeCode(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> Any:
        old = process.server
        new: GenServer = self.message()
        new._process = process
        new.take_over(old)
        process.server = new
        process.limit = new.mailbox_limit
        if process.bonds is not None and process.bonds.trace is not None:
            process.bonds.trace.follow(new)


def is_suspended(process: Process) -> bool:
    """Whether `suspend` holds it."""
    return isinstance(process.current, SystemMessage) and process.current.suspends


def living(ref: Ref) -> Process:
    """The process of a ref. Raises NoProcess if it is dead."""
    process = ref._process
    if process.current is DEAD:
        raise NoProcess(ref)
    return process


def _branch(
    id: Any, process: Process, status: str, restarts: int, kind: Literal["supervisor", "worker"]
) -> Branch:
    children: tuple[Branch, ...] = ()
    server = process.server
    if isinstance(server, Overseer):
        kind = "supervisor"
        children = tuple(_child(child) for child in server.list_children())
    return Branch(
        id,
        process.name,
        process.ref,
        kind,
        status,
        restarts,
        0 if process.mailbox is None else len(process.mailbox),
        process.handled,
        process.scheduler.monotonic() - process.started,
        _current(process),
        children,
    )


def _child(child: Child) -> Branch:
    spec = child.spec
    process = child.process
    if process is None or process.current is DEAD:
        name = None if spec.name is None else str(spec.name)
        return Branch(spec.id, name, None, spec.type, child.status, child.restarts, 0, 0, 0.0, None, ())
    return _branch(spec.id, process, child.status, child.restarts, spec.type)


def _current(process: Process) -> str | None:
    item = process.current
    if item is None or item is DEAD:
        return None
    return brief(item.message if isinstance(item, Call) else item[1])
