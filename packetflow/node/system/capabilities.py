"""Defines the `system.*` capabilities of one node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import Capability, definition_of
from packetflow.capabilities.definition import capability as declare
from packetflow.capabilities.effects import audit
from packetflow.node.jobs import Jobs
from packetflow.node.system import shapes
from packetflow.node.system.jobs import job_functions
from packetflow.node.system.runs import run_capabilities
from packetflow.node.trace_search import TraceFilter
from packetflow.security.access import Session

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking

#: What an operator may always do: by the admin socket no module stands before these (design ruling 7).
ESCAPES = frozenset({"system.module.disable", "system.module.restart", "system.stop"})


class View(Protocol):
    """What the capabilities ask of their node."""

    jobs: Jobs

    def health(self) -> shapes.Health:
        """Up and ready, or why not."""

    def status(self) -> shapes.Status:
        """What the node is."""

    def catalogue(
        self,
        session: Session,
        words: str = "",
        tag: str | None = None,
        requires: str | None = None,
        provides: str | None = None,
    ) -> shapes.Catalogue:
        """What this caller may call."""

    def describe(self, session: Session, id: str) -> shapes.CapabilityDetail | None:
        """One capability in full, or None."""

    def modules(self) -> list[shapes.ModuleRow]:
        """The modules in order."""

    def module(self, name: str) -> shapes.ModuleRow:
        """One module in full."""

    def change_module(self, action: str, name: str, who: str, dry_run: bool) -> shapes.ModuleChange:
        """enable, disable, reload or restart a module."""

    def change_catalogue(self, action: str, name: str, who: str, dry_run: bool) -> shapes.CatalogueChanged:
        """add or remove capabilities."""

    def tree(self) -> dict[str, Any]:
        """The supervision tree."""

    def stats(self) -> shapes.Stats:
        """Counts since the start."""

    def live_config(self) -> shapes.Configuration:
        """The configuration in force."""

    def reload(self, dry_run: bool = False) -> shapes.Reload:
        """Read the configuration again."""

    def flows(self, session: Session) -> list[shapes.FlowRow]:
        """The compositions that this caller may call."""

    def flow(self, session: Session, id: str, svg: bool = False) -> shapes.Flow:
        """One composition in full."""

    def check_flow(self, plan: dict[str, Any]) -> shapes.FlowFaults:
        """What would be wrong with a plan on this node."""

    def waking(self) -> Waking:
        """The durable runs."""

    def start_run(self, id: str, payload: dict[str, Any], key: str | None, context: Context) -> str:
        """Begin a durable run."""

    def begin_stop(self, drain: float | None, now: bool) -> None:
        """Start to stop."""

    def recent(self, limit: int, asked: TraceFilter | None = None) -> list[dict[str, Any]]:
        """The last requests."""

    def trace(self, id: str) -> dict[str, Any]:
        """One request's way."""

    def audit(self, limit: int = 100, **selected: Any) -> list[dict[str, Any]]:
        """The newest audit records."""


Name = Annotated[str, Field(description="The module's name in the chain.", max_length=64)]
DryRun = Annotated[bool, Field(description="Only check, and say what would be.")]


def system_capabilities(node: View, more: Iterable[Callable[..., Any]] = ()) -> list[Capability]:
    """The capabilities through which this node is seen and changed. more: functions of its parts that are files of their own."""
    functions = [
        *_seeing(node),
        *_flows(node),
        *run_capabilities(node),
        *_tracing(node),
        *_changing(node),
        *job_functions(node.jobs),
        *more,
    ]
    found = [definition_of(function) for function in functions]
    return [definition for definition in found if definition is not None]


def _flows(node: View) -> list[Callable[..., Any]]:
    @declare("system.flows", tags=["system"])
    def flows(context: Context) -> shapes.Flows:
        """The compositions that the caller may call, and what keeps them from running."""
        return {"flows": node.flows(context.session)}

    @declare("system.flow", tags=["system"])
    def flow(id: Annotated[str, Field(max_length=200)], context: Context, svg: bool = False) -> shapes.Flow:
        """One composition in full: its plan as data and as pictures."""
        return node.flow(context.session, id, svg)

    @declare("system.flow.check", tags=["system"])
    def flow_check(plan: dict[str, Any]) -> shapes.FlowFaults:
        """What would keep a plan from running on this node."""
        return node.check_flow(plan)

    return [flows, flow, flow_check]


def _seeing(node: View) -> list[Callable[..., Any]]:
    @declare("system.health", tags=["system"])
    def health() -> shapes.Health:
        """Is the node up and ready, and if not, why."""
        return node.health()

    @declare("system.status", tags=["system"])
    def status() -> shapes.Status:
        """What the node is: doors, chain, data, since when."""
        return node.status()

    @declare("system.catalogue", tags=["system"])
    def catalogue(
        context: Context,
        words: str = "",
        tag: str | None = None,
        requires: Annotated[str | None, Field(description="A field that they take.", max_length=200)] = None,
        provides: Annotated[str | None, Field(description="A field that they give.", max_length=200)] = None,
    ) -> shapes.Catalogue:
        """The capabilities that the caller may call: with words, those that fit, the best first."""
        return node.catalogue(context.session, words, tag, requires, provides)

    @declare("system.capability", tags=["system"])
    def capability(id: Annotated[str, Field(max_length=200)], context: Context) -> shapes.CapabilityDetail:
        """One capability in full: contract, versions, load."""
        found = node.describe(context.session, id)
        if found is None:
            raise context.door.routes.unknown(context.session.grants, id)
        return found

    @declare("system.modules", tags=["system"])
    def modules() -> shapes.Modules:
        """The modules, in the chain's order."""
        return {"modules": node.modules()}

    @declare("system.module.show", tags=["system"])
    def module_show(name: Name) -> shapes.ModuleDetail:
        """One module in full."""
        return {"module": node.module(name)}

    @declare("system.tree", tags=["system"])
    def tree() -> shapes.Tree:
        """The supervision tree."""
        return {"tree": node.tree()}

    @declare("system.stats", tags=["system"])
    def stats() -> shapes.Stats:
        """Counts since the start."""
        return node.stats()

    @declare("system.config", tags=["system"])
    def config() -> shapes.Configuration:
        """The live configuration, with the origin of each value."""
        return node.live_config()

    return [health, status, catalogue, capability, modules, module_show, tree, stats, config]


def _tracing(node: View) -> list[Callable[..., Any]]:
    @declare("system.trace", tags=["system"])
    def trace(
        id: Annotated[
            str, Field(description="`last`, or the first letters of a trace's id.", max_length=32)
        ] = "last",
    ) -> shapes.Trace:
        """The way of one request: each stage, its time, what modules changed."""
        return {"trace": node.trace(id)}

    @declare("system.traces", tags=["system"])
    def traces(
        limit: Annotated[int, Field(ge=1, le=1000)] = 20,
        where: Annotated[
            str | None, Field(description="A condition in CEL over what a trace's line has.", max_length=4096)
        ] = None,
        capability: Annotated[str | None, Field(description="A pattern.", max_length=200)] = None,
        principal: Annotated[str | None, Field(description="A pattern.", max_length=200)] = None,
        tenant: Annotated[str | None, Field(description="A pattern.", max_length=200)] = None,
        door: Annotated[str | None, Field(description="A pattern.", max_length=40)] = None,
        outcome: Annotated[
            str | None, Field(description="`ok`, `error` for any, or an error's code.", max_length=40)
        ] = None,
        since: Annotated[str | None, Field(description="RFC 3339.", max_length=40)] = None,
        until: Annotated[str | None, Field(description="RFC 3339.", max_length=40)] = None,
        longer: Annotated[float | None, Field(description="Seconds.", ge=0)] = None,
        shorter: Annotated[float | None, Field(description="Seconds.", ge=0)] = None,
        text: Annotated[str | None, Field(description="What an error says.", max_length=200)] = None,
        module: Annotated[str | None, Field(description="One that it passed.", max_length=64)] = None,
        nested: Annotated[
            bool, Field(description="Also what requests asked for, and the node's own.")
        ] = False,
    ) -> shapes.TraceList:
        """The last requests, the newest first: those in memory, and those that are stored."""
        asked = {
            "where": where, "capability": capability, "principal": principal, "tenant": tenant, "door": door,
            "outcome": outcome, "since": since, "until": until, "longer": longer, "shorter": shorter, "text": text,
            "module": module,
        }  # fmt: skip
        given: Any = {key: value for key, value in asked.items() if value is not None}
        if nested:
            given["nested"] = True
        return {"traces": node.recent(limit, given)}

    @declare("system.audit", tags=["system"])
    def audit(
        limit: Annotated[int, Field(ge=1, le=10_000)] = 100,
        since: Annotated[str | None, Field(description="RFC 3339 in UTC.", max_length=40)] = None,
        principal: Annotated[str | None, Field(description="A pattern.", max_length=200)] = None,
        capability: Annotated[str | None, Field(description="A pattern.", max_length=200)] = None,
        outcome: Annotated[str | None, Field(description="`ok`, or an error's code.", max_length=40)] = None,
        trace: Annotated[
            str | None, Field(description="The first letters of a trace's id.", max_length=32)
        ] = None,
    ) -> shapes.AuditList:
        """Audit records, the newest first: who did what, when, with what outcome."""
        selected = {
            "since": since,
            "principal": principal,
            "capability": capability,
            "outcome": outcome,
            "trace": trace,
        }
        return {"records": node.audit(limit, **selected)}  # type: ignore[typeddict-item]

    return [trace, traces, audit]


def _changing(node: View) -> list[Callable[..., Any]]:
    @declare("system.module.enable", tags=["system"], effects=[audit("standard")])
    def enable(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Put a disabled module back into the chain."""
        return node.change_module("enable", name, context.principal, dry_run)

    @declare("system.module.disable", tags=["system"], effects=[audit("standard")])
    def disable(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Take a module out of the chain; requests under way finish on it."""
        return node.change_module("disable", name, context.principal, dry_run)

    @declare("system.module.reload", tags=["system"], effects=[audit("standard")])
    def reload_module(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Load a module's code anew and put it in the old one's place."""
        return node.change_module("reload", name, context.principal, dry_run)

    @declare("system.module.restart", tags=["system"], effects=[audit("standard")])
    def restart(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Start a module anew from the code it has; brings a quarantined one back."""
        return node.change_module("restart", name, context.principal, dry_run)

    @declare("system.capability.add", tags=["system"], effects=[audit("standard")])
    def add_capabilities(
        name: Annotated[
            str,
            Field(description="A file's absolute path, or a capability that was removed.", max_length=4096),
        ],
        context: Context,
        dry_run: DryRun = False,
    ) -> shapes.CatalogueChanged:
        """Serve the capabilities of a file too, now and after restarts; or one that was removed again."""
        return node.change_catalogue("add", name, context.principal, dry_run)

    @declare("system.capability.remove", tags=["system"], effects=[audit("standard")])
    def remove_capability(
        name: Annotated[
            str,
            Field(
                description="A capability (`id`, or `id@version`), or a file that was added.", max_length=4096
            ),
        ],
        context: Context,
        dry_run: DryRun = False,
    ) -> shapes.CatalogueChanged:
        """Serve a capability no more, now and after restarts; requests under way finish on it."""
        return node.change_catalogue("remove", name, context.principal, dry_run)

    @declare("system.reload", tags=["system"], effects=[audit("standard")])
    def reload(dry_run: DryRun = False) -> shapes.Reload:
        """Read the configuration again and put what changed in place; a faulty one changes nothing."""
        return node.reload(dry_run)

    @declare("system.stop", tags=["system"], effects=[audit("standard")])
    def stop(
        drain: Annotated[float | None, Field(ge=0, description="Seconds for what is in flight.")] = None,
        now: Annotated[bool, Field(description="Don't wait for what is in flight.")] = False,
    ) -> shapes.Stopping:
        """Stop the node: no new requests, then finish what is in flight."""
        node.begin_stop(drain, now)
        return {"draining": True}

    return [enable, disable, reload_module, restart, add_capabilities, remove_capability, reload, stop]
