"""The catalogue of capabilities on a node: an immutable snapshot with versions side by side, swapped when something changes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from packetflow.capabilities.async_items import AsyncItems
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability
from packetflow.capabilities.resources import Resource

if TYPE_CHECKING:
    from packetflow.otp import ThreadPool

THREADS = 8  # how many calls of one blocking capability run at once


class Registered:
    """A capability on a node: its definition, how it is invoked here, and its counts.

    invoke(payload, context) runs it in the calling greenlet; if it streams, it gives an iterator, of which nothing has run yet.
    values: the open resources, by resource.
    """

    __slots__ = ("_pool", "calls", "definition", "errors", "invoke", "last_error", "origin")

    def __init__(
        self,
        definition: Capability,
        values: Mapping[Resource[Any], Any],
        run_async: Callable[[Any], Any],
        origin: str = "",
    ) -> None:
        self.definition = definition
        self.origin = origin
        self.calls = self.errors = 0
        self.last_error: str | None = None
        self._pool: ThreadPool | None = None
        if definition.blocking:
            from packetflow.otp import ThreadPool

            self._pool = ThreadPool(THREADS, name=f"the threads of {definition.id}")
        self.invoke: Callable[[dict[str, Any], Any], Any] = self._bind(values, run_async)

    def _bind(
        self, values: Mapping[Resource[Any], Any], run_async: Callable[[Any], Any]
    ) -> Callable[[dict[str, Any], Any], Any]:
        function = self.definition.function
        contract = self.definition.contract
        injected = {name: values[resource] for name, resource in contract.resources.items()}
        context_name = contract.context_name
        pool = self._pool
        is_async_stream = inspect.isasyncgenfunction(inspect.unwrap(function))

        def run(payload: dict[str, Any], context: Any) -> Any:
            fields = {**payload, **injected}
            if context_name is not None:
                fields[context_name] = context
            if pool is not None:
                return pool.run(partial(function, **fields))
            if is_async_stream:
                return AsyncItems(function(**fields), run_async)
            if self.definition.is_async:
                return run_async(function(**fields))
            return function(**fields)

        def run_plain(payload: dict[str, Any], context: Any) -> Any:
            return function(**payload)

        plain = (
            not injected
            and context_name is None
            and pool is None
            and not self.definition.is_async
            and not is_async_stream
        )
        return run_plain if plain else run

    def close(self) -> None:
        """Give its threads back; calls under way in them may end first."""
        if self._pool is not None:
            self._pool.close()

    def __repr__(self) -> str:
        return f"<Registered {self.definition.id}@{self.definition.version}>"


class Catalogue:
    """What a node serves: by id, each with its versions, the highest first. Never changed, only replaced."""

    __slots__ = ("_by_id", "_by_name")

    def __init__(self, registered: Iterable[Registered] = ()) -> None:
        by_id: dict[str, list[Registered]] = {}
        for one in registered:
            by_id.setdefault(one.definition.id, []).append(one)
        self._by_id = {
            id: tuple(sorted(versions, key=lambda one: one.definition.order, reverse=True))
            for id, versions in by_id.items()
        }
        self._by_name: dict[str, Registered] = {}
        for id, versions in self._by_id.items():
            for one in versions:
                exact = f"{id}@{one.definition.version}"
                if exact in self._by_name:
                    other = self._by_name[exact].definition
                    raise DefinitionError(
                        f"{one.definition.source}: {exact} is there already, from {other.source};"
                        " give one of them another id or version"
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

    @property
    def ids(self) -> list[str]:
        """Every id, in alphabetical order."""
        return sorted(self._by_id)

    def __iter__(self) -> Iterator[Registered]:
        for id in self.ids:
            yield from self._by_id[id]

    def __len__(self) -> int:
        return len(self._by_id)

    def search(self, words: str = "", tag: str | None = None) -> list[Registered]:
        """The highest versions whose id, intent or tags contain every word, and that have the tag."""
        wanted = words.lower().split()
        found = []
        for id in self.ids:
            one = self._by_id[id][0]
            definition = one.definition
            text = f"{id} {definition.intent} {' '.join(definition.tags)}".lower()
            if all(word in text for word in wanted) and (tag is None or tag in definition.tags):
                found.append(one)
        return found
