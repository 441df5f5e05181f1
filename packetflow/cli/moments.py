"""Times as people give them to options: how long ago, or when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from packetflow.cli.failures import usage
from packetflow.cli.leaf import SPAN, UNITS


def begin_of(text: str, now: datetime, option: str) -> str:
    """The time that an option means, RFC 3339: a time, or how long ago. Raises Failure."""
    days = text.removesuffix("d")
    span = SPAN.fullmatch(text.strip())
    if span is not None and span["unit"]:
        when = now - timedelta(seconds=float(span["amount"]) * UNITS[span["unit"]])
    elif days != text and days.isdecimal() and len(days) < 6:
        when = now - timedelta(days=int(days))
    else:
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            raise usage(f'{option} "{text}" is no time: give 30m, 1h, 7d, or 2026-01-31T12:00:00Z') from None
        when = when if when.tzinfo is not None else when.replace(tzinfo=UTC)
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")
