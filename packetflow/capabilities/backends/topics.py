"""Events: what `emit` publishes goes into the node's outbox, and from there to who subscribed, at least once."""

from __future__ import annotations

import re

from pydantic_core import PydanticSerializationError, to_jsonable_python

from packetflow.capabilities.backends.backend import EffectBackend, Execution, Run, place_of, wrong
from packetflow.capabilities.backends.metrics import names_of
from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.storage.outbox import Event
from packetflow.telemetry.masking import NOTHING, Mask
from packetflow.wire.codec import Unencodable

TOPIC = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")


class EmitBackend(EffectBackend):
    """The effects of kind `emit`."""

    def check(self, effect: Effect, capability: Capability) -> None:
        """The topic and what the event carries. Raises DefinitionError."""
        topic = effect.options["topic"]
        if not TOPIC.fullmatch(topic):
            raise wrong(
                effect,
                capability,
                f"topic {topic!r}; expected lower-case words and dots, such as orders.placed",
            )
        try:
            Expression(effect.options["data"], names_of(capability))
        except ConditionError as error:
            raise wrong(effect, capability, str(error)) from error

    def compile(self, effect: Effect, capability: Capability, mask: Mask) -> Run:
        """Publishes an event with the value of the text."""
        topic: str = effect.options["topic"]
        text: str = effect.options["data"]
        data = Expression(text, names_of(capability))
        place = place_of(effect, capability)
        whole = text.strip() == "value"  # as it is, and not as CEL sees it

        def run(execution: Execution) -> None:
            context = execution.context
            carried = execution.value if whole else data.evaluate(execution.scope(NOTHING))
            execution.outgoing.append(Event(f"{context.id}-{place}", topic, as_plain(carried), context.id))

        return run


def as_plain(value: object) -> object:
    """A value as an event can carry it: what JSON knows. Raises Unencodable."""
    try:
        return to_jsonable_python(value, bytes_mode="base64")
    except (PydanticSerializationError, ValueError) as error:
        raise Unencodable(f"an event can't carry this: {error}") from None
