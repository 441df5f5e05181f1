"""Conditions as data: CEL strings, compiled once, evaluated over names. For rules, branches of a plan, matches of modules.

    rule = condition("payload.amount > 100 && payload.user == context.principal", {"payload": None, "context": None})
    rule.evaluate({"payload": {"amount": 120.5, "user": "ana"}, "context": {"principal": "ana"}})      # True

The language is CEL's (github.com/google/cel-spec), without protobuf messages. Beside it: numbers of all kinds mix; a known
name without a value is null, and so is a declared field; models, dataclasses, enums, dates, decimals and sets can be used.
Nothing of an evaluation can run for long: the text, the depth and the items looked at are bounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packetflow.capabilities.cel.compiling import STEPS, Compiler, Names, is_yes_or_no
from packetflow.capabilities.cel.faults import ConditionError, ConditionFailed, Fault
from packetflow.capabilities.cel.parser import parse
from packetflow.capabilities.cel.tree import Node

__all__ = ["Condition", "ConditionError", "ConditionFailed", "Expression", "Names", "condition", "expression"]


class Expression:
    """A compiled expression. text: as it was written. names: the scope's names that it reads. tree: its nodes (cel/tree.py)."""

    __slots__ = ("_compiled", "_slots", "names", "text", "tree")

    def __init__(self, text: str, names: Iterable[str] | Names) -> None:
        known: Names = names if isinstance(names, Mapping) else dict.fromkeys(names)
        compiler = Compiler(known)
        try:
            self.tree: Node = parse(text)
            self._compiled = compiler.compile(self.tree)
            self._check(self.tree)
        except Fault as fault:
            raise ConditionError(fault.reason, text, max(fault.at, 0)) from None
        self.text = text
        self.names = frozenset(compiler.used)
        self._slots = [None] * compiler.slots

    def _check(self, tree: Node) -> None:
        """Whether the whole can be what it is for. Raises Fault."""

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value, as plain Python. A known name that the scope lacks is null. Raises ConditionFailed."""
        try:
            return self._compiled([scope.get, STEPS, *self._slots])
        except Fault as fault:
            raise ConditionFailed(fault.reason, self.text, max(fault.at, 0)) from None
        except Exception as error:  # of a value's own code: a computed field, a comparison of its own
            raise ConditionFailed(
                f"a value raised {type(error).__name__}", self.text, self.tree.at
            ) from error

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.text!r}>"


class Condition(Expression):
    """An expression that is true or false."""

    __slots__ = ()

    def _check(self, tree: Node) -> None:
        if not is_yes_or_no(tree):
            raise Fault("a condition is true or false, and this is neither", tree.at)

    def evaluate(self, scope: Mapping[str, Any]) -> bool:
        """Whether it holds. A known name that the scope lacks is null. Raises ConditionFailed, also for what is no bool."""
        value = super().evaluate(scope)
        if value is True or value is False:
            return bool(value)
        raise ConditionFailed("a condition is true or false, and this was neither", self.text, self.tree.at)


def condition(text: str, names: Iterable[str] | Names) -> Condition:
    """Compile a condition over these names.

    names: the names that may be used; a mapping says of each what its fields are ({"user": {"id": None}}), or None where
    that is not known. Raises ConditionError, with the place, for an unknown name or function (with the nearest), a wrong
    word, an expression that is too long or nested too deep, or that can't be true or false.
    """
    return Condition(text, names)


def expression(text: str, names: Iterable[str] | Names) -> Expression:
    """Compile an expression of any value over these names; like `condition` otherwise."""
    return Expression(text, names)
