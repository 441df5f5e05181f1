"""A worker: one of the processes that serve a node's tcp and http doors. The parent (parent.py) holds what is single.

It is a whole node but for the data folder, the operator's door, the `system.*` capabilities and idempotency keys: a request
for one of those, or with a key, goes to the parent's one door, as the caller that it is, and the parent answers for all.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

import gevent
from greenlet import GreenletExit, getcurrent, greenlet

from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.context import Context
from packetflow.node import view
from packetflow.node.auditing import Records, Unrecorded, audit_child
from packetflow.node.blueprint import Blueprint
from packetflow.node.changing import Change, Reconfiguration
from packetflow.node.config import ConfigError, LoadedConfig, NodeConfig
from packetflow.node.config.handing_over import unpack
from packetflow.node.door import Door
from packetflow.node.load import load_of, samples_of
from packetflow.node.node import Node
from packetflow.node.reloading import faults_of
from packetflow.node.routes import InJob
from packetflow.node.system import job_shapes
from packetflow.otp import ChildSpec
from packetflow.otp.errors import PacketFlowError
from packetflow.otp.workers.process import WorkerContext
from packetflow.security.access import Session
from packetflow.storage.outbox import Event
from packetflow.storage.traces import TraceRow
from packetflow.telemetry.traces import Sample
from packetflow.wire.codec import Codec, Msgpack, Unencodable
from packetflow.wire.errors import Internal, RequestError, Timeout, Unavailable, error_from_dict
from packetflow.wire.limits import Limits
from packetflow.wire.values import NO_METADATA, Elsewhere, Metadata, Response

ALONE = ("system.", "job.")  # capabilities that the parent alone answers
TRUSTED = Limits(
    1 << 30, 1 << 30, 1000, 1 << 30, 1 << 30
)  # of what the parent answers: its callers' limits are at its doors
GRACE = 1.0  # seconds beyond a request's own time that the parent has for its answer
KNOWN = 1_000  # capabilities of which a worker remembers whether they are stored
PATIENCE = 10.0  # seconds that the parent has to write audit records
LAST = 1.0  # seconds for the last answers to the parent at the end


def serve(worker: WorkerContext, index: int) -> None:
    """The main function of a worker process: asks the parent what to serve, serves it, and ends when it is to drain."""
    given = worker.call(("join", os.getpid()), timeout=None)
    node = WorkerNode(worker, index, given)
    node.start()
    try:
        worker.on_call = node.answer
        worker.ready()
        ended = gevent.spawn(node.wait)
        gevent.wait([worker.draining, ended], count=1)
    finally:
        node.stop(worker.drain_request)
    worker.finish(LAST)


def share(config: NodeConfig, count: int, ports: Mapping[str, int]) -> NodeConfig:
    """The configuration of one of `count` workers: its part of what the node takes as a whole, and the ports that all share."""
    limits, traces = config.limits, config.traces

    def part(whole: int) -> int:
        return max(1, whole // count)

    return config.model_copy(
        update={
            "limits": limits.model_copy(
                update={
                    "in_flight_node": part(limits.in_flight_node),
                    "queue": part(limits.queue),
                    "connections": part(limits.connections),
                }
            ),
            "traces": traces.model_copy(update={"keep": part(traces.keep), "memory": part(traces.memory)}),
            "tcp": config.tcp.model_copy(update={"port": ports.get("tcp", config.tcp.port)}),
            "http": config.http.model_copy(update={"port": ports.get("http", config.http.port)}),
        }
    )


class WorkerDoor(Door):
    """The one door of a worker: what concerns the whole node goes to the parent's."""

    worker: WorkerContext
    codec: Codec

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._asking: dict[greenlet, gevent.Greenlet[..., Any]] = {}
        self._given_up: dict[greenlet, RequestError] = {}
        self._catalogue: object = None
        self._stored: dict[str, bool] = {}  # of its capabilities: whether they are durable compositions

    def request(
        self,
        capability: str | InJob,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata = NO_METADATA,
        intent: str | None = None,
        parent: Context | None = None,
    ) -> Response:
        """Pass one request, here or at the parent's door."""
        assert isinstance(capability, str), "jobs run in the parent alone"
        if (
            capability.startswith(ALONE)
            or (metadata.idempotency_key is not None and parent is None)
            or self._is_stored(capability)
        ):
            return self.ask_parent(capability, payload, session, metadata, intent, parent)
        return super().request(capability, payload, session, metadata, intent, parent)

    def _is_stored(self, capability: str) -> bool:
        """Whether it is a durable composition: its runs are the parent's (design ruling 31)."""
        catalogue = self.routes.catalogue
        if catalogue is not self._catalogue:
            self._catalogue, self._stored = catalogue, {}
        known = self._stored.get(capability)
        if known is None:
            found = catalogue.find(capability)
            plan = None if found is None else getattr(found.definition.function, "composition", None)
            known = plan is not None and bool(plan.needs_store)
            if len(self._stored) < KNOWN:
                self._stored[capability] = known
        return known

    def ask_parent(
        self,
        capability: str,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata,
        intent: str | None = None,
        parent: Context | None = None,
    ) -> Response:
        """Pass one request at the parent's door."""
        seconds = self.routes.timeout if metadata.timeout is None else metadata.timeout
        if parent is not None:
            seconds = max(0.0, min(seconds, parent.deadline - self._monotonic()))
        caller = (
            session.principal,
            sorted(session.grants.patterns),
            session.tenant,
            session.door,
            session.peer,
            sorted(session.roles),
        )
        told = (seconds, metadata.idempotency_key, metadata.traceparent)
        request = ("request", capability, None if payload is None else dict(payload), caller, told, intent)
        me = getcurrent()
        asked = self._asking[me] = gevent.spawn(self._outcome, request, seconds + GRACE)
        try:
            outcome = asked.get()
        finally:
            del self._asking[me]
            given_up = self._given_up.pop(me, None)
            asked.kill(block=False)
        if isinstance(outcome, GreenletExit):
            return Response(None, given_up or Unavailable("the node is stopping"), None)
        if isinstance(outcome, RequestError):
            return Response(None, outcome, None)
        trace = Elsewhere(outcome["trace"], outcome["duration"], outcome["deprecated"])
        if outcome["error"] is not None:
            return Response(None, error_from_dict(outcome["error"]), trace)
        return Response(self.codec.decode(outcome["value"]), None, trace)

    def _outcome(self, request: Any, seconds: float) -> Any:
        try:
            return self.worker.call(request, seconds)
        except PacketFlowError as error:
            if error.code == "timeout":
                return Timeout(f"{request[1]} was not answered by the node's parent within {seconds:.3g} s")
            return Unavailable(f"{request[1]} can't be asked of the node's parent: {error}")
        except Exception as error:  # what came out of the parent and can't be read here
            self.log.error("the parent's answer can't be read", capability=request[1], exc_info=error)
            return Internal("a fault of the node; its log says more")

    def cancel(self, waiting: greenlet, reason: RequestError | None = None) -> bool:
        """End the requests of a greenlet, also one that waits for the parent."""
        asked = self._asking.get(waiting)
        if asked is None:
            return super().cancel(waiting, reason)
        if reason is not None:
            self._given_up[waiting] = reason
        asked.kill(block=False)
        return True


class WorkerNode(Node):
    """The node of one worker process. given: what the parent answered to its "join"."""

    doors = ("tcp", "http")
    holds_folder = False
    shares_ports = True
    door_class = WorkerDoor

    def __init__(self, worker: WorkerContext, index: int, given: Mapping[str, Any]) -> None:
        self._worker = worker
        self._count = int(given["count"])
        self._ports = dict(given["ports"])
        self._without = given["without"]
        loaded = self._shared(unpack(given["loaded"]))
        super().__init__(loaded, without=self._without, watchdog=True)
        self.blueprint = Blueprint(loaded, without=self._without, switched=given["enabled"])
        self.log = self.door.log = self.log.bind(worker=index)
        self.routes.start_job = self._start_job
        self.effects.publish = self._publish
        assert isinstance(self.door, WorkerDoor)
        self.door.worker = worker
        self.door.codec = Msgpack(TRUSTED)

    def _shared(self, loaded: LoadedConfig) -> LoadedConfig:
        return dataclasses.replace(loaded, config=share(loaded.config, self._count, self._ports))

    def audit_process(self) -> ChildSpec:
        """The process that hands this worker's audit records to the parent, which writes them."""
        self.trail.commit = self._hand_over
        return audit_child(self.trail, lambda seconds: None, self.config.timeouts.shutdown)

    def keep_traces(self, rows: Sequence[TraceRow]) -> None:
        """The database is the parent's. Raises Unavailable."""
        try:
            why = self._worker.call(("store traces", [tuple(row) for row in rows]), PATIENCE)
        except Exception as error:
            raise Unavailable(f"the node's parent can't be asked: {type(error).__name__}: {error}") from error
        if why is not None:
            raise Unavailable(why)

    def prune_traces(self) -> None:
        """The parent does."""

    def _publish(self, events: Sequence[Event]) -> None:
        """The outbox is the parent's. Raises Unavailable, Unencodable."""
        told = [(one.id, one.topic, one.payload, one.origin, one.line) for one in events]
        try:
            why = self._worker.call(("publish", told), PATIENCE)
        except Exception as error:
            raise Unavailable(f"the node's parent can't be asked: {type(error).__name__}: {error}") from error
        if why is not None:
            raise Unencodable(why[1]) if why[0] == "unencodable" else Unavailable(why[1])

    def _hand_over(self, group: Records) -> None:
        try:
            why = self._worker.call(("audit", [dict(record) for record in group]), PATIENCE)
        except Exception as error:
            raise Unrecorded(f"the node's parent can't be asked: {type(error).__name__}: {error}") from error
        if why is not None:
            raise Unrecorded(why)

    def _start_job(self, registered: Registered, payload: Any, context: Context) -> job_shapes.JobStarted:
        """Jobs live in the parent: they outlive a worker, and all who ask see the same ones."""
        definition = registered.definition
        assert isinstance(self.door, WorkerDoor)
        metadata = Metadata(context.deadline - self.clock.monotonic(), None, context.metadata.traceparent)
        name = f"{definition.id}@{definition.version}"
        started: job_shapes.JobStarted = self.door.ask_parent(
            name, payload, context.session, metadata
        ).unwrap()
        return started

    # ---- what the parent asks -----------------------------------------------------------------------------------------

    def answer(self, request: tuple[Any, ...]) -> Any:
        """Answer the parent: how this worker is seen, or a step of a change."""
        what, *arguments = request
        match what:
            case "rehearse" | "prepare":
                return self._step(what, unpack(arguments[0]))
            case "commit" | "abort":
                with self.changing.alone:
                    getattr(self.changing, what)()
                return "done", None
            case "modules":
                return self.modules(), self.traces.module_times()
            case "load":
                return self._load(*arguments)
            case "stats":
                return self.stats()
            case "health":
                return self.health(), self.code()
            case "tree":
                return self.tree()
            case "recent":
                return self.recent(*arguments)
            case "traces":
                return view.find_traces(self.traces, *arguments)
        raise ValueError(f"a worker can't answer {what!r}")

    def _step(self, step: str, change: Change) -> tuple[Any, ...]:
        if isinstance(change, Reconfiguration):
            change = Reconfiguration(self._shared(change.loaded))
        with self.changing.alone:
            try:
                return "done", getattr(self.changing, step)(change)
            except PacketFlowError as error:
                faults = faults_of(error) if isinstance(error, ConfigError) else []
                return "refused", error.code, str(error), faults

    def _load(self, name: str) -> tuple[Any, list[Sample]] | None:
        found = self.routes.catalogue.find(name)
        return None if found is None else (load_of(self.door, found), samples_of(self.door, found))
