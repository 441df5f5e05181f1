"""ActorSystem: the small face of the runtime. Pure factories, one `send`, and systems that are actors themselves.

An actor is made from data and an injected `send(target_id, message)`, its only way to others. Each one is a process under
a supervisor of its own; where a target lives is the system's business. Faults are responses, not exceptions.
"""

from __future__ import annotations

from typing import Any, TypeAlias, TypeVar, overload

from packetflow.otp import errors
from packetflow.otp.actor_system.hosting import USUAL, Hosted, Hosting, Members
from packetflow.otp.actor_system.messages import Actor, ActorFactory, Message, Response
from packetflow.otp.calls import call, stop
from packetflow.otp.process import DEAD
from packetflow.otp.ref import Ref
from packetflow.otp.requests import RequestId, receive_response, send_request
from packetflow.otp.supervision.child_spec import ChildSpec
from packetflow.otp.supervision.supervisor import Supervisor
from packetflow.otp.system import System

D = TypeVar("D")
Passed: TypeAlias = "list[ActorSystem]"


class Future:
    """A response that is still to come."""

    __slots__ = ("_found", "_passed", "_target_id")

    def __init__(self, found: Any, target_id: str, passed: Passed) -> None:
        self._found = found if isinstance(found, RequestId) else _response(found, target_id, passed)
        self._target_id = target_id
        self._passed = passed

    @property
    def ready(self) -> bool:
        """Whether `get` would return at once."""
        return not isinstance(self._found, RequestId) or self._found.done

    def get(self, timeout: float | None = 5.0) -> Response:
        """Waits for the response, `timeout` seconds at most (None: no limit). Asked again, it gives the same."""
        found = self._found
        if not isinstance(found, RequestId):
            return found
        try:
            answer = receive_response(found, timeout)
        except errors.CallFailed as error:
            answer = error
        self._found = response = _response(answer, self._target_id, self._passed)
        return response


class Send:
    """What an actor is given: `send(target_id, message)`, and `send.future(...)` for an answer to be fetched later."""

    __slots__ = ("_system",)

    def __init__(self, system: ActorSystem) -> None:
        self._system = system

    def __call__(self, target_id: str, message: Message, /, *, timeout: float | None = 5.0) -> Response:
        """Sends a message and waits for the response, `timeout` seconds at most (None: no limit)."""
        return self._system.send(target_id, message, timeout=timeout)

    def future(self, target_id: str, message: Message, /) -> Future:
        """Sends a message and goes on."""
        return self._system.future(target_id, message)


class Member:
    """A member of a system, seen from outside: one argument, the message."""

    __slots__ = ("_id", "_system")

    def __init__(self, system: ActorSystem, id: str) -> None:
        self._system = system
        self._id = id

    def send(self, message: Message, /, *, timeout: float | None = 5.0) -> Response:
        """Sends this member a message, and waits for the response."""
        return self._system.send(self._id, message, timeout=timeout)


class ActorSystem:
    """Actors by id, and their `send`. It is an actor itself: it answers `list`, `stats` and `route`, and can be registered.

    world: the runtime's System its actors live in; by default one of its own. name: what its members' names begin with in
    that world (`name/id`); without one, members of a shared world have no names there. start: False if its members are to
    start with the supervision tree that `child()` is put in.
    """

    def __init__(self, world: System | None = None, name: str | None = None, *, start: bool = True) -> None:
        if world is None and not start:
            raise errors.SpecError(
                "start", start, "True without a world, which the tree would have to stand in"
            )
        self._own = world is None
        self._world = world or System(name or "local")
        self._prefix = f"{name}/" if name else "" if self._own else None
        self._members: dict[str, ActorSystem | Ref | Hosted] = {}
        self._top: Ref | None = None
        self._in_tree = not start
        self._messages = self._errors = 0
        self._since = self._world.clock.monotonic()
        if start:
            Members.start(self._begin, system=self._world)

    # ---- who is there ----------------------------------------------------------------------------------------------------

    @overload
    def register(self, id: str, actor: ActorFactory[D], data: D, hosting: Hosting = ...) -> Member: ...

    @overload
    def register(self, id: str, actor: Actor | Ref, *, hosting: Hosting = ...) -> Member: ...

    def register(self, id: str, actor: Any, data: Any = None, hosting: Hosting = USUAL) -> Member:
        """Adds a member: a factory with its data, a system, an actor that is made already, or a ref (which may be far).

        hosting: its supervision and its mailbox, which are no concern of the actor's. Raises SpecError; StartFailed if the
        factory raises.
        """
        if not isinstance(id, str) or not id or "/" in id or id in self._members:
            raise errors.SpecError("id", id, "a text without a slash, not empty, and no other member's id")
        if isinstance(actor, ActorSystem | Ref):
            self._members[id] = actor
            return Member(self, id)
        hosted = self._members[id] = Hosted(id, actor, data, Send(self), hosting, self._prefix)
        try:
            if self._top is not None:
                Supervisor.start_child(self._top, hosted.spec)
        except errors.PacketFlowError:
            self._members.pop(id, None)
            raise
        return Member(self, id)

    def unregister(self, id: str) -> None:
        """Takes a member out, and stops it if it was made here. Raises ChildNotFound."""
        member = self._members.get(id)
        if member is None:
            raise errors.ChildNotFound(id)
        if isinstance(member, Hosted) and self._top is not None:
            try:
                Supervisor.terminate_child(self._top, id)
            except (errors.ChildNotFound, errors.NoProcess):
                pass  # it was down already, or all are
        self._members.pop(id, None)

    def child(self, id: str = "actors") -> ChildSpec:
        """This system as a child of a supervision tree (made with start=False). Its members start with it, and again."""
        if self._top is not None:
            raise errors.SpecError("start", True, "False for a system that is put in a tree")
        return Members.child(self._begin, id=id)

    def _begin(self, top: Ref) -> list[ChildSpec]:
        self._top = top
        return [member.spec for member in self._members.values() if isinstance(member, Hosted)]

    def close(self) -> None:
        """Stops its members. Systems registered in it go on: they are theirs who made them. One that stands in a tree
        ends with its tree, and not here."""
        if self._own:
            self._world.shutdown()
        elif self._top is not None and not self._in_tree and self._top._process.current is not DEAD:
            stop(self._top, "shutdown")

    def __enter__(self) -> ActorSystem:
        return self

    def __exit__(self, *failure: object) -> None:
        self.close()

    # ---- sending -----------------------------------------------------------------------------------------------------------

    @overload
    def send(self, message: Message, /, *, timeout: float | None = ...) -> Response: ...

    @overload
    def send(self, target_id: str, message: Message, /, *, timeout: float | None = ...) -> Response: ...

    def send(self, *arguments: Any, timeout: float | None = 5.0) -> Response:
        """One argument: a message to this system itself. Two: to a member, or to one of a system below ("a/b/c").

        Waits for the response, `timeout` seconds at most (None: no limit). Whatever goes wrong is a response with
        success=False. Raises TypeError for any other number of arguments; WrongThread, HubBlocked.
        """
        if len(arguments) not in (1, 2):
            raise TypeError(f"send takes (message) or (target_id, message), not {len(arguments)} arguments")
        found: Any = self._members.get(arguments[0]) if arguments[0].__class__ is str else None
        if found.__class__ is Hosted and arguments[-1].__class__ is Message:  # most often it is one of ours
            (target_id, message), passed = arguments, [self]
            self._messages += 1
        else:
            found, target_id, message, passed = self._find(*arguments)
        try:
            if isinstance(found, Hosted):
                found = found.call(message, timeout)
            elif isinstance(found, Ref):
                found = call(found, message, timeout)
        except errors.CallFailed as error:
            found = error
        return _response(found, target_id, passed)

    def future(self, target_id: str, message: Message, /) -> Future:
        """Sends a message to a member, or to one below, and goes on: `Future.get` waits for the response."""
        found, target_id, message, passed = self._find(target_id, message)
        found = found.ref or found if isinstance(found, Hosted) else found
        return Future(send_request(found, message) if isinstance(found, Ref) else found, target_id, passed)

    def _find(self, *arguments: Any) -> tuple[Any, str, Message, Passed]:
        """Who is meant (else the response itself), by which id, by which message, and the systems on the way."""
        at: Any = self
        passed, message, target_id = [self], arguments[-1], str(arguments[0])
        steps = target_id.split("/") if len(arguments) == 2 else []
        while message.__class__ is Message:
            for step in steps:
                at = at._members.get(step) if isinstance(at, ActorSystem) else None
                if isinstance(at, ActorSystem):
                    passed.append(at)
            if not isinstance(at, ActorSystem):
                break
            match message.type, message.payload:
                case "route", {"target": str(target_id), "message": Message() as message}:
                    steps = target_id.split("/")
                    continue
                case "route", _:
                    at = _invalid('route: accepted is {"target": id, "message": Message}')
                case "list", _:
                    at = Response(True, [{"id": id, "kind": _kind(one)} for id, one in at._members.items()])
                case "stats", _:
                    figures = {"messages": at._messages, "errors": at._errors, "members": len(at._members)}
                    at = Response(True, {**figures, "uptime": at._world.clock.monotonic() - at._since})
                case kind, _:
                    at = _invalid(f"a system answers list, stats and route, not {kind!r}")
            break
        else:
            at = _invalid(f"message: given {message!r}; accepted is a Message")
        for system in passed:
            system._messages += 1
        if at is None:
            at = _failure("not_found", f"Actor not found: {target_id}")
        return at, target_id, message, passed


def _kind(member: object) -> str:
    return "system" if isinstance(member, ActorSystem) else "actor"


def _failure(code: str, error: str) -> Response:
    return Response(False, error=error, code=code)


def _invalid(error: str) -> Response:
    return _failure("validation_failed", error)


def _response(answer: Any, target_id: str, passed: Passed) -> Response:
    """What a wait gave, as a response; failures are counted by all systems on the way."""
    if answer.__class__ is Response and answer.success:
        return answer
    if isinstance(answer, errors.NoProcess | Hosted):  # not started yet, or dead
        answer = _failure("unavailable", f"Actor not running: {target_id}")
    elif isinstance(answer, errors.ServerExited) and isinstance(answer.reason, BaseException):
        answer = _failure("execution_failed", errors.reason_text(answer.reason))
    elif isinstance(answer, errors.CallFailed):
        answer = _failure(answer.code, str(answer))
    elif answer.__class__ is not Response:
        answer = _failure("contract_violated", f"{target_id} answered {answer!r}; accepted is a Response")
    for system in passed:
        system._errors += 1
    return answer  # type: ignore[no-any-return]
