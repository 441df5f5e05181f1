"""The figures of a batch: outcomes, latencies, rate; as the summary for people and for programs."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

from packetflow.cli.screen.painter import Painter, clean, columns
from packetflow.cli.screen.table import pad
from packetflow.cli.screen.units import count, number, seconds

TOLD = 3  # failures told in the summary, the rest stands in the results


class Tally:
    """Counts as results come in. begun: the monotonic clock when the batch began."""

    def __init__(self, begun: float) -> None:
        self.begun = begun
        self.outcomes: Counter[str] = Counter()
        self.latencies = array("d")
        self.skipped = 0
        self.retries = 0
        self.bytes = 0
        self.wall = 0.0
        self.first: list[tuple[int, str, str]] = []

    def add(self, number: int, outcome: str, message: str, latency: float | None) -> None:
        """One line's result. latency: seconds from here and back, None if nothing was sent."""
        self.outcomes[outcome] += 1
        if latency is not None:
            self.latencies.append(latency)
        if outcome != "ok" and len(self.first) < TOLD:
            self.first.append((number, outcome, message))

    @property
    def lines(self) -> int:
        """Lines that have an outcome by this run."""
        return self.outcomes.total()

    @property
    def failed(self) -> int:
        """Lines whose outcome is not ok."""
        return self.lines - self.outcomes["ok"]

    def rate(self, wall: float) -> float:
        """Requests a second."""
        return len(self.latencies) / wall if wall > 0 else 0.0

    def quantiles(self) -> dict[str, float | None]:
        """Seconds that requests took, seen from here."""
        ordered = sorted(self.latencies)
        if not ordered:
            return {"p50": None, "p95": None, "p99": None, "max": None}
        last = len(ordered) - 1
        at = {
            name: ordered[round(last * part)] for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        }
        return {name: round(value, 6) for name, value in {**at, "max": ordered[-1]}.items()}

    def document(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """The summary for programs, around what the batch says of itself."""
        return {
            **about,
            "lines": self.lines,
            "failed": self.failed,
            "skipped": self.skipped,
            "retries": self.retries,
            "outcomes": dict(self.outcomes.most_common()),
            "latency": self.quantiles(),
            "rate": round(self.rate(self.wall), 1),
            "wall": round(self.wall, 6),
        }


def show_summary(err: Painter, summary: Mapping[str, Any], first: list[tuple[int, str, str]]) -> None:
    """The summary for people."""
    node = f" on {summary['node']}" if summary.get("node") else ""
    head = f"{summary['capability']}{node}: {count(summary['lines'], 'line')} in {seconds(summary['wall'])}"
    err.line(f"{err.paint(head, 'bold')}, {summary['rate']:,.0f} requests/s")
    rows = [(code, number(amount), "") for code, amount in summary["outcomes"].items()]
    if summary["skipped"]:
        rows.append(("skipped", number(summary["skipped"]), "done by an earlier run"))
    if summary.get("open"):
        rows.append(("open", number(summary["open"]), "sent, outcome not seen"))
    if summary["retries"]:
        rows.append(("retries", number(summary["retries"]), "the node asked for patience"))
    room = max((columns(row[0]) for row in rows), default=0)
    wide = max((len(row[1]) for row in rows), default=0)
    for label, amount, note in rows:
        style = {"ok": ("green",), "skipped": (), "retries": ()}.get(label, ("red",))
        err.line(f"  {err.paint(pad(label, room), *style)}  {amount:>{wide}}  {note}")
    latency = summary["latency"]
    if latency["p50"] is not None:
        err.line("  latency  " + "   ".join(f"{name} {seconds(value)}" for name, value in latency.items()))
    for line, outcome, message in first:
        text = clean(f"  line {line}: {outcome}: {message}")
        err.line(text if err.width is None else err.cut(text, err.width))
    if len(first) < summary["failed"] and first:
        err.line(f"  and {number(summary['failed'] - len(first))} more failures in the results")
    if summary.get("output"):
        err.line(f"  results  {summary['output']}")
    if summary.get("resume"):
        err.line(err.paint(f"  go on:   {summary['resume']}", "bold"))
