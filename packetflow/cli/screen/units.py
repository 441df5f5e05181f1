"""Numbers for people: 1.80 ms, 3 min ago, 4.2 MB, 48,210. Programs get seconds, RFC 3339 and bytes elsewhere."""

from __future__ import annotations

from datetime import UTC, datetime

ROOM = ((60.0, 1.0, "s"), (3600.0, 60.0, "min"), (86400.0, 3600.0, "h"), (float("inf"), 86400.0, "d"))


def seconds(value: float | None) -> str:
    """A duration: `40 us`, `9.21 ms`, `3.2 s`, `12 min`, `5 h`, `3 d`; `-` for none."""
    if value is None:
        return "-"
    size = abs(value)
    if size == 0:
        return "0 s"
    if size < 0.9995e-3:
        return f"{value * 1e6:.0f} us"
    if size < 0.9995:
        return f"{value * 1e3:.3g} ms"
    if size < 10:
        return f"{value:.2g} s"
    for limit, unit, word in ROOM:
        if size < limit:
            return f"{value / unit:.0f} {word}"
    return f"{value:g} s"


def moment(text: str) -> datetime | None:
    """The time that an RFC 3339 text names; None if it names none."""
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)


def ago(text: str | None, now: datetime) -> str:
    """How long ago an RFC 3339 time was: `3 s ago`; the text itself if it can't be read."""
    if not text:
        return "-"
    when = moment(text)
    if when is None:
        return text
    passed = (now - when).total_seconds()
    if passed < 0:
        return f"in {seconds(float(round(-passed)))}"
    return "just now" if passed < 1 else f"{seconds(float(int(passed)))} ago"


def size(value: float) -> str:
    """Bytes in decimal units: `512 B`, `4.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def number(value: float | None) -> str:
    """A count with thousands separated; `-` for none."""
    return "-" if value is None else f"{value:,}"


def count(amount: int, word: str, words: str = "") -> str:
    """`1 error`, `2 errors`, `2 capabilities`."""
    return f"{amount:,} {word if amount == 1 else words or word + 's'}"
