"""Sizes and durations as people write them: `64 MiB`, `500ms`, `5m`."""

from __future__ import annotations

import math
import re

_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*(B|KB|MB|GB|KiB|MiB|GiB)?", re.IGNORECASE)
_SIZES = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(us|ms|s|min|m|h|d)?")
_DURATIONS = {"us": 1e-6, "ms": 1e-3, "": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(value: object) -> object:
    """Bytes from `"64 MiB"` (also B, KB, MB, GB, KiB, GiB); what is no string is returned as it is.

    Raises ValueError for a string that is no size.
    """
    if not isinstance(value, str):
        return value
    found = _SIZE.fullmatch(value.strip())
    if found is None:
        raise ValueError("not a size")
    size = float(found[1]) * _SIZES[(found[2] or "").lower()]
    if size != int(size):
        raise ValueError("not a whole number of bytes")
    return int(size)


def parse_duration(value: object) -> object:
    """Seconds from `"500ms"` (also us, s, m or min, h, d); what is no string is returned as it is.

    Raises ValueError for a string that is no duration.
    """
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError("not a duration")
    amount, unit = float(found[1]), found[2] or ""
    # Dividing keeps "500ms" at 0.5 exactly.
    return amount / {"us": 1e6, "ms": 1e3}[unit] if unit in ("us", "ms") else amount * _DURATIONS[unit]


def size_text(size: int) -> str:
    """A size as `parse_size` reads it: the largest binary unit that divides it."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit.lower()] == 0:
            return f"{size // _SIZES[unit.lower()]} {unit}"
    return f"{size} B" if size else "0"


def duration_text(seconds: float) -> str:
    """A duration as `parse_duration` reads it."""
    if not math.isfinite(seconds):
        return str(seconds)
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"
