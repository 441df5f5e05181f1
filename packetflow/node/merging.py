"""What several processes of a node say of themselves, as one: counts summed, times put together, the worst state shown."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from packetflow.intelligence.gate import DISABLED, QUARANTINED, RESTARTING, RUNNING
from packetflow.node.load import summed
from packetflow.node.system import shapes
from packetflow.otp import WorkerInfo
from packetflow.telemetry.metrics import merged as merged_metrics
from packetflow.telemetry.traces import quantile

WORST = (QUARANTINED, RESTARTING, RUNNING, DISABLED)  # a state that is not here is shown before all
CHANNEL_COUNTS = ("waiting", "sent", "failed", "dropped", "retried")
COUNTS = ("handled", "changed", "rejected", "errors", "restarts")

Times = Mapping[str, list[float]]


def worker_rows(workers: Mapping[Hashable, WorkerInfo | None]) -> list[shapes.WorkerRow]:
    """The workers as rows; one that does not run is `down`."""
    rows: list[shapes.WorkerRow] = []
    for id, info in workers.items():
        if info is None:
            rows.append({"worker": str(id), "pid": None, "status": "down", "stalled": 0.0, "age": 0.0})
        else:
            stalled = max(info.blocked, info.silent)
            rows.append(
                {
                    "worker": str(id),
                    "pid": info.pid,
                    "status": info.status,
                    "stalled": stalled,
                    "age": info.age,
                }
            )
    return rows


def worker_findings(
    rows: Iterable[shapes.WorkerRow],
    told: Mapping[str, tuple[shapes.Health, Mapping[str, str]]],
    code: Mapping[str, str],
) -> list[shapes.Finding]:
    """What is wrong with workers, what they find wrong themselves, and where one runs other code than the parent (`code`):
    it was started again after a file had changed that was not loaded anew."""
    findings: list[shapes.Finding] = []
    for row in rows:
        what = ""
        if row["status"] == "down":
            what = f"{row['worker']} is down and is being started again"
        elif row["status"] == "blocked":
            what = f"{row['worker']} (pid {row['pid']}) is blocked: its hub has had no turn for {row['stalled']:.1f} s"
        elif row["status"] == "silent":
            what = f"{row['worker']} (pid {row['pid']}) has given no sign of life for {row['stalled']:.1f} s"
        elif row["worker"] not in told:
            what = f"{row['worker']} (pid {row['pid']}) does not answer; its figures are missing"
        if what:
            findings.append({"severity": "error", "what": what, "next": "packetflow tree"})
    for id, (health, its_code) in told.items():
        for what in sorted(name for name, digest in its_code.items() if code.get(name) not in (None, digest)):
            name = what.removeprefix("module ")
            cure = f"packetflow module reload {name}" if name != what else "kill -HUP of the node: it reloads"
            findings.append({"severity": "warning", "what": f"{id} runs newer code: {what}", "next": cure})
        findings += [{**one, "what": f"{id}: {one['what']}"} for one in health["findings"]]
    return findings


def merged_modules(
    mine: list[shapes.ModuleRow],
    times: Times,
    others: Iterable[tuple[list[shapes.ModuleRow], Times]],
) -> list[shapes.ModuleRow]:
    """The rows of this process with the figures of all. Where a module's state differs, the worst is shown."""
    told = list(others)
    by_name = [{row["name"]: row for row in rows} for rows, _ in told]
    merged = []
    for row in mine:
        same: list[Any] = [rows[row["name"]] for rows in by_name if row["name"] in rows]
        all_times = sorted(
            [*times.get(row["name"], ()), *(one for _, each in told for one in each.get(row["name"], ()))]
        )
        made: Any = dict(row)
        for key in COUNTS:
            made[key] += sum(other[key] for other in same)
        made["p50"], made["p99"] = quantile(all_times, 0.5), quantile(all_times, 0.99)
        made["status"] = min([row["status"], *(other["status"] for other in same)], key=_badness)
        errors = [other["last_error"] for other in same if other["last_error"]]
        made["last_error"] = errors[0] if errors else row["last_error"]
        merged.append(made)
    return merged


def _badness(status: str) -> int:
    return WORST.index(status) if status in WORST else -1


def merged_stats(mine: shapes.Stats, told: Mapping[str, Any]) -> shapes.Stats:
    """The counts of all processes. told: of each worker its own, or an exception; those are named as missing."""
    merged: shapes.Stats = {
        **mine,
        "by_capability": {id: {**count} for id, count in mine["by_capability"].items()},
        "counters": dict(mine["counters"]),
        "pools": dict(mine["pools"]),
    }
    for stats in told.values():
        if isinstance(stats, Exception):
            continue
        for key in ("requests", "errors", "refused", "in_flight"):
            merged[key] += stats[key]
        for id, count in stats["by_capability"].items():
            sums = merged["by_capability"].setdefault(id, {"calls": 0, "errors": 0})
            sums["calls"] += count["calls"]
            sums["errors"] += count["errors"]
        for name, number in stats["counters"].items():
            merged["counters"][name] = merged["counters"].get(name, 0) + number
        for name, figures in stats["pools"].items():
            known = [merged["pools"][name]] if name in merged["pools"] else []
            merged["pools"][name] = summed([*known, figures])  # type: ignore[assignment]
        if "hub" in merged and "hub" in stats:
            hub = merged["hub"]
            merged["hub"] = {
                **hub,
                "blocked": hub["blocked"] + stats["hub"]["blocked"],
                "broken": hub["broken"] + stats["hub"]["broken"],
            }
    if "effects" in mine:
        effects = [stats["effects"] for stats in told.values() if not isinstance(stats, Exception)]
        merged["effects"] = _merged_effects(mine["effects"], effects)
    if "metrics" in mine:
        others = {id: stats["metrics"] for id, stats in told.items() if not isinstance(stats, Exception)}
        merged["metrics"] = merged_metrics(mine["metrics"], others)  # type: ignore[typeddict-item, arg-type]
    if "traces" in mine:
        all_ = [mine, *(stats for stats in told.values() if not isinstance(stats, Exception))]
        merged["traces"] = {
            "stored": sum(stats["traces"]["stored"] for stats in all_),
            "lost": sum(stats["traces"]["lost"] for stats in all_),
        }
    missing = [id for id, stats in told.items() if isinstance(stats, Exception)]
    if missing:
        merged["missing"] = missing
    return merged


def _merged_effects(
    mine: shapes.EffectFigures, others: Iterable[shapes.EffectFigures]
) -> shapes.EffectFigures:
    """What the effects of all processes came to. `written` and `lost` are of all: workers hand their records to the parent."""
    audit = dict(mine["audit"])
    channels = {row["channel"]: dict(row) for row in mine["channels"]}
    for figures in others:
        for key in ("written", "lost", "late", "waiting"):
            audit[key] += figures["audit"][key]
        audit["trouble"] = audit["trouble"] or figures["audit"]["trouble"]
        for row in figures["channels"]:
            known = channels.setdefault(row["channel"], {**row, **dict.fromkeys(CHANNEL_COUNTS, 0)})
            for key in CHANNEL_COUNTS:
                known[key] += row[key]
            known["last_error"] = known["last_error"] or row["last_error"]
    return {"audit": audit, "channels": list(channels.values())}
