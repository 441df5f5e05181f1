"""Names that are kept elsewhere than in a system's own table (Elixir's `{:via, module, term}`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, Union

from packetflow.otp.errors import NoProcess, NotAnActor
from packetflow.otp.ref import Ref
from packetflow.otp.signals import current_process

if TYPE_CHECKING:
    from packetflow.otp.process import Process
    from packetflow.otp.system import System


class Via:
    """A name that a registry or a partition supervisor resolves anew each time it is used.

    It goes wherever a name goes: System.call, cast, send, whereis, monitor, the methods of a server, `start(name=...)`.
    """

    __slots__ = ()

    def whereis(self, system: System | None) -> Ref | None:
        """Who is meant now, never somebody dead; None if there is nobody. system: who asks, if one does."""
        raise NotImplementedError

    def take(self, process: Process) -> None:
        """Gives the name to a process that is being started. Raises NameTaken; SpecError where it can't be given."""
        raise NotImplementedError


Name: TypeAlias = Union[str, Via]  # noqa: UP007 - evaluated at run time, by whoever reads the hints
Target: TypeAlias = Union[Ref, str, Via]  # noqa: UP007


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
