"""How a process begins: its name is taken, `init` runs in its own greenlet, and the starter waits for the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from greenlet import GreenletExit

from packetflow.otp.answers import IGNORE, Continue, NoReply, Stop
from packetflow.otp.calls import raise_failed, waiting_for
from packetflow.otp.errors import CallTimeout, NameTaken, ServerExited, SpecError, StartFailed
from packetflow.otp.process import DEAD, PENDING, Failed, Job, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.signals import die
from packetflow.otp.timeouts import TimeoutClass
from packetflow.otp.turn import start_idling
from packetflow.otp.via import Via

if TYPE_CHECKING:
    from packetflow.otp.clock import Seconds
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.server import GenServer


class Init(Job):
    """Runs `init`. message is (arguments, keywords, linked). Its value is the process, or IGNORE."""

    __slots__ = ()

    def perform(self, process: Process) -> Any:
        """Runs `init` and reads what it returned."""
        arguments, keywords, _ = self.message
        result = process.server.begin(arguments, keywords)
        if process.current is not self:
            return None  # killed meanwhile
        if result is None:
            self._started(process)
            return None
        if isinstance(result, Continue):
            self._started(process)
            return result
        if isinstance(result, NoReply):
            self._started(process)
            if result.timeout is not None:
                start_idling(process, result.timeout)
            return None
        if result is IGNORE:
            self._settle(IGNORE)
            self._vanish(process, "normal")
            return None
        if isinstance(result, Stop):
            self._refuse(process, result.reason)
            return None
        raise TypeError(
            f"init returned {result!r}; it may return None, IGNORE, Stop, Continue or NoReply(timeout)"
        )

    def failed(self, process: Process, error: BaseException) -> bool:
        """`init` raised: the starter gets it, and nothing is left behind."""
        self._refuse(process, error)
        return True

    def _started(self, process: Process) -> None:
        # Linked only now: a start that fails is told by the start, and by no exit signal besides.
        if self.message[2] and process.parent is not None:
            _link(process, process.parent)
        self._settle(process)

    def _settle(self, value: Any) -> None:
        if self.value is PENDING:
            self.value = value

    def _refuse(self, process: Process, reason: object) -> None:
        what = type(process.server).__name__ if process.name is None else process.name
        path: tuple[Any, ...] = ()
        if isinstance(reason, StartFailed) and process.server.supervises:
            path, reason = reason.path, reason.reason
        self._settle(Failed(lambda timeout: StartFailed(what, reason, path)))
        self._vanish(process, reason)

    def _vanish(self, process: Process, reason: object) -> None:
        process.parent = None  # the starter learns of it by its start, and needs no signal
        die(process, reason)


def start_process(*given: Any, **named: Any) -> Ref | None:
    """The same as `begin_process`. Returns the ref."""
    process = begin_process(*given, **named)
    return None if process is None else process.address()


def begin_process(
    scheduler: Scheduler,
    cls: type[GenServer],
    arguments: tuple[Any, ...],
    keywords: Mapping[str, Any],
    name: object,  # not yet checked
    timeout: Seconds | None,
    parent: Process | None = None,
    linked: bool = False,
    watch: Callable[[Ref], object] | None = None,
) -> Process | None:
    """Starts a server. Returns its process, or None if `init` ignored. Raises StartFailed, NameTaken, WrongThread, HubBlocked."""
    scheduler.check_may_wait()
    now = scheduler.monotonic()
    if now >= scheduler.slice_end:
        scheduler.pass_through_hub()  # a supervisor with many children must not starve I/O
    if parent is not None and parent.current is DEAD:
        raise GreenletExit  # killed meanwhile: what it starts would be an orphan
    waits: TimeoutClass | None = None if timeout is None else scheduler.timeouts.exact(timeout)
    if isinstance(name, str) and name:
        holder = scheduler.names.get(name)
        if holder is not None:
            raise NameTaken(name, holder.ref)
    elif name is not None and not isinstance(name, Via):
        raise SpecError("name", name, "a text that is not empty, a registry's via(key), or None")
    try:
        server = cls()
    except Exception as error:
        raise StartFailed(cls.__name__, error) from error
    process = Process(scheduler, server, parent, now)
    number = process.number = scheduler.count = scheduler.count + 1
    server._process = process
    worker: Worker | None = None
    entered = False
    # What may raise (a starter at the end of its recursion) stands before what the others see.
    if cls.has_own_init() or arguments or keywords:
        request = waiting_for(process, Init, (arguments, keywords, linked))
        worker = scheduler.pool.pop() if scheduler.pool else scheduler.hire()
    try:
        if linked and parent is not None:
            process.bond()
            parent.bond()
        if watch is not None:
            watch(process.ref)  # before anything of it runs
        if worker is not None and waits is not None:
            waits.enter(request, scheduler.monotonic())
            entered = True
        if name is not None and not isinstance(name, str):
            name.take(process)
    except BaseException:
        if worker is not None:
            scheduler.pool.append(worker)
        if waits is not None and entered:
            waits.leave(request)
        raise
    if isinstance(name, str):
        process.name = name
        scheduler.names[name] = process
    scheduler.processes[number] = process
    if worker is None:
        if linked and parent is not None:
            _link(process, parent)
        return process
    process.current = request
    process.worker = worker
    worker.process = process
    caller = request.caller
    if caller is not None:
        caller.waiting = request
    try:
        worker.switch()
        while request.value is PENDING:
            scheduler.let_others_run()
    except BaseException:
        # The starter was ended or gave up: nobody would ever know of the new one.
        _abandon(process)
        raise
    finally:
        request.greenlet = None
        if caller is not None:
            caller.waiting = None
        if waits is not None:
            waits.leave(request)
    value = request.value
    if value is IGNORE:
        return None
    if value.__class__ is Failed:
        try:
            raise_failed(value, timeout)
        except CallTimeout:
            label = process.label()
            _abandon(process)
            raise StartFailed(label, "timeout") from None
        except ServerExited as error:
            raise StartFailed(process.label(), error.reason) from error
    return process


def _link(process: Process, parent: Process) -> None:
    process.bond().links.add(parent)
    parent.bond().links.add(process)


def _abandon(process: Process) -> None:
    if process.current is not DEAD:
        process.parent = None
        die(process, "killed")
