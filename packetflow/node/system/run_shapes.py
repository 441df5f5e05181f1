"""What the capabilities of durable runs answer: published shapes, to which fields are only added."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from typing_extensions import TypedDict


def moment(seconds: float) -> str:
    """A time as people and programs read it: RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class WaitRow(TypedDict):
    """What a run waits for. what: event, time or approval."""

    place: str
    what: str
    label: str
    event: str | None
    since: str
    due: str | None


class RunRow(TypedDict):
    """A durable run. done: steps that were asked for. attempts: how often it was taken up. error: why it failed or is stuck."""

    id: str
    composition: str
    version: str
    state: str
    started: str
    ended: str | None
    done: int
    retries: int
    attempts: int
    principal: str
    error: dict[str, Any] | None
    waits: list[WaitRow]


class Runs(TypedDict):
    """`system.runs`. counts: all runs that are kept, by state."""

    runs: list[RunRow]
    counts: dict[str, int]


class PlaceRow(TypedDict):
    """What a place of the plan came to. what: done, failed, fold (all that was below it), undo, wait."""

    place: str
    what: str
    label: str
    capability: str | None
    at: str
    seconds: float


class ApprovalRow(TypedDict):
    """An approval. state: open, or its one end: approved, rejected, modified, escalated, expired, withdrawn."""

    id: str
    run: str
    composition: str
    place: str
    who: list[str]
    subject: str
    state: str
    opened: str
    deadline: str | None
    decided_by: str | None
    comment: str


class RunDetail(RunRow):
    """`system.run`. origin: of what run it was forked. note: what was done to it by hand."""

    tenant: str
    payload: dict[str, Any]
    result: Any
    note: str
    origin: str
    steps: list[PlaceRow]
    approvals: list[ApprovalRow]


class RunChange(TypedDict):
    """A run that was to be changed. changed: false where there was nothing to change."""

    id: str
    changed: bool


class RunBegun(TypedDict):
    """`system.run.start`."""

    id: str


class RunForked(TypedDict):
    """`system.run.fork`. id: the new run's; origin: the old one's."""

    id: str
    origin: str


class RunDifference(TypedDict):
    """What a run did at a place, and what a plan would do. Empty: nothing."""

    place: str
    was: str
    now: str


class RunReplay(TypedDict):
    """`system.run.replay`. against: the version that it was held against. ahead: what a run that has not ended would do next.
    folded: iterations and such that nobody can look into."""

    id: str
    composition: str
    version: str
    against: str
    same: bool
    differences: list[RunDifference]
    ahead: list[RunDifference]
    folded: int


class Signalled(TypedDict):
    """How many runs took an event, or keep it."""

    runs: int


class Approvals(TypedDict):
    """`system.approvals`."""

    approvals: list[ApprovalRow]
