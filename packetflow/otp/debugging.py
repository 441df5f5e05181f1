"""What OTP's `sys` does with a server while it runs: suspend and resume it, tell its status, trace its messages.

None of it costs anything where it is not used: a suspended server waits inside of a message, a traced one has the class
changed that its handlers are looked up in.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from gevent.event import Event
from greenlet import getcurrent

from packetflow.otp import turn
from packetflow.otp.answers import UNSET, Answer, Continue, Reply, Stop
from packetflow.otp.calls import StopRequest
from packetflow.otp.errors import SpecError
from packetflow.otp.inspection import SystemMessage, is_suspended, visit
from packetflow.otp.process import DEAD, PENDING, Call, Job, Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.signals import Leave, log

if TYPE_CHECKING:
    Handlers = GenServer
else:
    Handlers = object

# ---- suspending ------------------------------------------------------------------------------------------------------


def suspend(ref: Ref, timeout: float | None = 5.0) -> None:
    """Has a server take no messages, after the one it handles, until `resume`; what comes waits in its mailbox.

    Calls wait, or time out. It is still asked by get_state, replace_state, get_status, change_code and trace, and can
    be stopped and killed. Doing it twice is no error. Raises what `call` raises.
    """
    visit(ref, _Suspend, None, timeout)


def resume(ref: Ref, timeout: float | None = 5.0) -> None:
    """Has a suspended server go on; one that is not suspended is let be. Raises what `call` raises."""
    visit(ref, _Resume, None, timeout)


class _Held(deque[Any]):
    """The mailbox of a suspended server: it says when something for the runtime comes in."""

    __slots__ = ("came",)

    def __init__(self, came: Event, items: Iterable[Any]) -> None:
        super().__init__(items)
        self.came = came
        if any(isinstance(item, _TAKEN) for item in self):
            came.set()

    def append(self, item: Any) -> None:
        super().append(item)
        if isinstance(item, _TAKEN):
            self.came.set()

    def appendleft(self, item: Any) -> None:
        super().appendleft(item)
        if isinstance(item, _TAKEN):
            self.came.set()

    def take(self) -> Job | None:
        """The first that a suspended server takes."""
        for item in self:
            if isinstance(item, _TAKEN):
                self.remove(item)
                return item
        return None


class _Resume(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> None:
        return None


class _Suspend(SystemMessage):
    """Is handled as long as the server is suspended."""

    __slots__ = ()
    suspends = True

    def answer(self, process: Process) -> None:
        turn.answer(self, None)
        came = Event()
        held = _Held(came, process.mailbox or ())
        process.mailbox = held
        stop = self._take_until_resumed(process, held)
        if stop is not None:
            held.appendleft(stop)
        process.mailbox = deque(held) if held else None

    def _take_until_resumed(self, process: Process, held: _Held) -> Job | None:
        me = getcurrent()
        while True:
            held.came.wait()
            held.came.clear()
            while (job := held.take()) is not None:
                if isinstance(job, StopRequest | Leave):
                    return job
                if job.value is not PENDING:
                    continue  # who asked is gone
                if isinstance(job, _Suspend):
                    turn.answer(job, None)
                    continue
                me.gr_context = job.context
                try:
                    job.perform(process)
                except BaseException as error:
                    if process.current is not self:
                        raise  # killed meanwhile
                    if not job.failed(process, error):
                        held.appendleft(job)  # who asked learns of the end as everybody in the mailbox does
                        raise
                if job.greenlet is not None:
                    process.scheduler.enqueue(job)
                if isinstance(job, _Resume):
                    return None


_TAKEN = (SystemMessage, StopRequest, Leave)

# ---- status ----------------------------------------------------------------------------------------------------------


class Status(NamedTuple):
    """A server as `sys:get_status` shows one. server: the name of its class. parent: who started it, if an actor did.
    traced: how many follow its messages. state: its `get_state`, or what that raised."""

    ref: Ref
    name: str | None
    server: str
    parent: Ref | None
    status: Literal["running", "suspended"]
    trap_exits: bool
    mailbox: int
    traced: int
    state: Any


def get_status(ref: Ref, timeout: float | None = 5.0) -> Status:
    """A server's status, read between two messages. A `get_state` that raises is shown as such and ends nothing. Raises
    what `call` raises."""
    return visit(ref, _GetStatus, None, timeout)  # type: ignore[no-any-return]


class _GetStatus(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> Status:
        server, parent, bonds = process.server, process.parent, process.bonds
        return Status(
            process.ref,
            process.name,
            type(server).__name__,
            None if parent is None else parent.ref,
            "suspended" if is_suspended(process) else "running",
            server.trap_exits,
            0 if process.mailbox is None else len(process.mailbox),
            0 if bonds is None or bonds.trace is None else len(bonds.trace.sinks),
            _state(server),
        )


def _state(server: GenServer) -> Any:
    try:
        return server.get_state()
    except Exception as error:  # noqa: BLE001 - a view must not fail of what it shows
        return {"get_state raised": error}


# ---- tracing ---------------------------------------------------------------------------------------------------------


class TraceEvent(NamedTuple):
    """Something that a traced server did.

    kind: "in" (a message came: `what` is "call", "cast", "info" or "continue"), "out" (an answer went to `other`),
    "noreply" (a message was handled without one), "crash" (a handler raised `message`), "code_change" (`message` is the
    name of the new class). other: the actor that called, or is answered. state: the server's `get_state` after it.
    """

    kind: Literal["in", "out", "noreply", "crash", "code_change"]
    ref: Ref
    what: str
    message: Any
    other: Ref | None
    state: Any


Sink = Callable[[TraceEvent], object]


def trace(ref: Ref, sink: Sink, timeout: float | None = 5.0) -> None:
    """Has `sink` called, inside the server, with each TraceEvent of it. The same sink once.

    `print` shows them, `deque(maxlen=10).append` keeps the last ten. A sink that returns "done" or raises is taken
    off. Raises what `call` raises.
    """
    if not callable(sink):
        raise SpecError("sink", sink, "a function of a TraceEvent")
    visit(ref, _AddSink, sink, timeout)


def untrace(ref: Ref, sink: Sink | None = None, timeout: float | None = 5.0) -> None:
    """Ends a trace: this sink's, or all. Raises what `call` raises."""
    visit(ref, _RemoveSink, sink, timeout)


class _AddSink(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> None:
        bonds = process.bond()
        if bonds.trace is None:
            bonds.trace = Trace(process.ref)
            bonds.trace.follow(process.server)
        if self.message not in bonds.trace.sinks:
            bonds.trace.sinks.append(self.message)


class _RemoveSink(SystemMessage):
    __slots__ = ()

    def answer(self, process: Process) -> None:
        bonds = process.bonds
        if bonds is None or bonds.trace is None:
            return
        bonds.trace.sinks = [sink for sink in bonds.trace.sinks if self.message not in (None, sink)]
        if not bonds.trace.sinks:
            bonds.trace = None
            server = process.server
            server.__class__ = type(server).__mro__[2]  # what _traced put on top of it


class Trace:
    """Who is told what a server does."""

    __slots__ = ("ref", "sinks")

    def __init__(self, ref: Ref) -> None:
        self.ref = ref
        self.sinks: list[Sink] = []

    def follow(self, server: GenServer) -> None:
        """Has this server's handlers tell. It may have followed another one."""
        if self.sinks:
            self.tell("code_change", "", type(server).__name__, None, _state(server))
        server.__class__ = _traced(type(server))

    def tell(self, kind: Any, what: str, message: Any, other: Ref | None, state: Any = None) -> None:
        """Tells everybody; who has enough, or raises, is taken off."""
        event = TraceEvent(kind, self.ref, what, message, other, state)
        for sink in tuple(self.sinks):
            try:
                enough = sink(event)
            except Exception as error:  # noqa: BLE001 - a sink's fault is not the server's
                log.error("a trace of %s raised and is taken off", self.ref, exc_info=error)
                enough = "done"
            if isinstance(enough, str) and enough == "done" and sink in self.sinks:
                self.sinks.remove(sink)

    def replied(self, caller: Call, value: Any) -> None:
        """An answer that was given by `reply`."""
        server = caller.target.server
        self.tell("out", "reply", value, caller.ref, None if server is None else _state(server))

    def handled(self, server: GenServer, what: str, caller: Call | None, result: Any) -> Any:
        """A handler returned."""
        value = result
        if isinstance(result, Answer):
            value = result.value if isinstance(result, Reply) else UNSET
            if isinstance(result, Stop | Continue):
                value = result.reply
        state = _state(server)
        if caller is not None and caller.value is PENDING and value is not UNSET:
            self.tell("out", "reply", value, caller.ref, state)
        else:
            self.tell("noreply", what, None, None, state)
        return result


class _Tracing(Handlers):
    """Put on top of a traced server's class."""

    __slots__ = ()

    def __init_subclass__(cls, **keywords: Any) -> None:
        """A traced class is nobody's subclass: the hooks of the class below must not see it."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        return _follow(self, super().handle_call, "call", request, caller)

    def handle_cast(self, message: Any) -> Any:
        return _follow(self, super().handle_cast, "cast", message, None)

    def handle_info(self, message: Any) -> Any:
        return _follow(self, super().handle_info, "info", message, None)

    def handle_continue(self, argument: Any) -> Any:
        return _follow(self, super().handle_continue, "continue", argument, None)


def _follow(server: Any, handler: Callable[..., Any], what: str, message: Any, caller: Call | None) -> Any:
    bonds = server._process.bonds
    told = None if bonds is None else bonds.trace
    arguments = (message,) if caller is None else (message, caller)
    if told is None:
        return handler(*arguments)
    told.tell("in", what, message, None if caller is None else caller.ref)
    try:
        result = handler(*arguments)
    except BaseException as error:
        if server._process.current is not DEAD:
            told.tell("crash", what, error, None, _state(server))
        raise
    return told.handled(server, what, caller, result)


def _traced(cls: type) -> type:
    def fill(body: dict[str, Any]) -> None:
        body.update(
            __slots__=(), __module__=cls.__module__, __qualname__=cls.__qualname__, __doc__=cls.__doc__
        )

    return types.new_class(cls.__name__, (_Tracing, cls), exec_body=fill)
