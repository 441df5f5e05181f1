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
from packetflow.composition.durable.strands import Operation, Strand
from packetflow.composition.engine import located, put
from packetflow.composition.nodes import Node
from packetflow.composition.waiting import Approval, WaitFor
from packetflow.storage.runs.records import APPROVED, ESCALATED, EXPIRED, MODIFIED, Question, Wait
from packetflow.wire.errors import Rejected, Timeout


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


COMPILERS: dict[type[Node], Callable[..., Operation]] = {WaitFor: wait_for, Approval: approval}
