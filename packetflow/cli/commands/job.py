"""`packetflow job list`, `show` and `cancel`: what runs in the background."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from packetflow.cli.commands.status import utc_now
from packetflow.cli.exits import Exit, exit_of
from packetflow.cli.failures import Failure
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.link import Link
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, plain, show_pairs, show_parts, show_table, show_wrapped
from packetflow.cli.screen.units import ago, seconds
from packetflow.cli.screen.value import show_value

ASK = 20.0  # seconds that one question waits for a job's end
COLOURS = {"done": ("green",), "failed": ("red",), "cancelled": ("yellow",)}


@leaf(
    "list",
    document="packetflow.node.system.job_shapes:JobList",
    examples=["job list", "job list --status running --json"],
)
@click.option(
    "--status",
    type=click.Choice(["running", "done", "failed", "cancelled"]),
    metavar="WHICH",
    help="Only those that are running, done, failed or cancelled.",
)
@click.option("--capability", metavar="ID", help="Only those of this capability.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many.")
def list_(run: Invocation, status: str | None, capability: str | None, limit: int) -> None:
    """Background calls, the newest first."""
    wanted = {"status": status, "capability": capability, "limit": limit}
    document = run.ask("job.list", {name: value for name, value in wanted.items() if value is not None})
    now = utc_now()
    run.answer(document, lambda out: show_jobs(out, document["jobs"], now))
    if not document["jobs"]:
        run.say("no job; packetflow call ID --detach starts one")


def show_jobs(out: Painter, jobs: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Jobs as a table."""
    layout = [
        Column("ID", "id", lambda id: str(id)[:8]),
        Column("CAPABILITY", "capability", shrink=True),
        Column("PRINCIPAL", "principal", drop=2),
        Column("STARTED", "started", lambda text: ago(text, now), drop=1),
        Column("STATUS", "status", plain, style=lambda status: COLOURS.get(str(status), ())),
        Column("PROGRESS", "progress", progress_text, drop=3),
        Column("TIME", "duration", seconds, right=True),
    ]
    show_table(out, layout, jobs)


def progress_text(progress: Any) -> str:
    """`3 of 10, reading`."""
    if not isinstance(progress, Mapping):
        return "-"
    total = progress.get("total")
    done = f"{progress['done']:g}" + (f" of {total:g}" if total is not None else "")
    return f"{done}, {progress['text']}" if progress.get("text") else done


@leaf(
    "show",
    document="packetflow.node.system.job_shapes:JobDetail",
    examples=["job show last", "job show 81f2 --wait --json"],
)
@click.argument("id")
@click.option(
    "--wait", is_flag=True, help="Return when it has ended, with the exit that the call would have had."
)
def show(run: Invocation, id: str, wait: bool) -> int:
    """One background call: how far it is, or what it came to.

    ID is a job's id or its first letters (4 or more), or `last`. --wait waits as long as --timeout says, without it for ever.
    """
    with run.link() as link:
        job = until_ended(run, link, id) if wait else link.ask("job.show", {"id": id})
    now = utc_now()
    run.answer(job, lambda out: show_job(out, job, now))
    error = job.get("error")
    return int(exit_of(str(error["code"]))) if wait and error else int(Exit.DONE)


def until_ended(run: Invocation, link: Link, id: str) -> Mapping[str, Any]:
    """The job once it has ended. Raises Failure (timeout) with how far it is."""
    from packetflow.otp.clock import Clock

    clock = Clock()
    end = float("inf") if run.timeout is None else clock.monotonic() + run.timeout
    while True:
        left = max(0.0, min(ASK, end - clock.monotonic()))
        job: Mapping[str, Any] = link.ask("job.show", {"id": id, "wait": left}, timeout=left + ASK)
        id = job["id"]  # `last` means the one that was last when it was asked for
        if job["status"] != "running":
            return job
        if clock.monotonic() >= end:
            raise Failure(
                "timeout",
                f"job {id[:8]} still runs after {seconds(run.timeout)}",
                rows=[("progress", progress_text(job.get("progress")))],
                next=[f"packetflow job show {id[:8]} --wait", f"packetflow job cancel {id[:8]}"],
                details={"job": id},
            )


def show_job(out: Painter, job: Mapping[str, Any], now: datetime) -> None:
    """A job for people."""
    status = str(job["status"])
    name = f"{job['capability']}@{job['version']}" if job.get("version") else str(job["capability"])
    head = [(str(job["id"])[:8], ("bold",)), (name, ()), (status, COLOURS.get(status, ()))]
    show_parts(out, [*head, (ago(job.get("started"), now), ()), (seconds(job["duration"]), ())])
    pairs = [("principal", str(job["principal"]))]
    if job.get("progress"):
        pairs.append(("progress", progress_text(job["progress"])))
    if job.get("trace"):
        pairs.append(("trace", str(job["trace"])[:8]))
    show_pairs(out, pairs)
    error = job.get("error")
    if error:
        show_wrapped(out, f"{error['code']}: {error['message']}", 2)
    if "value" in job:
        show_value(out, job["value"])


@leaf(
    "cancel",
    document="packetflow.node.system.job_shapes:JobCancelled",
    examples=["job cancel last", "job cancel 81f2 --json"],
    changes=("no_wait",),
)
@click.argument("id")
def cancel(run: Invocation, id: str) -> None:
    """Ends a background call, and returns when it has ended."""
    with run.link() as link:
        document = dict(link.ask("job.cancel", {"id": id}))
        if document["changed"] and not run.no_wait:
            ended = link.ask("job.show", {"id": document["job"]["id"], "wait": min(run.patience, ASK)})
            document["job"] = {key: value for key, value in ended.items() if key not in ("value", "error")}
    job = document["job"]
    words = "cancelled" if document["changed"] else "nothing to do: it has ended"
    run.answer(document, lambda out: out.line(f"{words}: job {job['id'][:8]}, now {job['status']}"))
    if document["changed"] and not run.no_wait and job["status"] == "running":
        raise Failure(
            "timeout",
            f"job {job['id'][:8]} does not end: what it does swallows the cancellation",
            next=["packetflow tree"],
        )
