"""What can be wrong with an expression: before it is used, and while it is evaluated. Both point at the place."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from packetflow.otp.errors import PacketFlowError

SHOWN = 120  # characters of the line that an error shows around its place


class ConditionError(PacketFlowError):
    """An expression that can't be used.

    reason: what is wrong, without the place. text: the expression. line, column: where, from 1. pointed: the line of the
    place, and below it a mark. whole: the reason already reads as a sentence about the text.
    """

    code = "validation_failed"

    def __init__(self, reason: str, text: str, at: int, whole: bool = False) -> None:
        self.reason, self.text = reason, text
        self.line, self.column = place(text, at)
        self.pointed = pointer(text, at)
        super().__init__(self._words(whole))

    def _words(self, whole: bool) -> str:
        line = f"line {self.line}, " if self.line > 1 else ""
        verb = " " if whole else " is no CEL: "
        return f"{short(self.text)}{verb}{self.reason} ({line}column {self.column})"


class ConditionFailed(ConditionError):
    """An evaluation that came to no result: a value of the wrong type, a missing key, a bound. Says nothing of the values."""

    code = "condition_failed"

    def _words(self, whole: bool) -> str:
        return f"{self.reason}, at {self.line}:{self.column} of {short(self.text)}"


class Fault(Exception):
    """Inside this package: something is wrong at a place. Becomes one of the above, which know the text."""

    def __init__(self, reason: str, at: int = -1) -> None:
        super().__init__(reason)
        self.reason, self.at = reason, at


def unknown(name: str, what: str, known: Iterable[str]) -> str:
    """What to say of a name that is not known: `names 'amont', which nothing gives; nearest amount`."""
    there = sorted(known)
    near = difflib.get_close_matches(name, there, n=1)
    hint = f"nearest {near[0]}" if near else f"there is {', '.join(there) or 'nothing'}"
    return f"names {name!r}, which {what}; {hint}"


def place(text: str, at: int) -> tuple[int, int]:
    """Line and column of an offset, from 1."""
    before = text[:at]
    return before.count("\n") + 1, at - (before.rfind("\n") + 1) + 1


def pointer(text: str, at: int) -> str:
    """The line of the offset, and below it a mark: two lines, indented by two."""
    start = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    line = text[start : end if end >= 0 else len(text)].replace("\t", " ")
    column = at - start
    if len(line) > SHOWN:
        cut = max(0, min(column - SHOWN // 2, len(line) - SHOWN))
        line, column = line[cut : cut + SHOWN], column - cut
    return f"  {line}\n  {' ' * column}^"


def short(text: str) -> str:
    """An expression in one line, cut where it is long."""
    line = " ".join(text.split())
    return repr(line if len(line) <= SHOWN else line[: SHOWN - 3] + "...")
