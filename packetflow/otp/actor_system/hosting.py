"""Hosting: how an actor of an ActorSystem lives on the runtime. Supervision and mailbox, which the actor knows nothing of."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, Literal

from packetflow.otp.actor_system.messages import Response
from packetflow.otp.calls import call
from packetflow.otp.errors import NoProcess, SpecError
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart
from packetflow.otp.supervision.supervisor import Supervisor


class Hosting:
    """What a member's supervision and mailbox are like.

    restart, backoff: as in ChildSpec. max_restarts, max_seconds: as in Supervisor; past them this one member is down, and
    nobody else. mailbox_limit, mailbox_full: as in GenServer. Raises SpecError.
    """

    __slots__ = ("backoff", "max_restarts", "max_seconds", "process", "restart")

    def __init__(
        self,
        *,
        restart: Restart = "permanent",
        backoff: Backoff | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        mailbox_limit: int | None = None,
        mailbox_full: Literal["block", "drop", "drop_oldest", "fail"] = "fail",
    ) -> None:
        self.restart = restart
        self.backoff = backoff
        self.max_restarts = max_restarts
        self.max_seconds = max_seconds
        mailbox = {"mailbox_limit": mailbox_limit, "mailbox_full": mailbox_full}
        self.process: type[ActorProcess] = type("Actor", (ActorProcess,), mailbox)
        self.spec("checked", None, None)

    def spec(self, id: str, name: str | None, hosted: Hosted | None) -> ChildSpec:
        """The member as a child: below a supervisor of its own, so that what dies too often takes nobody with it."""
        actor = ChildSpec(self.process, hosted, id=id, name=name, restart=self.restart, backoff=self.backoff)
        return Supervisor.child(
            [actor], id=id, restart="temporary", max_restarts=self.max_restarts, max_seconds=self.max_seconds
        )


class Hosted:
    """How one actor is made, again and again, and where it lives now."""

    __slots__ = ("data", "factory", "id", "keeper", "ref", "send", "spec")

    def __init__(
        self, id: str, actor: Any, data: Any, send: Any, hosting: Hosting, prefix: str | None
    ) -> None:
        made_already = not isinstance(actor, type) and hasattr(actor, "send")
        self.factory = (lambda data, send: actor) if made_already else actor
        _check_factory(self.factory)
        self.data = data
        self.send = send
        self.id = id
        self.ref: Ref | None = None
        self.keeper: Ref | None = None  # its supervisor
        self.spec = hosting.spec(id, None if prefix is None else f"{prefix}{id}", self)

    def call(self, message: Any, timeout: float | None) -> Any:
        """Calls it, as `calls.call` does. Raises what that raises."""
        ref = self.ref
        if ref is None:
            raise NoProcess(self.id)
        try:
            return call(ref, message, timeout)
        except NoProcess:
            if self.keeper is None:
                raise
        # It may be between two lives. When its supervisor has answered, it has begun the next, or it is down.
        Supervisor.which_children(self.keeper, timeout)
        return call(self.ref or ref, message, timeout)


class Members(Supervisor):
    """Above all members of one system."""

    def children(self, *arguments: Any) -> Iterable[ChildSpec]:
        """The members that are made here, now that this supervisor starts (again)."""
        listed: Callable[[Ref], Iterable[ChildSpec]] = arguments[0]
        return listed(self.ref)


class ActorProcess(GenServer):
    """The process of one actor."""

    def init(self, hosted: Hosted) -> None:
        """Has the actor made. Who sends it something meanwhile, waits."""
        hosted.ref = self.ref
        parent = self._process.parent
        hosted.keeper = None if parent is None else parent.ref
        made = hosted.factory(hosted.data, hosted.send)
        self._receive = getattr(made, "send", made)
        if not callable(self._receive):
            raise SpecError("actor", made, "what has send(message), or is itself a function of a message")

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Has the actor take the message."""
        response = self._receive(request)
        if response.__class__ is not Response:
            raise SpecError("response", response, "a Response")
        return response


USUAL = Hosting()


def _check_factory(factory: Any) -> None:
    if not callable(factory):
        raise SpecError(
            "actor", factory, "a factory (data, send) -> actor, an actor, an ActorSystem or a Ref"
        )
    try:
        signature = inspect.signature(factory)
    except ValueError:
        return  # written in C, and says nothing of itself
    try:
        signature.bind(None, None)
    except TypeError:
        raise SpecError("actor", factory, f"a factory (data, send) -> actor, not {signature}") from None
