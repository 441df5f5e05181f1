"""Who wants to know when the catalogue changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gevent

from packetflow.capabilities.catalogue import Catalogue, Registered
from packetflow.otp import Ref, send


class CatalogueChange(NamedTuple):
    """What became of the catalogue, as `id@version`, in order. replaced: the same name, loaded anew."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    replaced: tuple[str, ...]


Listener = Callable[[CatalogueChange], object] | Ref


class Subscription:
    """Hears of changes until `close()`."""

    __slots__ = ("_all", "_listener", "_log", "_pending", "_teller")

    def __init__(self, listener: Listener, subscriptions: set[Subscription], log: Any) -> None:
        self._listener = listener
        self._all = subscriptions
        self._log = log
        self._pending: dict[str, str] = {}
        self._teller: gevent.Greenlet[..., None] | None = None
        subscriptions.add(self)

    def close(self) -> None:
        """Hear no more, also not of what has changed already and was not told yet."""
        self._all.discard(self)
        self._pending.clear()

    def tell(self, change: CatalogueChange) -> None:
        """Tell it soon. Never waits: of what changes while the listener is busy only the outcome is told, at once."""
        for what, names in change._asdict().items():
            for name in names:
                self._note(name, what)
        if self._pending and self._teller is None:
            self._teller = gevent.spawn(self._run)

    def _note(self, name: str, what: str) -> None:
        before = self._pending.get(name)
        if before == "added" and what == "removed":
            del self._pending[name]  # it came and went, and nobody was told
        elif before == "added" and what == "replaced":
            pass
        elif before == "removed" and what == "added":
            self._pending[name] = "replaced"
        else:
            self._pending[name] = what

    def _run(self) -> None:
        try:
            while self._pending:
                told, self._pending = self._pending, {}
                self._deliver(
                    CatalogueChange(
                        *(
                            tuple(sorted(name for name, one in told.items() if one == what))
                            for what in CatalogueChange._fields
                        )
                    )
                )
        finally:
            self._teller = None

    def _deliver(self, change: CatalogueChange) -> None:
        try:
            if isinstance(self._listener, Ref):
                send(self._listener, change)
            else:
                self._listener(change)
        except Exception as error:  # noqa: BLE001  # a listener's fault; the others are told all the same
            self._log.error("a listener of the catalogue failed", exc_info=error)


class Changes:
    """Those who listen to one node's catalogue."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._subscriptions: set[Subscription] = set()

    def subscribe(self, listener: Listener) -> Subscription:
        """Have a function called with each CatalogueChange, in a greenlet of its own, or an actor told it as a message.

        What changes while the listener is busy is told as one change afterwards.
        """
        if not callable(listener) and not isinstance(listener, Ref):
            raise TypeError(
                f"listener {listener!r}; expected a function of one CatalogueChange, or the ref of an actor"
            )
        return Subscription(listener, self._subscriptions, self._log)

    def publish(self, before: Catalogue, after: Catalogue) -> None:
        """Tell what is different, if anybody listens."""
        if not self._subscriptions:
            return
        old, new = _by_name(before), _by_name(after)
        change = CatalogueChange(
            tuple(sorted(new.keys() - old.keys())),
            tuple(sorted(old.keys() - new.keys())),
            tuple(sorted(name for name in new.keys() & old.keys() if new[name] is not old[name])),
        )
        if any(change):
            for one in list(self._subscriptions):
                one.tell(change)


def _by_name(catalogue: Catalogue) -> dict[str, Registered]:
    return {f"{one.definition.id}@{one.definition.version}": one for one in catalogue}
