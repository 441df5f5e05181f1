"""Defines the `system.*` capabilities of one node."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Protocol

from pydantic import Field

from packetflow.capabilities.context import Context
from packetflow.capabilities.definition import Capability, definition_of
from packetflow.capabilities.definition import capability as declare
from packetflow.node.system import shapes
from packetflow.node.system.runs import run_capabilities
from packetflow.security.access import Session
from packetflow.wire.errors import NotFound

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking

#: What an operator may always do: by the admin socket no module stands before these (design ruling 7).
ESCAPES = frozenset({"system.module.disable", "system.module.restart", "system.stop"})


class View(Protocol):
    """What the capabilities ask of their node."""

    def health(self) -> shapes.Health:
        """Up and ready, or why not."""

    def status(self) -> shapes.Status:
        """What the node is."""

    def catalogue(self, session: Session, words: str = "", tag: str | None = None) -> shapes.Catalogue:
        """What this caller may call."""

    def describe(self, session: Session, id: str) -> shapes.CapabilityDetail | None:
        """One capability in full, or None."""

    def modules(self) -> list[shapes.ModuleRow]:
        """The modules in order."""

    def module(self, name: str) -> shapes.ModuleRow:
        """One module in full."""

    def change_module(self, action: str, name: str, who: str, dry_run: bool) -> shapes.ModuleChange:
        """enable, disable, reload or restart a module."""

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

    def recent(self, limit: int) -> list[dict[str, Any]]:
        """The last requests."""

    def trace(self, id: str) -> dict[str, Any]:
        """One request's way."""


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
    def catalogue(context: Context, words: str = "", tag: str | None = None) -> shapes.Catalogue:
        """The capabilities that the caller may call."""
        return node.catalogue(context.session, words, tag)

    @declare("system.capability", tags=["system"])
    def capability(id: Annotated[str, Field(max_length=200)], context: Context) -> shapes.CapabilityDetail:
        """One capability in full: contract, versions, load."""
        found = node.describe(context.session, id)
        if found is None:
            raise NotFound(
                f"no capability {id!r}", {"capability": id, "nearest": _nearest(node, context, id)}
            )
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


def _nearest(node: View, context: Context, id: str) -> list[str]:
    missed = context.request(id.partition("@")[0] or "-")
    nearest = missed.error.details.get("nearest", []) if missed.error is not None else []
    return list(nearest)


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
    def traces(limit: Annotated[int, Field(ge=1, le=1000)] = 20) -> shapes.TraceList:
        """The last requests, the newest first."""
        return {"traces": node.recent(limit)}

    return [trace, traces]


def _changing(node: View) -> list[Callable[..., Any]]:
    @declare("system.module.enable", tags=["system"])
    def enable(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Put a disabled module back into the chain."""
        return node.change_module("enable", name, context.principal, dry_run)

    @declare("system.module.disable", tags=["system"])
    def disable(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Take a module out of the chain; requests under way finish on it."""
        return node.change_module("disable", name, context.principal, dry_run)

    @declare("system.module.reload", tags=["system"])
    def reload_module(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Load a module's code anew and put it in the old one's place."""
        return node.change_module("reload", name, context.principal, dry_run)

    @declare("system.module.restart", tags=["system"])
    def restart(name: Name, context: Context, dry_run: DryRun = False) -> shapes.ModuleChange:
        """Start a module anew from the code it has; brings a quarantined one back."""
        return node.change_module("restart", name, context.principal, dry_run)

    @declare("system.reload", tags=["system"])
    def reload(dry_run: DryRun = False) -> shapes.Reload:
        """Read the configuration again and put what changed in place; a faulty one changes nothing."""
        return node.reload(dry_run)

    @declare("system.stop", tags=["system"])
    def stop(
        drain: Annotated[float | None, Field(ge=0, description="Seconds for what is in flight.")] = None,
        now: Annotated[bool, Field(description="Don't wait for what is in flight.")] = False,
    ) -> shapes.Stopping:
        """Stop the node: no new requests, then finish what is in flight."""
        node.begin_stop(drain, now)
        return {"draining": True}

    return [enable, disable, reload_module, restart, reload, stop]
