"""Conditions and expressions as data: CEL texts, compiled once, evaluated over names. For plans, rules, effects.

    rule = Condition("payload.amount > 100 && payload.user == context.principal", ["payload", "context"])
    rule.holds({"payload": {"amount": 120.5, "user": "ana"}, "context": {"principal": "ana"}})      # True

The language is CEL's (github.com/google/cel-spec), without protobuf messages. Beside it: numbers of all kinds mix; a name
without a value is null, and so is a declared field; models, dataclasses, enums, dates, decimals and sets can be used.
Nothing of an evaluation can run for long: the text, the depth and the items looked at are bounded. It has no side effects,
and reaches nothing but the values it is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from packetflow.capabilities.cel.compiling import STEPS, Compiler, Names, is_yes_or_no
from packetflow.capabilities.cel.faults import ConditionError, ConditionFailed, Fault, unknown
from packetflow.capabilities.cel.parser import parse
from packetflow.capabilities.cel.tree import Node

__all__ = ["Condition", "ConditionError", "ConditionFailed", "Expression", "Names"]

SIMPLE = frozenset({str, int, float, bool, type(None)})


class Expression:
    """A compiled CEL text.

    text: as it was written. names: those that it needs to be given, in order. tree: its nodes (cel/tree.py).
    """

    __slots__ = ("_compiled", "_places", "_slots", "names", "text", "tree")

    def __init__(self, text: str, names: Iterable[str] | Names | None = None) -> None:
        """Compile a text.

        names: the names that may be used, None for any; a mapping says of each what its fields are
        ({"user": {"id": None}}), or None where that is not known. Raises ConditionError, with the place, for what is no CEL,
        an unknown name, field or function (with the nearest), and a text that is too long or nested too deep.
        """
        if not isinstance(text, str):
            raise ConditionError(f"expected a text, got {type(text).__name__}", str(text), 0)
        self.text = text
        compiler = Compiler(names if isinstance(names, Mapping) else {})
        try:
            self.tree: Node = parse(text)
            self._compiled = compiler.compile(self.tree)
            self._check()
        except Fault as fault:
            raise ConditionError(fault.reason, text, max(fault.at, 0)) from None
        self._places = compiler.used
        self.names = tuple(sorted(compiler.used))
        self._slots = [None] * compiler.slots
        if names is not None:
            self.check_names(names)

    def _check(self) -> None:
        """Whether the whole can be what it is for. Raises Fault."""

    def check_names(self, known: Iterable[str]) -> None:
        """Raises ConditionError for a name that it needs and that is not known, with the nearest one that is."""
        there = set(known)
        for name in self.names:
            if name not in there:
                reason = unknown(name, "nothing gives", there)
                raise ConditionError(reason, self.text, self._places[name], whole=True)

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The value, as plain Python; a name that is not given is null. Raises ConditionFailed."""
        try:
            value = self._compiled([names.get, STEPS, *self._slots])
            return value if value.__class__ in SIMPLE else _as_data(value)
        except Fault as fault:
            raise ConditionFailed(fault.reason, self.text, max(fault.at, 0)) from None
        except Exception as error:  # of a value's own code: a computed field, a comparison of its own
            raise ConditionFailed(
                f"a value raised {type(error).__name__}", self.text, self.tree.at
            ) from error

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it is true over these names. Raises ConditionFailed, also if it is neither true nor false."""
        value = self.evaluate(names)
        if value is True or value is False:
            return bool(value)
        raise ConditionFailed("a condition is true or false, and this was neither", self.text, self.tree.at)

    @property
    def constant(self) -> bool | None:
        """True or False if it is that whatever it is given; None if it depends."""
        if self.names:
            return None
        try:
            return self.holds({})
        except ConditionFailed:
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.text!r}>"


class Condition(Expression):
    """An expression that is true or false; what surely is neither is refused when it is compiled."""

    __slots__ = ()

    def _check(self) -> None:
        if not is_yes_or_no(self.tree):
            raise Fault("a condition is true or false, and this is neither", self.tree.at)


def _as_data(value: Any) -> Any:
    """Models as mappings, all the way down, so that what an expression gives can be checked, stored and sent."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, dict):
        return {key: item if item.__class__ in SIMPLE else _as_data(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [item if item.__class__ in SIMPLE else _as_data(item) for item in value]
    return value
