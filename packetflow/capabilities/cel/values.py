"""What values mean in a condition: Python's own made plain, equality, order, arithmetic.

As CEL has it, save where people would be surprised: whole numbers, fractions and decimals mix (`amount * 2 > 99.5`), a
decimal and a fraction compare by what is written (`Decimal("0.1") == 0.1`), a date is the midnight it begins with (UTC).
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Mapping, Sequence, Set
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, DecimalException
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.networks import AnyUrl

from packetflow.capabilities.cel.faults import Fault
from packetflow.capabilities.cel.tokens import INT64

# Classes that are used as they are.
PLAIN = frozenset({str, int, float, bool, type(None), bytes, list, dict, Decimal, timedelta})
LONGEST = 1_000_000  # characters or items that an evaluation may put together
_NUMBERS = (int, float, Decimal)
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def plain(value: Any) -> Any:
    """A value as conditions see it; those of PLAIN classes need not be asked for."""
    if value.__class__ in PLAIN:
        return value
    if isinstance(value, datetime):
        return value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, (SecretStr, SecretBytes)):
        return value.get_secret_value()
    if isinstance(value, (UUID, PurePath, AnyUrl)):
        return str(value)
    if isinstance(value, (Set, tuple)) and not hasattr(value, "_fields"):
        return list(value)
    return value


def kind(value: Any) -> str:
    """CEL's word for a value's type."""
    if value is None:
        return "null"
    for types, word in (
        (bool, "bool"),
        (int, "int"),
        ((float, Decimal), "double"),
        (str, "string"),
        (bytes, "bytes"),
        (datetime, "timestamp"),
        (timedelta, "duration"),
    ):
        if isinstance(value, types):
            return word
    return "list" if is_list(value) else "map"


def is_list(value: Any) -> bool:
    """Whether it has items in order, and is no text."""
    return (
        isinstance(value, Sequence) and not isinstance(value, (str, bytes)) and not hasattr(value, "_fields")
    )


MISSING: Any = object()


def field(value: Any, name: str) -> Any:
    """A field of a mapping, model, dataclass or named tuple; MISSING if it has none. Only data: no method, nothing private."""
    if isinstance(value, Mapping):
        found = value.get(name, MISSING)
    elif isinstance(value, BaseModel):
        declared = type(value)
        if name in declared.model_fields or name in declared.model_computed_fields:
            found = getattr(value, name)
        else:
            found = (value.model_extra or {}).get(name, MISSING)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        found = (
            getattr(value, name, MISSING)
            if any(one.name == name for one in dataclasses.fields(value))
            else MISSING
        )
    elif isinstance(value, tuple) and name in getattr(value, "_fields", ()):
        found = getattr(value, name)
    else:
        raise Fault(f"{kind_of_thing(value)} has no fields, so no {name!r}")
    return found if found.__class__ in PLAIN else plain(found)


def fields_of(value: Any) -> dict[str, Any] | None:
    """All fields of a mapping or a record; None if it is neither."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseModel):
        return {**dict(value), **{name: getattr(value, name) for name in type(value).model_computed_fields}}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: getattr(value, one.name) for one in dataclasses.fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: getattr(value, name) for name in value._fields}
    return None


def kind_of_thing(value: Any) -> str:
    """`a string`, `an int`, `null`: for the words of an error, which never show the value."""
    word = kind(value)
    return word if word == "null" else f"an {word}" if word == "int" else f"a {word}"


# ---- equality and order -----------------------------------------------------------------------------------------------


def equal(left: Any, right: Any) -> bool:
    """`==`: false for values of different kinds, save that all numbers are of one."""
    a, b = left.__class__, right.__class__
    if a is b and (a is str or a is int or a is float):
        return bool(left == right)
    left, right = plain(left), plain(right)
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, _NUMBERS) and isinstance(right, _NUMBERS):
        left, right = together(left, right)
        return bool(left == right)
    if is_list(left) and is_list(right):
        return len(left) == len(right) and all(map(equal, left, right))
    if kind(left) == "map" and kind(right) == "map":
        one, other = fields_of(left), fields_of(right)
        if one is None or other is None:
            return bool(left == right)
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(left == right)


def contains(left: Any, right: Any) -> bool:
    """`in`: an item of a list, a key of a map."""
    if is_list(right):
        return any(equal(left, item) for item in right)
    fields = fields_of(right)
    if fields is None:
        raise Fault(f"'in' expects a list or a map behind it, got {kind_of_thing(right)}")
    if left.__hash__ is None:
        return False
    return left in fields if isinstance(left, str) else any(equal(left, key) for key in fields)


def compare(word: str) -> Callable[[Any, Any], bool]:
    """`<`, `<=`, `>` or `>=`: of two numbers, strings, bytes, bools, timestamps or durations."""
    ordered = _ORDERS[word]

    def compared(left: Any, right: Any) -> bool:
        a, b = left.__class__, right.__class__
        if (a is int or a is float) and (b is int or b is float):
            return ordered(left, right)
        left, right = plain(left), plain(right)
        a, b = kind(left), kind(right)
        if a in ("int", "double") and b in ("int", "double"):
            return ordered(*together(left, right))
        if a == b and a in ("string", "bytes", "timestamp", "duration", "bool"):
            return ordered(left, right)
        raise Fault(
            f"{kind_of_thing(left)} and {kind_of_thing(right)} can't be compared by {word!r}{null_hint(a, b)}"
        )

    return compared


def null_hint(*kinds: str) -> str:
    """What to do about a null that is in the way."""
    return "; ask `!= null` first" if "null" in kinds else ""


def together(left: Any, right: Any) -> tuple[Any, Any]:
    """Two numbers of one kind: beside a decimal, a fraction becomes the decimal that is written like it."""
    if isinstance(left, Decimal) and isinstance(right, float):
        return left, Decimal(repr(right))
    if isinstance(left, float) and isinstance(right, Decimal):
        return Decimal(repr(left)), right
    return left, right


# ---- arithmetic -------------------------------------------------------------------------------------------------------


def arithmetic(word: str) -> Callable[[Any, Any], Any]:
    """`+`, `-`, `*`, `/` or `%`. Of whole numbers as in CEL: 64 bits, division cuts off towards zero."""
    calculate = _CALCULATIONS[word]

    def calculated(left: Any, right: Any) -> Any:
        left, right = plain(left), plain(right)
        a, b = kind(left), kind(right)
        if a in ("int", "double") and b in ("int", "double"):
            return _number(calculate, *together(left, right), word)
        if word == "+":
            if a == b and a in ("string", "bytes"):
                return _bounded(left, right)
            if a == b == "list":
                return _bounded(list(left), list(right))
        if word in "+-" and (
            (a == "timestamp" and b == "duration")
            or (a == b == "duration")
            or (word == "-" and a == b == "timestamp")
            or (word == "+" and a == "duration" and b == "timestamp")
        ):
            try:
                return calculate(left, right)
            except OverflowError:
                raise Fault("the time is out of range") from None
        raise Fault(
            f"{kind_of_thing(left)} and {kind_of_thing(right)} don't go together by {word!r}{null_hint(a, b)}"
        )

    return calculated


def _number(calculate: Callable[[Any, Any], Any], left: Any, right: Any, word: str) -> Any:
    whole = isinstance(left, int) and isinstance(right, int)
    if word in "/%" and right == 0 and (whole or isinstance(left, Decimal) or isinstance(right, Decimal)):
        raise Fault("division by zero")
    try:
        result = calculate(left, right)
    except ZeroDivisionError:  # of fractions
        return (
            float("nan") if left == 0 or left != left or word == "%" else float("inf" if left > 0 else "-inf")
        )
    except (DecimalException, OverflowError):
        raise Fault("the result is out of range") from None
    if whole and not -INT64 <= result < INT64:
        raise Fault("the result needs more than 64 bits")
    return result


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(left) // abs(right)
        return quotient if (left < 0) == (right < 0) else -quotient
    return left / right


def _remainder(left: Any, right: Any) -> Any:
    if isinstance(left, int) and isinstance(right, int):
        rest = abs(left) % abs(right)
        return -rest if left < 0 else rest
    return left % right


_CALCULATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _divide,
    "%": _remainder,
}


def _bounded(left: Any, right: Any) -> Any:
    if len(left) + len(right) > LONGEST:
        raise Fault(f"the result is longer than {LONGEST}")
    return left + right


def negative(value: Any) -> Any:
    """`-value`."""
    value = plain(value)
    if kind(value) not in ("int", "double", "duration"):
        raise Fault(f"'-' expects a number, got {kind_of_thing(value)}")
    return -value
