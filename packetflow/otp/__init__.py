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
    "children": ("ChildCount", "ChildInfo"),
    "clock": ("Clock",),
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
    "inspection": ("Branch", "Statistics", "change_code", "get_state", "statistics", "tree"),
    "ref": ("Ref",),
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
    "ServerExited",
    "SpecError",
    "StartFailed",
    "Statistics",
    "Stop",
    "Supervisor",
    "System",
    "ThreadGone",
    "Timer",
    "TooManyChildren",
    "WrongThread",
    "call",
    "cast",
    "change_code",
    "demonitor",
    "exit_signal",
    "get_state",
    "kill",
    "link",
    "monitor",
    "reply",
    "send",
    "statistics",
    "stop",
    "tree",
    "unlink",
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
