"""What a durable run waits for outside of memory: an event, a decision."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from pydantic_core import to_json

from packetflow.capabilities.conditions import Expression
from packetflow.composition.durable.interpreting import Interpreter
from packetflow.composition.durable.outcomes import Parked
from packetflow.composition.durable.scopes import Scope
from packetflow.composition.durable.strands import Operation, Strand, Undo
from packetflow.composition.engine import evaluated, located, put
from packetflow.composition.nodes import Node
from packetflow.composition.waiting import Approval, StateMachine, WaitFor
from packetflow.storage.runs.records import APPROVED, ESCALATED, EXPIRED, MODIFIED, Question, Wait
from packetflow.wire.errors import Rejected, Timeout, TooLarge


def wait_for(interpreter: Interpreter, node: WaitFor, path: str, static: str, tail: bool) -> Operation:
    """See WaitFor. Its value is the event's payload."""
    names = sorted(set(Expression(node.match).names) - {"event"}) if node.match is not None else []

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        journal = strand.run.journal
        place = prefix + path
        entry = journal.find(place)
        if entry is None:
            strand.check()
            now = journal.now()
            due = None if node.timeout is None else now + node.timeout
            seen = to_json({name: scope.get(name) for name in names}, fallback=str)
            journal.wait(Wait(place, "event", node.label, now, due, node.event, node.match, seen))
            entry = journal.find(place)
        if entry is None:
            raise Parked
        event = entry.body.get("event")
        if event is None:
            raise located(
                Timeout(f"no event {node.event} within {node.timeout:g} s"), f"step {node.label}", place
            )
        put(scope, event["payload"], node.outputs)
        return event["payload"]

    return run


def approval(interpreter: Interpreter, node: Approval, path: str, static: str, tail: bool) -> Operation:
    """See Approval. A refusal fails it with `rejected`, so that what comes after it is never begun."""

    def run(strand: Strand, scope: Scope, prefix: str) -> Any:
        place = prefix + path
        found = asked(strand, place, node.who, node.on_timeout)
        if found["state"] == ESCALATED or (found["state"] == EXPIRED and node.on_timeout == "escalate"):
            found = asked(strand, place + "!escalated", node.escalate_to or node.who, "reject")
            granted = found["state"] in (APPROVED, MODIFIED)
        else:
            granted = found["state"] in (APPROVED, MODIFIED) or (
                found["state"] == EXPIRED and node.on_timeout == "approve"
            )
        answers = {"decision": found["state"], "decided_by": found["by"], "comment": found["comment"]}
        if granted:
            scope.update(found["values"])
            scope.update({name: answers[given] for given, name in node.outputs.items()})
            return answers
        words = (
            "nobody decided in time" if found["state"] == EXPIRED else f"{found['state']} by {found['by']}"
        )
        if found["comment"]:
            words += f": {found['comment']}"
        details = {"reason": f"approval_{found['state']}", "approval": found["id"], "by": found["by"]}
        raise located(Rejected(words, details), f"step {node.label}", place)

    def asked(strand: Strand, place: str, who: tuple[str, ...], on_timeout: str) -> dict[str, Any]:
        """What became of a question; asks it first."""
        journal = strand.run.journal
        entry = journal.find(place)
        if entry is None:
            strand.check()
            now = journal.now()
            due = None if node.deadline is None else now + node.deadline
            id = hashlib.sha256(f"{strand.run.key(place)} {now}".encode()).hexdigest()[:32]
            question = Question(id, place, node.label, who, node.subject, now, due, on_timeout)
            journal.wait(Wait(place, "approval", node.label, now, due), question=question)
            entry = journal.find(place)
        if entry is None:
            raise Parked
        body: dict[str, Any] = entry.body
        return body

    return run


def state_machine(
    interpreter: Interpreter, node: StateMachine, path: str, static: str, tail: bool
) -> Operation:
    """See StateMachine. An event that was dealt with is one entry."""
    actions = {part: interpreter.each(node, part, static) for part, _ in node.children}
    guards = {
        (state, number): Expression(way.when)
        for state, ways in node.states.items()
        for number, way in enumerate(ways)
        if way.when is not None
    }

    def run(strand: Strand, scope: Scope, prefix: str) -> str:
        place, state, number = prefix + path, node.initial, 0
        while node.states[state]:
            if number >= node.max_events:
                words = f"{node.label}: still in {state} after {number:,} events; max_events is {node.max_events:,}"
                raise TooLarge(words, {"place": place})
            at = f"{place}[{number}]"
            entry = strand.run.journal.find(at)
            if entry is None:
                outer, scope.put = scope.put, {}
                mark = strand.mark()
                state = moved(strand, scope, at, state)
                strand.run.fold(
                    at, node.label, {"value": state, "put": scope.put, "undos": strand.undos[mark:]}
                )
                scope.put = {**outer, **scope.put}
            else:
                scope.update(entry.body["put"])
                strand.run.recall(entry.body)
                strand.undos.extend(Undo(*one) for one in entry.body["undos"])
                state = entry.body["value"]
            number += 1
        scope["state"] = state
        return state

    def moved(strand: Strand, scope: Scope, at: str, state: str) -> str:
        """The state that the next event leads to."""
        journal = strand.run.journal
        entry = journal.find(at + "/event")
        if entry is None:
            strand.check()
            journal.wait(*waits(scope, at + "/event", state, journal.now()))
            entry = journal.find(at + "/event")
        if entry is None:
            raise Parked
        event = entry.body["event"]
        names = {**scope, "event": event["payload"]}
        for number, way in enumerate(node.states[state]):
            guard = guards.get((state, number))
            if way.event == event["name"] and (guard is None or evaluated(guard, names, at) is True):
                put(scope, event["payload"], {})
                action = actions.get(f"{state}.{number}")
                if action is not None:
                    action(strand, scope, at + "/")
                return way.to
        return state

    def waits(scope: Scope, place: str, state: str, now: float) -> list[Wait]:
        found = []
        for event in dict.fromkeys(way.event for way in node.states[state]):
            ways = [(n, way) for n, way in enumerate(node.states[state]) if way.event == event]
            texts = [way.when for _, way in ways if way.when is not None]
            match = None if len(texts) < len(ways) else " || ".join(f"({text})" for text in texts)
            needed = {name for n, _ in ways if (state, n) in guards for name in guards[state, n].names}
            seen = to_json({name: scope.get(name) for name in sorted(needed - {"event"})}, fallback=str)
            found.append(Wait(place, "event", f"{node.label} in {state}", now, None, event, match, seen))
        return found

    return run


COMPILERS: dict[type[Node], Callable[..., Operation]] = {
    WaitFor: wait_for,
    Approval: approval,
    StateMachine: state_machine,
}
