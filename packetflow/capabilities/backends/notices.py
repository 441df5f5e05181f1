"""Notices: a filled template goes into the node's outbox, and from there to a channel, at least once."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from packetflow.capabilities.backends.backend import EffectBackend, Execution, Run, place_of, wrong
from packetflow.capabilities.backends.metrics import names_of
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.template import Template, TemplateError
from packetflow.notices.notice import Notice
from packetflow.otp.clock import Clock
from packetflow.storage.outbox import Event
from packetflow.telemetry.masking import Mask


class NotifyBackend(EffectBackend):
    """The effects of kind `notify`. stored(channel, notice): one as it goes into the outbox. channels: the names that there
    are."""

    def __init__(
        self, stored: Callable[[str, Notice], Event], channels: Callable[[], Collection[str]], clock: Clock
    ) -> None:
        self._stored = stored
        self._channels = channels
        self._clock = clock

    def check(self, effect: Effect, capability: Capability) -> None:
        """The channel and the texts. Raises DefinitionError."""
        channel = effect.options["channel"]
        known = self._channels()
        if channel not in known:
            there = f"there is {', '.join(sorted(known))}" if known else "there is none"
            raise wrong(
                effect, capability, f"no channel {channel!r} in the configuration; {there} ([[channels]])"
            )
        try:
            for text in (effect.options["template"], effect.options["subject"]):
                Template(text, names_of(capability))
        except TemplateError as error:
            raise wrong(effect, capability, str(error)) from error

    def compile(self, effect: Effect, capability: Capability, mask: Mask) -> Run:
        """Fills the texts with masked values and hands them over."""
        names = names_of(capability)
        text, subject = (
            Template(effect.options["template"], names),
            Template(effect.options["subject"], names),
        )
        channel: str = effect.options["channel"]
        place = place_of(effect, capability)

        def run(execution: Execution) -> None:
            scope = execution.scope(mask)
            context = execution.context
            known: dict[str, Any] = {
                "capability": context.capability,
                "principal": context.principal,
                "outcome": execution.outcome,
                "trace": context.id,
                "time": self._clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            }
            notice = Notice(f"{context.id}-{place}", text.fill(scope), subject.fill(scope), known)
            execution.outgoing.append(self._stored(channel, notice))

        return run
