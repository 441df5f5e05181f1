"""start_actor: one function makes an actor of a behaviour, which is a function too."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from packetflow.otp.answers import Answer
from packetflow.otp.context import ActorContext
from packetflow.otp.errors import SpecError
from packetflow.otp.server import GenServer

if TYPE_CHECKING:
    from packetflow.otp.ref import Ref
    from packetflow.otp.system import System

MT = TypeVar("MT")
RT = TypeVar("RT")
Behaviour: TypeAlias = Callable[[ActorContext, MT], RT]


def start_actor(
    behaviour: Behaviour[MT, RT],
    *,
    name: str | None = None,
    system: System | None = None,
    link: bool = False,
) -> Ref[MT, RT]:
    """Starts an actor that handles each message by `behaviour(context, message)`, and returns its ref.

    A call is answered with what the behaviour returns; of a cast, an info, a Down it is dropped. It may return NoReply, Stop
    or Continue as a GenServer's handlers do, and what it raises ends the actor. It keeps state in a closure, if it needs
    any: an actor that is to begin anew after a crash is a GenServer's subclass.

    system: where it lives; inside an actor, the actor's own by default. link: as a linked child of the calling actor.
    As a supervisor's child: `ChildSpec(start_actor, behaviour)`. Raises SpecError, NameTaken; NotAnActor outside of an
    actor without a system.
    """
    if not callable(behaviour):
        raise SpecError("behaviour", behaviour, "a function (context, message) -> answer")
    kind = _named(getattr(behaviour, "__name__", type(behaviour).__name__))
    ref = kind.start_link(behaviour, name=name) if link else kind.start(behaviour, name=name, system=system)
    assert ref is not None  # its init never ignores
    return ref


class _Function(GenServer[Any, Any]):
    def init(self, behaviour: Behaviour[Any, Any]) -> None:
        self._behaviour = behaviour
        self._context = ActorContext(self._process)

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self._behaviour(self._context, request)

    def handle_cast(self, message: Any) -> Any:
        answer = self._behaviour(self._context, message)
        return answer if isinstance(answer, Answer) else None

    def handle_info(self, message: Any) -> Any:
        return self.handle_cast(message)

    def handle_continue(self, argument: Any) -> Any:
        return self.handle_cast(argument)


@lru_cache(maxsize=1024)
def _named(name: str) -> type[_Function]:
    return type(name, (_Function,), {})  # people see the behaviour's name, not ours
