"""Where a handler may be broken: which frames are a user's, and which are the runtime's that must run to their end.

Breaking is raising at a point that nobody chose. In a user's handler that is a crash like any other; in the runtime it
would leave somebody else waiting for ever. So every frame between the worker's loop and the point is looked at.
"""

from __future__ import annotations

import gc
from types import FrameType
from typing import Any

from packetflow.otp import turn
from packetflow.otp.scheduler import Scheduler

WORK = Scheduler._work.__code__
_FINISH = turn.finish.__code__
_LEADS_TO_FINISH = (turn.obey.__code__, turn.crash.__code__)

# Files of ours that call user code as part of an actor's handler, and keep nothing but that actor's state: the actor
# crashes, and what they held is gone with it. Any other file of the runtime is the runtime proper. A test holds both
# lists against the package, so that a new file is put in one of them.
HANDLERS = frozenset({"packetflow.otp.server"})
RUNTIME = frozenset(
    f"packetflow.otp.{name}"
    for name in (
        "answers", "blocked", "breaking", "calls", "child_spec", "children", "clock", "dynamic_supervisor",
        "errors", "inspection", "pool", "pool_server", "process", "process_child", "process_pool", "reaping", "ref",
        "scheduler", "signals", "start", "supervisor", "system", "thread_pool", "threads", "timeouts",
        "timers", "turn", "watchdog",
    )
)  # fmt: skip

# Where locks and tables are that all share: an exception between taking a lock and the `try` leaves it taken.
_SHARED = frozenset({"packetflow", "gevent", "greenlet", "logging", "threading", "weakref", "_weakrefset"})
# A module that was half imported stays half imported for everybody.
_IMPORTING = ("importlib._bootstrap", "_frozen_importlib")
_DEBUGGERS = frozenset({"bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy"})


def may_break(frame: FrameType | None, worker: bool = True) -> bool:
    """Whether an exception raised at this point ends the handler that a worker runs here, and harms nothing else.

    worker: False for a greenlet that is no actor, where the first frame is somebody's own.
    """
    if frame is None or _root(frame) in _SHARED:
        return False
    collecting = [getattr(callback, "__code__", None) for callback in gc.callbacks]
    above: FrameType | None = None
    while frame is not None:
        code = frame.f_code
        if code is WORK:
            return above is not None
        if code.co_name == "__del__" or code in collecting:
            return False  # called by the interpreter, which would drop the exception
        module = frame.f_globals.get("__name__", "")
        if module.startswith("packetflow.otp."):
            if code.co_name == "perform":
                if frame.f_back is None or frame.f_back.f_code is not WORK:
                    return False
            elif code is _FINISH:
                if above is None or above.f_code.co_name != "terminate":
                    return False
            elif code in _LEADS_TO_FINISH:
                if above is None or above.f_code is not _FINISH:
                    return False
            elif module not in HANDLERS:
                return False
        elif module.startswith(_IMPORTING):
            return False
        above = frame
        frame = frame.f_back
    return not worker


def in_debugger(frame: FrameType | None) -> bool:
    """Whether a person sits at a prompt here: then nobody is to blame for the time that passes."""
    while frame is not None:
        if _root(frame) in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


def work_of(frame: FrameType | None) -> tuple[Any, Any] | None:
    """(process, message) of the worker whose frames these are, also of one that runs in another thread."""
    while frame is not None:
        if frame.f_code is WORK:
            found = frame.f_locals
            work = found.get("process"), found.get("item")
            if isinstance(found, dict):
                found.clear()  # before Python 3.13 the frame would keep this copy, and so the message, alive
            return work
        frame = frame.f_back
    return None


def _root(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
