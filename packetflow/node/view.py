"""How a node is seen: the answers of the `system.*` capabilities, made from the live parts."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from packetflow.capabilities.catalogue import Registered
from packetflow.intelligence.gate import QUARANTINED, RUNNING
from packetflow.intelligence.placement import Placed
from packetflow.intelligence.registry import hooks_of
from packetflow.node.config import ConfigError, NodeConfig
from packetflow.node.system import shapes
from packetflow.otp.errors import PacketFlowError
from packetflow.security.access import Session
from packetflow.telemetry.traces import quantile
from packetflow.wire.errors import Rejected, RequestError

if TYPE_CHECKING:
    from packetflow.node.door import Door


def capability_row(registered: Registered) -> shapes.CatalogueRow:
    """A capability in one line."""
    definition = registered.definition
    return {
        "id": definition.id,
        "version": definition.version,
        "intent": definition.intent,
        "tags": list(definition.tags),
        "deprecated": definition.deprecated,
    }


def catalogue_for(door: Door, session: Session, words: str = "", tag: str | None = None) -> shapes.Catalogue:
    """What this caller may call: the same rights decide here and at the call."""
    found = door.routes.catalogue.search(words, tag)
    return {"capabilities": [capability_row(one) for one in found if session.grants.allow(one.definition.id)]}


def describe_for(door: Door, session: Session, name: str) -> shapes.CapabilityDetail | None:
    """One capability in full; None if there is none that this caller may call."""
    registered = door.routes.catalogue.find(name)
    if registered is None or not session.grants.allow(registered.definition.id):
        return None
    definition = registered.definition
    contract = definition.contract
    return {
        **capability_row(registered),
        "versions": [one.definition.version for one in door.routes.catalogue.versions(definition.id)],
        "description": definition.description,
        "timeout": definition.timeout or door.routes.timeout,
        "source": definition.source,
        "requires": contract.requires,
        "provides": contract.provides,
        "examples": list(definition.examples),
        "effects": [effect.name for effect in definition.effects],
        "load": _load(door, registered),
    }


def _load(door: Door, registered: Registered) -> shapes.Load:
    door.routes.totals()
    id = registered.definition.id
    times = door.traces.durations(id)
    return {
        "in_flight": sum(1 for call in door.active() if call.capability == id),
        "calls": registered.calls,
        "errors": registered.errors,
        "p50": quantile(times, 0.5),
        "p99": quantile(times, 0.99),
        "last_error": registered.last_error,
    }


def stats_of(door: Door) -> shapes.Stats:
    """Counts since the start."""
    door.routes.totals()
    by_capability: dict[str, shapes.CapabilityCount] = {}
    for one in door.routes.catalogue:
        if one.calls:
            count = by_capability.setdefault(one.definition.id, {"calls": 0, "errors": 0})
            count["calls"] += one.calls
            count["errors"] += one.errors
    return {
        "requests": sum(count["calls"] for count in by_capability.values()) + door.refused,
        "errors": sum(count["errors"] for count in by_capability.values()) + door.refused,
        "refused": door.refused,
        "in_flight": len(door.in_flight),
        "by_capability": by_capability,
        "counters": dict(door.counters),
    }


def module_rows(placed: list[Placed], times: dict[str, list[float]]) -> list[shapes.ModuleRow]:
    """The modules in the chain's order."""
    return [module_row(one, sorted(times.get(one.name, ()))) for one in placed]


def module_row(placed: Placed, times: list[float], full: bool = False) -> shapes.ModuleRow:
    """One module; full: with its hooks and configuration."""
    gate, placement, manifest = placed.gate, placed.placement, placed.loaded.manifest
    row: shapes.ModuleRow = {
        "name": placed.name,
        "module": placed.runs,
        "version": manifest.version,
        "priority": gate.priority,
        "status": gate.status,
        "match": gate.match.as_data(),
        "scope": gate.scope,
        "on_error": gate.on_error,
        "timeout": gate.timeout,
        "max_concurrency": gate.limit,
        "enabled": placement.enabled,
        "handled": gate.handled,
        "changed": gate.changed,
        "rejected": gate.rejected,
        "errors": gate.errors,
        "restarts": max(0, placed.hosted.starts - 1),
        "p50": quantile(times, 0.5),
        "p99": quantile(times, 0.99),
        "last_error": gate.last_error,
        "source": placed.loaded.origin,
    }
    if full:
        row["hooks"] = hooks_of(placed)
        row["config"] = placed.config.model_dump(mode="json")
        row["description"] = manifest.description
    return row


def module_findings(placed: list[Placed]) -> list[shapes.Finding]:
    """What is wrong with the modules, and what to do."""
    findings: list[shapes.Finding] = []
    for one in placed:
        status = one.gate.status
        if one.placement.enabled and status != RUNNING:
            why = f", last error: {one.gate.last_error}" if one.gate.last_error else ""
            findings.append(
                {
                    "severity": "error" if status == QUARANTINED else "warning",
                    "what": f"module {one.name} is {status}{why}",
                    "next": f"packetflow module restart {one.name}",
                }
            )
    return findings


def chain_links(placed: list[Placed]) -> list[shapes.ChainLink]:
    """The chain in order, what is disabled left out."""
    return [{"name": one.name, "priority": one.gate.priority} for one in placed if one.placement.enabled]


def access_of(config: NodeConfig) -> shapes.Access:
    """Who is let in, in words."""
    if config.access.insecure:
        note = "no authentication, and not only loopback: whoever reaches a port may call"
    else:
        note = "no authentication, so loopback only"
    return {"mode": "open", "note": note}


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """The nearest names, the best first."""
    return difflib.get_close_matches(name, list(names), n=3)


def refusal(name: str, error: Exception) -> RequestError:
    """Why a module could not be changed, as a request's error; the chain is as it was."""
    if not isinstance(error, PacketFlowError):
        raise error
    details: dict[str, Any] = {"module": name, "reason": "module_failed"}
    if isinstance(error, ConfigError):
        details["faults"] = [fault.as_dict() for fault in error.faults]
    return Rejected(f"{error}; the chain is as it was", details)


def tree_row(node: Any, describe: Callable[[Any], str]) -> dict[str, Any]:
    """A supervision tree as plain data."""
    return {
        "id": node.id,
        "name": node.name,
        "kind": node.kind,
        "status": node.status,
        "restarts": node.restarts,
        "mailbox": node.mailbox,
        "handled": node.handled,
        "age": node.age,
        "current": describe(node.current) if node.current is not None else None,
        "children": [tree_row(child, describe) for child in node.children],
    }
