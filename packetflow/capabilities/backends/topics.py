"""Events: what `emit` publishes goes to the node's topics, or to whatever takes their place (an outbox)."""

from __future__ import annotations

import re
from collections.abc import Callable

from packetflow.capabilities.backends.backend import EffectBackend, Execution, Run, place_of, wrong
from packetflow.capabilities.backends.metrics import names_of
from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.events import Event
from packetflow.otp.clock import Clock
from packetflow.telemetry.masking import NOTHING, Mask

TOPIC = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9][a-z0-9_-]*)*")


class EmitBackend(EffectBackend):
    """The effects of kind `emit`. publish(event) hands an event over at once."""

    def __init__(self, publish: Callable[[Event], None], clock: Clock) -> None:
        self._publish = publish
        self._clock = clock

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
            event = Event(
                f"{context.id}-{place}",
                topic,
                carried,
                self._clock.utc(),
                context.capability,
                context.principal,
                context.tenant,
            )
            self._publish(event)

        return run
