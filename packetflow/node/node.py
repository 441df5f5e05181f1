"""A node: the composition root. Puts the layers together, starts them under supervision, and stops them in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

import gevent
from gevent.event import Event

from packetflow.capabilities.backends.backend import EffectBackend
from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.changes import Changes, Listener, Subscription
from packetflow.capabilities.context import Context, asking
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.groups import CapabilitySource
from packetflow.capabilities.surroundings import Surroundings
from packetflow.intelligence.chain import ModuleChain
from packetflow.intelligence.module import Module
from packetflow.intelligence.placement import Placement
from packetflow.node import view
from packetflow.node.auditing import AuditFiles, AuditTrail, audit_child, files_of
from packetflow.node.blueprint import Blueprint, ModuleGiven, definition_given
from packetflow.node.changing import Changing, FilesChanged
from packetflow.node.channels import effects_of
from packetflow.node.compositions import Compositions
from packetflow.node.config import LoadedConfig, NodeConfig, load_with_overlay
from packetflow.node.coroutines import Coroutines
from packetflow.node.door import Door
from packetflow.node.embedding import Home, own_data_folder, without_doors
from packetflow.node.idempotency import Idempotency
from packetflow.node.jobs import Jobs
from packetflow.node.letters import Letters
from packetflow.node.outgoing import Outgoing
from packetflow.node.overview import Overview
from packetflow.node.publisher import Events
from packetflow.node.reloading import Reloading
from packetflow.node.routes import Routes
from packetflow.node.stores import Stores
from packetflow.node.supervision import CAPABILITIES, MODULES, start_tree
from packetflow.node.system import shapes
from packetflow.node.system.capabilities import ESCAPES, system_capabilities
from packetflow.node.system.dead_letters import dead_letter_functions
from packetflow.node.trace_keeping import StoredSearch
from packetflow.node.watch import Watch
from packetflow.otp import ChildSpec, Ref, System
from packetflow.otp import stop as stop_process
from packetflow.otp.clock import Clock
from packetflow.otp.errors import NoProcess, PacketFlowError
from packetflow.security.access import Session
from packetflow.storage.data_folder import DataFolder
from packetflow.storage.disk import Disk
from packetflow.storage.traces import TraceRow
from packetflow.telemetry.logs import make_logger
from packetflow.telemetry.traces import Traces
from packetflow.transports.listener import Listener as Transport
from packetflow.wire.errors import Cancelled, Unavailable
from packetflow.wire.stream import Progress
from packetflow.wire.values import Response

SETTLE_TICK = 0.01  # seconds between two looks at whether requests have ended
SETTLE_LAST = 0.5  # the same, where it takes long


if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking


class Node(Overview):
    """A supervised capability node.

        with Node.from_config("config/node.toml") as node:
            node.call("ticket.open", {"customer_id": "C-1001", "text": "My card was stolen"})

    It lives in the hub of the thread that makes it; ask it from greenlets of that thread. Several nodes in one process
    are strangers to each other. It is one process: `node.workers` counts for `packetflow start` (parent.py).

    config: what `load_config` gave, or a NodeConfig; without one the node has no doors to the outside and keeps its
    data in a folder that ends with it. capabilities: functions with `@capability`. modules: classes, (name, class)
    pairs or Placements. without: names of modules to leave out, `all` for every one. watchdog: whether who holds the
    hub for longer than `timeouts.hub` is named and broken off; None: if the configuration sets that. log_stream: where
    the log goes (standard error). disk: what its files are written by (the machine's own). effects: backends for effects
    of kinds of your own.
    """

    # What the processes of a node with workers differ in (parent.py, worker.py).
    doors: ClassVar[tuple[str, ...]] = ("admin", "tcp", "http")
    holds_folder: ClassVar[bool] = True
    shares_ports: ClassVar[bool] = False
    door_class: ClassVar[type[Door]] = Door

    def __init__(
        self,
        config: LoadedConfig | NodeConfig | None = None,
        *,
        capabilities: Iterable[Callable[..., Any] | Capability] = (),
        modules: Iterable[ModuleGiven] = (),
        without: Iterable[str] = (),
        clock: Clock | None = None,
        watchdog: bool | None = None,
        log_stream: TextIO | None = None,
        disk: Disk | None = None,
        effects: Mapping[str, EffectBackend] | None = None,
    ) -> None:
        self._own_folder = None
        if config is None:
            self._own_folder = own_data_folder()
            config = without_doors(self._own_folder)
        self.blueprint = Blueprint(config, capabilities, modules, without)
        settings = self.config
        self.clock = clock or Clock()
        self.disk = disk or Disk()
        self.pid = os.getpid()
        self._home = Home()
        self.log = make_logger(
            self.clock,
            level=settings.log.level,
            format=settings.log.format,
            stream=log_stream,
            node=settings.node.name,
        )
        self.routes = Routes(settings.timeouts.request, ESCAPES)
        self.traces = Traces(
            self.clock,
            settings.traces.keep,
            settings.traces.memory,
            settings.traces.store if self._own_folder is None else "none",
        )
        self.trail = AuditTrail(self.clock, self.log)
        self.audit_files: AuditFiles | None = None
        self.effects = effects_of(
            settings, self.clock, self.log, self.trail, effects or {}, lambda: self.stores
        )
        self.door = self.door_class(
            self.routes,
            self.clock,
            self.traces,
            limit=settings.limits.in_flight_node,
            queue=settings.limits.queue,
            effects=self.effects,
        )
        self.stores = Stores(None, self.clock, self.log, settings.storage, self.disk)
        self.door.idempotency = Idempotency(self.clock, lambda: self.stores.keys)
        self.door.log = self.door.idempotency.log = self.log
        self.door.patience, self.door.ending = settings.timeouts.reader, settings.timeouts.shutdown
        self.door.admit(settings.access)
        self.jobs = Jobs(
            self.door,
            self.clock,
            keep=settings.jobs.keep,
            expire=settings.jobs.expire,
            running=settings.jobs.running,
        )
        self.routes.start_job, self.routes.job_entered = self.jobs.start_for, self.jobs.entered
        self.compositions = Compositions(self.routes, self.clock, self.log, self.door)
        self.compositions.open_to(self.door)
        self.coroutines = Coroutines(self.door.outside.on_loop)
        self.system = System(clock=self.clock)
        self.door.outside.crossing = self.system.from_thread
        self.surroundings = Surroundings(
            self.coroutines.run, self.clock, settings.limits.cache, settings.timeouts.start
        )
        self._hub_watch = Watch(self.door, self.clock, settings.timeouts, watchdog)
        self.transports: list[Transport] = []
        self.catalogue_changes = Changes(self.log)
        self._file_faults: dict[str, str] = {}
        self._root: Ref | None = None
        self._data_folder: DataFolder | None = None
        self._started: float | None = None
        self._started_utc = ""
        self.events = Events(self.system, self.door.new_id, lambda: self.stores.outbox)
        self.compositions.published = self.events.look
        self.effects.publish = Outgoing(self.events, self.effects.channels).put
        self.stored_traces = StoredSearch(
            lambda: self.stores.traces if self.stores.lasting and self.stores.has_file else None
        )
        self.letters = Letters(self)
        self.changing = Changing(self)
        self._reloading = Reloading(self)
        self.own_capabilities = tuple(system_capabilities(self, dead_letter_functions(self.letters)))
        self._stopped = Event()
        self._stopping = False

    @classmethod
    def from_config(cls, path: str | Path | None = None, **flags: Any) -> Node:
        """A node by its configuration file (found as `packetflow start` finds it if none is named).

        flags: settings that win over the file, by dotted key, such as **{"http.port": 0}. Raises ConfigError with all faults.
        """
        loaded, _ = load_with_overlay(path, os.environ, flags)
        return cls(loaded)

    # ---- life -----------------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start everything, the doors last. Raises what the first part that could not start raised; then nothing is left."""
        self._home.check()
        try:
            self._hub_watch.start()
            self._root = start_tree(self)
        except BaseException:
            self._end()
            raise
        self._started = self.clock.monotonic()
        self._started_utc = self.clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self.stores.has_file:
            self.events.look()  # what an earlier life of the node could not publish any more
        return self

    @property
    def has_started(self) -> bool:
        """Whether `start` has come to its end."""
        return self._started is not None

    def audit_process(self) -> ChildSpec:
        """The process that keeps the audit records."""
        self.audit_files = files_of(self.config, self.clock, self.log)
        self.trail.commit, self.trail.keep = self.audit_files.commit, self.audit_files.keep
        return audit_child(self.trail, self.audit_files.close, self.config.timeouts.shutdown)

    def keep_traces(self, rows: Sequence[TraceRow]) -> None:
        """Store traces. Raises RequestError."""
        stored = self.stores.traces
        if stored is not None:
            stored.put(rows)

    def prune_traces(self) -> None:
        """Forget stored traces that are too old or too many, and give their room back. Raises RequestError."""
        stored = self.stores.traces if self.stores.has_file else None
        if stored is None:
            return
        settings = self.config.traces
        if stored.prune(self.clock.utc().timestamp() - settings.expire, settings.stored):
            self.stores.database.vacuum()

    def more_children(self) -> list[ChildSpec]:
        """What stands in the tree of this kind of node between the modules and the doors."""
        return []

    def stop(self, drain: float | None = None) -> None:
        """Stop: no new requests, finish what is in flight for `drain` seconds (by the configuration), then down in reverse.

        Returns when all is down; a second caller waits for the first.
        """
        if self._stopping:
            self._stopped.wait()
            return
        self._stopping = True
        seconds = self.config.timeouts.drain if drain is None else drain
        deadline = self.clock.monotonic() + seconds
        self.door.open = False
        for transport in self.transports:
            transport.stop_accepting()
            transport.announce()
        self.compositions.drain()
        self._settle(deadline, unread=False)
        left = max(0.0, deadline - self.clock.monotonic())
        gevent.joinall([gevent.spawn(transport.drain, left) for transport in self.transports])
        self.door.admission.cancel_all(Cancelled("the node is stopping"))
        self.door.end_streams(Cancelled("the node is stopping"))
        for waiting in list(self.door.in_flight):
            if waiting is not gevent.getcurrent():
                self.door.cancel(waiting, Cancelled("the node is stopping"))
        self._settle(self.clock.monotonic() + self.config.timeouts.shutdown)
        self.compositions.settle(self.config.timeouts.shutdown)
        if self._root is not None:
            try:
                stop_process(self._root, "shutdown", timeout=None)
            except NoProcess:
                pass  # the tree has died before: what it left is ended below
        self._end()

    def _end(self) -> None:
        try:
            self.system.shutdown(self.config.timeouts.shutdown)
            self.coroutines.close()
        finally:
            self.door.end_sweeping()
            self._hub_watch.stop()
        if self._own_folder is not None:
            self._own_folder.cleanup()
        self._stopping = True
        self._stopped.set()

    def begin_stop(self, drain: float | None = None, now: bool = False) -> None:
        """Stop in the background: for who asks by a request and wants an answer to it."""
        gevent.spawn_later(SETTLE_TICK, self.stop, 0.0 if now else drain)

    def wait(self) -> None:
        """Wait until the node has stopped."""
        self._stopped.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(0.0 if kind is not None else None)

    def settle(self) -> None:
        """Wait until the requests that are in flight now have ended, as long as one may take.

        Streams that last longer, of capabilities that are gone, are ended then.
        """
        shutdown = self.config.timeouts.shutdown
        self._settle(self.clock.monotonic() + self.routes.timeout + shutdown)
        if self.door.end_replaced():
            self._settle(self.clock.monotonic() + shutdown)

    def settle_in(self, gone: Collection[Registered]) -> None:
        """Wait until no request runs in one of these capabilities, however long that takes: a job may take hours.

        Streams that last longer than a request may are ended.
        """
        queued = set(self.door.admission.waiting)  # they have their route already
        long = self.clock.monotonic() + self.routes.timeout + self.config.timeouts.shutdown
        pause = SETTLE_TICK
        while queued & set(self.door.admission.waiting) or any(
            call.route.registered in gone for call in self.door.active()
        ):
            if self.clock.monotonic() > long:
                self.door.end_replaced()
                long = float("inf")
            gevent.sleep(pause)
            pause = min(2 * pause, SETTLE_LAST)

    def _settle(self, deadline: float, unread: bool = True) -> None:
        """unread: also for streams in this process that nobody reads at this moment, which may be who waits here."""
        current = gevent.getcurrent()
        pending = {call for call in self.door.active() if call.greenlet is not current}
        if not unread:
            pending = {one for one in pending if one.greenlet is not None or one.session.door != "local"}
        while pending and self.clock.monotonic() < deadline:
            gevent.sleep(SETTLE_TICK)
            pending &= set(self.door.active())

    # ---- requests -------------------------------------------------------------------------------------------------------

    def session(
        self,
        principal: str = "local",
        grants: Iterable[str] | None = None,
        tenant: str = "",
        roles: Iterable[str] | None = None,
    ) -> Session:
        """A session for code in this process. grants: capability patterns, `[access] local` if None; roles: for rules that
        ask for some, `[access] local_roles` if None."""
        access = self.config.access
        patterns = access.local if grants is None else grants
        rights = self.routes.grants(patterns, False, access.local_roles if roles is None else roles)
        return Session(principal, rights, tenant=tenant)

    def open_session(self, door: str, peer: str, operator: bool = False) -> Session:
        """A session for a connection."""
        return self.door.open_session(door, peer, operator)

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        session: Session | None = None,
        timeout: float | None = None,
        intent: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Response:
        """Pass one request, for outermost code; inside a capability or hook use `context.request`.

        capability: `id`, or `id@version`; of one that streams the value is a Stream. timeout: seconds, at most the
        capability's own. progress: told how far the request is, in the midst of it, so it must not block. Never raises for
        the request's own failure: see `Response.error`. Raises RuntimeError in a thread that is not the node's, and in a
        coroutine of this node.
        """
        self._home.check()
        self.door.outside.check_wait()
        metadata = asking(capability, timeout, progress)
        return self.door.request(capability, payload, session or self.session(), metadata, intent)

    def call(self, capability: str, payload: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Like `request`, but gives the value, or raises the typed error."""
        return self.request(capability, payload, **options).unwrap()

    # ---- what its parts tell it -------------------------------------------------------------------------------------------

    def swap_catalogue(self, catalogue: Catalogue, faults: Mapping[str, str]) -> None:
        """Put a catalogue in place. faults: of watched files that were not taken on."""
        before = self.routes.catalogue
        self.routes.swap(catalogue=catalogue)
        self._file_faults = dict(faults)
        self.catalogue_changes.publish(before, catalogue)

    def check_catalogue(self, catalogue: Catalogue) -> None:
        """Whether the effects of a catalogue can be done here. Raises DefinitionError."""
        self.effects.check(registered.definition for registered in catalogue)

    def swap_chain(self, chain: ModuleChain) -> None:
        """Put a chain in place."""
        self.routes.swap(chain=chain)

    def folder_opened(self, folder: DataFolder) -> Stores:
        """The data folder is this node's now; what is stored in it."""
        self._data_folder = folder
        self.stores = Stores(
            folder.path,
            self.clock,
            self.log,
            self.config.storage,
            self.disk,
            lasting=self._own_folder is None,
        )
        return self.stores

    def waking(self) -> Waking:
        """The durable runs, begun if they are not yet. Raises Unavailable where there is no store."""
        return self.compositions.waking

    def start_run(self, id: str, payload: dict[str, Any], key: str | None, context: Context) -> str:
        """Begin a durable run of a composition on behalf of a request; its id. Raises what the request is refused by."""
        return self.compositions.start_run(id, payload, key, context)

    @property
    def data_folder(self) -> DataFolder:
        """The data folder. Raises RuntimeError before the start."""
        if self._data_folder is None:
            raise RuntimeError("the node has not been started")
        return self._data_folder

    # ---- effects ----------------------------------------------------------------------------------------------------------

    def audit(self, limit: int = 100, **selected: Any) -> list[dict[str, Any]]:
        """The newest audit records. selected: see `view.audit_filter`. Raises Unavailable."""
        if self.audit_files is None:
            raise Unavailable("the audit records are kept by another process of the node")
        self.trail.flush(1.0)
        try:
            return self.audit_files.list(view.audit_filter(**selected), limit)
        except PacketFlowError as error:
            raise Unavailable(str(error)) from error

    # ---- modules and capabilities at run time ------------------------------------------------------------------------------

    def register_module(
        self,
        module: str | type[Module],
        name: str,
        *,
        config: Mapping[str, Any] | None = None,
        **placement: Any,
    ) -> None:
        """Put a module into the chain: a class, a folder's name, or `package.module:Class`.

        placement: priority, match, scope, on_error, timeout, max_concurrency, as in the configuration. Raises
        ModuleError; then the chain is as it was.
        """
        wanted = Placement(name, module, config=dict(config or {}), **placement)
        with self.changing.alone:
            self.ask(MODULES, ("register", wanted))

    def unregister_module(self, name: str) -> None:
        """Take a module out; requests under way finish on it, then it is terminated. Raises ModuleError if there is none."""
        with self.changing.alone:
            self.ask(MODULES, ("unregister", name))

    def list_active_modules(self) -> list[shapes.ModuleRow]:
        """The modules that are in the chain, in its order."""
        return [row for row in self.modules() if row["enabled"]]

    def register(self, *capabilities: Callable[..., Any] | Capability) -> list[str]:
        """Serve further capabilities; gives their names. Raises DefinitionError."""
        definitions = tuple(definition_given(one) for one in capabilities)
        with self.changing.alone:
            return list(self.ask(CAPABILITIES, ("register", definitions)))

    def unregister(self, id: str) -> None:
        """Serve a capability no more; requests under way finish. Raises DefinitionError if there is none."""
        with self.changing.alone:
            self.ask(CAPABILITIES, ("unregister", id))

    def take_on_files(self) -> list[str]:
        """Serve what the files of watched folders are now; what changed, in words."""
        return list(self.changing.run(FilesChanged(), False))

    def on_catalogue_change(self, listener: Listener) -> Subscription:
        """Have a function called, or an actor told, when capabilities come, go or are loaded anew; until `close()`."""
        return self.catalogue_changes.subscribe(listener)

    def sources(self) -> tuple[list[CapabilitySource], tuple[str, ...]]:
        """Where the capabilities come from, the node's own first; and those that are not served all the same."""
        own = CapabilitySource(definitions=self.own_capabilities)
        return [own, *self.blueprint.sources()], self.config.catalogue.without
