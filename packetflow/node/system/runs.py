"""Defines the `system.run*` and `system.approval*` capabilities: durable runs, looked at and changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import Field
from pydantic_core import from_json

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import capability as declare
from packetflow.node.system import run_shapes as shapes

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking
    from packetflow.storage.runs.records import Approval, RunRow

RunId = Annotated[str, Field(description="A run's id, or its first letters.", max_length=32)]
State = Literal["running", "waiting", "forbidden", "stranded", "completed", "failed", "cancelled"]


class HasRuns(Protocol):
    """What these capabilities ask of their node."""

    def waking(self) -> Waking:
        """Its durable runs. Raises Unavailable where there is no store."""


def run_capabilities(node: HasRuns) -> list[Callable[..., Any]]:
    """The capabilities for durable runs."""

    @declare("system.runs", tags=["system"])
    def runs(
        state: State | None = None,
        composition: Annotated[str | None, Field(max_length=200)] = None,
        principal: Annotated[str | None, Field(max_length=200)] = None,
        limit: Annotated[int, Field(ge=1, le=1000)] = 50,
    ) -> shapes.Runs:
        """The durable runs, the newest first."""
        from packetflow.storage.runs.records import RunFilter

        store = node.waking().store
        which = RunFilter(state, composition, principal, None, limit)
        return {"runs": [_row(one) for one in store.listed(which)], "counts": store.counts()}

    @declare("system.run", tags=["system"])
    def run(id: RunId) -> shapes.RunDetail:
        """One durable run: its state, what each place of its plan came to, what it waits for."""
        waking = node.waking()
        found = waking.find(id)
        loaded = waking.store.load([found.number])[0]
        entries = sorted(loaded.entries, key=lambda entry: entry.at)
        return {
            **_row(loaded.row),
            "principal": found.principal,
            "tenant": found.tenant,
            "result": None if loaded.row.result is None else from_json(loaded.row.result),
            "steps": [
                {
                    "place": entry.place,
                    "what": entry.kind,
                    "label": entry.label,
                    "capability": entry.capability or None,
                    "at": shapes.moment(entry.at),
                    "seconds": entry.seconds,
                }
                for entry in entries
                if not entry.place.endswith("!since")
            ],
            "waits": [
                {
                    "place": wait.place,
                    "what": wait.kind,
                    "label": wait.label,
                    "event": wait.event or None,
                    "since": shapes.moment(wait.since),
                    "due": None if wait.due is None else shapes.moment(wait.due),
                }
                for wait in waking.store.waits_of(found.number)
            ],
            "approvals": [
                _approval(one) for one in waking.store.approvals(only_open=False, run=found.number)
            ],
        }

    @declare("system.run.cancel", tags=["system"])
    def cancel(id: RunId, context: Context) -> shapes.RunChange:
        """End a run; what it has done and says how is undone."""
        waking = node.waking()
        found = waking.find(id)
        return {"id": found.id, "changed": waking.cancel(found, context.principal)}

    @declare("system.run.resume", tags=["system"])
    def resume(id: RunId) -> shapes.RunChange:
        """Have a run that is forbidden or stranded go on, if it can now."""
        waking = node.waking()
        found = waking.find(id)
        return {"id": found.id, "changed": waking.resume(found)}

    @declare("system.run.signal", tags=["system"])
    def signal(
        event: Annotated[str, Field(min_length=1, max_length=256)],
        payload: dict[str, Any] | None = None,
        run: RunId | None = None,
        id: Annotated[str | None, Field(max_length=256, description="The same event twice is once.")] = None,
    ) -> shapes.Signalled:
        """Send an event: to one run, which keeps it until it waits for it, or to all that wait for it now."""
        waking = node.waking()
        return {"runs": waking.signal(event, payload or {}, None if run is None else waking.find(run), id)}

    @declare("system.approvals", tags=["system"])
    def approvals(all: bool = False) -> shapes.Approvals:
        """The approvals that wait for a decision, the oldest first; all: those that were decided too."""
        return {"approvals": [_approval(one) for one in node.waking().store.approvals(only_open=not all)]}

    @declare("system.approval.decide", tags=["system"])
    def decide(
        id: RunId,
        decision: Literal["approved", "rejected", "modified", "escalated"],
        context: Context,
        comment: Annotated[str, Field(max_length=2000)] = "",
        values: dict[str, Any] | None = None,
    ) -> shapes.ApprovalRow:
        """Decide an approval, once: a second decision changes nothing and says who decided. values: of `modified`."""
        operator = context.session.operator
        return _approval(node.waking().decide(id, decision, context.principal, operator, comment, values))

    return [runs, run, cancel, resume, signal, approvals, decide]


def _row(row: RunRow) -> shapes.RunRow:
    return {
        "id": row.id,
        "composition": row.composition,
        "version": row.version,
        "state": row.state,
        "started": shapes.moment(row.started),
        "ended": None if row.ended is None else shapes.moment(row.ended),
        "done": row.steps,
        "retries": row.retries,
        "attempts": row.attempts,
        "error": None if row.error is None else from_json(row.error),
    }


def _approval(one: Approval) -> shapes.ApprovalRow:
    return {
        "id": one.id,
        "run": one.run_id,
        "composition": one.composition,
        "place": one.place,
        "who": list(one.who),
        "subject": one.subject,
        "state": one.state,
        "opened": shapes.moment(one.opened),
        "deadline": None if one.deadline is None else shapes.moment(one.deadline),
        "decided_by": one.decided_by or None,
        "comment": one.comment,
    }
