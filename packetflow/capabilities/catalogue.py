"""The catalogue of capabilities on a node: an immutable snapshot with versions side by side, swapped when something changes."""

from __future__ import annotations

import inspect
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import gevent

from packetflow.capabilities.async_items import AsyncItems
from packetflow.capabilities.cache import AnswerCache
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.elsewhere import pack_fields, place_for, run_here, unpack_outcome
from packetflow.capabilities.pools import Places, Processes, SharedPool, Threads
from packetflow.capabilities.resources import Resource
from packetflow.capabilities.surroundings import Surroundings

AROUND = 500  # ids on each side of a misspelt one that are compared with it
BREATH = 2_000  # capabilities that a search looks at before others get their turn


class Registered:
    """A capability on a node: its definition, how it is invoked here, and its counts.

    invoke(payload, context) runs it in the calling greenlet, or has it run where it is declared to; if it streams, it gives an
    iterator, of which nothing has run yet. values: the open resources, by resource. Raises DefinitionError for what can't run
    here.
    """

    __slots__ = (
        "cache",
        "calls",
        "definition",
        "errors",
        "invoke",
        "last_error",
        "origin",
        "pool",
        "surroundings",
    )

    def __init__(
        self,
        definition: Capability,
        values: Mapping[Resource[Any], Any],
        surroundings: Surroundings,
        origin: str = "",
    ) -> None:
        self.definition = definition
        self.origin = origin
        self.calls = self.errors = 0
        self.last_error: str | None = None
        self.surroundings = surroundings
        self.pool: SharedPool | None = None
        self.cache: AnswerCache | None = None
        self.invoke: Callable[[dict[str, Any], Any], Any] = self._bind(values)

    def _bind(self, values: Mapping[Resource[Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
        definition = self.definition
        kind = pool_kind(definition)
        run = self._in_process() if kind == Processes.kind else self._in_greenlet(values)
        if kind is not None:
            self.pool = self.surroundings.pools.take(definition.pool, kind, definition.id)
            run = self._in_pool(run)
        if definition.cache is not None:
            surroundings = self.surroundings
            self.cache = AnswerCache(
                definition.cache,
                definition.contract.validate_output,
                surroundings.clock,
                surroundings.waits,
                surroundings.cache_entries,
            )
            run = self.cache.wrap(run, _served_from_cache)
        return run

    def _in_greenlet(self, values: Mapping[Resource[Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
        function = self.definition.function
        contract = self.definition.contract
        injected = {name: values[resource] for name, resource in contract.resources.items()}
        context_name = contract.context_name
        is_async = self.definition.is_async
        is_async_stream = inspect.isasyncgenfunction(inspect.unwrap(function))
        run_async = self.surroundings.run_async

        def run(payload: dict[str, Any], context: Any) -> Any:
            fields = {**payload, **injected}
            if context_name is not None:
                fields[context_name] = context
            if is_async_stream:
                return AsyncItems(function(**fields), run_async)
            if not is_async:
                return function(**fields)
            try:
                return run_async(function(**fields))
            finally:
                context.door.outside.end(context)  # those that a task of its own still makes

        def run_plain(payload: dict[str, Any], context: Any) -> Any:
            return function(**payload)

        plain = not injected and context_name is None and not is_async and not is_async_stream
        return run_plain if plain else run

    def _in_pool(self, run: Callable[[dict[str, Any], Any], Any]) -> Callable[[dict[str, Any], Any], Any]:
        pool = self.pool
        assert pool is not None
        if pool.kind == Processes.kind:
            return run  # it asks the pool itself

        def invoke(payload: dict[str, Any], context: Any) -> Any:
            good, outcome = pool.run(_caught, (run, payload, context), context)
            if good:
                return outcome
            try:
                raise outcome
            finally:
                del outcome  # no cycle by way of the traceback

        if pool.kind != Threads.kind:
            return invoke

        def invoke_in_thread(payload: dict[str, Any], context: Any) -> Any:
            try:
                return invoke(payload, context)
            finally:
                # Those that the thread made, if nobody waits for it any more.
                context.door.outside.end(context)

        return invoke_in_thread

    def _in_process(self) -> Callable[[dict[str, Any], Any], Any]:
        definition = self.definition
        try:
            place = place_for(definition)
        except ValueError as error:
            raise DefinitionError(
                f"{definition.source}: {definition.id} has cpu=True, and can't be run by another process: {error};"
                " expected a function of a file or module"
            ) from error

        def invoke(payload: dict[str, Any], context: Any) -> Any:
            pool = self.pool
            assert pool is not None
            data = pool.run(run_here, (tuple(place), pack_fields(payload)), context)
            return unpack_outcome(data, definition)

        return invoke

    def close(self) -> None:
        """Give its pool back; what runs in a thread lingers."""
        pool, self.pool = self.pool, None
        if pool is not None:
            self.surroundings.pools.give_back(pool)
        if self.cache is not None:
            self.cache.clear()

    def __repr__(self) -> str:
        return f"<Registered {self.definition.id}@{self.definition.version}>"


def pool_kind(definition: Capability) -> str | None:
    """In which kind of pool a capability runs; None: in its caller's greenlet, as many at once as there are callers."""
    if definition.cpu:
        return Processes.kind
    if definition.blocking:
        return Threads.kind
    return None if definition.pool is None else Places.kind


def _caught(
    run: Callable[[dict[str, Any], Any], Any], payload: dict[str, Any], context: Any
) -> tuple[bool, Any]:
    """What a run came to, so that the capability's errors and the pool's own stay apart, and a SystemExit ends no thread."""
    try:
        return True, run(payload, context)
    except BaseException as error:  # noqa: BLE001  # raised again in the greenlet that waits
        return False, error


def _served_from_cache(context: Any) -> None:
    context.route.served_from_cache(context)


class Catalogue:
    """What a node serves: by id, each with its versions, the highest first. Never changed, only replaced."""

    __slots__ = ("_by_id", "_by_name", "ids")

    def __init__(self, registered: Iterable[Registered] = ()) -> None:
        by_id: dict[str, list[Registered]] = {}
        for one in registered:
            by_id.setdefault(one.definition.id, []).append(one)
        self._by_id = {
            id: tuple(sorted(versions, key=lambda one: one.definition.order, reverse=True))
            for id, versions in by_id.items()
        }
        # Every id, in alphabetical order.
        self.ids: Sequence[str] = tuple(sorted(by_id))
        self._by_name: dict[str, Registered] = {}
        for id, versions in self._by_id.items():
            for one in versions:
                exact = f"{id}@{one.definition.version}"
                if exact in self._by_name:
                    other = self._by_name[exact].definition
                    same = other.source == one.definition.source
                    advice = "name its file once" if same else "give one of them another id or version"
                    raise DefinitionError(
                        f"{one.definition.source}: {exact} is there already, from {other.source}; {advice}"
                    )
                self._by_name[exact] = one
                # The highest stands for its prefixes: `id@1.2`, `id@1`, `id`.
                major, minor, _ = one.definition.version.split(".")
                for name in (f"{id}@{major}.{minor}", f"{id}@{major}", id):
                    self._by_name.setdefault(name, one)

    def find(self, name: str) -> Registered | None:
        """By `id` (the highest version), `id@2` or `id@2.1` (the highest of those), `id@2.1.0`. O(1)."""
        return self._by_name.get(name)

    def versions(self, id: str) -> tuple[Registered, ...]:
        """All versions of an id, the highest first."""
        return self._by_id.get(id, ())

    def nearest(self, id: str, allow: Callable[[str], bool] = lambda known: True) -> list[str]:
        """The ids that look most like this one, of those that `allow` lets be seen; the best first.

        Of very many ids only those around it in the alphabet are looked at, so that a misspelling costs the same everywhere.
        """
        known = self.ids
        if len(known) > 2 * AROUND:
            place = bisect_left(known, id)
            known = known[max(0, place - AROUND) : place + AROUND]
        return get_close_matches(id, [one for one in known if allow(one)], n=3, cutoff=0.5)

    def __iter__(self) -> Iterator[Registered]:
        for id in self.ids:
            yield from self._by_id[id]

    def __len__(self) -> int:
        return len(self._by_id)

    def search(
        self,
        words: str = "",
        tag: str | None = None,
        requires: str | None = None,
        provides: str | None = None,
    ) -> list[Registered]:
        """The highest versions that have every word somewhere, the best first: in the id, a tag, the intent, or a field that is
        required or provided. tag: they have to have. requires, provides: a field that they have to take, or give.
        """
        wanted = words.lower().split()
        found: list[tuple[int, Registered]] = []
        for number, id in enumerate(self.ids):
            if number % BREATH == BREATH - 1:
                gevent.sleep(0)  # others get their turn
            one = self._by_id[id][0]
            definition = one.definition
            if tag is not None and tag not in definition.tags:
                continue
            if requires is not None and requires not in definition.contract.field_names:
                continue
            if provides is not None and provides not in definition.contract.provided_names:
                continue
            score = _score(definition, wanted)
            if score is not None:
                found.append((score, one))
        found.sort(key=lambda pair: pair[0], reverse=True)  # stable: of equal ones the alphabet decides
        return [one for _, one in found]


def _score(definition: Capability, wanted: list[str]) -> int | None:
    """How well a capability fits words; None if one is nowhere in it."""
    if not wanted:
        return 0
    contract = definition.contract
    places = (
        (8, definition.id),
        (4, " ".join(definition.tags).lower()),
        (2, definition.intent.lower()),
        (1, " ".join([*contract.field_names, *contract.provided_names]).lower()),
    )
    score = 0
    for word in wanted:
        weight = max((weight for weight, text in places if word in text), default=0)
        if not weight:
            return None
        score += weight
    return score
