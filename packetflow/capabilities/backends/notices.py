"""Notices: a filled template is handed to a channel, which delivers it in its own time."""

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
from packetflow.telemetry.masking import Mask


class NotifyBackend(EffectBackend):
    """The effects of kind `notify`. put(channel, notice) hands one over at once. channels: the names that there are."""

    def __init__(
        self, put: Callable[[str, Notice], None], channels: Callable[[], Collection[str]], clock: Clock
    ) -> None:
        self._put = put
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
            self._put(channel, Notice(f"{context.id}-{place}", text.fill(scope), subject.fill(scope), known))

        return run
