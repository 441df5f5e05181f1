"""How a node is seen and changed from outside: what the `system.*` capabilities ask of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packetflow._version import __version__
from packetflow.node import view
from packetflow.node.catalogue_setting import catalogue_setting
from packetflow.node.changing import ModuleSwitch
from packetflow.node.listeners import address_of
from packetflow.node.supervision import CAPABILITIES, MODULES, process_tree
from packetflow.node.system import shapes
from packetflow.node.trace_search import TraceSearch
from packetflow.otp.errors import CallFailed
from packetflow.wire.errors import RequestError, Unavailable
from packetflow.wire.ids import OWN

if TYPE_CHECKING:
    from packetflow.intelligence.placement import Placed
    from packetflow.node.auditing import AuditFiles, AuditTrail
    from packetflow.node.blueprint import Blueprint
    from packetflow.node.changing import Changing
    from packetflow.node.compositions import Compositions
    from packetflow.node.config import NodeConfig
    from packetflow.node.door import Door
    from packetflow.node.effects import Effects
    from packetflow.node.embedding import Home
    from packetflow.node.jobs import Jobs
    from packetflow.node.reloading import Reloading
    from packetflow.node.routes import Routes
    from packetflow.node.stores import Stores
    from packetflow.node.trace_keeping import StoredSearch
    from packetflow.node.trace_search import TraceFilter
    from packetflow.node.watch import Watch
    from packetflow.otp import Ref, System
    from packetflow.otp.clock import Clock
    from packetflow.security.access import Session
    from packetflow.telemetry.traces import Traces
    from packetflow.transports.listener import Listener as Transport


class Overview:
    """The half of a node that answers questions about it. node.py has the other half, which does the node's work."""

    audit_files: AuditFiles | None
    blueprint: Blueprint
    changing: Changing
    clock: Clock
    compositions: Compositions
    door: Door
    effects: Effects
    jobs: Jobs
    log: Any
    pid: int
    routes: Routes
    stores: Stores
    system: System
    traces: Traces
    stored_traces: StoredSearch
    trail: AuditTrail
    transports: list[Transport]
    _file_faults: dict[str, str]
    _home: Home
    _hub_watch: Watch
    _reloading: Reloading
    _root: Ref | None
    _started: float | None
    _started_utc: str
    _stopping: bool

    @property
    def config(self) -> NodeConfig:
        """The configuration in force."""
        return self.blueprint.config

    def ask(self, name: str, request: Any) -> Any:
        """Ask one of the registries (supervision.py names them); a refusal is raised, Unavailable if it is being started anew."""
        patience = self.blueprint.patience
        try:
            good, answer = self.system.call(name, request, timeout=patience)
        except CallFailed as error:
            text = f"the registry of {'capabilities' if name == CAPABILITIES else 'modules'} has no answer: {error}"
            raise Unavailable(text, retry_after=1.0) from error
        if not good:
            raise answer
        return answer

    def placed(self) -> list[Placed]:
        """The modules with all about them, in the chain's order."""
        return list(self.ask(MODULES, ("list",)))

    def health(self) -> shapes.Health:
        """Up and ready, or why not."""
        findings = view.file_findings(self._file_faults)
        if not self._stopping:
            findings += [
                *view.module_findings(self.placed()),
                *self.stores.findings(),
                *view.effect_findings(self),
            ]
        ready = self.door.open and self._started is not None
        return {
            "status": "draining" if self._stopping else "ill" if findings else "ok",
            "live": True,
            "ready": ready,
            "node": self.config.node.name,
            "pid": self.pid,
            "version": __version__,
            "uptime": self._uptime,
            "findings": [*findings, *self._hub_watch.findings()],
        }

    @property
    def _uptime(self) -> float:
        return self.clock.monotonic() - self._started if self._started is not None else 0.0

    def status(self) -> shapes.Status:
        """What the node is, at a glance."""
        loaded = self.blueprint.loaded
        doors = [{"door": one.kind, "address": address_of(one)} for one in self.transports]
        return {
            "node": self.config.node.name,
            "version": __version__,
            "pid": self.pid,
            "config_file": str(loaded.file) if loaded is not None and loaded.file is not None else None,
            "environment": len(loaded.variables) if loaded is not None else 0,
            "data_folder": str(self.config.node.data_folder),
            "doors": doors,  # type: ignore[typeddict-item]
            "access": view.access_of(self.config),
            "chain": view.chain_links(self.placed()),
            "capabilities": len([id for id in self.routes.catalogue.ids if not id.startswith(OWN)]),
            "started": self._started_utc,
            "uptime": self._uptime,
            "hub": self._hub_watch.seen(),
        }

    def catalogue(
        self,
        session: Session,
        words: str = "",
        tag: str | None = None,
        requires: str | None = None,
        provides: str | None = None,
    ) -> shapes.Catalogue:
        """What this caller may call; requires, provides: a field that it has to take, or give."""
        return view.catalogue_for(self.door, session, words, tag, requires, provides)

    def describe(self, session: Session, id: str) -> shapes.CapabilityDetail | None:
        """One capability in full; None if there is none that this caller may call."""
        return view.describe_for(self.door, session, id)

    def flows(self, session: Session) -> list[shapes.FlowRow]:
        """The compositions that this caller may call."""
        return self.compositions.rows(session.grants.allow)

    def flow(self, session: Session, id: str, svg: bool = False) -> shapes.Flow:
        """One composition in full. Raises NotFound."""
        return self.compositions.one(id, session.grants.allow, svg)

    def check_flow(self, plan: dict[str, Any]) -> shapes.FlowFaults:
        """What would keep a plan from running on this node. Raises ValidationFailed if it is none."""
        return self.compositions.check(plan)

    def modules(self) -> list[shapes.ModuleRow]:
        """The modules, in the chain's order."""
        return view.module_rows(self.placed(), self.traces.module_times())

    def module(self, name: str) -> shapes.ModuleRow:
        """One module in full. Raises NotFound."""
        return view.one_module(self.placed(), self.traces.module_times(), name)

    def change_module(self, action: str, name: str, who: str, dry_run: bool) -> shapes.ModuleChange:
        """enable, disable, reload or restart a module. Raises RequestError; then the chain is as it was."""
        self.module(name)
        try:
            changed = bool(self.changing.run(ModuleSwitch(action, name), dry_run))
        except RequestError:
            raise
        except Exception as error:
            raise view.refusal(name, error) from error
        if changed and not dry_run:
            self.log.info("module changed", module=name, action=action, who=who)
            self._reloading.remember(action, name, who)
        return {"module": self.module(name), "chain": view.chain_links(self.placed()), "changed": changed}

    def change_catalogue(self, action: str, name: str, who: str, dry_run: bool) -> shapes.CatalogueChanged:
        """add a file (or a capability that was removed), remove a capability (or a file that was added).

        Raises RequestError; then the catalogue is as it was.
        """
        key, value = catalogue_setting(self.config.catalogue, self.routes.catalogue, action, name)
        try:
            words = self._reloading.change_setting(key, value, who, dry_run)
        except RequestError:
            raise
        except Exception as error:
            raise view.catalogue_refusal(name, error) from error
        if words and not dry_run:
            self.log.info("catalogue changed", action=action, name=name, who=who, changed=words)
        return {"changed": words, "dry_run": dry_run}

    def code(self) -> dict[str, str]:
        """What runs here, by digest: of each module's code, and of each source of capabilities that is a file."""
        modules = {f"module {one.name}": one.loaded.digest for one in self.placed() if one.loaded.digest}
        return {**modules, **self.ask(CAPABILITIES, ("digests",))}

    def tree(self) -> dict[str, Any]:
        """The supervision tree as data."""
        return process_tree(self._root)

    def stats(self) -> shapes.Stats:
        """Counts since the start."""
        stats = view.stats_of(
            self.door, self._hub_watch.counts(), self.compositions.circuits(), self.jobs.counts()
        )
        return {
            **stats,
            "effects": view.effects_of(self),
            "traces": {"stored": self.traces.stored, "lost": self.traces.lost},
        }

    def recent(self, limit: int, asked: TraceFilter | None = None) -> list[dict[str, Any]]:
        """The last requests from outside, the newest first, a row each: of memory and of what is stored. Raises
        ValidationFailed."""
        search = TraceSearch(asked or {})
        rows = {row["id"]: row for row in self.stored_traces.rows(search, limit)}
        rows.update((row["id"], row) for row in view.recent_rows(self.traces, limit, search))
        return sorted(rows.values(), key=lambda row: str(row["started"]), reverse=True)[:limit]

    def trace(self, id: str) -> dict[str, Any]:
        """The way of one request: `last`, or the one whose trace's id begins so. Raises NotFound, ValidationFailed."""
        return view.one_trace(id, view.find_traces(self.traces, id), self.stored_traces)

    def live_config(self) -> shapes.Configuration:
        """The configuration in force and where each value comes from; secrets hidden."""
        return view.live_config(self.config, self.blueprint.loaded)

    def reload(self, dry_run: bool = False) -> shapes.Reload:
        """Read the configuration again and put what changed in place; a faulty one changes nothing."""
        self._home.check()
        return self._reloading.run(dry_run)
