"""Patterns: which values are meant, for a registry's `match` and `select`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def matches(pattern: Any, value: Any) -> bool:
    """Whether a value is as the pattern says.

    `...` is anything. A tuple or list: one of the same kind and length, whose elements match one by one. A dict: a mapping
    that has at least these keys, with values that match. A class: an instance of it. Another callable: it is asked, with
    the value, and its answer counts. Everything else: a value that is equal, by `==`.
    """
    if pattern is ...:
        return True
    if isinstance(pattern, tuple | list):
        return (
            isinstance(value, tuple if isinstance(pattern, tuple) else list)
            and len(value) == len(pattern)
            and all(map(matches, pattern, value))
        )
    if isinstance(pattern, dict):
        return isinstance(value, Mapping) and all(
            key in value and matches(part, value[key]) for key, part in pattern.items()
        )
    if isinstance(pattern, type):
        return isinstance(value, pattern)
    if callable(pattern):
        return bool(pattern(value))
    return bool(value == pattern)
