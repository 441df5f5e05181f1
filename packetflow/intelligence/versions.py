"""Version ranges as manifests write them: `>=0.1,<1`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable

OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
CLAUSE = re.compile(r"(>=|<=|==|!=|>|<)\s*(\d+(?:\.\d+){0,2})")


class VersionRange:
    """Clauses that must all hold, such as `>=0.1,<1`. Empty: any version. Raises ValueError for anything else."""

    __slots__ = ("_clauses", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._clauses: list[tuple[str, tuple[int, ...]]] = []
        for part in filter(None, (part.strip() for part in text.split(","))):
            found = CLAUSE.fullmatch(part)
            if found is None:
                raise ValueError(f"version range {text!r}; expected clauses such as >=0.1,<1")
            self._clauses.append((found[1], numbers(found[2])))

    def __contains__(self, version: str) -> bool:
        given = numbers(version)
        return all(OPERATORS[sign](given, bound) for sign, bound in self._clauses)


def numbers(version: str) -> tuple[int, ...]:
    """`1.2` as (1, 2, 0), to compare."""
    parts = [int(part) for part in version.split(".")]
    return tuple(parts + [0] * (3 - len(parts)))
