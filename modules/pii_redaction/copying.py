"""Applies a function to every string inside a value, giving a changed copy. What holds nothing to change is given back itself."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cached_property
from typing import Any

from pydantic import BaseModel

Change = Callable[[str], str]

PLAIN = frozenset((int, float, bool, type(None), bytes))


def changed(value: Any, change: Change, skip: frozenset[str] = frozenset()) -> Any:
    """`value` with `change` applied to the strings in it: in lists, tuples, sets, the values of mappings, models, dataclasses.

    Nothing in `value` is changed: where something differs there is a copy, of the same type. Fields named in `skip` are
    left alone at any depth, and so are keys, enums and bytes. The very same object comes back if nothing differs.
    """
    kind = type(value)
    if kind is str:
        new = change(value)
        return value if new == value else new
    if kind in PLAIN or isinstance(value, (Enum, type)):
        return value
    if isinstance(value, str):
        new = change(str(value))
        return value if new == value else new
    if isinstance(value, BaseModel):
        updates = _changed_fields(_fields_of(value), change, skip)
        return _without_cached(value.model_copy(update=updates)) if updates else value
    if isinstance(value, Mapping):
        updates = _changed_fields(value, change, skip)
        return _with_items(value, updates) if updates else value
    if isinstance(value, (list, tuple, set, frozenset)):
        items = [changed(item, change, skip) for item in value]
        if all(new is old for new, old in zip(items, value, strict=True)):
            return value
        # A named tuple takes its items apart.
        return kind(*items) if hasattr(value, "_fields") else kind(items)
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
        updates = _changed_fields(fields, change, skip)
        return _with_fields(value, updates) if updates else value
    return value


def _changed_fields(fields: Mapping[Any, Any], change: Change, skip: frozenset[str]) -> dict[Any, Any]:
    updates = {}
    for name, old in fields.items():
        if name not in skip:
            new = changed(old, change, skip)
            if new is not old:
                updates[name] = new
    return updates


def _fields_of(value: BaseModel) -> dict[str, Any]:
    # Not dict(value): a model may iterate as it likes.
    held = value.__dict__
    fields = {name: held[name] for name in type(value).model_fields if name in held}
    return fields | (value.__pydantic_extra__ or {})


def _with_items(value: Mapping[Any, Any], updates: dict[Any, Any]) -> Mapping[Any, Any]:
    if not isinstance(value, dict):
        return {**value, **updates}  # a copy of somebody's own mapping may share what it holds
    new = copy.copy(value)  # keeps the type: an OrderedDict, a defaultdict
    new.update(updates)
    return new


def _with_fields(value: Any, updates: dict[str, Any]) -> Any:
    # Not dataclasses.replace: it runs __post_init__ again, and refuses fields that __init__ does not take.
    new = copy.copy(value)
    for name, item in updates.items():
        object.__setattr__(new, name, item)  # a frozen one too: nobody else has the copy yet
    return _without_cached(new)


def _without_cached(copied: Any) -> Any:
    """A copy without what cached properties remember of the original's fields."""
    held = getattr(copied, "__dict__", {})
    for name in [name for name in held if isinstance(getattr(type(copied), name, None), cached_property)]:
        del held[name]
    return copied
