"""A node's metrics: counters, gauges and histograms by name and labels, as Prometheus understands them. Kept in memory.

The number of label sets of one metric is bounded: what comes beyond is counted under labels that all say `other`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal

from packetflow.otp.errors import PacketFlowError

SERIES = 1_000  # label sets of one metric
LABELS = 10  # labels of one metric
LABEL_TEXT = 120  # characters of a label's value
OTHER = "other"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)  # seconds, Prometheus' own defaults
_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.]*")
_LABEL = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*")

Kind = Literal["counter", "gauge", "histogram"]


class MetricError(PacketFlowError):
    """A metric is declared wrongly."""

    code = "definition"


class Counter:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def add(self, amount: float) -> None:
        """Raises ValueError for a negative or endless amount."""
        if not 0 <= amount < float("inf"):
            raise ValueError("a counter only grows")
        self.value += amount

    def as_data(self) -> dict[str, Any]:
        """Its value."""
        return {"value": self.value}


class Gauge:
    """A number that goes up and down."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def set(self, value: float) -> None:
        """The value now."""
        self.value = value

    def as_data(self) -> dict[str, Any]:
        """Its value."""
        return {"value": self.value}


class Histogram:
    """How values are distributed: counts of those up to each bound, their number and sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, value: float) -> None:
        """Count a value. Raises ValueError for what is no number."""
        if value != value:
            raise ValueError("not a number")
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def as_data(self) -> dict[str, Any]:
        """count, sum, and for each bound how many values are not above it (as Prometheus' `le`)."""
        running = 0
        buckets = []
        for bound, count in zip(self.bounds, self.counts, strict=False):
            running += count
            buckets.append([bound, running])
        return {"count": sum(self.counts), "sum": self.sum, "buckets": buckets}


class Metric:
    """One metric: a series for each set of labels. Made by `Metrics`."""

    __slots__ = ("bounds", "dropped", "help", "kind", "labels", "name", "series")

    def __init__(
        self, name: str, kind: Kind, labels: tuple[str, ...], help: str, bounds: tuple[float, ...]
    ) -> None:
        self.name = name
        self.kind: Kind = kind
        self.labels = labels
        self.help = help
        self.bounds = bounds
        self.series: dict[tuple[str, ...], Any] = {}
        self.dropped = 0  # label sets that came beyond the bound

    def of(self, *values: str) -> Any:
        """The series of these labels' values, in the labels' order."""
        found = self.series.get(values)
        if found is None:
            values = tuple(
                value if len(value) <= LABEL_TEXT else value[:LABEL_TEXT] + "..." for value in values
            )
            if values not in self.series and len(self.series) >= SERIES:
                self.dropped += 1
                values = (OTHER,) * len(self.labels)
            found = self.series.get(values)
            if found is None:
                found = self.series[values] = self._new()
        return found

    def _new(self) -> Any:
        if self.kind == "histogram":
            return Histogram(self.bounds)
        return Counter() if self.kind == "counter" else Gauge()

    def as_data(self) -> dict[str, Any]:
        """The metric as plain data."""
        rows = [
            {"labels": dict(zip(self.labels, values, strict=True)), **series.as_data()}
            for values, series in self.series.items()
        ]
        data: dict[str, Any] = {"name": self.name, "kind": self.kind, "help": self.help, "series": rows}
        if self.dropped:
            data["dropped"] = self.dropped
        return data


class Metrics:
    """The metrics of one node."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def metric(
        self,
        name: str,
        kind: Kind,
        *,
        labels: Iterable[str] = (),
        help: str = "",
        buckets: Iterable[float] | None = None,
    ) -> Metric:
        """The metric of this name. Declared anew in another way it begins anew. Raises MetricError for a wrong declaration."""
        wanted = check_metric(name, kind, labels, buckets)
        found = self._metrics.get(name)
        if found is None or (found.kind, found.labels, found.bounds) != (kind, *wanted):
            found = self._metrics[name] = Metric(name, kind, wanted[0], help, wanted[1])
        return found

    def totals(self) -> dict[str, int]:
        """Of each counter the sum over its labels, as a whole number."""
        return {
            metric.name: int(sum(series.value for series in metric.series.values()))
            for metric in self._metrics.values()
            if metric.kind == "counter" and metric.series
        }

    def as_data(self) -> list[dict[str, Any]]:
        """All metrics that were used, by name."""
        return [self._metrics[name].as_data() for name in sorted(self._metrics) if self._metrics[name].series]


def check_metric(
    name: str, kind: Kind, labels: Iterable[str] = (), buckets: Iterable[float] | None = None
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The labels and bounds of a declaration, checked. Raises MetricError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise MetricError(
            f"metric {name!r}: expected a letter, then letters, digits, _ and dots, such as orders_total"
        )
    names = tuple(labels)
    for label in names:
        if not isinstance(label, str) or not _LABEL.fullmatch(label) or label == "le":
            raise MetricError(
                f"metric {name}: label {label!r}; expected a letter, then letters, digits and _ (and not le)"
            )
    if len(set(names)) != len(names) or len(names) > LABELS:
        raise MetricError(f"metric {name}: {len(names)} labels; expected {LABELS} at most, none twice")
    if kind != "histogram":
        return names, ()
    bounds = tuple(BUCKETS if buckets is None else buckets)
    numbers = all(
        isinstance(bound, int | float) and not isinstance(bound, bool) and bound - bound == 0
        for bound in bounds
    )
    if not bounds or not numbers or any(one >= other for one, other in pairwise(bounds)):
        raise MetricError(
            f"metric {name}: buckets {list(bounds)}; expected ascending numbers, such as [0.1, 1, 10]"
        )
    return names, tuple(float(bound) for bound in bounds)


def merged(mine: list[dict[str, Any]], others: Mapping[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The metrics of several processes as one: counts summed, gauges of the others with the label `process`."""
    by_name = {
        metric["name"]: {**metric, "series": [dict(row) for row in metric["series"]]} for metric in mine
    }
    for process, metrics in others.items():
        for metric in metrics:
            known = by_name.setdefault(metric["name"], {**metric, "series": []})
            rows = {tuple(sorted(row["labels"].items())): row for row in known["series"]}
            for row in metric["series"]:
                labels = dict(row["labels"])
                if metric["kind"] == "gauge":
                    labels["process"] = process
                same = rows.get(tuple(sorted(labels.items())))
                if same is None:
                    known["series"].append({**row, "labels": labels})
                elif metric["kind"] == "counter":
                    same["value"] += row["value"]
                elif metric["kind"] == "histogram":
                    same["count"] += row["count"]
                    same["sum"] += row["sum"]
                    same["buckets"] = [
                        [bound, one + other]
                        for (bound, one), (_, other) in zip(same["buckets"], row["buckets"], strict=True)
                    ]
    return [by_name[name] for name in sorted(by_name)]
