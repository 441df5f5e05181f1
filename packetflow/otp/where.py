"""Who is meant by a target: a ref, a name, or a name kept elsewhere."""

from __future__ import annotations

from packetflow.otp.errors import NoProcess, NotAnActor
from packetflow.otp.ref import Ref
from packetflow.otp.signals import current_process
from packetflow.otp.via import Target, Via


def locate(target: Target) -> Ref:
    """The ref of a target, for functions that no system is given to: a text is a name in the calling actor's system.

    Raises NoProcess; NotAnActor for a text outside of an actor.
    """
    if isinstance(target, Ref):
        return target
    caller = current_process()
    system = None if caller is None else caller.scheduler.system
    if isinstance(target, Via):
        ref = target.whereis(system)
    elif system is None:
        raise NotAnActor(f"outside of an actor a name needs a system: system.find({target!r})")
    else:
        ref = system.whereis(target)
    if ref is None:
        raise NoProcess(target)
    return ref
