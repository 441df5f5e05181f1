"""A run's journal held against a plan, read-only: would it go the same way? Nothing is asked, waited for or written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from greenlet import getcurrent, greenlet
from pydantic_core import from_json, to_json

from packetflow.composition.durable.interpreting import Interpreter
from packetflow.composition.durable.journal import Journal
from packetflow.composition.durable.outcomes import Parked
from packetflow.composition.durable.scopes import Scope
from packetflow.composition.durable.strands import OCCURRENCE, Run, Strand
from packetflow.composition.engine import Engine
from packetflow.composition.nodes import Node, Step
from packetflow.composition.plan import walk
from packetflow.storage.runs.records import COMPLETED, ENDED, Change, Loaded, Question, Wait
from packetflow.wire.errors import RequestError, error_from_dict


class Difference(NamedTuple):
    """Where a plan would go another way. was, now: in words; empty for nothing."""

    place: str
    was: str
    now: str


class Replay(NamedTuple):
    """What a replay found. ahead: what a run that has not ended would do next. folded: iterations and such, of which only the
    outcome is kept, so that nobody can look into them."""

    differences: list[Difference]
    ahead: list[Difference]
    folded: int

    @property
    def same(self) -> bool:
        """Whether the run would have gone the same way."""
        return not self.differences


class _Reading(Journal):
    """A journal that is not written to. ahead: what would come next."""

    __slots__ = ("_waiting", "ahead", "seen")

    def __init__(self, loaded: Loaded, entries: Sequence[Any]) -> None:
        last = max((entry.at for entry in loaded.entries), default=loaded.row.started)
        super().__init__(entries, (), _nowhere, lambda: last, lambda wait: None)
        self.read_only = True
        self.seen: set[str] = set()
        self.ahead: list[Difference] = []
        self._waiting = set(loaded.waits)

    def find(self, place: str) -> Any:
        found = super().find(place)
        if found is not None:
            self.seen.add(place)
        return found

    def record(
        self, place: str, kind: str, label: str, body: Any, capability: str = "", seconds: float = 0.0
    ) -> Any:
        if kind == "undo":
            self.ahead.append(Difference(place.partition("!")[0], "", "it would be undone"))
            raise Parked
        return self.note(place, kind, label, body, capability, seconds)

    def wait(self, *waits: Wait, question: Question | None = None) -> None:
        place = waits[0].place
        self.seen.add(place)
        if place not in self._waiting:
            self.ahead.append(Difference(place, "", f"{waits[0].label} would wait"))
        raise Parked


def _nowhere(changes: Sequence[Change]) -> None:
    """Nothing is written."""


class _NoRequests:
    """Asks for nothing, and notes what would be asked."""

    def __init__(self, journal: _Reading) -> None:
        self._journal = journal

    def parameters(self, capability: str) -> tuple[tuple[str, ...], frozenset[str]]:
        """See Requests."""
        return (), frozenset()

    def ask(
        self, capability: str, payload: dict[str, Any], timeout: float | None, key: str, said: str | None
    ) -> Any:
        """See Requests."""
        self._journal.ahead.append(Difference(key.partition("/")[2], "", f"step {capability} would run"))
        raise Parked

    def cancel(self, running: greenlet, error: RequestError) -> None:
        """See Requests."""

    def outgoing(self, key: str) -> tuple[()]:
        """See Requests."""
        return ()

    def close(self, error: RequestError | None) -> None:
        """See Requests."""


def replay(loaded: Loaded, body: Node, provides: tuple[str, ...] | None, engine: Engine) -> Replay:
    """Hold a run against a plan. engine: of the node, for its clock; its circuits are left alone."""
    row = loaded.row
    nodes = dict(walk(body))
    differences = []
    fitting = []
    for entry in loaded.entries:
        node = nodes.get(OCCURRENCE.sub("", entry.place))
        if entry.capability and not (isinstance(node, Step) and node.capability == entry.capability):
            now = "nothing" if node is None else node.label
            differences.append(Difference(entry.place, f"step {entry.capability}", f"{now} stands there"))
        else:
            fitting.append(entry)
    journal = _Reading(loaded, fitting)
    value, error, parked = _gone_through(
        row.id, row.generation, from_json(row.payload), body, provides, journal, engine
    )
    changed = {one.place for one in differences}
    ahead = [one for one in journal.ahead if one.place not in changed]
    differences += [
        Difference(entry.place, f"step {entry.capability}", "it would not run")
        for entry in fitting
        if entry.place not in journal.seen and entry.capability
    ]
    differences += [
        Difference(place, "it waits there", "it would not")
        for place in loaded.waits
        if place not in journal.seen and not place.endswith("!over")
    ]
    if row.state in ENDED:
        differences += ahead
        ahead = []
        if not differences and not parked:
            differences += _outcome(loaded, value, error)
    return Replay(differences, ahead, sum(entry.kind == "fold" for entry in loaded.entries))


def _gone_through(
    id: str,
    generation: int,
    payload: Any,
    body: Node,
    provides: tuple[str, ...] | None,
    journal: _Reading,
    engine: Engine,
) -> tuple[Any, RequestError | None, bool]:
    run = Run(id, _NoRequests(journal), Engine(engine.clock, engine.log), journal, generation)
    operation = Interpreter(lambda run, undo, error: None).whole(body)
    strand = Strand(run)
    strand.greenlet = getcurrent()
    scope = Scope(payload)
    try:
        value = operation(strand, scope, "")
    except Parked:
        return None, None, True
    except RequestError as error:
        return None, error, False
    finally:
        run.end()
    if provides is not None:
        value = {name: scope.get(name) for name in provides}
    return from_json(to_json(value, fallback=str)), None, False


def _outcome(loaded: Loaded, value: Any, error: RequestError | None) -> list[Difference]:
    row = loaded.row
    if row.state == COMPLETED:
        was = None if row.result is None else from_json(row.result)
        if error is not None:
            return [Difference("", "it completed", f"it would fail: {error}")]
        return (
            []
            if was == value
            else [Difference("", f"it answered {was!r:.200}", f"it would answer {value!r:.200}")]
        )
    if row.error is None or "place" not in from_json(row.error).get("details", {}):
        return []  # it was ended from outside
    old = error_from_dict(from_json(row.error))
    if error is None:
        return [Difference("", f"it failed: {old}", "it would complete")]
    return [] if error.code == old.code else [Difference("", f"it failed: {old}", f"it would fail: {error}")]
