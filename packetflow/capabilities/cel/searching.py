"""The one filter language, a part of CEL (design ruling 41): a condition over the fields of rows, as SQL and as a function.

    state == "failed" && !(composition in ["ticket.intake"]) && duration > 0.5 && started > timestamp("2026-01-31T08:00:00Z")

Comparisons of a field with a constant, `in`, `&&`, `||`, `!`, startsWith, endsWith, contains, and `text("words")`, which looks
through what a table names for it. A field that is null is unequal to everything but null, neither less nor greater, and holds
no text. What does not translate is refused with its place; constants are parameters.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from packetflow.capabilities.cel.faults import ConditionError, Fault, unknown
from packetflow.capabilities.cel.functions import FUNCTIONS
from packetflow.capabilities.cel.parser import parse
from packetflow.capabilities.cel.tree import Binary, Call, ListOf, Logic, Name, Node, Unary
from packetflow.capabilities.cel.tree import Literal as Constant

Kind = Literal["text", "number", "time"]
Row: TypeAlias = Mapping[str, Any]
Holds: TypeAlias = Callable[[Row], bool]

ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
TURNED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}
# Each over a column and one text; all look at whole characters.
TESTS: Mapping[str, tuple[str, Callable[[str, str], bool]]] = {
    "startsWith": ("substr({0}, 1, length(?)) = ?", str.startswith),
    "endsWith": ("(length({0}) >= length(?) AND substr({0}, length({0}) - length(?) + 1) = ?)", str.endswith),
    "contains": ("instr({0}, ?) > 0", str.__contains__),
}


@dataclass(frozen=True, slots=True)
class Fields:
    """What may be asked for. columns: each field's kind and SQL. words: the fields that text("...") looks through.

    A time is seconds since the epoch, in the database and in a row.
    """

    columns: Mapping[str, tuple[Kind, str]]
    words: tuple[str, ...] = ()


class Search:
    """A filter, compiled. sql, values: a WHERE clause and its parameters."""

    __slots__ = ("_fields", "_holds", "_values", "sql", "text", "values")

    def __init__(self, text: str, fields: Fields) -> None:
        """Raises ConditionError, with the place, for what is none."""
        self.text = text
        self._fields = fields
        self._values: list[Any] = []
        try:
            self.sql, self._holds = self._clause(parse(text))
        except Fault as fault:
            raise ConditionError(fault.reason, text, max(fault.at, 0)) from None
        self.values = tuple(self._values)

    def holds(self, row: Row) -> bool:
        """Whether it holds for a row: its fields by name."""
        return self._holds(row)

    # ---- what is true or false ----------------------------------------------------------------------------------------------

    def _clause(self, node: Node) -> tuple[str, Holds]:
        match node:
            case Logic(operator=word, parts=parts):
                found = [self._clause(part) for part in parts]
                sql = f"({(' AND ' if word == '&&' else ' OR ').join(one for one, _ in found)})"
                holds = tuple(one for _, one in found)
                gather = all if word == "&&" else any
                return sql, lambda row: gather(one(row) for one in holds)
            case Unary(operator="!", of=of):
                sql, inner = self._clause(of)
                return f"(NOT {sql})", lambda row: not inner(row)
            case Binary(operator=word, left=Name() as name, right=right) if word in TURNED:
                return self._comparison(word, name, right)
            case Binary(operator=word, left=left, right=Name() as name) if word in TURNED:
                return self._comparison(TURNED[word], name, left)
            case Binary(operator="in", left=Name() as name, right=ListOf(items=items)):
                return self._one_of(name, items)
            case Call(name=word, method=True, arguments=(Name() as name, Constant(value=str() as text))) if (
                word in TESTS
            ):
                return self._test(word, name, text)
            case Call(name="text", method=False, arguments=(Constant(value=str() as text),)) if (
                self._fields.words
            ):
                return self._words(text)
            case Constant(value=bool() as value):
                return ("1" if value else "0"), lambda row: value
        raise Fault(
            "a filter can't ask this; it compares fields with constants, and knows in, &&, ||, !, startsWith, endsWith, contains"
            + (", text" if self._fields.words else ""),
            node.at,
        )

    def _comparison(self, word: str, name: Name, right: Node) -> tuple[str, Holds]:
        kind, column = self._column(name)
        field = name.name
        value = self._constant(right, kind)
        if word in ("==", "!="):
            self._values.append(value)
            if word == "==":
                return f"({column} IS ?)", lambda row: bool(row[field] == value)
            return f"({column} IS NOT ?)", lambda row: bool(row[field] != value)
        if value is None:
            raise Fault("null is neither less nor greater; expected == null or != null", right.at)
        self._values.append(value)
        order = ORDERS[word]
        return (
            f"coalesce({column} {word} ?, 0)",
            lambda row: row[field] is not None and order(row[field], value),
        )

    def _one_of(self, name: Name, items: tuple[Node, ...]) -> tuple[str, Holds]:
        kind, column = self._column(name)
        field, values = name.name, tuple(self._constant(item, kind) for item in items)
        self._values += values
        sql = " OR ".join([f"{column} IS ?"] * len(values))
        return f"({sql or '0'})", lambda row: row[field] in values

    def _test(self, word: str, name: Name, text: str) -> tuple[str, Holds]:
        kind, column = self._column(name)
        if kind != "text":
            raise Fault(f"{name.name} is a {kind}, which has no {word}", name.at)
        form, test = TESTS[word]
        field = name.name
        self._values += [text] * form.count("?")
        return (
            f"coalesce({form.format(column)}, 0)",
            lambda row: row[field] is not None and test(row[field], text),
        )

    def _words(self, text: str) -> tuple[str, Holds]:
        words = text.lower().split()
        fields = self._fields.words
        columns = " || ' ' || ".join(f"coalesce({self._fields.columns[field][1]}, '')" for field in fields)
        self._values += words
        sql = " AND ".join([f"instr(lower({columns}), ?) > 0"] * len(words))

        def holds(row: Row) -> bool:
            whole = " ".join(str(row[field] or "") for field in fields)
            lower = "".join(
                letter.lower() if letter.isascii() else letter for letter in whole
            )  # as SQLite does
            return all(word in lower for word in words)

        return f"({sql or '1'})", holds

    # ---- fields and constants ----------------------------------------------------------------------------------------------

    def _column(self, name: Name) -> tuple[Kind, str]:
        found = self._fields.columns.get(name.name)
        if found is None:
            reason = unknown(name.name, "is no field", self._fields.columns)
            raise ConditionError(reason, self.text, name.at, whole=True)
        return found

    def _constant(self, node: Node, kind: Kind) -> Any:
        value = self._given(node)
        if value is None:
            return None
        fits = {"text": str, "number": float | int, "time": datetime}[kind]
        if kind == "time" and isinstance(value, str):
            value = self._moment(value, node.at)
        if kind == "number" and isinstance(value, timedelta):
            value = value.total_seconds()
        if isinstance(value, bool) or not isinstance(value, fits):
            such = {"text": '"failed"', "number": '0.5, or duration("1m")', "time": '"2026-01-31T08:00:00Z"'}[
                kind
            ]
            raise Fault(f"that is no {kind}; expected one such as {such}", node.at)
        return value.timestamp() if isinstance(value, datetime) else value

    @staticmethod
    def _moment(text: str, at: int) -> datetime:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Fault(f"{text!r} is no time; expected one such as 2026-01-31T08:00:00Z", at) from None
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)

    @staticmethod
    def _given(node: Node) -> Any:
        match node:
            case Constant(value=value):
                return value
            case Unary(operator="-", of=Constant(value=int() | float() as value)):
                return -value
            case Call(
                name="timestamp" | "duration" as name, method=False, arguments=(Constant(value=value),)
            ):
                try:
                    return FUNCTIONS[name].call(value)
                except Fault as fault:
                    raise Fault(fault.reason, node.at) from None
        raise Fault("a field is compared with a constant, such as duration > 0.5", node.at)
