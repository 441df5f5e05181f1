"""How a node is seen: the answers of the `system.*` capabilities, made from the live parts."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from packetflow.capabilities.authorisation import Rule
from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.capabilities.contract import DIALECT
from packetflow.intelligence.gate import QUARANTINED, RUNNING
from packetflow.intelligence.placement import Placed
from packetflow.intelligence.registry import hooks_of
from packetflow.node.config import ConfigError, LoadedConfig, NodeConfig
from packetflow.node.config.show import nested
from packetflow.node.load import health_of, load_of
from packetflow.node.outgoing import LINE
from packetflow.node.routes import STARTED
from packetflow.node.rules import visible
from packetflow.node.system import job_shapes, shapes
from packetflow.otp.errors import PacketFlowError
from packetflow.security.access import Session
from packetflow.telemetry.traces import SHORTEST, Traces, outcome_of, quantile
from packetflow.wire.errors import NotFound, Rejected, RequestError, ValidationFailed

if TYPE_CHECKING:
    from packetflow.node.door import Door
    from packetflow.node.overview import Overview
    from packetflow.node.trace_keeping import StoredSearch
    from packetflow.node.trace_search import TraceSearch


STARTED_SCHEMA = {"$schema": DIALECT, **STARTED.json_schema(mode="serialization")}


def capability_row(registered: Registered, rule: Rule | None = None) -> shapes.CatalogueRow:
    """A capability in one line. rule: what is left to ask of each request."""
    definition = registered.definition
    row: shapes.CatalogueRow = {
        "id": definition.id,
        "version": definition.version,
        "intent": definition.intent,
        "tags": list(definition.tags),
        "deprecated": definition.deprecated,
    }
    if rule is not None:
        row["conditional"] = True
    return row


def catalogue_for(
    door: Door,
    session: Session,
    words: str = "",
    tag: str | None = None,
    requires: str | None = None,
    provides: str | None = None,
) -> shapes.Catalogue:
    """What this caller may call: the same rights decide here and at the call."""
    found = door.routes.catalogue.search(words, tag, requires, provides)
    rows = []
    for one in found:
        there, rule = visible(session, one)
        if there:
            rows.append(capability_row(one, rule))
    return {"capabilities": rows}


def describe_for(door: Door, session: Session, name: str) -> shapes.CapabilityDetail | None:
    """One capability in full; None if there is none that this caller may call."""
    registered = door.routes.catalogue.find(name)
    there, rule = (False, None) if registered is None else visible(session, registered)
    if registered is None or not there:
        return None
    definition = registered.definition
    contract = definition.contract
    load = load_of(door, registered)
    shown: Any = {
        **capability_row(registered, rule),
        "authorize": None if definition.authorize is None else definition.authorize.words,
        "versions": [one.definition.version for one in door.routes.catalogue.versions(definition.id)],
        "description": definition.description,
        "owner": definition.owner,
        "health": health_of(load),
        "streams": definition.streams,
        "timeout": definition.timeout or (None if definition.background else door.routes.timeout),
        "runs": runs_in(registered),
        "cached": definition.cache is not None,
        "background": definition.background,
        "source": definition.source,
        "requires": contract.requires,
        "provides": STARTED_SCHEMA if definition.background else contract.provides,
        "examples": list(definition.examples),
        "effects": [effect.name for effect in definition.effects],
        "load": load,
    }
    if definition.background:
        shown["result"] = contract.provides
    detail: shapes.CapabilityDetail = shown
    return detail


def runs_in(registered: Registered) -> str:
    """`greenlet`, `asyncio`, `threads` or `processes`."""
    definition = registered.definition
    if definition.is_async:
        return "asyncio"
    return "processes" if definition.cpu else "threads" if definition.blocking else "greenlet"


def stats_of(
    door: Door, hub: shapes.Hub, circuits: list[shapes.Circuit], jobs: job_shapes.JobCounts
) -> shapes.Stats:
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
        "in_flight": len(door.in_flight) + sum(stream.is_idle for stream in list(door.streams.values())),
        "by_capability": by_capability,
        "counters": {**door.counters, **door.effects.metrics.totals()},
        "metrics": door.effects.metrics.as_data(),  # type: ignore[typeddict-item]  # plain data of that shape
        "pools": pools_of(door.routes.catalogue),
        "jobs": jobs,
        "hub": hub,
        "circuits": circuits,
    }


def one_module(placed: list[Placed], times: dict[str, list[float]], name: str) -> shapes.ModuleRow:
    """One module in full. Raises NotFound."""
    for one in placed:
        if one.name == name:
            return module_row(one, sorted(times.get(name, ())), full=True)
    near = nearest(name, [one.name for one in placed])
    raise NotFound(f"no module {name!r}", {"module": name, "nearest": near})


def live_config(config: NodeConfig, loaded: LoadedConfig | None) -> shapes.Configuration:
    """The configuration in force and where each value comes from; secrets hidden."""
    if loaded is None:
        return {"values": config.model_dump(mode="json", by_alias=True), "origins": {}, "file": None}
    return {
        "values": nested(loaded),
        "origins": dict(loaded.origins),
        "file": str(loaded.file) if loaded.file else None,
    }


def effects_of(node: Overview) -> shapes.EffectFigures:
    """How effects that leave the request fare."""
    effects = node.effects
    lines = [channel.as_data() for channel in effects.channels.values()]
    if effects.deferred.sent or effects.deferred.failed or effects.deferred.dropped or len(effects.deferred):
        lines.append(effects.deferred.as_data())
    return {"audit": node.trail.as_data(), "channels": lines}


def effect_findings(node: Overview) -> list[shapes.Finding]:
    """What is wrong with audit records and notices, and what to do."""
    findings: list[shapes.Finding] = []

    def found(severity: Literal["warning", "error"], what: str, next: str) -> None:
        findings.append({"severity": severity, "what": what, "next": next})

    trail, files = node.trail, node.audit_files
    if trail.trouble is not None:
        lost = f", {trail.lost} lost" if trail.lost else ""
        found("error", f"audit records can't be written: {trail.trouble}{lost}", "packetflow doctor")
    for what in files.findings if files is not None else ():
        found("error", what, "packetflow audit verify")
    if node.effects.unfinished:
        what = f"{node.effects.unfinished} outcomes of required effects were not written; their intents show as open"
        found("warning", what, "packetflow audit verify")
    for line, count in node.stores.lines().items():
        channel_name = line.removeprefix(LINE)
        if line and channel_name not in node.effects.channels:
            what = (
                f"{count} notices wait for channel {channel_name}, which is not in the configuration any more"
            )
            found("warning", what, "packetflow config show channels")
    for channel in node.effects.channels.values():
        if channel.failing:
            what = f"channel {channel.name} does not deliver: {channel.last_error}; {len(channel)} wait"
            found("warning", what, "packetflow logs")
    return findings


def audit_filter(
    *,
    since: str | None = None,
    principal: str | None = None,
    capability: str | None = None,
    outcome: str | None = None,
    trace: str | None = None,
) -> Callable[[Mapping[str, Any]], bool]:
    """Selects audit records. since: RFC 3339 in UTC; principal, capability: patterns; outcome: `ok`, or an error's code;
    trace: the first letters of its id. Raises ValidationFailed for a time that is none."""
    if since is not None:
        try:
            begin = datetime.fromisoformat(since)
        except ValueError:
            message = f"since {since!r} is no time; expected RFC 3339, such as 2026-01-31T12:00:00Z"
            raise ValidationFailed(
                message, {"faults": [{"path": "since", "message": "is no time"}]}
            ) from None
        begin = begin if begin.tzinfo is not None else begin.replace(tzinfo=UTC)
        since = begin.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")

    def select(record: Mapping[str, Any]) -> bool:
        id = str(record.get("capability", "")).partition("@")[0]
        return (
            (since is None or str(record.get("time", "")) >= since)
            and (principal is None or fnmatch.fnmatchcase(str(record.get("principal", "")), principal))
            and (capability is None or fnmatch.fnmatchcase(id, capability))
            and (outcome is None or record.get("outcome") == outcome)
            and (trace is None or str(record.get("trace", "")).startswith(trace))
        )

    return select


def pools_of(catalogue: Catalogue) -> dict[str, shapes.PoolFigures]:
    """The pools that capabilities run in, by name."""
    pools = {one.pool for each in catalogue.ids for one in catalogue.versions(each) if one.pool is not None}
    shown = sorted(pools, key=lambda pool: pool.name)
    return {pool.name: pool.statistics() for pool in shown}  # type: ignore[misc]


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


def file_findings(faults: Mapping[str, str]) -> list[shapes.Finding]:
    """What is wrong with the files of watched folders."""
    return [
        {"severity": "warning", "what": f"not taken on: {text}", "next": f"correct {name}"}
        for name, text in sorted(faults.items())
    ]


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


def catalogue_refusal(name: str, error: Exception) -> RequestError:
    """Why the catalogue could not be changed, as a request's error; it is as it was."""
    if not isinstance(error, PacketFlowError):
        raise error
    details: dict[str, Any] = {"name": name, "reason": "definition"}
    if isinstance(error, ConfigError):
        details["faults"] = [fault.as_dict() for fault in error.faults]
    return Rejected(f"{error}; the catalogue is as it was", details)


def recent_rows(traces: Traces, limit: int, search: TraceSearch) -> list[dict[str, Any]]:
    """The last requests in memory that are asked for, the newest first."""
    rows: list[dict[str, Any]] = []
    for call in traces:
        known = {
            "id": call.id, "parent": call.parent.id if call.parent is not None else None, "capability": call.capability,
            "version": str(call.version), "principal": call.principal, "tenant": call.tenant, "door": call.session.door,
            "started": traces.epoch(call.stamps[0]), "duration": call.duration, "outcome": outcome_of(call),
            "error": None if call.error is None else call.error.message,
            "modules": [one.name for one in call.stages[: len(call.stamps) - 1] if one.gate is not None],
        }  # fmt: skip
        if search.holds(known):
            rows.append(traces.row(call))
            if len(rows) == limit:
                break
    return rows


class Found(NamedTuple):
    """A trace that was asked for. ended: monotonic seconds, the same for all processes of a machine. data: all of it."""

    id: str
    ended: float
    data: dict[str, Any]


def find_traces(traces: Traces, id: str) -> list[Found]:
    """The request that ended last (id `last`), or those whose trace's id begins so. Raises ValidationFailed for a short one."""
    if id == "last":
        found = [call for call in [traces.last()] if call is not None]
    elif len(id) < SHORTEST:
        raise ValidationFailed(f"id {id!r} is too short; expected {SHORTEST} letters or more", {"faults": []})
    else:
        found = traces.find(id)
    # Of several nobody wants to see more than the ids.
    return [
        Found(call.id, call.stamps[-1], traces.as_data(call) if len(found) == 1 else {}) for call in found
    ]


def one_trace(id: str, found: list[Found], stored: StoredSearch) -> dict[str, Any]:
    """The one trace of those found: of several that ended last, the last. stored: where it is looked for besides. Raises
    NotFound; ValidationFailed with the candidates where an id begins several."""
    if id != "last":
        known = {one.id for one in found}
        found = found + [Found(one, 0.0, {}) for one in stored.ids(id) if one not in known]
        if len(found) == 1 and found[0].id not in known:
            return stored.one(found[0].id) or {}
    if not found:
        what = "no request was traced yet" if id == "last" else f"no trace {id!r} is kept"
        raise NotFound(what, {"trace": id})
    if id == "last":
        return max(found, key=lambda one: one.ended).data
    if len(found) > 1:
        candidates = [one.id for one in found]
        raise ValidationFailed(f"{id!r} begins {len(found)} traces", {"candidates": candidates, "faults": []})
    return found[0].data


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
