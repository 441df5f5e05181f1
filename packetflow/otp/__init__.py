"""The supervision runtime: OTP's contract on greenlets.

Each name is loaded when it is first asked for, so that `packetflow.otp.errors` alone loads no gevent.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "answers": ("Continue", "Down", "Exit", "IGNORE", "NoReply", "Reply", "Stop"),
    "blocked": ("Blocked",),
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
        "HandlerOverrun",
        "HubBlocked",
        "MailboxFull",
        "NameTaken",
        "NoProcess",
        "NotAnActor",
        "PacketFlowError",
        "ServerExited",
        "SpecError",
        "StartFailed",
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
    "watchdog": ("Watchdog",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORE",
    "AlreadyPresent",
    "AlreadyStarted",
    "Backoff",
    "Blocked",
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
    "HandlerOverrun",
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
    "Timer",
    "TooManyChildren",
    "Watchdog",
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
