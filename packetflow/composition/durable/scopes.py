"""The scope of a durable run: a mapping of names that knows which of them were put."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


class Scope(dict[str, Any]):
    """Names and their values. put: those that were set since it was made, or since `put` was renewed."""

    __slots__ = ("put",)

    def __init__(self, names: Mapping[str, Any] | Iterable[tuple[str, Any]] = ()) -> None:
        super().__init__(names)
        self.put: dict[str, Any] = {}

    def __setitem__(self, name: str, value: Any) -> None:
        super().__setitem__(name, value)
        self.put[name] = value

    def update(self, names: Mapping[str, Any]) -> None:  # type: ignore[override]  # the one way in which plans put several
        """Put names."""
        super().update(names)
        self.put.update(names)
