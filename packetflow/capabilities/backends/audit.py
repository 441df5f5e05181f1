"""Audit records of requests: who did what, when, with what outcome. Where they are kept is the trail's business."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from packetflow.capabilities.backends.backend import Execution, RequiredBackend, Run, wrong
from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.otp.clock import Clock
from packetflow.telemetry.masking import Mask
from packetflow.wire.errors import RequestError

LONGEST_NAME = 500  # characters of a principal or tenant that a record shows
LEVELS = ("minimal", "standard", "comprehensive")


class Trail(Protocol):
    """Where audit records go."""

    def offer(self, record: Mapping[str, Any]) -> None:
        """Keep a record soon. One that can't be kept is counted."""

    def write(self, record: Mapping[str, Any], timeout: float) -> None:
        """Keep a record; returns when it is on the disk. Raises PacketFlowError if it is not within so many seconds."""


class AuditBackend(RequiredBackend):
    """The effects of kind `audit`. patience: seconds for a record to get onto the disk."""

    def __init__(self, trail: Trail, clock: Clock, mask: Mask, patience: float = 5.0) -> None:
        self._trail = trail
        self._clock = clock
        self._mask = mask
        self._patience = patience

    def check(self, effect: Effect, capability: Capability) -> None:
        """The level, and that it is declared once. Raises DefinitionError."""
        level = effect.options.get("level")
        if level not in LEVELS:
            raise wrong(
                effect, capability, f"level {level!r}; expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}"
            )
        if sum(1 for other in capability.effects if other.kind == effect.kind) > 1:
            raise wrong(
                effect, capability, "audit is declared twice; expected it once, with the level that is wanted"
            )

    def compile(self, effect: Effect, capability: Capability, mask: Mask) -> Run:
        """Offers a record of each request."""
        level = effect.options["level"]
        trail, clock = self._trail, self._clock
        return lambda execution: trail.offer(record_of("request", execution, level, clock, mask))

    def begin(self, effect: Effect, execution: Execution) -> Mask:
        """The intent is on the disk when this returns."""
        context = execution.context
        mask: Mask = self._mask | context.route.registered.definition.contract.mask
        level = effect.options["level"]
        seconds = min(self._patience, context.deadline - self._clock.monotonic())
        try:
            self._trail.write(record_of("intent", execution, level, self._clock, mask), seconds)
        except BaseException:
            # It may have been written all the same: what follows it says that nothing was done.
            self._trail.offer(
                {**record_of("outcome", execution, "minimal", self._clock, mask), "outcome": "not_run"}
            )
            raise
        return mask

    def finish(self, effect: Effect, execution: Execution, intent: Mask) -> None:
        """The outcome is on the disk when this returns."""
        record = record_of("outcome", execution, effect.options["level"], self._clock, intent)
        record.pop("payload", None)  # the intent has it
        if execution.error is not None:
            # Whoever is ended waits for nothing.
            self._trail.offer(record)
            return
        left = execution.context.deadline - self._clock.monotonic()
        self._trail.write(record, min(self._patience, left))


def record_of(event: str, execution: Execution, level: str, clock: Clock, mask: Mask) -> dict[str, Any]:
    """What is recorded of a request at a level, as plain data."""
    context = execution.context
    record = {**who(event, context, clock)}
    if event != "intent":
        record["outcome"] = execution.outcome
        if execution.answered:
            record["answered"] = "elsewhere"
        record.update(_why(execution.error))
    if level == "minimal":
        return record
    session = context.session
    record["door"] = session.door
    if session.peer:
        record["peer"] = session.peer
    if context.parent is not None:
        record["parent"] = context.parent.id
    if event != "intent":
        record["duration"] = round(context.duration, 6)
    if execution.payload is not None:
        record["payload"] = mask(execution.payload)
    if level == "comprehensive" and event != "intent" and execution.error is None:
        record["value"] = mask(execution.value)
    return record


def who(event: str, context: Context, clock: Clock) -> dict[str, Any]:
    """What every record of a request begins with."""
    record: dict[str, Any] = {
        "time": clock.utc().isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "event": event,
        "principal": shown(context.principal),
        "capability": f"{context.capability}@{context.version}" if context.version else context.capability,
        "trace": context.id,
    }
    if context.tenant:
        record["tenant"] = shown(context.tenant)
    return record


def shown(name: str) -> str:
    """A name that somebody else chose, as it can be written: cut where it is long, and without what no text can hold."""
    text = name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}... ({len(name)} characters)"
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def refusal_of(context: Context, error: RequestError, clock: Clock) -> dict[str, Any]:
    """The record of a request that rights, a rule or a module refused. Nothing of the payload."""
    record = {
        **who("refused", context, clock),
        "outcome": error.code,
        **_why(error),
        "door": context.session.door,
    }
    if context.session.peer:
        record["peer"] = context.session.peer
    return record


def _why(error: RequestError | None) -> dict[str, Any]:
    """By which rule or module: the words of messages may hold what a caller sent."""
    if error is None:
        return {}
    return {key: str(error.details[key]) for key in ("rule", "module", "reason") if key in error.details}
