"""What nobody may read in traces, audit records, notices and logs: fields by name, shown as `***`.

A mask goes by the name of a field, wherever it stands: hiding too much is a nuisance, hiding too little is a leak.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr

HIDDEN = "***"
DEPTH = 16  # levels of a value that a copy shows
ITEMS = 100  # items of each list or table
TEXT = 1_000  # characters of each text
_INDEX = re.compile(r"\[\d+\]")


class Mask:
    """A set of fields to hide. False if there are none.

    names: of fields, whatever their case (`card`), or paths of them (`card.number`, which hides `number` only below `card`).
    whole: the value itself is secret.
    """

    __slots__ = ("names", "paths", "whole")

    def __init__(self, names: Iterable[str] = (), whole: bool = False) -> None:
        given = [name.lower() for name in names]
        self.names = frozenset(name for name in given if "." not in name)
        self.paths = frozenset(tuple(name.split(".")) for name in given if "." in name)
        self.whole = whole

    def __bool__(self) -> bool:
        return bool(self.names or self.paths or self.whole)

    def __or__(self, other: Mask) -> Mask:
        if not other:
            return self
        names = [*self.names, *other.names, *(".".join(path) for path in self.paths | other.paths)]
        return Mask(names, self.whole or other.whole)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return (self.names, self.paths, self.whole) == (other.names, other.paths, other.whole)

    def __hash__(self) -> int:
        return hash((self.names, self.paths, self.whole))

    def hides(self, path: Sequence[str]) -> bool:
        """Whether the value at these keys, from the outermost on, is hidden, or one that it stands in is."""
        if self.whole:
            return True
        keys = [key.lower() for key in path]
        if not self.names.isdisjoint(keys):
            return True
        return any(
            tuple(keys[end - len(hidden) : end]) == hidden
            for hidden in self.paths
            for end in range(len(hidden), len(keys) + 1)
        )

    def hides_place(self, place: str) -> bool:
        """The same for a path as people write it: `rows[2].card`."""
        return bool(self) and self.hides(_INDEX.sub("", place).split("."))

    def __call__(self, value: Any, place: str = "") -> Any:
        """A copy of a value as plain data (what JSON has), hidden fields masked, cut where it is long or deep.

        place: where it stands in the whole, as people write it.
        """
        path = tuple(_INDEX.sub("", place).split(".")) if place else ()
        return HIDDEN if self.whole or (path and self.hides(path)) else self._shown(value, path)

    def _shown(self, value: Any, path: tuple[str, ...]) -> Any:
        kind = value.__class__
        if kind is str:
            return value if len(value) <= TEXT else f"{value[:TEXT]}... ({len(value)} characters)"
        if value is None or kind is bool or kind is int:
            return value
        if kind is float:
            return value if value - value == 0 else str(value)  # what is not finite has no form in JSON
        if len(path) >= DEPTH:
            return "..."
        fields = _fields_of(value)
        if fields is not None:
            shown: dict[str, Any] = {}
            for number, (names, item) in enumerate(fields):
                if number == ITEMS:
                    shown["..."] = f"{len(fields) - ITEMS} more"
                    break
                # A field may be known by several names: hidden by one is hidden.
                hidden = any(self.hides((*path, name)) for name in names)
                shown[names[0]] = HIDDEN if hidden else self._shown(item, (*path, names[0]))
            return shown
        if isinstance(value, list | tuple | Set):
            items = list(value)
            # Lists in lists have no names that would count their depth.
            found = [
                self._shown(item, (*path, "") if item.__class__ is list else path) for item in items[:ITEMS]
            ]
            return found if len(items) <= ITEMS else [*found, f"... {len(items) - ITEMS} more"]
        return _scalar(value)


def _fields_of(value: Any) -> list[tuple[tuple[str, ...], Any]] | None:
    """The fields of a mapping or record, each with the names that it is known by; None of anything else."""
    if isinstance(value, Mapping):
        return [((str(key),), item) for key, item in value.items()]
    if isinstance(value, BaseModel):
        found = []
        for name, info in type(value).model_fields.items():
            aliases = (info.alias, info.serialization_alias, info.validation_alias)
            names = (name, *(alias for alias in aliases if isinstance(alias, str)))
            found.append((names, getattr(value, name)))
        return [*found, *(((name,), item) for name, item in (value.model_extra or {}).items())]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [((field.name,), getattr(value, field.name)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return [((name,), getattr(value, name)) for name in value._fields]
    return None


def _scalar(value: Any) -> Any:
    if isinstance(value, SecretStr | SecretBytes):
        return HIDDEN
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    if isinstance(value, Enum):
        return _scalar(value.value)
    if isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, Decimal | UUID | PurePath):
        return str(value)[:TEXT]
    return f"<{type(value).__name__}>"


NOTHING = Mask()


def secret_fields(*schemas: Mapping[str, Any]) -> Mask:
    """The mask of contracts: the fields that their JSON Schemas mark as `writeOnly` or with the format `password`."""
    names: set[str] = set()
    whole = False
    for schema in schemas:
        seen: set[tuple[str, str]] = set()
        waiting: list[tuple[str, Any]] = [("", schema)]
        while waiting:
            name, part = waiting.pop()
            if not isinstance(part, Mapping):
                continue
            if part.get("writeOnly") is True or part.get("format") == "password":
                names.add(name)
                continue
            reference = part.get("$ref")
            if isinstance(reference, str) and (name, reference) not in seen:
                seen.add((name, reference))
                waiting.append((name, _referred(schema, reference)))
            waiting += [(key, inner) for key, inner in part.get("properties", {}).items()]
            for key in ("items", "additionalProperties"):
                waiting.append((name, part.get(key)))
            for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
                waiting += [(name, inner) for inner in part.get(key, ())]
            waiting += [(name, inner) for inner in part.get("patternProperties", {}).values()]
        whole = whole or "" in names
    return Mask(names - {""}, whole)


def _referred(schema: Mapping[str, Any], reference: str) -> Any:
    found: Any = schema
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
