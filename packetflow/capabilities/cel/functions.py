"""The functions of conditions: CEL's standard ones, each a plain function of plain values. What is wrong with a value: Fault."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from packetflow.capabilities.cel.faults import Fault
from packetflow.capabilities.cel.tokens import INT64, UINT64
from packetflow.capabilities.cel.values import fields_of, is_list, kind, kind_of_thing, null_hint

_DURATION = re.compile(r"(-)?((?:\d+(?:\.\d+)?(?:h|ms|us|ns|m|s))+)")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|ns|m|s)")
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}


class Function(NamedTuple):
    """least, most: how many arguments, a method's target among them.

    method: may be called as `value.name()`; plain: as `name()`.
    """

    call: Callable[..., Any]
    least: int
    most: int
    method: bool = False
    plain: bool = True


def _size(value: Any) -> int:
    if isinstance(value, (str, bytes)) or is_list(value):
        return len(value)
    fields = fields_of(value)
    if fields is None:
        raise Fault(
            f"size() expects a string, list or map, got {kind_of_thing(value)}{null_hint(kind(value))}"
        )
    return len(fields)


def _text(word: str, *values: Any) -> None:
    for value in values:
        if not isinstance(value, str):
            raise Fault(f"{word}() expects strings, got {kind_of_thing(value)}{null_hint(kind(value))}")


def _of_texts(word: str, call: Callable[[str, str], bool]) -> Function:
    def checked(text: Any, part: Any) -> bool:
        _text(word, text, part)
        return call(text, part)

    return Function(checked, 2, 2, method=True, plain=False)


def _matches(text: Any, pattern: Any) -> bool:
    _text("matches", text, pattern)
    # Python's own `re` can take for ever on a hostile pattern; CEL's regular expressions are found in linear time.
    from packetflow.capabilities.cel.linear_regex import search

    return search(text, pattern)


def _int(value: Any) -> int:
    match kind(value):
        case "int":
            return int(value)
        case "double":
            if not math.isfinite(value) or not -INT64 <= value < INT64:
                raise Fault("the number does not fit into 64 bits")
            return int(value)
        case "string":
            if not re.fullmatch(r"[-+]?\d{1,19}", value, re.ASCII):
                raise Fault("int() expects a string of digits")
            number = int(value)
            if not -INT64 <= number < INT64:
                raise Fault("the number does not fit into 64 bits")
            return number
        case "timestamp":
            seconds: float = value.timestamp()
            return math.floor(seconds)
    raise Fault(f"int() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")


def _uint(value: Any) -> int:
    number = value if isinstance(value, int) and not isinstance(value, bool) else _int(value)
    if not 0 <= number < UINT64:
        raise Fault("uint() expects a number that is not negative")
    return int(number)


def _double(value: Any) -> float:
    if kind(value) not in ("int", "double", "string"):
        raise Fault(f"double() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise Fault("double() expects a number") from None


def _string(value: Any) -> str:
    match kind(value):
        case "string":
            return str(value)
        case "bool":
            return "true" if value else "false"
        case "int":
            return str(value)
        case "double":
            text = str(value)
            return text.removesuffix(".0") if isinstance(value, float) else text
        case "bytes":
            try:
                return bytes(value).decode()
            except UnicodeDecodeError:
                raise Fault("string() expects bytes that are UTF-8") from None
        case "timestamp":
            return str(value.astimezone(UTC).isoformat()).replace("+00:00", "Z")
        case "duration":
            return f"{value.total_seconds():.9f}".rstrip("0").rstrip(".") + "s"
    raise Fault(f"string() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")


def _bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise Fault(f'bool() expects "true" or "false", got {kind_of_thing(value)}')


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise Fault(f"bytes() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")


def _timestamp(value: Any) -> datetime:
    try:
        if kind(value) == "timestamp":
            return value  # type: ignore[no-any-return]  # kind() has looked
        if kind(value) == "int":
            return datetime.fromtimestamp(value, UTC)
        if isinstance(value, str):
            found = datetime.fromisoformat(value)
            return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        raise Fault('timestamp() expects a time such as "2026-01-31T12:00:00Z"') from None
    raise Fault(f"timestamp() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")


def _duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise Fault(f"duration() can't be made of {kind_of_thing(value)}{null_hint(kind(value))}")
    found = _DURATION.fullmatch(value) if len(value) <= 64 else None
    if found is None:
        raise Fault('duration() expects a time such as "90s", "1h30m" or "250ms"')
    seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in _PART.findall(found[2]))
    try:
        return timedelta(seconds=-seconds if found[1] else seconds)
    except OverflowError:
        raise Fault("the duration is out of range") from None


def _zone(name: Any) -> tzinfo:
    _text("a time's", name)
    offset = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", name)
    if offset is not None:
        sign, hours, minutes = offset.groups()
        span = timedelta(hours=int(hours), minutes=int(minutes))
        if span < timedelta(hours=24):
            return timezone(-span if sign == "-" else span)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Fault('a time zone is a name such as "Europe/Paris", or an offset such as "+02:00"') from None


def _part_of_time(
    name: str, of_time: Callable[[datetime], int], of_span: Callable[[timedelta], int] | None
) -> Function:
    def part(value: Any, zone: Any = None) -> int:
        if isinstance(value, datetime):
            return of_time(value.astimezone(UTC if zone is None else _zone(zone)))
        if of_span is not None and isinstance(value, timedelta) and zone is None:
            return of_span(value)
        raise Fault(f"{name}() expects a timestamp, got {kind_of_thing(value)}{null_hint(kind(value))}")

    return Function(part, 1, 2, method=True, plain=False)


def _towards_zero(value: timedelta, unit: timedelta) -> int:
    whole = abs(value) // unit
    return -whole if value < timedelta(0) else whole


def _round(word: str, call: Callable[[Any], int]) -> Function:
    def rounded(value: Any) -> int:
        if kind(value) not in ("int", "double") or not math.isfinite(value):
            raise Fault(f"{word}() expects a number, got {kind_of_thing(value)}{null_hint(kind(value))}")
        if not -INT64 <= value < INT64:
            raise Fault("the number does not fit into 64 bits")
        return call(value)

    return Function(rounded, 1, 1)


def _half_up(value: Any) -> int:
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    return int(number.to_integral_value(rounding="ROUND_HALF_UP"))


def _lower(text: Any) -> str:
    _text("lowerAscii", text)
    return "".join(sign.lower() if sign.isascii() else sign for sign in text)


_MILLISECOND = timedelta(milliseconds=1)

FUNCTIONS: Mapping[str, Function] = {
    "size": Function(_size, 1, 1, method=True),
    "contains": _of_texts("contains", lambda text, part: part in text),
    "startsWith": _of_texts("startsWith", str.startswith),
    "endsWith": _of_texts("endsWith", str.endswith),
    "matches": Function(_matches, 2, 2, method=True),
    "int": Function(_int, 1, 1),
    "uint": Function(_uint, 1, 1),
    "double": Function(_double, 1, 1),
    "string": Function(_string, 1, 1),
    "bool": Function(_bool, 1, 1),
    "bytes": Function(_bytes, 1, 1),
    "timestamp": Function(_timestamp, 1, 1),
    "duration": Function(_duration, 1, 1),
    "type": Function(kind, 1, 1),
    "dyn": Function(lambda value: value, 1, 1),
    # Beyond CEL's standard: what amounts need, as in cel-go's math and string extensions.
    "lowerAscii": Function(_lower, 1, 1, method=True, plain=False),
    "ceil": _round("ceil", math.ceil),
    "floor": _round("floor", math.floor),
    "round": _round("round", _half_up),
    "getFullYear": _part_of_time("getFullYear", lambda time: time.year, None),
    "getMonth": _part_of_time("getMonth", lambda time: time.month - 1, None),
    "getDate": _part_of_time("getDate", lambda time: time.day, None),
    "getDayOfMonth": _part_of_time("getDayOfMonth", lambda time: time.day - 1, None),
    "getDayOfWeek": _part_of_time("getDayOfWeek", lambda time: time.isoweekday() % 7, None),
    "getDayOfYear": _part_of_time("getDayOfYear", lambda time: time.timetuple().tm_yday - 1, None),
    "getHours": _part_of_time(
        "getHours", lambda time: time.hour, lambda span: _towards_zero(span, timedelta(hours=1))
    ),
    "getMinutes": _part_of_time(
        "getMinutes", lambda time: time.minute, lambda span: _towards_zero(span, timedelta(minutes=1))
    ),
    "getSeconds": _part_of_time(
        "getSeconds", lambda time: time.second, lambda span: _towards_zero(span, timedelta(seconds=1))
    ),
    "getMilliseconds": _part_of_time(
        "getMilliseconds",
        lambda time: time.microsecond // 1000,
        lambda span: _towards_zero(span, _MILLISECOND) % 1000,
    ),
}
