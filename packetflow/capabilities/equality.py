"""When two payloads are the same: a value that is equal exactly where they are, type by type."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel

LONG = 64  # characters or bytes of a value that are kept as they are; of longer ones a digest is


class NotComparable(Exception):
    """A value of a kind of which nobody can say whether two are the same."""


def identity_of(value: Any) -> Hashable:
    """Something hashable that is equal for equal values and for nothing else: 1, True, "1" and 1.0 are four.

    The order of a mapping's items counts, because a function can see it. Raises NotComparable.
    """
    kind = type(value)
    if kind is str:
        return (
            value
            if len(value) <= LONG
            else (str, _digest(value.encode("utf-8", "surrogatepass")), len(value))
        )
    if value is None:
        return None
    if kind is int or kind is bool:
        return kind, value
    if kind is float:
        return float, value.hex()  # 0.0 and -0.0 are equal, and not the same
    if kind is bytes:
        return (bytes, value) if len(value) <= LONG else (bytes, _digest(value), len(value))
    if kind is list or kind is tuple:
        return kind, tuple(map(identity_of, value))
    if isinstance(value, Mapping):
        return kind, tuple((identity_of(key), identity_of(item)) for key, item in value.items())
    if isinstance(value, set | frozenset):
        return kind, frozenset(map(identity_of, value))
    if isinstance(value, BaseModel):
        extra = value.model_extra
        shown = {name: getattr(value, name) for name in type(value).model_fields}
        return kind, identity_of({**shown, **(extra or {})}), frozenset(value.model_fields_set)
    if is_dataclass(value) and not isinstance(value, type):
        return kind, tuple(identity_of(getattr(value, field.name)) for field in fields(value))
    try:
        hash(value)
    except TypeError:
        raise NotComparable(f"a {kind.__name__} can't be part of a key") from None
    # Dates, decimals, enums, paths: their own equality holds, within their class. repr: Decimal("1.0") equals Decimal("1").
    return kind, value, repr(value)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
