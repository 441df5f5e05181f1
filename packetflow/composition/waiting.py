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


@dataclass(frozen=True, slots=True)
class Transition:
    """One way out of a state: on an event, if `when` (a CEL text over `event`, its payload, and the scope) holds, doing `do`."""

    event: str
    to: str
    when: str | None = None
    do: Node | None = None


@dataclass(frozen=True, slots=True)
class StateMachine(Node):
    """Waits for events and goes from state to state, until it is in one without a way out; that one is its value, put as `state`.

    Of several ways out on one event the first that holds is taken; an event for which none holds is not this one's.
    The event's fields are put before `do` runs. The run is not in memory between two events. Compare `gen_statem` of OTP.
    """

    initial: str
    states: Mapping[str, tuple[Transition, ...]]
    max_events: int = 1_000
    kind: ClassVar[str] = "state_machine"

    def __post_init__(self) -> None:
        made = {name: tuple(ways) for name, ways in self.states.items()}
        object.__setattr__(self, "states", made)
        for name, ways in made.items():
            identifier("state_machine: a state", "states", name)
            for way in ways:
                where = f"state_machine: {name}"
                if not isinstance(way, Transition) or not isinstance(way.event, str) or not way.event:
                    raise PlanError(f"{where}: {way!r} is no way out; expected event and to", field="states")
                one_of(where, "states", way.to, tuple(made))
                if way.when is not None:
                    Expression(way.when)
                if way.do is not None and not isinstance(way.do, Node):
                    raise PlanError(f"{where}: {way.do!r} can't be done; expected a node", field="states")
        one_of("state_machine", "initial", self.initial, tuple(made))
        if isinstance(self.max_events, bool) or not isinstance(self.max_events, int) or self.max_events < 1:
            raise PlanError(
                f"state_machine: max_events is {self.max_events!r}; expected a whole number from 1",
                field="max_events",
            )

    @property
    def children(self) -> tuple[tuple[str, Node], ...]:
        """What is done, each by the state and the number of its way out: `draft.0`."""
        return tuple(
            (f"{name}.{number}", way.do)
            for name, ways in self.states.items()
            for number, way in enumerate(ways)
            if way.do is not None
        )
