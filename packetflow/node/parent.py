"""A node with workers, as its parent process: it holds the data folder, the operator's door and the overlay, and answers for all.

Its workers (worker.py) serve the tcp and http doors. It is a whole node itself, whose registries are the ones that count:
what it does is done first here, then in all workers, or not at all.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import gevent
from gevent.event import Event

from packetflow.node import view
from packetflow.node.changing import Change, Changing
from packetflow.node.config import LoadedConfig
from packetflow.node.config.handing_over import pack
from packetflow.node.load import health_of, merged_load
from packetflow.node.merging import merged_modules, merged_stats, worker_findings, worker_rows
from packetflow.node.node import Node
from packetflow.node.system import shapes
from packetflow.node.trace_search import TraceFilter
from packetflow.node.worker import TRUSTED
from packetflow.otp import (
    CallFailed,
    ChildSpec,
    GenServer,
    NoProcess,
    Ref,
    ServerExited,
    WorkerProcess,
    WorkerSupervisor,
    kill,
    reserve_port,
)
from packetflow.otp import stop as stop_process
from packetflow.otp.errors import CallTimeout, PacketFlowError
from packetflow.security.access import Session
from packetflow.storage import outbox
from packetflow.storage.traces import TraceRow
from packetflow.transports.errors import ListenFailed
from packetflow.transports.listener import refused
from packetflow.wire.codec import Msgpack, Unencodable, unsendable
from packetflow.wire.errors import Cancelled, Rejected, RequestError, Timeout, Unavailable
from packetflow.wire.values import Metadata

PROGRAM = "packetflow.node.worker:serve"
WORKERS = "workers"
ASK = 2.0  # seconds for a worker to answer how it is seen
MARGIN = 10.0  # seconds that a worker has beyond its drain and the end of its modules, before it is killed
RESTARTS_EACH = 3  # restarts of a worker, on average ...
WINDOW = 60.0  # ... in so many seconds, past which the node gives up
DYING = 1.5  # seconds in which the workers of a parent that was killed give their ports back
TICK = 0.01


class ParentNode(Node):
    """The parent process of a node with workers. loaded: a configuration with `node.workers` above 1.

    program: what a worker process runs. `failure` says why the node ended by itself, None if it did not.
    """

    doors = ("admin",)

    def __init__(
        self, loaded: LoadedConfig, *, without: Iterable[str] = (), program: str = PROGRAM, **options: Any
    ) -> None:
        self._without = tuple(without)
        super().__init__(loaded, without=self._without, **options)
        self._program = program
        self.changing = Everywhere(self)
        self.failure: str | None = None
        self._reserved: dict[str, socket.socket] = {}
        self._specs: list[ChildSpec] = []
        self._drain: float | None = None
        self._joining: dict[str, int] = {}  # workers that read what to serve and do not serve it yet: pid
        self._may_join = Event()
        self._may_join.set()

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return self.config.node.workers

    # ---- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start everything, the workers too; when this returns they serve. Raises what the first part that failed raised."""
        super().start()
        gevent.spawn(self._watch, self.system.monitor(WORKERS))
        return self

    def reserve(self) -> None:
        """Take the doors' ports, for the workers to listen on. Raises AddressInUse, ListenFailed."""
        for kind, door in (("tcp", self.config.tcp), ("http", self.config.http)):
            if door.enabled:
                self._reserved[kind] = self._reserve(kind, door.host, door.port)

    def _reserve(self, kind: str, host: str, port: int) -> socket.socket:
        shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        end = self.clock.monotonic() + DYING
        while True:
            try:
                return reserve_port(host, port)
            except socket.gaierror as error:
                raise ListenFailed(
                    kind, shown, "no such address", f'set [{kind}] host, for example to "127.0.0.1"'
                ) from error
            except OSError as error:
                if error.errno != errno.EADDRINUSE or self.clock.monotonic() > end:
                    raise refused(kind, shown, error) from error
            gevent.sleep(TICK)

    def release(self) -> None:
        """Give the ports back."""
        for reserved in self._reserved.values():
            reserved.close()
        self._reserved.clear()

    def more_children(self) -> list[ChildSpec]:
        """The workers."""
        timeouts = self.config.timeouts
        self._specs = [
            WorkerProcess.child(
                self._program,
                number,
                id=f"worker-{number}",
                shutdown=self._patience(timeouts.drain),
                start_timeout=timeouts.start * (3 + self.blueprint.parts),
                answers=self._answer,
                cancel=self._cancel,
                log_level=None,  # it writes the node's log itself, to the same stream
                drain_request=lambda: self.config.timeouts.drain if self._drain is None else self._drain,
            )
            for number in range(1, self.workers + 1)
        ]
        # Temporary: when they die too often it is not started again, the node ends. The window is long enough for a worker
        # that takes seconds to start, and the count high enough for all of them to be killed at one moment.
        return [
            ChildSpec(Ports, self, id="ports"),
            WorkerSupervisor.child(
                self._specs,
                id=WORKERS,
                name=WORKERS,
                restart="temporary",
                max_restarts=RESTARTS_EACH * self.workers,
                max_seconds=WINDOW,
            ),
        ]

    def _patience(self, drain: float) -> float:
        return drain + 2 * self.config.timeouts.shutdown + MARGIN

    def stop(self, drain: float | None = None) -> None:
        """Stop: the workers drain all at once, beside this process."""
        supervisor = self.system.whereis(WORKERS)
        if not self._stopping and supervisor is not None:
            self._drain = self.config.timeouts.drain if drain is None else drain
            for spec in self._specs:
                spec.shutdown = self._patience(self._drain)
            gevent.spawn(_stop_quietly, supervisor)
        super().stop(drain)

    def _watch(self, end: Any) -> None:
        end.wait()
        if not self._stopping:
            limit = RESTARTS_EACH * self.workers
            self.failure = (
                f"worker processes ended more than {limit} times within {WINDOW:g} s; the log says of what"
            )
            self.log.critical("node gives up", why=self.failure)
            self.stop(0.0)

    def register_module(self, *given: Any, **placement: Any) -> None:
        """Refused: what is given in code can't be given to the workers. Raises RuntimeError."""
        raise RuntimeError(
            "a node with workers takes its modules and capabilities from its configuration alone"
        )

    unregister_module = register = unregister = register_module  # type: ignore[assignment]

    # ---- what workers ask -------------------------------------------------------------------------------------------------

    def _answer(self, id: str, request: tuple[Any, ...]) -> Any:
        match request:
            case ("join", int(pid)):
                self._may_join.wait()
                self._joining[id] = pid
                loaded = self.blueprint.loaded
                return {
                    "loaded": pack(loaded),
                    "count": self.workers,
                    "ports": {door: sock.getsockname()[1] for door, sock in self._reserved.items()},
                    "without": self._without,
                    "enabled": {one.name: one.placement.enabled for one in self.placed()},
                }
            case ("request", str(capability), payload, caller, told, intent):
                principal, patterns, tenant, door, peer, roles = caller
                rights = self.routes.grants(patterns, False, roles)
                session = Session(principal, rights, tenant=tenant, door=door, peer=f"{peer} by {id}")
                response = self.door.request(capability, payload, session, Metadata(*told), intent)
                value, error = b"", response.error
                if error is None:
                    try:
                        # As on the wire: the classes of a capability's file are another process's own.
                        value = Msgpack(TRUSTED).encode(response.value)
                    except Unencodable as fault:
                        error = unsendable(f"the answer of {capability}", fault)
                return {
                    "value": value,
                    "error": None if error is None else error.as_dict(),
                    "trace": response.trace_id,
                    "duration": 0.0 if response.trace is None else response.trace.duration,
                    "deprecated": None if response.trace is None else response.trace.deprecated,
                }
            case ("audit", list(records)):
                return self._record(records)
            case ("store traces", list(rows)):
                return self._stored([TraceRow(*row) for row in rows])
            case ("publish", list(events)):
                return self._publish(
                    [
                        outbox.Event(id, topic, payload, origin, line=line)
                        for id, topic, payload, origin, line in events
                    ]
                )
        raise ValueError(f"the parent can't answer {request[0]!r}")

    def _cancel(self, answering: gevent.Greenlet[..., Any]) -> None:
        """A worker gave a request up, or is gone: the request ends here as it would have ended there."""
        if not self.door.cancel(answering, Cancelled("cancelled by the caller")):
            answering.kill(block=False)

    def _record(self, records: list[dict[str, Any]]) -> str | None:
        """Write a worker's audit records. Why they could not be, None if they are on the disk."""
        if self.audit_files is None:
            return "the node's parent has not been started"
        try:
            self.audit_files.commit(records)
        except PacketFlowError as error:
            return str(error)
        return None

    def _publish(self, events: list[outbox.Event]) -> tuple[str, str] | None:
        """Put a worker's events and notices into the outbox. Why they could not be: a code and words."""
        try:
            self.effects.publish(events)
        except Unencodable as error:
            return "unencodable", str(error)
        except PacketFlowError as error:
            return error.code, str(error)
        return None

    def _stored(self, rows: list[TraceRow]) -> str | None:
        """Store a worker's traces. Why they could not be."""
        try:
            self.keep_traces(rows)
        except PacketFlowError as error:
            return str(error)
        return None

    @contextmanager
    def nobody_joins(self, patience: float) -> Iterator[None]:
        """While this holds no worker begins to serve; one that is about to is waited for, until it can be asked like the
        others. Raises Timeout if that takes too long."""
        self._may_join.clear()
        try:
            end = self.clock.monotonic() + patience
            while self._still_joining():
                if self.clock.monotonic() > end:
                    names = ", ".join(sorted(self._joining))
                    raise Timeout(f"{names}: still starting; nothing was changed", retry_after=1.0)
                gevent.sleep(TICK)
            yield
        finally:
            self._may_join.set()

    def _still_joining(self) -> bool:
        serving = {row["pid"] for row in self.rows()}
        for id, pid in list(self._joining.items()):
            if pid in serving or not _lives(pid):
                del self._joining[id]
        return bool(self._joining)

    # ---- asking them ------------------------------------------------------------------------------------------------------

    def call_all(self, request: tuple[Any, ...], timeout: float | None) -> dict[str, Any]:
        """Each worker's answer by its id, or the exception in its place."""
        supervisor = self.system.whereis(WORKERS)
        if supervisor is None:
            return {}
        return {str(id): told for id, told in WorkerSupervisor.call_all(supervisor, request, timeout).items()}

    def ask_all(self, *request: Any) -> dict[str, Any]:
        """The answers of those that answer; the others are named by `health`."""
        told = self.call_all(request, ASK)
        for id, answer in told.items():
            if isinstance(answer, Exception) and not isinstance(answer, CallFailed):
                self.log.error("a worker did not answer", worker=id, asked=request[0], exc_info=answer)
        return {id: answer for id, answer in told.items() if not isinstance(answer, Exception)}

    def end_worker(self, id: str) -> None:
        """Kill a worker; it is started again as the others are now."""
        for one in WorkerSupervisor.which_children(self._supervisor()):
            if one.id == id and one.ref is not None:
                kill(one.ref)

    def _supervisor(self) -> Ref:
        supervisor = self.system.whereis(WORKERS)
        if supervisor is None:
            raise Unavailable("the node has no workers any more")
        return supervisor

    # ---- how it is seen -----------------------------------------------------------------------------------------------------

    def rows(self) -> list[shapes.WorkerRow]:
        """The workers; never waits for them."""
        supervisor = self.system.whereis(WORKERS)
        return worker_rows({} if supervisor is None else WorkerSupervisor.workers(supervisor))

    def health(self) -> shapes.Health:
        """Up and ready, or why not: of all processes."""
        found = super().health()
        rows = self.rows()
        told = {} if self._stopping else self.ask_all("health")
        if not self._stopping:
            found["findings"] = [*found["findings"], *worker_findings(rows, told, self.code())]
            found["status"] = "ill" if found["findings"] else found["status"]
        serving = any(health["ready"] for health, _ in told.values())
        found["ready"] = found["ready"] and serving
        found["workers"] = rows
        return found

    def status(self) -> shapes.Status:
        """What the node is, at a glance."""
        found = super().status()
        for door, reserved in self._reserved.items():
            host, port = reserved.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            found["doors"].append({"door": door, "address": f"{door}://{shown}:{port}"})
        found["workers"] = self.rows()
        return found

    def modules(self) -> list[shapes.ModuleRow]:
        """The modules, in the chain's order, with the figures of all processes."""
        told = self.ask_all("modules")
        return merged_modules(super().modules(), self.traces.module_times(), told.values())

    def module(self, name: str) -> shapes.ModuleRow:
        """One module in full. Raises NotFound."""
        mine = super().module(name)
        told = self.ask_all("modules")
        return merged_modules([mine], self.traces.module_times(), told.values())[0]

    def describe(self, session: Session, id: str) -> shapes.CapabilityDetail | None:
        """One capability in full, with the load of all processes."""
        found = super().describe(session, id)
        if found is not None:
            told = [one for one in self.ask_all("load", id).values() if one is not None]
            samples = self.traces.samples(found["id"], found["version"])
            found["load"] = merged_load(found["load"], samples, told, self.clock.monotonic())
            found["health"] = health_of(found["load"])
        return found

    def stats(self) -> shapes.Stats:
        """Counts of all processes."""
        told = self.call_all(("stats",), ASK)
        return merged_stats(super().stats(), told)

    def tree(self) -> dict[str, Any]:
        """The supervision tree, each worker's own tree below the process that stands for it."""
        found = super().tree()
        _graft(found, {row["worker"]: row for row in self.rows()}, self.ask_all("tree"))
        return found

    def recent(self, limit: int, asked: TraceFilter | None = None) -> list[dict[str, Any]]:
        """The last requests of all processes, the newest first."""
        rows = super().recent(limit, asked)
        known = {row["id"] for row in rows}
        for id, told in self.ask_all("recent", limit, asked).items():
            told = [row for row in told if row["id"] not in known]
            rows += [{**row, "worker": id} for row in told]
        return sorted(rows, key=lambda row: str(row["started"]), reverse=True)[:limit]

    def trace(self, id: str) -> dict[str, Any]:
        """The way of one request, whichever process served it. Raises NotFound, ValidationFailed."""
        found = view.find_traces(self.traces, id)
        for worker, told in self.ask_all("traces", id).items():
            found += [one._replace(data={**one.data, "worker": worker}) for one in told]
        return view.one_trace(id, found, self.stored_traces)


class Ports(GenServer):
    """Holds the doors' ports for as long as there are workers to listen on them."""

    def init(self, node: ParentNode) -> None:
        """Take them."""
        self._node = node
        node.reserve()

    def terminate(self, reason: object) -> None:
        """Give them back."""
        self._node.release()


class Everywhere(Changing):
    """Changes the parent and all its workers, or none."""

    _node: ParentNode

    def do(self, change: Change, dry_run: bool) -> Any:
        """The change, everywhere. Raises what refuses it, in whichever process; then everything is as it was."""
        node = self._node
        timeouts = node.config.timeouts
        patience = timeouts.start + 2 * timeouts.shutdown
        packed = pack(change)
        with node.nobody_joins(patience):
            if dry_run:
                answer = self.rehearse(change)
                self._all("rehearse", packed, patience)
                return answer
            answer = self.prepare(change)
            try:
                self._all("prepare", packed, patience)
            except BaseException:
                self.abort()
                # Each hears it after the first step, however late it comes to that.
                node.call_all(("abort",), ASK)
                raise
            self.commit()
            for id, told in node.call_all(("commit",), patience).items():
                if isinstance(told, Exception) and not _is_gone(told):
                    node.log.error(
                        "a worker did not take a change on and is started anew", worker=id, why=str(told)
                    )
                    node.end_worker(id)
            return answer

    def _all(self, step: str, packed: bytes, patience: float) -> None:
        for id, told in self._node.call_all((step, packed), patience).items():
            if isinstance(told, Exception):
                if not _is_gone(told):  # who is gone comes back as the others are then
                    raise self._unheard(id, told)
            elif told[0] == "refused":
                _, code, text, faults = told
                details: dict[str, Any] = {"worker": id, "reason": "worker_refused", "code": code}
                if faults:
                    details["faults"] = faults
                raise Rejected(f"{id}: {text}; nothing was changed", details)

    def _unheard(self, id: str, error: Exception) -> RequestError:
        stalled = next((row["stalled"] for row in self._node.rows() if row["worker"] == id), 0.0)
        if isinstance(error, CallTimeout):
            why = f"its hub has been blocked for {stalled:.1f} s" if stalled else "it did not answer in time"
            return Timeout(f"{id}: {why}; nothing was changed", {"worker": id}, 1.0)
        return Rejected(f"{id}: {error}; nothing was changed", {"worker": id, "reason": "worker_failed"})


def _is_gone(error: Exception) -> bool:
    return isinstance(error, NoProcess | ServerExited)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _stop_quietly(supervisor: Ref) -> None:
    try:
        stop_process(supervisor, "shutdown")
    except CallFailed:
        pass  # it has ended meanwhile: that is what was asked for


def _graft(
    row: dict[str, Any], workers: Mapping[str, shapes.WorkerRow], trees: Mapping[str, dict[str, Any]]
) -> None:
    worker = workers.get(row["id"])
    if worker is None:
        for child in row["children"]:
            _graft(child, workers, trees)
        return
    row["pid"] = worker["pid"]
    if row["status"] == "running":
        row["status"] = worker["status"]
    row["children"] = [trees[row["id"]]] if row["id"] in trees else []
