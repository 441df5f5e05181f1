"""The supervision runtime: OTP's contract on greenlets.

Each name is loaded when it is first asked for, so that `packetflow.otp.errors` alone loads no gevent.
"""

from importlib import import_module
from typing import Any

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
        "TooManyChildren",
        "WorkerFailed",
        "WrongThread",
    ),
    "inspection": ("Branch", "Statistics", "change_code", "get_state", "statistics", "tree"),
    "ref": ("Ref",),
    "server": ("GenServer",),
    "signals": ("Monitor", "demonitor", "exit_signal", "kill", "link", "monitor", "unlink"),
    "supervisor": ("Supervisor",),
    "system": ("Remote", "System"),
    "shared_port": ("listen_shared", "reserve_port"),
    "timers": ("Timer",),
    "worker_process": ("WorkerContext",),
    "worker_supervisor": ("WorkerInfo", "WorkerProcess", "WorkerSpec", "WorkerSupervisor", "worker_info"),
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
    "Timer",
    "TooManyChildren",
    "WorkerContext",
    "WorkerFailed",
    "WorkerInfo",
    "WorkerProcess",
    "WorkerSpec",
    "WorkerSupervisor",
    "WrongThread",
    "call",
    "cast",
    "change_code",
    "demonitor",
    "exit_signal",
    "get_state",
    "kill",
    "link",
    "listen_shared",
    "monitor",
    "reply",
    "reserve_port",
    "send",
    "statistics",
    "stop",
    "tree",
    "unlink",
    "worker_info",
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
