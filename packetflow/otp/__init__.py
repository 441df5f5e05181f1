"""The supervision runtime: OTP's contract on greenlets.

Each name is loaded when it is first asked for, so that `packetflow.otp.errors` alone loads no gevent.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "actor_system": ("ActorSystem", "Future", "Member", "Send"),
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
        "WrongThread",
    ),
    "hosting": ("Hosting",),
    "inspection": ("Branch", "Statistics", "change_code", "get_state", "statistics", "tree"),
    "messages": ("Actor", "ActorFactory", "Message", "Receive", "Response"),
    "ref": ("Ref",),
    "requests": ("Request", "receive_response", "send_request"),
    "server": ("GenServer",),
    "signals": ("Monitor", "demonitor", "exit_signal", "kill", "link", "monitor", "unlink"),
    "supervisor": ("Supervisor",),
    "system": ("Remote", "System"),
    "timers": ("Timer",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "IGNORE",
    "Actor",
    "ActorFactory",
    "ActorSystem",
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
    "Future",
    "GenServer",
    "Hosting",
    "HubBlocked",
    "MailboxFull",
    "Member",
    "Message",
    "Monitor",
    "NameTaken",
    "NoProcess",
    "NoReply",
    "NotAnActor",
    "PacketFlowError",
    "Receive",
    "Ref",
    "Remote",
    "Reply",
    "Request",
    "Response",
    "Send",
    "ServerExited",
    "SpecError",
    "StartFailed",
    "Statistics",
    "Stop",
    "Supervisor",
    "System",
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
    "receive_response",
    "reply",
    "send",
    "send_request",
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
