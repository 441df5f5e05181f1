"""Which requests wait for which others inside a capability: for a place in a pool, or for an answer that is under way.

Only those that block are here. A wait that would close a circle fails at once instead of lasting until its deadline
(design ruling 22).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from packetflow.wire.errors import Conflict

Holders = Callable[[], Iterable[Any]]


class Waits:
    """The waits of a node's requests, by context."""

    def __init__(self) -> None:
        self._waiting: dict[Any, Holders] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, context: Any, holders: Holders, what: str) -> None:
        """From now on `context` waits until any of the contexts that `holders()` gives has ended.

        Raises Conflict if all of them wait for `context`, by way of others.
        """
        # Nobody can wait for a request that holds nothing, and only one that another made has somebody above that may.
        if context.parent is not None:
            self._check(context, holders, what)
        self._waiting[context] = holders

    def end(self, context: Any) -> None:
        """It waits no more, if it did."""
        self._waiting.pop(context, None)

    def _check(self, context: Any, holders: Holders, what: str) -> None:
        mine = set(_up(context))
        below: dict[Any, list[Any]] = {}  # of each request, those that wait on its behalf
        for waiting in self._waiting:
            for up in _up(waiting):
                below.setdefault(up, []).append(waiting)
        if self._leads(holders, mine, below, set()):
            chain = [one.capability for one in reversed(list(_up(context)))]
            raise Conflict(
                f"{' -> '.join(chain)} would wait for itself: it needs {what}, which it holds up",
                {"reason": "deadlock", "chain": chain},
            )

    def _leads(self, holders: Holders, mine: set[Any], below: dict[Any, list[Any]], seen: set[Any]) -> bool:
        """Whether every one of the holders can go on only after one of `mine` has."""
        found = list(holders())
        return bool(found) and all(self._held_up(one, mine, below, seen) for one in found)

    def _held_up(self, holder: Any, mine: set[Any], below: dict[Any, list[Any]], seen: set[Any]) -> bool:
        if holder in mine:
            return True
        if holder in seen:
            return False  # a circle that does not lead here is not this one's
        seen = seen | {holder}
        return any(self._leads(self._waiting[one], mine, below, seen) for one in below.get(holder, ()))


def _up(context: Any) -> Iterator[Any]:
    up = context
    while up is not None:
        yield up
        up = up.parent
