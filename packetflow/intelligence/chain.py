"""The module chain: an immutable tuple of gates in order, and the hooks that a given capability passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packetflow.capabilities.context import Context
from packetflow.intelligence.gate import ITEM, PLAN, REQUEST, RESPONSE, Gate

Hook = Callable[[Any, Context], Any]
Hooks = tuple[tuple[Gate, Hook], ...]


class ModuleChain:
    """Gates in the order of requests: ascending priority, ties in order of registration. Never changed, only replaced."""

    __slots__ = ("gates",)

    def __init__(self, gates: Iterable[Gate] = ()) -> None:
        self.gates = tuple(sorted(gates, key=lambda gate: gate.priority))
        for order, gate in enumerate(self.gates):
            gate.order = order

    def __iter__(self) -> Iterator[Gate]:
        return iter(self.gates)

    def __len__(self) -> int:
        return len(self.gates)

    def hooks(
        self, id: str, tags: Iterable[str], *, nested: bool, bare: Iterable[str] = ()
    ) -> tuple[Hooks, Hooks, Hooks]:
        """The bound hooks that a capability passes: on the request, on its plan, on the response.

        nested: for a request that another one made, which modules of scope `edge` don't see. bare: names of modules left out.
        """
        seen = self._matching(id, tags, nested, bare)
        back = sorted(seen, key=lambda gate: gate.response_priority)[::-1]
        return (
            tuple(_pairs(seen, REQUEST, id, tags)),
            tuple(_pairs(seen, PLAN, id, tags)),
            tuple(_pairs(back, RESPONSE, id, tags)),
        )

    def item_hooks(
        self, id: str, tags: Iterable[str], *, nested: bool, bare: Iterable[str] = ()
    ) -> tuple[Hooks, tuple[Gate, ...]]:
        """For a capability that streams: the hooks that each item passes, and the gates of modules that would have to see the
        items and can't (design ruling 5). The arguments are those of `hooks`."""
        seen = self._matching(id, tags, nested, bare)
        back = sorted(seen, key=lambda gate: gate.response_priority)[::-1]
        blind = tuple(gate for gate in seen if gate.redacts and not gate.sees_items)
        return tuple(_pairs(back, ITEM, id, tags)), blind

    def _matching(self, id: str, tags: Iterable[str], nested: bool, bare: Iterable[str]) -> list[Gate]:
        return [
            gate
            for gate in self.gates
            if gate.match.capability(id, tags)
            and not (nested and gate.scope == "edge")
            and gate.name not in bare
        ]


def _pairs(gates: Iterable[Gate], name: str, id: str, tags: Iterable[str]) -> Iterator[tuple[Gate, Hook]]:
    for gate in gates:
        hook = gate.hook(name)
        if hook is not None:
            yield (
                gate,
                (_for_sessions(gate, hook, id, tuple(tags)) if gate.match.depends_on_session else hook),
            )


def _for_sessions(gate: Gate, hook: Hook, id: str, tags: tuple[str, ...]) -> Hook:
    """The hook behind a test of who asks: paid for only by modules that match by principal or tenant."""
    match = gate.match

    def tested(thing: Any, context: Context) -> Any:
        return hook(thing, context) if match.session(context.session, id, tags) else None

    return tested
