"""A condition as SQL, for a store's query: comparisons, `in`, `&&`, `||`, `!`, startsWith, endsWith, contains (design ruling 41).

What does not translate is refused with its place. An item for which the condition has no result (a null is compared by `<`, or
asked for its beginning) is not selected, here as by an evaluation that fails.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from packetflow.capabilities.cel.compiling import meant
from packetflow.capabilities.cel.faults import ConditionError, Fault
from packetflow.capabilities.cel.functions import FUNCTIONS
from packetflow.capabilities.cel.tree import (
    Binary,
    Call,
    ListOf,
    Literal,
    Logic,
    Name,
    Node,
    Unary,
)

COMPARISONS = {"==": "IS", "!=": "IS NOT", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
# Each over a column and one text; all look at whole characters, as CEL does.
TESTS = {
    "startsWith": "substr({column}, 1, length(?)) = ?",
    "endsWith": "(length({column}) >= length(?) AND substr({column}, length({column}) - length(?) + 1) = ?)",
    "contains": "instr({column}, ?) > 0",
}


def as_sql(tree: Node, text: str, columns: Mapping[str, str]) -> tuple[str, tuple[Any, ...]]:
    """A WHERE clause and its parameters. columns: what each name is in SQL. Raises ConditionError, with the place."""
    given: list[Any] = []
    try:
        return _clause(tree, columns, given), tuple(given)
    except Fault as fault:
        raise ConditionError(fault.reason, text, max(fault.at, 0)) from None


def _clause(node: Node, columns: Mapping[str, str], given: list[Any]) -> str:
    match node:
        case Logic(operator=operator, parts=parts):
            word = " AND " if operator == "&&" else " OR "
            return f"({word.join(_clause(part, columns, given) for part in parts)})"
        case Unary(operator="!", of=of):
            return f"(NOT {_clause(of, columns, given)})"
        case Binary(operator=operator) if operator in COMPARISONS:
            left = _value(node.left, columns, given)
            return f"({left} {COMPARISONS[operator]} {_value(node.right, columns, given)})"
        case Binary(operator="in", right=ListOf(items=items)):
            same = [
                f"{_value(node.left, columns, given)} IS {_value(item, columns, given)}" for item in items
            ]
            return f"({' OR '.join(same)})" if same else "0"
        case Call(name=name, method=True, arguments=(Name() as column, Literal(value=str() as word))) if (
            name in TESTS
        ):
            test = TESTS[name]
            found = _value(column, columns, given)
            given.extend([word] * test.count("?"))
            return test.format(column=found)
        case Literal(value=bool() as value):
            return "1" if value else "0"
    raise Fault(
        "a search can't ask this; it knows comparisons, in, &&, ||, !, startsWith, endsWith, contains",
        node.at,
    )


def _value(node: Node, columns: Mapping[str, str], given: list[Any]) -> str:
    match node:
        case Name(name=name):
            if name not in columns:
                raise Fault(f"{name!r} is not known here{meant(name, columns)}", node.at)
            return columns[name]
        case Literal(value=value) if value is None or isinstance(value, str | int | float):
            given.append(value)
            return "?"
        case Unary(operator="-", of=Literal(value=int() | float() as value)):
            given.append(-value)
            return "?"
        case Call(name="timestamp", arguments=(Literal(value=value),)):
            moment = FUNCTIONS["timestamp"].call(value)
            assert isinstance(moment, datetime), "timestamp() gives nothing else"
            given.append(moment.timestamp())
            return "?"
    raise Fault("a search compares names with constants, such as duration > 0.5", node.at)
