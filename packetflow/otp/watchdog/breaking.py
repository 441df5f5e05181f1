"""Where a handler may be broken: which frames are a user's, and which are the runtime's that must run to their end.

Breaking is raising at a point that nobody chose. In a user's handler that is a crash like any other; in the runtime it
would leave somebody else waiting for ever. So every frame between the worker's loop and the point is looked at. Where the
core is compiled it has no frames: then the first of the worker's frames must be what the loop calls, and nothing of what
the core calls otherwise may stand above it.
"""

from __future__ import annotations

import gc
from types import FrameType, FunctionType, MethodType
from typing import Any, Final

from greenlet import getcurrent, gettrace

from packetflow.otp import turn
from packetflow.otp.process import DEAD, Job, Process, Worker
from packetflow.otp.scheduler import Scheduler
from packetflow.otp.server import GenServer
from packetflow.otp.start import Init

# A function that was compiled has such a thing too, and it is on no stack.
WORK: Final = Scheduler._work.__code__
_INIT: Final = Init.perform.__code__
_FINISH: Final = turn.finish.__code__
_LEADS_TO_FINISH: Final = (turn.obey.__code__, turn.crash.__code__)
_OF_A_FUNCTION: Final = 0x01  # CO_OPTIMIZED
_TAKES_ANY: Final = 0x04  # CO_VARARGS
_LOOP_IS_COMPILED: Final = not isinstance(Scheduler._work, FunctionType)

_HANDLES: Final = frozenset({"handle_call", "handle_cast", "handle_info", "handle_continue"})
_WAYS_IN: Final = _HANDLES | {
    "begin",
    "end",
    "perform",
}  # by which the loop enters Python code that is no runtime's

# The functions of ours that call user code as part of an actor's handler, and keep nothing but that actor's state: the
# actor crashes, and what they held is gone with it. All else in the package is the runtime proper. A test holds both
# against the package, so that a new file is put in one of them.
HANDLERS: Final = {
    f"packetflow.otp.{name}": frozenset(functions)
    for name, functions in {
        "actor": _HANDLES,
        "actor_system.hosting": {"init", "handle_call"},
        "agent": {"init", "handle_call", "handle_cast"},
        "debugging": {*_HANDLES, "_follow"},
        "inspection": {"perform", "answer"},
        "registry.registry": {"dispatch"},
        "server": {"begin", "end", "take_over", "replace_state"},
        "state_machine.events": {"perform"},
        "state_machine.machine": {
            *_HANDLES, "expired", "_take", "_proceed", "_follow", "_enter", "_handle_event",
            "begin", "end", "take_over", "replace_state",
        },
        "tasks.stream": {"_results"},
        "tasks.task": {"perform"},
    }.items()
}  # fmt: skip
RUNTIME: Final = frozenset(
    f"packetflow.otp.{name}"
    for name in (
        "answers", "calls", "clock", "context", "envelope", "errors", "ordered", "process", "pure", "ref", "requests",
        "scheduler", "signals", "start", "system", "threads", "timeouts", "timers", "turn", "via",
        "actor_system.messages", "actor_system.system",
        "pools.child", "pools.pool", "pools.processes", "pools.reaping", "pools.server", "pools.slot_wait", "pools.threads",
        "registry.lock", "registry.patterns", "registry.table",
        "simulation.loop", "simulation.network", "simulation.world",
        "state_machine.actions",
        "supervision.child_spec", "supervision.children", "supervision.dynamic_supervisor",
        "supervision.partition_supervisor", "supervision.router", "supervision.supervisor",
        "tasks.start", "tasks.supervisor", "tasks.waiting",
        "watchdog.blocked", "watchdog.breaking", "watchdog.watchdog",
        "workers.boot", "workers.channel", "workers.os_process", "workers.process", "workers.shared_port",
        "workers.supervisor",
    )
)  # fmt: skip

# What the core may run of a user's value while it is half way: to compare, hash, show or convert it, or to read what it
# asks of a server. `__del__` and its like are run by the interpreter, which would drop the exception.
ASIDE: Final = frozenset(
    {
        *("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__bool__", "__len__"),
        *("__repr__", "__str__", "__format__", "__float__", "__int__", "__index__", "__class__"),
        *(
            "__getattr__",
            "__getattribute__",
            "__setattr__",
            "__instancecheck__",
            "__subclasscheck__",
            "__del__",
        ),
        *("trap_exits", "supervises", "is_task", "mailbox_limit", "mailbox_full"),
        *("orphans", "child_exited", "has_own_init", "has_default_terminate"),
    }
)

# Where locks and tables are that all share: an exception between taking a lock and the `try` leaves it taken.
_SHARED: Final = frozenset(
    {"packetflow", "gevent", "greenlet", "logging", "threading", "weakref", "_weakrefset"}
)
# A module that was half imported stays half imported for everybody.
_IMPORTING: Final = ("importlib._bootstrap", "_frozen_importlib")
_DEBUGGERS: Final = frozenset({"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy"})


def may_break(frame: FrameType | None, worker: bool = True) -> bool:
    """Whether an exception raised at this point of the running greenlet ends the handler that runs here, and harms
    nothing else.

    worker: False for a greenlet that is no actor, where the first frame is somebody's own.
    """
    me: Any = getcurrent()
    process: Process | None = me.process if me.__class__ is Worker else None
    if frame is None or (process is None and worker) or _root(frame) in _SHARED:
        return False
    aside = _called_aside(process)
    above: FrameType | None = None  # the last that is neither the loop's nor the core's
    over: FrameType | None = None
    while frame is not None:
        code = frame.f_code
        if code is WORK:
            return process is not None and _is_way_in(process, above)
        module = frame.f_globals.get("__name__", "")
        if module.startswith("packetflow.otp."):
            if code is _INIT:
                if over is None or over.f_code.co_name != "begin":
                    return False
            elif code is _FINISH:
                if over is None or over.f_code.co_name != "end":
                    return False
            elif code in _LEADS_TO_FINISH:
                if over is None or (over.f_code is not _FINISH and over.f_code.co_name != "end"):
                    return False
            elif code.co_name in HANDLERS.get(module, ()):
                above = frame
            else:
                return False
        elif code.co_name in ASIDE or code in aside or module.startswith(_IMPORTING):
            return False
        else:
            above = frame
        over = frame
        frame = frame.f_back
    if process is not None:
        return _LOOP_IS_COMPILED and _is_way_in(process, above)
    return not worker


def _is_way_in(process: Process, frame: FrameType | None) -> bool:
    """Whether the loop of the worker has called this as the handler of what is at hand."""
    if frame is None:
        return False
    item, server = process.current, process.server
    if item is DEAD or server is None:
        return True  # killed, and still running: nobody waits for what it does
    code = frame.f_code
    if code.co_name in _WAYS_IN:
        if code.co_name in _HANDLES:
            return True
        module = frame.f_globals.get("__name__", "")
        if code.co_name != "perform":
            return code.co_name in HANDLERS.get(module, ())
        return isinstance(item, Job) and code is _code_of(item, "perform")
    # A handler that is decorated, or was put there under another name.
    return any(code is _code_of(server, name) for name in _HANDLES)


def _code_of(owner: object, name: str) -> Any:
    """The code of a method, found without running any."""
    places = [base.__dict__ for base in type(owner).__mro__]
    try:
        places.insert(0, object.__getattribute__(owner, "__dict__"))
    except AttributeError:
        pass  # it has slots alone
    for place in places:
        if name in place:
            found = place[name]
            return found.__code__ if isinstance(found, FunctionType | MethodType) else None
    return None


def _called_aside(process: Process | None) -> list[Any]:
    """The code that is run by the interpreter, by greenlet's switch or by the core in the midst of anything."""
    functions: list[Any] = [*gc.callbacks, gettrace()]
    if process is not None:
        functions.append(process.scheduler.monotonic)
    found: list[Any] = []
    for function in functions:
        if isinstance(function, FunctionType | MethodType):
            found.append(function.__code__)
        elif function is not None:
            found.append(_code_of(function, "__call__"))
    return [code for code in found if code is not None]


def in_debugger(frame: FrameType | None) -> bool:
    """Whether a person sits at a prompt here: then nobody is to blame for the time that passes."""
    while frame is not None:
        if _root(frame) in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def work_of(frame: FrameType | None) -> tuple[Any, Any] | None:
    """(process, message) of the worker whose frames these are, also of one that runs in another thread."""
    first: FrameType | None = None
    while frame is not None:
        if frame.f_code is WORK:
            found = frame.f_locals
            work = found.get("process"), found.get("item")
            if isinstance(found, dict):
                found.clear()  # before Python 3.13 the frame would keep this copy, and so the message, alive
            return work
        first = frame
        frame = frame.f_back
    if first is None or not _LOOP_IS_COMPILED or not first.f_code.co_flags & _OF_A_FUNCTION:
        return None
    # No loop to be seen: the first function is called with the server, or as a job's with its process. What it may have
    # taken of `locals()` is left as it is.
    code, given = first.f_code, first.f_locals
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & _TAKES_ANY)]
    for value in map(given.get, names):
        for one in value if type(value) is tuple else (value,):
            process = one if type(one) is Process else None
            if issubclass(type(one), GenServer):
                process = getattr(one, "_process", None)
            if process is not None and process.current is not None and process.worker is not None:
                return process, process.current
    return None


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
