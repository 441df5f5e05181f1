"""Effects: what a capability declares to happen beside its answer, run after it in declared order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.capabilities.context import Context


class Effect:
    """One declared effect. `apply(context, value)` runs after a good answer; if it raises, the answer stands and it is logged.

    on_every_answer: also after an answer that the capability's cache gave.
    """

    __slots__ = ("apply", "name", "on_every_answer")

    def __init__(
        self, name: str, apply: Callable[[Context, Any], None], on_every_answer: bool = False
    ) -> None:
        self.name = name
        self.apply = apply
        self.on_every_answer = on_every_answer

    def __repr__(self) -> str:
        return f"<Effect {self.name}>"


def counter(name: str) -> Effect:
    """Counts the good answers under `name`, shown by `system.stats`."""

    def apply(context: Context, value: Any) -> None:
        counters = context.counters
        counters[name] = counters.get(name, 0) + 1

    return Effect(f"counter({name})", apply)
