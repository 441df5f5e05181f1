"""Jobs: requests that run on after their caller has its answer, which is the job's id. Kept in memory; a restart loses them."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from itertools import count
from typing import Any

import gevent
from gevent.event import Event

from packetflow.capabilities.cache import copied
from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.context import Context
from packetflow.node.door import JOB, Door
from packetflow.node.routes import InJob
from packetflow.node.system import job_shapes
from packetflow.otp.clock import Clock
from packetflow.security.access import Session
from packetflow.telemetry.traces import SHORTEST
from packetflow.wire.errors import Cancelled, Internal, NotFound, Overloaded, ValidationFailed
from packetflow.wire.stream import Progress
from packetflow.wire.values import Metadata, Response

RUNNING, DONE, FAILED, CANCELLED = "running", "done", "failed", "cancelled"
LAST = "last"
RETRY_AFTER = 1.0  # seconds after which one that found too many jobs may try again


class Job:
    """One job, of its node the `number`th. began: set when the capability was entered, or the request ended without that.
    ended: set at its end.
    """

    __slots__ = (
        "began", "capability", "ended", "finished", "greenlet", "id", "number", "progress", "response", "session", "started",
        "status", "trace", "version",
    )  # fmt: skip

    def __init__(self, number: int, id: str, capability: str, session: Session, started: float) -> None:
        self.number = number
        self.id = id
        self.capability, _, self.version = capability.partition("@")
        self.session = session
        self.started = started
        self.finished: float | None = None
        self.status = RUNNING
        self.progress: job_shapes.JobProgress | None = None
        self.trace = ""
        self.response: Response | None = None
        self.greenlet: gevent.Greenlet[..., None] | None = None
        self.began = Event()
        self.ended = Event()

    def note(self, progress: Progress) -> None:
        """How far it is: the latest is kept."""
        self.progress = {"done": progress.done, "total": progress.total, "text": progress.text}


class Jobs:
    """The jobs of a node. keep: how many ended ones are remembered, each for `expire` seconds; running: how many at once."""

    def __init__(
        self, door: Door, clock: Clock, *, keep: int = 1000, expire: float = 3600.0, running: int = 1000
    ) -> None:
        self._door = door
        self._clock = clock
        self.keep = keep
        self.expire = expire
        self.limit = running
        self._running: dict[str, Job] = {}
        self._ended: OrderedDict[str, Job] = OrderedDict()
        self._by_greenlet: dict[Any, Job] = {}
        self._numbers = count()

    # ---- starting -----------------------------------------------------------------------------------------------------

    def start_for(
        self, registered: Registered, payload: Mapping[str, Any], context: Context
    ) -> job_shapes.JobStarted:
        """What a background capability answers. Raises RequestError if it is refused before it begins."""
        definition = registered.definition
        job = self.start(f"{definition.id}@{definition.version}", payload, context)
        return {"job": job.id}

    def start(self, capability: str, payload: Mapping[str, Any], context: Context) -> Job:
        """Have a request passed in the background, as the one who asks; returns when the capability was entered or has ended.

        Raises the error of a request that is refused before that (by rights, contract or module): then there is no job.
        """
        if len(self._running) >= self.limit:
            raise Overloaded(f"{self.limit} jobs run on this node, its limit", retry_after=RETRY_AFTER)
        self._forget()
        session = copy.copy(context.session)
        session.door = JOB
        job = Job(next(self._numbers), self._door.new_id(), capability, session, self._clock.monotonic())
        self._running[job.id] = job
        job.greenlet = gevent.spawn(self._run, job, capability, payload, context.metadata.traceparent)
        try:
            job.began.wait()
        except BaseException:
            self._drop(job, "its caller gave up before it began")  # nobody would know its id
            raise
        response = job.response
        if response is not None and response.error is not None and not _was_entered(response):
            self._ended.pop(job.id, None)
            raise response.error
        return job

    def entered(self, context: Context) -> None:
        """The capability of a job is about to run."""
        job = self._by_greenlet.get(context.greenlet)
        if job is not None and context.parent is None:
            job.trace = context.id
            job.version = context.version
            job.began.set()

    def _run(self, job: Job, capability: str, payload: Mapping[str, Any], traceparent: str | None) -> None:
        door = self._door
        me = gevent.getcurrent()
        self._by_greenlet[me] = job
        door.admission.apart += 1
        try:
            metadata = Metadata(traceparent=traceparent, progress=job.note)
            response = door.request(InJob(capability), dict(payload), job.session, metadata)
        except BaseException as error:
            # Requests end with a response; what still comes out here ends this greenlet from outside.
            response = Response(None, Internal(f"the job was ended: {type(error).__name__}"), None)
            raise
        finally:
            door.admission.apart -= 1
            del self._by_greenlet[me]
            self._end(job, response)

    def _end(self, job: Job, response: Response) -> None:
        job.response = response
        job.trace = job.trace or response.trace_id
        job.finished = self._clock.monotonic()
        job.greenlet = None
        error = response.error
        job.status = DONE if error is None else CANCELLED if error.code == "cancelled" else FAILED
        self._running.pop(job.id, None)
        self._ended[job.id] = job
        self._forget()
        job.began.set()
        job.ended.set()

    def _drop(self, job: Job, why: str) -> None:
        if job.greenlet is not None:
            self._door.cancel(job.greenlet, Cancelled(why))

    def _forget(self) -> None:
        oldest = self._clock.monotonic() - self.expire
        while self._ended:
            first = next(iter(self._ended.values()))
            if len(self._ended) <= self.keep and (first.finished or 0.0) >= oldest:
                break
            self._ended.popitem(last=False)

    # ---- seeing and ending ----------------------------------------------------------------------------------------------

    def find(self, id: str, session: Session) -> Job:
        """The one job that this caller may see and whose id begins so, or the one it started last (id `last`).

        Raises NotFound, ValidationFailed.
        """
        if id == LAST:
            newest = self.seen_by(session)[:1]
            if not newest:
                raise NotFound("no job was started yet, or none is kept", {"job": id})
            return newest[0]
        if len(id) < SHORTEST:
            raise ValidationFailed(
                f"id {id!r} is too short; expected {SHORTEST} letters or more", {"faults": []}
            )
        found = [job for job in self.seen_by(session) if job.id.startswith(id.lower())]
        if not found:
            raise NotFound(
                f"no job {id!r}; jobs are kept {self.expire:g} s after their end and lost at a restart, which a composition"
                " with durable=True outlives",
                {"job": id, "hint": "durable=True"},
            )
        if len(found) > 1:
            candidates = [job.id for job in found]
            raise ValidationFailed(
                f"{id!r} begins {len(found)} jobs", {"candidates": candidates, "faults": []}
            )
        return found[0]

    def seen_by(self, session: Session) -> list[Job]:
        """The jobs of this caller's scope of authority, of an operator all: the newest first."""
        self._forget()
        jobs = sorted(
            [*self._running.values(), *self._ended.values()], key=lambda job: job.number, reverse=True
        )
        if session.operator:
            return jobs
        return [job for job in jobs if job.session.scope_id == session.scope_id]

    def cancel(self, job: Job, by: str) -> bool:
        """End a job that runs; it is told by its status when it has ended. Whether it ran."""
        if job.greenlet is None:
            return False
        return self._door.cancel(job.greenlet, Cancelled(f"the job was cancelled by {by}"))

    def row(self, job: Job) -> job_shapes.JobRow:
        """A job in one line."""
        until = self._clock.monotonic() if job.finished is None else job.finished
        return {
            "id": job.id,
            "capability": job.capability,
            "version": job.version,
            "principal": job.session.principal,
            "tenant": job.session.tenant,
            "status": job.status,
            "started": self._door.traces.moment(job.started),
            "duration": until - job.started,
            "progress": job.progress,
            "trace": job.trace,
        }

    def detail(self, job: Job) -> job_shapes.JobDetail:
        """A job with what it came to."""
        shown: job_shapes.JobDetail = {**self.row(job)}  # type: ignore[typeddict-item]
        if job.response is not None:
            error = job.response.error
            if error is None:
                shown["value"] = copied(job.response.value)
            else:
                shown["error"] = error.as_dict()
        return shown

    def counts(self) -> job_shapes.JobCounts:
        """How many there are."""
        return {"running": len(self._running), "kept": len(self._ended)}


def _was_entered(response: Response) -> bool:
    trace = response.trace
    return trace is not None and bool(trace.began)
