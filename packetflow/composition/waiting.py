"""The nodes that wait outside of memory, for an event or for people: a plan that has one runs durably."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from packetflow.capabilities.conditions import Expression
from packetflow.composition.nodes import Node, PlanError, identifier, one_of, positive


@dataclass(frozen=True, slots=True)
class WaitFor(Node):
    """Waits for an event by name, `timeout` seconds at most, and puts its payload's fields. The run is not in memory meanwhile.

    match: a CEL text over `event` (its payload) and the scope; an event for which it does not hold is not this one's.
    """

    event: str
    match: str | None = None
    timeout: float | None = None
    outputs: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "wait_for"

    def __post_init__(self) -> None:
        if not isinstance(self.event, str) or not self.event:
            raise PlanError(
                f"wait_for {self.event!r}: expected the name of an event, such as payment.received",
                field="event",
            )
        if self.match is not None:
            if not isinstance(self.match, str):
                raise PlanError(
                    f"wait_for {self.event}: match is {self.match!r}; expected a CEL text", field="match"
                )
            Expression(self.match)
        positive(f"wait_for {self.event}", "timeout", self.timeout, optional=True)
        for given, to in self.outputs.items():
            identifier(f"wait_for {self.event}: output {given!r}", "outputs", to)

    @property
    def label(self) -> str:
        """Its name, or what it waits for."""
        return self.name or f"wait_for {self.event}"


@dataclass(frozen=True, slots=True)
class Approval(Node):
    """Asks people and waits for one decision: approve, reject, or modify (approve with other values, which are put).

    who: principals that may decide. deadline: seconds, after which `on_timeout` is done: "reject", "approve", or "escalate",
    which asks `escalate_to` once more. outputs: `decided_by` and `comment` under names of the scope.
    """

    who: tuple[str, ...]
    subject: str = ""
    deadline: float | None = None
    on_timeout: Literal["reject", "approve", "escalate"] = "reject"
    escalate_to: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    kind: ClassVar[str] = "approval"

    def __post_init__(self) -> None:
        for name in ("who", "escalate_to"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or not all(isinstance(one, str) and one for one in given):
                raise PlanError(f"approval: {name} is {given!r}; expected a list of principals", field=name)
            object.__setattr__(self, name, tuple(given))
        if not self.who:
            raise PlanError(
                'approval: nobody may decide; expected principals: approval(["ana", "operator"])', field="who"
            )
        if not isinstance(self.subject, str):
            raise PlanError(f"approval: subject is {self.subject!r}; expected a text", field="subject")
        one_of("approval", "on_timeout", self.on_timeout, ("reject", "approve", "escalate"))
        if self.on_timeout == "escalate" and not self.escalate_to:
            raise PlanError(
                "approval: it escalates to nobody; expected escalate_to = [...]", field="escalate_to"
            )
        positive("approval", "deadline", self.deadline, optional=True)
        for given, to in self.outputs.items():
            one_of("approval", "outputs", given, ("decided_by", "comment", "decision"))
            identifier(f"approval: output {given!r}", "outputs", to)
