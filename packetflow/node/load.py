"""How a capability is used and how it fares: counts since the start, and figures of the requests whose traces are kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from packetflow.capabilities.catalogue import Registered
from packetflow.node.door import Door
from packetflow.node.system import shapes
from packetflow.telemetry.traces import Sample, quantile

MINUTE = 60.0
FEW = 5  # requests of the last minute, of which nobody can say yet that most fail
MOST = 0.5


def load_of(door: Door, registered: Registered) -> shapes.Load:
    """Of this process."""
    door.routes.totals()
    definition = registered.definition
    here = (definition.id, definition.version)
    now, samples = door.traces.now(), samples_of(door, registered)
    load: shapes.Load = {
        "in_flight": sum(1 for call in door.active() if (call.capability, call.version) == here),
        "calls": registered.calls,
        "errors": registered.errors,
        "rate": _rate(door, samples, now),
        **_times(samples, now),  # type: ignore[typeddict-item]
        "last_error": registered.last_error,
    }
    cache = registered.cache
    if cache is not None:
        load["cache"] = {
            "entries": len(cache),
            "max_entries": cache.max_entries,
            "hits": cache.hits,
            "misses": cache.misses,
            "joined": cache.joined,
            "skipped": cache.skipped,
        }
    if registered.pool is not None:
        load["pool"] = registered.pool.statistics()  # type: ignore[typeddict-item]
    return load


def samples_of(door: Door, registered: Registered) -> list[Sample]:
    """The kept requests of one version of a capability."""
    definition = registered.definition
    return door.traces.samples(definition.id, definition.version)


def health_of(load: shapes.Load) -> str:
    """`ok`; `failing`: most requests of the last minute failed by the node's own fault; `full`: its pool refuses more."""
    if load["error_rate"] > MOST and load["rate"] * MINUTE >= FEW:
        return "failing"
    pool = load.get("pool")
    if pool is not None and pool["running"] >= pool["size"] and pool["waiting"] >= pool["queue"]:
        return "full"
    return "ok"


def merged_load(
    mine: shapes.Load, samples: list[Sample], others: Iterable[tuple[shapes.Load, list[Sample]]], now: float
) -> shapes.Load:
    """Of all processes."""
    told = list(others)
    loads = [mine, *(load for load, _ in told)]
    errors = [load["last_error"] for load, _ in told if load["last_error"]]
    merged: shapes.Load = {
        "in_flight": sum(load["in_flight"] for load in loads),
        "calls": sum(load["calls"] for load in loads),
        "errors": sum(load["errors"] for load in loads),
        "rate": sum(load["rate"] for load in loads),
        **_times([*samples, *(one for _, each in told for one in each)], now),  # type: ignore[typeddict-item]
        "last_error": errors[0] if errors else mine["last_error"],
    }
    caches = [load["cache"] for load in loads if "cache" in load]
    if caches:
        merged["cache"] = summed(caches)  # type: ignore[typeddict-item]
    pools = [load["pool"] for load in loads if "pool" in load]
    if pools:
        merged["pool"] = summed(pools)  # type: ignore[typeddict-item]
    return merged


def summed(figures: Iterable[Any]) -> dict[str, Any]:
    """Figures of one kind from several processes: numbers added up, words of the first."""
    total: dict[str, Any] = {}
    for one in figures:
        for name, value in one.items():
            total[name] = total[name] + value if name in total and not isinstance(value, str) else value
    return total


def _times(samples: list[Sample], now: float) -> dict[str, float | None]:
    times = sorted(one.seconds for one in samples)
    recent = [one.failed for one in samples if one.ended >= now - MINUTE]
    return {
        "error_rate": sum(recent) / len(recent) if recent else 0.0,
        "p50": quantile(times, 0.5),
        "p95": quantile(times, 0.95),
        "p99": quantile(times, 0.99),
    }


def _rate(door: Door, samples: list[Sample], now: float) -> float:
    recent = sum(one.ended >= now - MINUTE for one in samples)
    # Where fewer traces are kept than came in a minute, the time that the kept ones cover counts.
    return recent / min(MINUTE, max(door.traces.covered(), 1.0))
