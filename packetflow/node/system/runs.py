"""Defines the `system.run*` and `system.approval*` capabilities: durable runs, looked at and changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

import gevent
from pydantic import Field
from pydantic_core import from_json

from packetflow.capabilities.cel.searching import Fields
from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import capability as declare
from packetflow.node.searching import search_of
from packetflow.node.system import run_shapes as shapes

if TYPE_CHECKING:
    from packetflow.composition.durable.replaying import Difference
    from packetflow.composition.durable.waking import Waking
    from packetflow.storage.runs.records import Approval, RunRow, WaitRow

RunId = Annotated[str, Field(description="A run's id, or its first letters.", max_length=32)]
State = Literal["running", "waiting", "forbidden", "stranded", "completed", "failed", "cancelled"]
Where = Annotated[str, Field(description='A filter: state == "failed" && age > 60.0', max_length=2000)]
FromStep = Annotated[
    str | None, Field(description="A step, by its place, name or capability.", max_length=500)
]
Version = Annotated[str, Field(description="keep, latest, or a version that is served.", max_length=50)]
Seconds = Annotated[float, Field(ge=0, le=3600)]

LOOK, LONGEST_LOOK = 0.005, 0.1  # seconds between two looks at a run that is waited for


class HasRuns(Protocol):
    """What these capabilities ask of their node."""

    def waking(self) -> Waking:
        """Its durable runs. Raises Unavailable where there is no store."""

    def start_run(self, id: str, payload: dict[str, Any], key: str | None, context: Context) -> str:
        """Begin a durable run of a composition on behalf of a request; its id. Raises what the request is refused by."""


def run_capabilities(node: HasRuns) -> list[Callable[..., Any]]:
    """The capabilities for durable runs."""
    return [*_looking(node), *_changing(node), *_deciding(node)]


def _looking(node: HasRuns) -> list[Callable[..., Any]]:
    @declare("system.runs", tags=["system"])
    def runs(
        where: Where = "",
        state: State | None = None,
        composition: Annotated[str | None, Field(max_length=200)] = None,
        principal: Annotated[str | None, Field(max_length=200)] = None,
        limit: Annotated[int, Field(ge=1, le=1000)] = 50,
        before: Annotated[
            str | None, Field(description="Only those older than this run.", max_length=32)
        ] = None,
    ) -> shapes.Runs:
        """The durable runs, the newest first."""
        from packetflow.storage.runs.reading import COLUMNS, WORDS
        from packetflow.storage.runs.records import RunFilter
        from packetflow.storage.runs.records import Where as Asked

        waking = node.waking()
        store = waking.store
        older = None if before is None else waking.find(before).number
        search = search_of(where, Fields(COLUMNS, WORDS)) if where else None
        asked = None if search is None else Asked(search.sql, search.values)
        which = RunFilter(state, composition, principal, older, limit, asked, waking.runs.now())
        rows = store.listed(which)
        waits = store.waits_for([row.number for row in rows if row.state == "waiting"])
        return {"runs": [_row(one, waits.get(one.number, ())) for one in rows], "counts": store.counts()}

    @declare("system.run", tags=["system"])
    def run(id: RunId) -> shapes.RunDetail:
        """One durable run: its state, what each place of its plan came to, what it waits for."""
        waking = node.waking()
        return _detail(waking, waking.find(id))

    @declare("system.run.wait", tags=["system"])
    def wait(id: RunId, context: Context, seconds: Seconds = 20.0, parked: bool = False) -> shapes.RunDetail:
        """One durable run, when it has ended or is stuck, or so many seconds later. parked: also when it waits for something."""
        waking = node.waking()
        found = waking.find(id)
        clock = waking.runs.clock.monotonic
        end = min(clock() + seconds, context.deadline - 0.5)
        pause = LOOK
        while found.state == "running" or (found.state == "waiting" and not parked):
            if clock() >= end:
                break
            gevent.sleep(pause)
            pause = min(2 * pause, LONGEST_LOOK)
            found = waking.find(found.id)
        return _detail(waking, found)

    @declare("system.run.replay", tags=["system"])
    def replay(id: RunId, version: Version = "latest") -> shapes.RunReplay:
        """Whether a run would go the same way on a version of its plan; read-only."""
        waking = node.waking()
        found = waking.find(id)
        seen, told = waking.mending.replay(found, version)
        return {
            "id": found.id,
            "composition": found.composition,
            "version": found.version,
            "against": told,
            "same": seen.same,
            "differences": [*map(_difference, seen.differences)],
            "ahead": [*map(_difference, seen.ahead)],
            "folded": seen.folded,
        }

    return [runs, run, wait, replay]


def _changing(node: HasRuns) -> list[Callable[..., Any]]:
    @declare("system.run.start", tags=["system"])
    def start(
        composition: Annotated[str, Field(max_length=200)],
        context: Context,
        payload: dict[str, Any] | None = None,
        key: Annotated[
            str | None, Field(max_length=256, description="Two beginnings of one key are one.")
        ] = None,
    ) -> shapes.RunBegun:
        """Begin a durable run of any composition, and do not wait for it."""
        return {"id": node.start_run(composition, payload or {}, key, context)}

    @declare("system.run.cancel", tags=["system"])
    def cancel(id: RunId, context: Context) -> shapes.RunChange:
        """End a run; what it has done and says how is undone."""
        waking = node.waking()
        found = waking.find(id)
        return {"id": found.id, "changed": waking.cancel(found, context.principal)}

    @declare("system.run.resume", tags=["system"])
    def resume(id: RunId, version: Version = "keep") -> shapes.RunChange:
        """Have a run that is forbidden or stranded go on, if it can now, perhaps on another version of its plan."""
        waking = node.waking()
        found = waking.find(id)
        waking.mending.resume(found, version)
        return {"id": found.id, "changed": True}

    @declare("system.run.retry", tags=["system"])
    def retry(id: RunId, step: FromStep = None, version: Version = "keep") -> shapes.RunChange:
        """Have a run that failed or was cancelled go on: where it failed, or from a step."""
        waking = node.waking()
        found = waking.find(id)
        waking.mending.retry(found, step, version)
        return {"id": found.id, "changed": True}

    @declare("system.run.fork", tags=["system"])
    def fork(
        id: RunId, context: Context, step: FromStep = None, version: Version = "latest"
    ) -> shapes.RunForked:
        """Begin a run with the payload of another, and with what that had finished before a step."""
        waking = node.waking()
        found = waking.find(id)
        return {"id": waking.mending.fork(found, step, context.session, version).id, "origin": found.id}

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

    return [start, cancel, resume, retry, fork, signal]


def _deciding(node: HasRuns) -> list[Callable[..., Any]]:
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
        """Decide an approval, once: a second decision changes nothing and says who decided. id: of the approval, or of the run
        that waits for it. values: of `modified`."""
        operator = context.session.operator
        return _approval(node.waking().decide(id, decision, context.principal, operator, comment, values))

    return [approvals, decide]


def _difference(one: Difference) -> shapes.RunDifference:
    return {"place": one.place, "was": one.was, "now": one.now}


def _detail(waking: Waking, found: RunRow) -> shapes.RunDetail:
    loaded = waking.store.load([found.number])[0]
    row = loaded.row
    waits = waking.store.waits_of(row.number)
    return {
        **_row(row, waits),
        "tenant": row.tenant,
        "payload": from_json(row.payload),
        "result": None if row.result is None else from_json(row.result),
        "note": row.note,
        "origin": row.origin,
        "steps": [
            {
                "place": entry.place,
                "what": entry.kind,
                "label": entry.label,
                "capability": entry.capability or None,
                "at": shapes.moment(entry.at),
                "seconds": entry.seconds,
            }
            for entry in sorted(loaded.entries, key=lambda entry: entry.at)
            if entry.kind != "since"
        ],
        "approvals": [_approval(one) for one in waking.store.approvals(only_open=False, run=row.number)],
    }


def _row(row: RunRow, waits: Iterable[WaitRow]) -> shapes.RunRow:
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
        "principal": row.principal,
        "error": None if row.error is None else from_json(row.error),
        "waits": [
            {
                "place": wait.place,
                "what": wait.kind,
                "label": wait.label,
                "event": wait.event or None,
                "since": shapes.moment(wait.since),
                "due": None if wait.due is None else shapes.moment(wait.due),
            }
            for wait in waits
        ],
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
