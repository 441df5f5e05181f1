"""The journal of a durable run: what each place of the plan came to, read once and written before the next begins.

In memory it is a dictionary by place; what is written are changes, put together until somebody has to wait for them. How
they are stored is the store's (packetflow/storage/runs/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pydantic_core import from_json, to_json

from packetflow.composition.durable.strands import within
from packetflow.storage.outbox import Event
from packetflow.storage.runs.records import Change, Drop, Entry, Publish, Put, Question, Wait


class Journal:
    """One living run's. write: stores changes, all or none, and waits until they are on the disk.

    waits: the places that wait, as they are stored. now: seconds since the epoch. subscribed: told of each wait that is stored.
    """

    __slots__ = ("_entries", "_inside", "_pending", "_subscribed", "_write", "now", "read_only", "waits")

    def __init__(
        self,
        entries: Iterable[Entry],
        waits: Iterable[str],
        write: Callable[[Sequence[Change]], None],
        now: Callable[[], float],
        subscribed: Callable[[Wait], None],
    ) -> None:
        self._entries: dict[str, Entry] = {}
        self._inside: dict[
            str, set[str]
        ] = {}  # by the iteration that a place lies in, so that forgetting one looks at no other
        for entry in entries:
            self._keep(entry)
        self.waits = set(waits)
        self._write = write
        self.now = now
        self._subscribed = subscribed
        self._pending: list[Change] = []
        self.read_only = False  # it is gone through for what it tells; nothing is done

    def find(self, place: str) -> Entry | None:
        """What a place came to, if it has ended."""
        return self._entries.get(place)

    def begun(self, root: str) -> bool:
        """Whether anything at or below a place is known."""
        return any(within(place, root) for place in self._entries) or any(
            within(place, root) for place in self.waits
        )

    @property
    def entries(self) -> Iterable[Entry]:
        """All that is known, in no order."""
        return self._entries.values()

    def note(
        self, place: str, kind: str, label: str, body: Any, capability: str = "", seconds: float = 0.0
    ) -> Any:
        """Write down what a place came to, to be stored with what is recorded next; the body as a resume will read it.

        For what follows from entries that are stored already, and for the last step, whose run's end stores it.
        """
        written = to_json(body, fallback=str)
        read = from_json(written)
        at = self.now()
        self._keep(Entry(place, kind, label, capability, read, at, seconds))
        self._pending.append(Put(place, kind, label, capability, written, at, seconds))
        return read

    def record(
        self, place: str, kind: str, label: str, body: Any, capability: str = "", seconds: float = 0.0
    ) -> Any:
        """As `note`, and wait until it is stored. Raises what `write` raises."""
        read = self.note(place, kind, label, body, capability, seconds)
        self.flush()
        return read

    def publish(self, events: Sequence[Event]) -> None:
        """Have events published if and only if what is recorded next is stored."""
        if events:
            self._pending.append(Publish(tuple(events)))

    def fold(self, place: str, label: str, body: dict[str, Any]) -> None:
        """Have one entry stand for all that was below a place; stored with what is recorded next."""
        self.drop(place)
        self.note(place, "fold", label, body)

    def drop(self, root: str) -> None:
        """Forget what is at and below a place; stored with what is recorded next."""
        gone = [root] if self._forget(root) else []
        for inside in [inside for inside in self._inside if inside and within(inside, root)]:
            gone += self._inside.pop(inside)
        level = self._inside.get(_iteration(root + "/"), set()) if root[-1:] not in ("]", ")") else set()
        gone += [place for place in level if within(place, root)]
        for place in gone:
            self._forget(place)
        waiting = [place for place in self.waits if within(place, root)]
        self.waits.difference_update(waiting)
        if gone or waiting:
            self._pending.append(Drop(root))

    def wait(self, *waits: Wait, question: Question | None = None) -> None:
        """Begin to wait at a place, for the first of several things perhaps; stored when this returns.

        Nothing happens if it waits there already. What was sent before may have come by now: look again.
        """
        place = waits[0].place
        if place in self.waits:
            return
        self._pending.extend(waits)
        if question is not None:
            self._pending.append(question)
        self.waits.add(place)
        self.flush()
        for wait in waits:
            self._subscribed(wait)

    def settle(self, entry: Entry) -> None:
        """What a place waited for has come, and is stored."""
        self.waits.discard(entry.place)
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        self._entries[entry.place] = entry
        self._inside.setdefault(_iteration(entry.place), set()).add(entry.place)

    def _forget(self, place: str) -> bool:
        known = self._entries.pop(place, None)
        if known is None:
            return False
        inside = _iteration(place)
        level = self._inside.get(inside)
        if level is not None:
            level.discard(place)
            if not level:
                del self._inside[inside]
        return True

    def flush(self) -> None:
        """Store what is pending. Raises what `write` raises."""
        if self._pending:
            changes, self._pending = self._pending, []
            self._write(changes)

    def take(self) -> list[Change]:
        """What is pending, for who stores it with something of his own."""
        changes, self._pending = self._pending, []
        return changes


def _iteration(place: str) -> str:
    """The iteration or attempt that a place lies in: `2[17]` for `2[17]/0`, empty for a place in none."""
    return place[: max(place.rfind("]", 0, -1), place.rfind(")", 0, -1)) + 1]
