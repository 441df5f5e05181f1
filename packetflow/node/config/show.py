"""A configuration as it is shown: every key with its value and origin, secrets masked; and what changed between two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from packetflow.documents.faults import KeyPath
from packetflow.node.config.layers import LISTS, name_of
from packetflow.node.config.secrets import masked
from packetflow.node.config.sources import LoadedConfig

DEFAULT = "default"


class Row(NamedTuple):
    """A key as `config show --origin` lists it. `origin` is `config/node.toml:14`, `default`, `flag http.port`, ..."""

    key: str
    value: Any
    origin: str


class Change(NamedTuple):
    """A key whose value is another one. None: it is not there."""

    key: str
    old: Any
    new: Any


def nested(loaded: LoadedConfig) -> dict[str, Any]:
    """All values, defaults too, as plain tables for JSON; secrets masked."""
    out: dict[str, Any] = _plain(masked(loaded.config.model_dump(by_alias=True, exclude_none=True)))
    return out


def flatten(loaded: LoadedConfig) -> list[Row]:
    """All values, defaults too, a row each. Modules go by name, capabilities by index; lists are one value."""
    return [
        Row(name_of(path, loaded.layers), value, _origin(loaded, path))
        for path, value in _leaves(nested(loaded))
    ]


def diff(old: LoadedConfig, new: LoadedConfig) -> list[Change]:
    """The keys whose values differ, in order; modules are compared by name, so that their order changes nothing else."""
    before = {row.key: row.value for row in flatten(old)}
    after = {row.key: row.value for row in flatten(new)}
    return [
        Change(key, before.get(key), after.get(key))
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    ]


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and len(path) == 1 and path[0] in LISTS:
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _origin(loaded: LoadedConfig, path: KeyPath) -> str:
    mark = loaded.layers.origin(path)
    if mark is None and len(path) == 3 and path[0] == "modules" and path[2] == "timeout":
        mark = loaded.layers.origin(("timeouts", "hook"))  # handed down
    return str(mark) if mark is not None else DEFAULT


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, bool | int | float | str) or value is None:
        return value
    return (
        str(value)
        if isinstance(value, Path)
        else value.isoformat()
        if hasattr(value, "isoformat")
        else str(value)
    )
