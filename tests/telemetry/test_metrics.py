"""Metrics: counted, bounded, and put together from several processes."""

from __future__ import annotations

import pytest

from packetflow.telemetry.metrics import SERIES, MetricError, Metrics, check_metric, merged


def test_counters_gauges_and_histograms_are_shown_with_their_labels() -> None:
    metrics = Metrics()
    metrics.metric("orders_total", "counter", labels=["country"], help="Orders.").of("NO").add(2)
    metrics.metric("load", "gauge").of().set(0.5)
    histogram = metrics.metric("seconds", "histogram", buckets=[1, 10]).of()
    for value in (0.5, 1, 5, 50):
        histogram.observe(value)
    assert metrics.as_data() == [
        {"name": "load", "kind": "gauge", "help": "", "series": [{"labels": {}, "value": 0.5}]},
        {"name": "orders_total", "kind": "counter", "help": "Orders.", "series": [{"labels": {"country": "NO"}, "value": 2}]},
        {
            "name": "seconds", "kind": "histogram", "help": "",
            "series": [{"labels": {}, "count": 4, "sum": 56.5, "buckets": [[1.0, 2], [10.0, 3]]}],
        },
    ]  # fmt: skip
    assert metrics.totals() == {"orders_total": 2}


def test_label_sets_are_bounded_and_what_comes_beyond_counts_as_other() -> None:
    metric = Metrics().metric("hits", "counter", labels=["who"])
    for number in range(SERIES + 50):
        metric.of(f"caller {number}").add(1)
    assert len(metric.series) == SERIES + 1
    assert metric.of("other").value == 50
    assert metric.as_data()["dropped"] == 50
    metric.of("x" * 10_000)
    assert max(len(values[0]) for values in metric.series) < 200


@pytest.mark.parametrize(
    ("name", "kind", "labels", "buckets", "told"),
    [
        ("9lives", "counter", [], None, "expected a letter"),
        ("a b", "counter", [], None, "expected a letter"),
        ("a", "counter", ["le"], None, "label 'le'"),
        ("a", "counter", ["x", "x"], None, "none twice"),
        ("a", "counter", [f"l{n}" for n in range(11)], None, "10 at most"),
        ("a", "histogram", [], [], "ascending numbers"),
        ("a", "histogram", [], [2, 1], "ascending numbers"),
        ("a", "histogram", [], [1, float("nan")], "ascending numbers"),
        ("a", "histogram", [], ["1"], "ascending numbers"),
    ],
)
def test_a_wrong_declaration_is_refused(
    name: str, kind: str, labels: list[str], buckets: list[float], told: str
) -> None:
    with pytest.raises(MetricError, match=told):
        check_metric(name, kind, labels, buckets)  # type: ignore[arg-type]


def test_a_counter_only_grows_and_takes_numbers_alone() -> None:
    counter = Metrics().metric("a", "counter").of()
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="only grows"):
            counter.add(wrong)
    assert counter.value == 0


def test_processes_are_put_together() -> None:
    def process(amount: float) -> list[dict[str, object]]:
        metrics = Metrics()
        metrics.metric("n", "counter", labels=["a"]).of("x").add(amount)
        metrics.metric("g", "gauge").of().set(amount)
        metrics.metric("h", "histogram", buckets=[1]).of().observe(amount)
        return metrics.as_data()

    found = {
        metric["name"]: metric["series"]
        for metric in merged(process(1), {"worker-1": process(2), "worker-2": process(4)})
    }
    assert found["n"] == [{"labels": {"a": "x"}, "value": 7}]
    assert found["h"] == [{"labels": {}, "count": 3, "sum": 7.0, "buckets": [[1.0, 1]]}]
    assert [(row["labels"], row["value"]) for row in found["g"]] == [
        ({}, 1),
        ({"process": "worker-1"}, 2),
        ({"process": "worker-2"}, 4),
    ]
