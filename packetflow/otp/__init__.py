"""The supervision runtime: OTP's contract on greenlets.

Each name is loaded when it is first asked for, so that `packetflow.otp.errors` alone loads no gevent.
"""

import os
import sys
from importlib import import_module
from typing import Any

if os.environ.get("PACKETFLOW_PURE"):
    from packetflow.otp.pure import PureFinder

    sys.meta_path.insert(0, PureFinder())

_HOMES = {
    "answers": ("Continue", "Down", "Exit", "IGNORE", "NoReply", "Reply", "Stop"),
    "calls": ("call", "cast", "reply", "send", "stop"),
    "child_spec": ("Backoff", "ChildSpec"),
    "children": ("ChildCount", "ChildInfo", "SupervisorReport"),
    "clock": ("Clock",),
    "debugging": ("Status", "TraceEvent", "get_status", "resume", "suspend", "trace", "untrace"),
    "dynamic_supervisor": ("DynamicSupervisor",),
    "errors": (
        "AlreadyPresent",
        "AlreadyStarted",
        "CallCycle",
        "CallFailed",
        "CallTimeout",
        "ChildError",
        "ChildNotFound",
        "ChildRestarting",
        "ChildRunning",
        "HubBlocked",
        "MailboxFull",
        "NameTaken",
        "NoProcess",
        "NotAnActor",
        "PacketFlowError",
        "ServerExited",
        "SpecError",
        "StartFailed",
        "ThreadGone",
        "TooManyChildren",
        "WrongThread",
    ),
    "inspection": (
        "Branch",
        "Statistics",
        "change_code",
        "get_state",
        "replace_state",
        "statistics",
        "tree",
    ),
    "ref": ("Ref",),
    "requests": (
        "RequestId",
        "RequestIds",
        "RequestResult",
        "check_response",
        "multi_call",
        "receive_response",
        "send_request",
        "wait_response",
    ),
    "server": ("GenServer",),
    "signals": ("Monitor", "demonitor", "exit_signal", "kill", "link", "monitor", "unlink"),
    "supervisor": ("Supervisor",),
    "system": ("Remote", "System"),
    "timers": ("Timer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORE",
    "AlreadyPresent",
    "AlreadyStarted",
    "Backoff",
    "Branch",
    "CallCycle",
    "CallFailed",
    "CallTimeout",
    "ChildCount",
    "ChildError",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "Clock",
    "Continue",
    "Down",
    "DynamicSupervisor",
    "Exit",
    "GenServer",
    "HubBlocked",
    "MailboxFull",
    "Monitor",
    "NameTaken",
    "NoProcess",
    "NoReply",
    "NotAnActor",
    "PacketFlowError",
    "Ref",
    "Remote",
    "Reply",
    "RequestId",
    "RequestIds",
    "RequestResult",
    "ServerExited",
    "SpecError",
    "StartFailed",
    "Statistics",
    "Status",
    "Stop",
    "Supervisor",
    "SupervisorReport",
    "System",
    "ThreadGone",
    "Timer",
    "TooManyChildren",
    "TraceEvent",
    "WrongThread",
    "call",
    "cast",
    "change_code",
    "check_response",
    "demonitor",
    "exit_signal",
    "get_state",
    "get_status",
    "kill",
    "link",
    "monitor",
    "multi_call",
    "receive_response",
    "replace_state",
    "reply",
    "resume",
    "send",
    "send_request",
    "statistics",
    "stop",
    "suspend",
    "trace",
    "tree",
    "unlink",
    "untrace",
    "wait_response",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'packetflow.otp' has no attribute {name!r}")
    value = getattr(import_module(f"packetflow.otp.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
