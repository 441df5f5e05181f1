"""What capabilities share on a node (a database, a client): opened once per node, closed at its stop."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class ResourceSettings:
    """What a resource is opened with.

    data_folder: the node's folder for data. source_folder: the folder of the file that defines the capability.
    config: the `config` table of its `[[capabilities]]` entry.
    """

    __slots__ = ("config", "data_folder", "source_folder")

    def __init__(
        self, data_folder: Path, source_folder: Path, config: Mapping[str, Any] | None = None
    ) -> None:
        self.data_folder = data_folder
        self.source_folder = source_folder
        self.config: Mapping[str, Any] = config or {}


class Resource(Generic[T]):
    """A resource's definition. Stands in a parameter's annotation: `desk: Annotated[Desk, desk]`."""

    def __init__(self, opener: Callable[[ResourceSettings], Iterator[T]]) -> None:
        self.opener = opener
        self.name = opener.__name__
        self.__doc__ = opener.__doc__

    def open(self, settings: ResourceSettings) -> OpenResource[T]:
        """Run the definition up to its `yield`. Raises what it raises."""
        return OpenResource(self, settings)

    def __repr__(self) -> str:
        return f"<Resource {self.name}>"


class OpenResource(Generic[T]):
    """A resource that is open on a node: `value` until `close()`."""

    def __init__(self, resource: Resource[T], settings: ResourceSettings) -> None:
        self.resource = resource
        opener: Callable[..., Iterator[T]] = resource.opener
        self._steps = opener(settings) if inspect.signature(opener).parameters else opener()
        self.value: T = next(self._steps)

    def close(self) -> None:
        """Run the definition past its `yield`. Raises what it raises."""
        next(self._steps, None)


def resource(opener: Callable[[ResourceSettings], Iterator[T]]) -> Resource[T]:
    """Make a generator function that yields once a resource.

        @resource
        def desk(settings: ResourceSettings) -> Iterator[Desk]:
            store = Desk(settings.data_folder / "desk.sqlite")
            try:
                yield store
            finally:
                store.close()

    It may do without `settings`. Raises TypeError for anything but a generator function.
    """
    if not inspect.isgeneratorfunction(opener):
        raise TypeError(
            f"@resource expects a generator function that yields the resource once, got {opener!r}"
        )
    return Resource(opener)
