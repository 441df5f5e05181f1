"""What a backend of effects is, and what it is told of a request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeAlias

from packetflow.capabilities.authorisation import context_of
from packetflow.capabilities.context import Context
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.storage.outbox import Event
from packetflow.telemetry.masking import Mask
from packetflow.wire.errors import RequestError

#: What names an effect's texts may use.
NAMES = ("payload", "value", "context", "outcome", "duration")


class Execution:
    """One request as an effect sees it. payload: the parsed fields, None if it did not fit the contract. value: the answer,
    None where there is an error. answered: whether a module or a cache answered instead of the capability. outgoing: what goes
    into the outbox when all effects are done; a backend adds to it."""

    __slots__ = ("answered", "context", "error", "outgoing", "payload", "value")

    def __init__(
        self,
        context: Context,
        payload: Mapping[str, Any] | None,
        value: Any = None,
        error: RequestError | None = None,
        answered: bool = False,
    ) -> None:
        self.context = context
        self.payload = payload
        self.value = value
        self.error = error
        self.answered = answered
        self.outgoing: list[Event] = []

    @property
    def outcome(self) -> str:
        """`ok`, or the error's code."""
        return "ok" if self.error is None else self.error.code

    def scope(self, mask: Mask) -> dict[str, Any]:
        """What CEL texts may name; payload and value masked where the mask hides anything."""
        payload: Any = {} if self.payload is None else self.payload
        return {
            "payload": mask(payload) if mask else payload,
            "value": mask(self.value) if mask else self.value,
            "context": context_of(self.context),
            "outcome": self.outcome,
            "duration": self.context.duration,
        }


#: What a backend makes of an effect: called for each request that the effect is for.
Run: TypeAlias = Callable[[Execution], object]


class EffectBackend:
    """Does the effects of one kind. Derive from it, and register it with the node.

    blocking: what `apply` does may wait; it is then done after the answer, from a bounded queue, apart from the request.
    Such effects can't be required.
    """

    blocking: ClassVar[bool] = False

    def check(self, effect: Effect, capability: Capability) -> None:
        """Look at a declaration, when the capability is registered. Raises DefinitionError."""

    def compile(self, effect: Effect, capability: Capability, mask: Mask) -> Run:
        """The function that does this effect of this capability; by default `apply`.

        mask: what must be hidden in all that leaves the node.
        """
        return lambda execution: self.apply(effect, execution)

    def apply(self, effect: Effect, execution: Execution) -> None:
        """Do it, after the outcome is known. What it raises is logged, and changes no answer."""
        raise NotImplementedError


class RequiredBackend(EffectBackend):
    """A backend whose effects may be `required`: it writes an intent before the capability runs, and the outcome after."""

    def begin(self, effect: Effect, execution: Execution) -> Any:
        """Write down what is about to be done; the result is given to `finish`. If it raises, the capability is not run."""
        raise NotImplementedError

    def finish(self, effect: Effect, execution: Execution, intent: Any) -> None:
        """Write down what came of it. If it raises, the answer stands, the node's health says so, and the intent stays open."""
        raise NotImplementedError


def wrong(effect: Effect, capability: Capability, why: str) -> DefinitionError:
    """The error of a declaration."""
    return DefinitionError(f"{capability.source}: effect {effect.name} of {capability.id}: {why}")


def place_of(effect: Effect, capability: Capability) -> int:
    """Which of the capability's effects it is, from 0: what tells apart what one request sends."""
    return next(place for place, one in enumerate(capability.effects) if one is effect)
