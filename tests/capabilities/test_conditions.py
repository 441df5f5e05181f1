"""Conditions: what they say of wrong text, and that the values people have can be used as they are."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from pydantic import BaseModel, SecretStr, computed_field

from packetflow.capabilities.conditions import (
    Condition,
    ConditionError,
    ConditionFailed,
    Expression,
)


class Colour(Enum):
    RED = "red"


class User(BaseModel):
    id: str
    age: int | None = None
    key: SecretStr = SecretStr("s")

    @computed_field  # type: ignore[prop-decorator]
    @property
    def label(self) -> str:
        return f"<{self.id}>"

    def delete(self) -> bool:
        raise AssertionError("a condition called a method")


@dataclass
class Place:
    city: str


Point = namedtuple("Point", "x y")

SCOPE = {
    "amount": 120.5,
    "count": 3,
    "price": Decimal("0.10"),
    "user": User(id="ana"),
    "place": Place("Oslo"),
    "point": Point(1, 2),
    "colour": Colour.RED,
    "day": date(2026, 1, 31),
    "moment": datetime(2026, 1, 31, 12, tzinfo=UTC),
    "span": timedelta(minutes=90),
    "id": UUID("12345678123456781234567812345678"),
    "tags": {"a", "b"},
    "rows": [{"n": 1}, {"n": 2}, {"n": 3}],
    "nothing": None,
}


@pytest.mark.parametrize(
    "text",
    [
        "amount > 100 && amount * 2 > 240",
        "count / 2 == 1 && -7 / 2 == -3 && -7 % 2 == -1",
        "price == 0.1 && price * 3 == 0.3 && 0.1 == price && price < 0.11",
        "user.id == 'ana' && user.label == '<ana>' && user.key == 's' && user.age == null",
        "place.city == 'Oslo' && point.y == 2",
        "colour == 'red'",
        "day == timestamp('2026-01-31T00:00:00Z') && moment > day && moment - day == duration('12h')",
        "span > duration('1h') && span.getMinutes() == 90",
        "id == '12345678-1234-5678-1234-567812345678'",
        "'a' in tags && size(tags) == 2 && tags.size() == 2",
        "rows.exists(r, r.n > 2) && rows.all(r, r.n > 0) && rows.exists_one(r, r.n == 2)",
        "rows.filter(r, r.n > 1).map(r, r.n * 10) == [20, 30]",
        "rows.map(r, r.n > 1, r.n) == [2, 3]",
        "rows.all(r, rows.exists(s, s.n == r.n))",
        "rows.all(r, [1].all(r, r == 1) && r.n > 0)",
        "absent == null && !has(absent.field) && !has(user.age) && has(user.id)",
        "nothing == null ? true : false",
        "'ab' + 'c' == 'abc' && 'abc'.contains('b') && 'abc'.startsWith('a') && 'abc'.endsWith('c')",
        "'abc'.matches('^a.c$') && !'abc'.matches('^b')",
        "{'a': 1, 'b': [1, 2]}['b'][1] == 2",
        "'\\u00e9\\n' == \"é\\x0a\" && r'\\n' == '\\\\n' && b'\\xff' != b'' && '''a'b''' == \"a'b\"",
        "true || 1 / 0 > 0",
        "1 / 0 > 0 || true",
        "!(false && nothing > 1) && !(nothing > 1 && false)",
        "true != 1 && [true] != [1] && 1 == 1.0 && 1u == 1",
        "int('12') + int(1.9) == 13 && string(1.0) == '1' && double('1.5') == 1.5 && type(1) == 'int'",
        "moment.getHours('Europe/Oslo') == 13 && moment.getFullYear() == 2026 && moment.getMonth() == 0",
        "round(2.5) == 3 && ceil(price) == 1 && floor(-0.5) == -1",
        "-9223372036854775808 < 9223372036854775807  // a comment\n && 0x1F == 31",
    ],
)
def test_it_holds(text: str) -> None:
    assert Condition(text, [*SCOPE, "absent"]).holds(SCOPE) is True


@pytest.mark.parametrize(
    ("text", "reason", "place"),
    [
        ("amount >", "expected a value, but it ends", (1, 9)),
        ("amont > 1", "names 'amont', which nothing gives; nearest amount", (1, 1)),
        ("count > 1 &&\n  user.nmae == 1", "'nmae' is no field of user; the nearest is 'name'", (2, 8)),
        (
            "user.name.strtsWith('a')",
            "there is no function 'strtsWith'; the nearest is 'startsWith'",
            (1, 11),
        ),
        ("startsWith(user.name, 'a')", "write value.startsWith(...)", (1, 1)),
        ("count = 1", "'=' stands alone; expected '==' to compare", (1, 7)),
        ("count & 1", "'&' stands alone; expected '&&'", (1, 7)),
        ("'abc", "a string that does not end", (1, 1)),
        ("count == 1 2", "expected an operator or the end, but got 2", (1, 12)),
        ("(count == 1", "expected ')', but it ends", (1, 12)),
        ("", "the expression is empty", (1, 1)),
        ("count + 1", "a condition is true or false, and this is neither", (1, 7)),
        ("user.name.size() == size()", "size() works on 1 values, got 0", (1, 21)),
        ("user.name.matches('(')", "matches() expects a regular expression: unclosed group", (1, 11)),
        ("timestamp('yesterday') < 1", "timestamp() expects a time such as", (1, 1)),
        ("9223372036854775808 > 1", "needs more than 64 bits", (1, 1)),
        ("has(count)", "has(...) expects one field, such as has(user.email)", (1, 1)),
        ("[1].all(1, true)", "all(...) expects a variable and an expression", (1, 5)),
        ("while == 1", "'while' is a word of the language and can't be a name", (1, 1)),
        ("'\\q' == ''", "\\q is no escape", (1, 2)),
        ("count $ 1", "'$' is not part of an expression", (1, 7)),
    ],
)
def test_what_is_wrong_is_told_with_its_place_when_it_is_compiled(
    text: str, reason: str, place: tuple[int, int]
) -> None:
    with pytest.raises(ConditionError) as caught:
        Condition(text, {"amount": None, "count": None, "user": {"name": None, "id": None}})
    error = caught.value
    assert reason in error.reason
    assert (error.line, error.column) == place
    shown, mark = error.pointed.splitlines()
    assert shown.startswith("  ")
    assert mark.index("^") - 2 == place[1] - 1


@pytest.mark.parametrize(
    "text",
    [
        "a" + ".b" * 2000,
        "!" * 3000 + "true",
        "-" * 3000 + "1 == 1",
        "(" * 3000 + "a" + ")" * 3000,
        "[" * 3000 + "]" * 3000,
        "a ? a : " * 500 + "a",
        "{1:" * 500,
        "a.all(x, " * 100,
        "1" + "+1" * 4000 + " == 1",
        "a || " * 20_000 + "a",
        "f(" * 2000,
    ],
)
def test_too_long_and_too_deep_are_refused(text: str) -> None:
    with pytest.raises(ConditionError, match=r"nested too deep|characters; at most|words"):
        Condition(text, ["a"])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("user.missing == 1", "there is no 'missing'; has(...) asks for it"),
        ("user.delete == 1", "there is no 'delete'"),
        ("user.__class__ == 1", "there is no '__class__'"),
        ("nothing.field == 1", "null has no field 'field'; ask `!= null` first"),
        ("nothing > 1", "null and an int can't be compared by '>'; ask `!= null` first"),
        ("colour > 1", "a string and an int can't be compared"),
        ("amount.size() > 1", "size() expects a string, list or map, got a double"),
        ("'a' + 1 == 'a1'", "a string and an int don't go together by '+'"),
        ("count / 0 == 1", "division by zero"),
        ("9223372036854775807 + count > 0", "needs more than 64 bits"),
        ("rows[3].n == 1", "the index is outside of the list"),
        ("rows[-1].n == 1", "the index is outside of the list"),
        ("{'a': 1}['b'] == 1", "there is no such key"),
        ("count && true", "'&&' expects true or false, got an int"),
        ("!nothing", "'!' expects true or false, got null"),
        ("nothing", "and this was neither"),
        ("'x' in count", "'in' expects a list or a map behind it, got an int"),
        ("count.exists(x, x == 1)", "exists() expects a list or a map, got an int"),
        ("{count: 1, 3: 2} == {}", "the map has a key twice"),
    ],
)
def test_an_evaluation_that_fails_says_where_and_never_the_value(text: str, reason: str) -> None:
    with pytest.raises(ConditionFailed) as caught:
        Condition(text, SCOPE.keys()).holds(SCOPE)
    assert reason in caught.value.reason
    assert "ana" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "xs.all(a, xs.all(b, a + b >= 0))",
        "xs.all(a, a in xs)",
        "xs.all(a, xs == xs)",
        "xs.map(a, xs.map(b, [a, b])).size() > 0",
        "xs.all(a, (text + text).size() > 0)",
        "xs.all(a, text.contains('n'))",
        "xs.exists(a, xs.exists(b, false)) || true && xs.exists(a, xs.all(b, true))",
    ],
)
def test_no_evaluation_works_for_long(text: str) -> None:
    with pytest.raises(ConditionFailed, match="too much work"):
        Condition(text, ["xs", "text"]).holds({"xs": list(range(5_000)), "text": "n" * 200_000})


def test_a_hostile_regular_expression_ends_in_linear_time() -> None:
    hostile = Condition("text.matches(pattern)", ["text", "pattern"])
    assert hostile.holds({"text": "a" * 5_000 + "b", "pattern": "^(a+)+$"}) is False
    with pytest.raises(ConditionFailed, match="backreferences are not supported"):
        hostile.holds({"text": "a", "pattern": r"(a)\1"})


def test_a_value_whose_own_code_raises_fails_the_condition_and_is_its_cause() -> None:
    class Broken(BaseModel):
        @computed_field  # type: ignore[prop-decorator]
        @property
        def total(self) -> int:
            raise RuntimeError("broken")

    with pytest.raises(ConditionFailed, match="a value raised RuntimeError") as caught:
        Condition("order.total > 1", ["order"]).holds({"order": Broken()})
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_declared_field_that_is_absent_is_null_and_an_undeclared_one_is_an_error() -> None:
    declared = Condition("user.mail == null", {"user": {"mail": None}})
    assert declared.holds({"user": {}}) is True
    with pytest.raises(ConditionFailed, match="there is no 'mail'"):
        Condition("user.mail == null", ["user"]).holds({"user": {}})


def test_an_expression_gives_its_value_and_names_what_it_reads() -> None:
    found = Expression("rows.map(r, r.n + base)", ["rows", "base", "other"])
    assert found.evaluate({"rows": [{"n": 1}], "base": 1}) == [2]
    assert found.names == ("base", "rows")
