"""Counters, gauges and histograms: kept by the node, shown by `system.stats`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.capabilities.backends.backend import NAMES, EffectBackend, Execution, Run, wrong
from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.effects import Effect
from packetflow.capabilities.template import written
from packetflow.telemetry.masking import NOTHING, Mask
from packetflow.telemetry.metrics import Counter, Kind, Metric, MetricError, Metrics, check_metric


class MetricBackend(EffectBackend):
    """The effects of one kind of metric."""

    def __init__(self, metrics: Metrics, kind: Kind) -> None:
        self._metrics = metrics
        self._kind: Kind = kind

    def check(self, effect: Effect, capability: Capability) -> None:
        """Name, labels, bounds and texts. Raises DefinitionError."""
        options = effect.options
        try:
            check_metric(options["name"], self._kind, options["labels"], options.get("buckets"))
            for text in options["labels"].values():
                self._expression(text, capability)
            amount = self._amount(effect)
            if isinstance(amount, str):
                self._expression(amount, capability)
            elif (
                isinstance(amount, bool)
                or not isinstance(amount, int | float)
                or not 0 <= amount < float("inf")
            ):
                raise wrong(
                    effect, capability, f"counts by {amount!r}; expected a number from 0, or a text in CEL"
                )
        except (MetricError, ConditionError) as error:
            raise wrong(effect, capability, str(error)) from error

    def compile(self, effect: Effect, capability: Capability, mask: Mask) -> Run:
        """Raises MetricError where another capability declared the name in another way."""
        options = effect.options
        metric = self._metrics.metric(
            options["name"],
            self._kind,
            labels=options["labels"],
            help=options["help"],
            buckets=options.get("buckets"),
        )
        amount = self._amount(effect)
        labels = [self._expression(text, capability) for text in options["labels"].values()]
        if not labels and self._kind == "counter" and amount == 1:
            return CountOne(metric)
        if not labels and amount == "duration":
            observe = metric.of().observe
            return lambda execution: observe(execution.context.duration)
        value: Expression | float = (
            self._expression(amount, capability) if isinstance(amount, str) else amount
        )
        put = _PUTS[self._kind]

        def run(execution: Execution) -> None:
            scope = execution.scope(NOTHING)
            shown = execution.scope(mask) if mask and labels else scope
            names = [written(label.evaluate(shown)) for label in labels]
            number = value.evaluate(scope) if isinstance(value, Expression) else value
            put(metric.of(*names), float(number))

        return run

    @staticmethod
    def _amount(effect: Effect) -> Any:
        return effect.options["by"] if effect.kind == "counter" else effect.options["value"]

    @staticmethod
    def _expression(text: str, capability: Capability) -> Expression:
        return Expression(text, names_of(capability))


def names_of(capability: Capability) -> dict[str, Any]:
    """What CEL texts of this capability's effects may name; of the payload, its fields."""
    return {**dict.fromkeys(NAMES), "payload": dict.fromkeys(capability.contract.field_names)}


class CountOne:
    """Counts one. series: what it counts in, for who counts without asking."""

    __slots__ = ("series",)

    def __init__(self, metric: Metric) -> None:
        self.series: Counter = metric.of()

    def __call__(self, execution: Execution) -> None:
        """Count a request."""
        self.series.value += 1


_PUTS: dict[str, Callable[[Any, float], None]] = {
    "counter": lambda series, number: series.add(number),
    "gauge": lambda series, number: series.set(number),
    "histogram": lambda series, number: series.observe(number),
}
