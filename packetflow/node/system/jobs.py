"""Defines the `job.*` capabilities of one node: what runs in the background, for those who started it and for operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import capability as declare
from packetflow.node.jobs import Jobs
from packetflow.node.system import job_shapes

Id = Annotated[str, Field(description="The job's id, its first letters, or `last`.", max_length=32)]
LONGEST_WAIT = 60.0


def job_functions(jobs: Jobs) -> list[Callable[..., Any]]:
    """The functions behind the capabilities."""

    @declare("job.start", tags=["system"])
    def start(
        capability: Annotated[str, Field(max_length=200)],
        context: Context,
        payload: dict[str, Any] | None = None,
    ) -> job_shapes.JobStarted:
        """Have any capability run in the background, as you; gives the job's id."""
        return {"job": jobs.start(capability, payload or {}, context).id}

    @declare("job.show", tags=["system"], timeout=LONGEST_WAIT + 5.0)
    def show(
        id: Id,
        context: Context,
        wait: Annotated[
            float, Field(ge=0, le=LONGEST_WAIT, description="Seconds to wait for its end, at most.")
        ] = 0.0,
    ) -> job_shapes.JobDetail:
        """One job: how far it is, or what it came to."""
        job = jobs.find(id, context.session)
        if wait:
            job.ended.wait(wait)
        return jobs.detail(job)

    @declare("job.list", tags=["system"])
    def list_(
        context: Context,
        status: Literal["running", "done", "failed", "cancelled"] | None = None,
        capability: Annotated[str | None, Field(max_length=200)] = None,
        limit: Annotated[int, Field(ge=1, le=1000)] = 100,
    ) -> job_shapes.JobList:
        """Your jobs, the newest first; an operator sees everybody's."""
        found = [
            jobs.row(job)
            for job in jobs.seen_by(context.session)
            if status in (None, job.status) and capability in (None, job.capability)
        ]
        return {"jobs": found[:limit]}

    @declare("job.cancel", tags=["system"])
    def cancel(id: Id, context: Context) -> job_shapes.JobCancelled:
        """End a job that runs; it has ended when its status says so."""
        job = jobs.find(id, context.session)
        changed = jobs.cancel(job, context.principal)
        return {"job": jobs.row(job), "changed": changed}

    return [start, show, list_, cancel]
