"""The shapes of the answers of the `job.*` capabilities, as data."""

from __future__ import annotations

from typing import Any, NotRequired

from typing_extensions import TypedDict


class JobProgress(TypedDict):
    """How far a job is: `done` of `total`, None where nobody knows, and at what."""

    done: float
    total: float | None
    text: str


class JobStarted(TypedDict):
    """What is answered in place of the result of a job: its id, for `job.show` and `job.cancel`."""

    job: str


class JobRow(TypedDict):
    """A job in one line. status: running, done, failed or cancelled. started: RFC 3339. trace: the id of its request's trace."""

    id: str
    capability: str
    version: str
    principal: str
    tenant: str
    status: str
    started: str
    duration: float
    progress: JobProgress | None
    trace: str


class JobDetail(JobRow):
    """A job with what it came to: its value, or its error."""

    value: NotRequired[Any]
    error: NotRequired[dict[str, Any]]


class JobList(TypedDict):
    """Jobs, the newest first."""

    jobs: list[JobRow]


class JobCancelled(TypedDict):
    """A job that was to be cancelled, as it is now. changed: whether it ran."""

    job: JobRow
    changed: bool


class JobCounts(TypedDict):
    """How many jobs run, and how many ended ones are kept."""

    running: int
    kept: int
