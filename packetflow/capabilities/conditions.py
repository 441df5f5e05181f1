"""Conditions and expressions as data: CEL texts, compiled once, evaluated over names (https://cel.dev).

CEL has no side effects, no loops without an end, and no way to anything but the names it is given.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import cel
from pydantic import BaseModel

from packetflow.otp.errors import PacketFlowError

LONGEST = 4_096  # characters of a text
POSITION = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
EXPECTED = re.compile(r" expecting \{.*", re.DOTALL)


class ConditionError(PacketFlowError):
    """A CEL text that is none, or can't be evaluated over what it was given. line, column: where, from 1; 0 if nobody knows."""

    code = "validation_failed"

    def __init__(self, message: str, line: int = 0, column: int = 0) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


class Expression:
    """A compiled CEL text. names: what it needs to be given."""

    __slots__ = ("_program", "names", "text")

    def __init__(self, text: str) -> None:
        """Raises ConditionError, with line and column, for what is no CEL."""
        if not isinstance(text, str):
            raise ConditionError(f"expected a CEL text, got {text!r}")
        if len(text) > LONGEST:
            raise ConditionError(f"a CEL text of {len(text):,} characters; at most {LONGEST:,} are taken")
        self.text = text
        try:
            self._program = cel.compile(text)
        except ValueError as error:
            raise _no_cel(text, str(error)) from None
        self.names = tuple(sorted(self._program.variables()))

    def check_names(self, known: Iterable[str]) -> None:
        """Raises ConditionError for a name that it needs and that is not known, with the nearest one that is."""
        there = set(known)
        for name in self.names:
            if name not in there:
                nearest = difflib.get_close_matches(name, there, n=1)
                hint = (
                    f"; nearest {nearest[0]}"
                    if nearest
                    else f"; there is {', '.join(sorted(there)) or 'nothing'}"
                )
                column = (
                    re.search(rf"\b{re.escape(name)}\b", self.text) or re.match("", self.text)
                ).start() + 1  # type: ignore[union-attr]
                raise ConditionError(f"{self.text!r} names {name!r}, which nothing gives{hint}", 1, column)

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """Its value over these names; those that are not given are null. Raises ConditionError."""
        given = {name: _plain(names.get(name)) for name in self.names}
        try:
            return self._program.execute(given)
        except Exception as error:  # noqa: BLE001 - whatever the library raises over somebody's values
            raise ConditionError(f"{self.text!r} can't be evaluated: {_first_line(error)}") from None

    def holds(self, names: Mapping[str, Any]) -> bool:
        """Whether it is true over these names. Raises ConditionError, also if it is neither true nor false."""
        value = self.evaluate(names)
        if value is True or value is False:
            return value
        raise ConditionError(f"{self.text!r} gave {value!r}; a condition is true or false")

    @property
    def constant(self) -> bool | None:
        """True or False if it is that whatever it is given; None if it depends."""
        if self.names:
            return None
        try:
            return self.holds({})
        except ConditionError:
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"<CEL {self.text}>"


def _plain(value: Any) -> Any:
    """Models as mappings, all the way down, which is all that CEL reads."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _no_cel(text: str, told: str) -> ConditionError:
    found = POSITION.search(told)
    if found is None:
        return ConditionError(f"{text!r} is no CEL: {told.splitlines()[0]}")
    line, column, what = int(found[1]), int(found[2]), EXPECTED.sub("", found[3])
    return ConditionError(f"{text!r} is no CEL: {what} (column {column})", line, column)


def _first_line(error: Exception) -> str:
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.partition(". CEL does not")[0].removesuffix(".")
