"""Effects as data: what a capability declares to happen beside its answer. Backends (backends/) know how to do each kind.

    @capability("order.place", effects=[
        audit(required=True),
        counter("orders_total", labels={"country": "payload.country"}),
        histogram("order_amount", "payload.amount", buckets=[10, 100, 1000]),
        notify("ops", "order {value.id} by {context.principal}"),
        emit("orders.placed", "value"),
    ])

Texts that name values (labels, amounts, what stands in braces in a template) are CEL over `payload`, `value` (of an answer),
`context`, `outcome` (`ok`, or an error's code) and `duration` (seconds).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

When = Literal["success", "failure", "always"]
WHENS = ("success", "failure", "always")


@dataclass(frozen=True, slots=True)
class Effect:
    """One declared effect. The effects of a capability run in the order of their declaration.

    kind: which backend does it. name: what people call it. options: the backend's. when: after which outcomes it runs.
    required: without its intent written the capability is not run. on_every_answer: it also runs where the capability was
    not: a module answered, or a cache.
    """

    kind: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    when: When = "success"
    required: bool = False
    on_every_answer: bool = False


def audit(level: str = "standard", *, required: bool = False) -> Effect:
    """An audit record of each request, whatever its outcome.

    level: `minimal` (who, what, when, outcome), `standard` (and from where, how long, with which payload, masked) or
    `comprehensive` (and the answer, masked). required: the intent is on the disk before the capability is run, and if it
    can't be written there, the request is `unavailable`.
    """
    return Effect("audit", f"audit({level})", {"level": level}, "always", required, on_every_answer=True)


def counter(
    name: str,
    by: str | float = 1,
    *,
    labels: Mapping[str, str] | None = None,
    help: str = "",
    when: When = "success",
    on_every_answer: bool = False,
) -> Effect:
    """Counts the good answers (or those that `when` says) under `name`, shown by `system.stats`. by: how much each counts."""
    options = {"name": name, "by": by, "labels": dict(labels or {}), "help": help}
    return Effect("counter", f"counter({name})", options, when, False, on_every_answer)


def histogram(
    name: str,
    value: str = "duration",
    *,
    buckets: Iterable[float] | None = None,
    labels: Mapping[str, str] | None = None,
    help: str = "",
    when: When = "success",
) -> Effect:
    """Observes a value, by default how long the request has taken (seconds). buckets: upper bounds, ascending."""
    bounds = None if buckets is None else tuple(buckets)
    options = {"name": name, "value": value, "buckets": bounds, "labels": dict(labels or {}), "help": help}
    return Effect("histogram", f"histogram({name})", options, when)


def gauge(
    name: str, value: str, *, labels: Mapping[str, str] | None = None, help: str = "", when: When = "success"
) -> Effect:
    """Sets a number that goes up and down."""
    options = {"name": name, "value": value, "labels": dict(labels or {}), "help": help}
    return Effect("gauge", f"gauge({name})", options, when)


def notify(channel: str, template: str, *, subject: str = "", when: When = "success") -> Effect:
    """Sends a text to a channel of the configuration (`[[channels]]`), after the answer and apart from the request.

    template: the text; `{payload.name}` and the like are filled in, secret fields as `***`; `{{` and `}}` are braces.
    subject: of a mail, filled in the same way.
    """
    options = {"channel": channel, "template": template, "subject": subject}
    return Effect("notify", f"notify({channel})", options, when)


def emit(topic: str, data: str = "value", *, when: When = "success") -> Effect:
    """Publishes an event to who subscribed to the topic (`Node.subscribe`). data: what it carries, unmasked."""
    return Effect("emit", f"emit({topic})", {"topic": topic, "data": data}, when)


def effect(
    kind: str,
    *,
    name: str = "",
    when: When = "success",
    required: bool = False,
    on_every_answer: bool = False,
    **options: Any,
) -> Effect:
    """An effect of a kind of your own: a backend for it is registered with the node (`[[effects]]`, or `Node(effects=...)`)."""
    return Effect(kind, name or kind, options, when, required, on_every_answer)
