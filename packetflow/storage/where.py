"""Filters as people write them, a part of CEL, as SQL: comparison, in, and, or, not, startsWith, contains, text("words").

    state == "failed" && !(composition in ["ticket.intake", "ticket.close"]) && age > 60.0

Only what a table names as its fields can be asked for, values are parameters, and what does not translate is refused with its
place. A field that is null is unequal to everything but null, and neither less nor greater than anything.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

from packetflow.wire.errors import ValidationFailed

Kind = Literal["text", "number", "time"]

TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<string>\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*')"
    r"|(?P<word>[A-Za-z_]\w*)|(?P<sign>&&|\|\||==|!=|<=|>=|[<>!()\[\],.-]))"
)
OPERATORS: Mapping[str, str] = {"==": "IS", "!=": "IS NOT", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
UNITS: Mapping[str, float] = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LONGEST = 2_000  # characters
DEEPEST = 50  # brackets within brackets
EXPECTED = 'a comparison such as state == "failed"'


@dataclass(frozen=True, slots=True)
class Fields:
    """What may be asked for. columns: each field's kind and SQL. words: the SQL of what text("...") looks through."""

    columns: Mapping[str, tuple[Kind, str]]
    words: str = "''"


@dataclass(slots=True)
class Where:
    """A condition in SQL, and its values."""

    sql: str
    values: list[Any] = field(default_factory=list)


def translated(text: str, fields: Fields) -> Where:
    """The filter in SQL. Raises ValidationFailed, with the column, for what is none."""
    return _Reader(text, fields).whole()


class _Reader:
    def __init__(self, text: str, fields: Fields) -> None:
        self._text = text
        self._fields = fields
        self._values: list[Any] = []
        self._at = self._begun = 0
        self._kind = self._word = ""
        self._depth = 0
        if len(text) > LONGEST:
            self.fail(f"{len(text):,} characters; at most {LONGEST:,} are taken")
        self._next()

    def fail(self, what: str, expected: str = "", nearest: str = "") -> NoReturn:
        """It is no filter."""
        place = self._begun + 1
        fault = {
            "path": "where",
            "column": place,
            "message": f"{what} (column {place})",
            "expected": expected,
        }
        if nearest:
            fault["nearest"] = nearest
        told = "".join(
            [f"; nearest {nearest}" if nearest else "", f"; expected {expected}" if expected else ""]
        )
        raise ValidationFailed(f"where, column {place}: {what}{told}", {"faults": [fault]})

    def _next(self) -> None:
        found = TOKEN.match(self._text, self._at)
        self._begun = self._at + len(self._text[self._at :]) - len(self._text[self._at :].lstrip())
        if found is None:
            if self._text[self._at :].strip():
                self.fail(f"{self._text[self._begun]!r} can't stand here", EXPECTED)
            self._kind, self._word = "end", ""
            return
        self._kind, self._word = str(found.lastgroup), found[str(found.lastgroup)]
        self._at = found.end()

    def _take(self, word: str) -> bool:
        if self._kind in ("sign", "word") and self._word == word:
            self._next()
            return True
        return False

    def _need(self, word: str) -> None:
        if not self._take(word):
            self.fail(f"{self._word or 'its end'!r} stands where {word!r} should")

    # ---- the grammar --------------------------------------------------------------------------------------------------

    def whole(self) -> Where:
        """All of it."""
        sql = self._either()
        if self._kind != "end":
            self.fail(f"{self._word!r} can't stand here", "&&, || or the end")
        return Where(sql, self._values)

    def _either(self) -> str:
        self._depth += 1
        if self._depth > DEEPEST:
            self.fail(f"more than {DEEPEST} brackets within each other")
        parts = [self._both()]
        while self._take("||"):
            parts.append(self._both())
        self._depth -= 1
        return parts[0] if len(parts) == 1 else f"({' OR '.join(parts)})"

    def _both(self) -> str:
        parts = [self._single()]
        while self._take("&&"):
            parts.append(self._single())
        return parts[0] if len(parts) == 1 else f"({' AND '.join(parts)})"

    def _single(self) -> str:
        negated = 0
        while self._take("!"):
            negated += 1
        if self._take("("):
            inner = self._either()
            self._need(")")
        elif self._kind == "word" and self._word == "text":
            inner = self._text_search()
        else:
            inner = self._comparison()
        return f"NOT {inner}" if negated % 2 else inner

    def _text_search(self) -> str:
        self._next()
        self._need("(")
        words = self._string()
        self._need(")")
        parts = [self._contains(self._fields.words, word) for word in words.split()]
        return f"({' AND '.join(parts)})" if parts else "1"

    def _contains(self, sql: str, word: str) -> str:
        self._values.append(word.lower())
        return f"instr(lower({sql}), ?) > 0"

    def _comparison(self) -> str:
        name, kind, column = self._field()
        if self._take("."):
            return self._method(name, kind, column)
        if self._take("in"):
            self._need("[")
            marks: list[str] = []
            while not self._take("]"):
                if marks:
                    self._need(",")
                self._values.append(self._value(name, kind))
                marks.append("?")
            return f"coalesce({column} IN ({', '.join(marks)}), 0)"
        operator = OPERATORS.get(self._word) if self._kind == "sign" else None
        if operator is None:
            self.fail(f"{name} is compared with nothing", f"{', '.join(OPERATORS)} or in")
        self._next()
        if self._take("null"):
            if not operator.startswith("IS"):
                self.fail("null is neither less nor greater", "== null or != null")
            return f"{column} {operator} NULL"
        self._values.append(self._value(name, kind))
        return f"coalesce({column} {operator} ?, 0)"

    def _method(self, name: str, kind: Kind, column: str) -> str:
        method = self._word
        if method not in ("startsWith", "contains") or kind != "text":
            self.fail(f"{name} has no {method!r}", "startsWith or contains, of a text")
        self._next()
        self._need("(")
        given = self._string()
        self._need(")")
        self._values += [given, given] if method == "startsWith" else [given]
        if method == "startsWith":
            return f"coalesce(substr({column}, 1, length(?)) = ?, 0)"
        return f"coalesce(instr({column}, ?) > 0, 0)"

    def _field(self) -> tuple[str, Kind, str]:
        name = self._word
        if self._kind != "word":
            self.fail(f"{name or 'its end'!r} can't stand here", EXPECTED)
        if name not in self._fields.columns:
            near = difflib.get_close_matches(name, self._fields.columns, n=1)
            self.fail(
                f"there is no {name!r}", "" if near else f"one of {', '.join(self._fields.columns)}", *near
            )
        self._next()
        return name, *self._fields.columns[name]

    # ---- values -------------------------------------------------------------------------------------------------------

    def _string(self) -> str:
        if self._kind != "string":
            self.fail(f"{self._word or 'its end'!r} stands where a text should", '"a text"')
        body = self._word[1:-1]
        if self._word[0] == "'":
            body = body.replace("\\'", "'").replace('"', '\\"')
        try:
            text = str(json.loads(f'"{body}"'))
        except ValueError:
            self.fail(f"{self._word} is no text", "the escapes of JSON")
        self._next()
        return text

    def _value(self, name: str, kind: Kind) -> Any:
        if kind == "number":
            return self._number(name)
        if kind == "time" and self._kind != "string":
            self.fail(f"{name} is compared with {self._word!r}", 'a time, such as "2026-01-31T08:00:00Z"')
        begun = self._begun
        text = self._string()
        if kind == "text":
            return text
        try:
            when = datetime.fromisoformat(text)
        except ValueError:
            self._begun = begun
            self.fail(f"{text!r} is no time", "RFC 3339, such as 2026-01-31T08:00:00Z")
        return (when if when.tzinfo is not None else when.replace(tzinfo=UTC)).timestamp()

    def _number(self, name: str) -> float:
        if self._kind == "word" and self._word == "duration":
            self._next()
            self._need("(")
            begun = self._begun
            text = self._string()
            parts = SPAN.findall(text)
            if not parts or "".join(amount + unit for amount, unit in parts) != text:
                self._begun = begun
                self.fail(f"{text!r} is no duration", "such as 1h30m, 10s or 500ms")
            self._need(")")
            return sum(float(amount) * UNITS[unit] for amount, unit in parts)
        sign = -1.0 if self._take("-") else 1.0
        if self._kind != "number":
            self.fail(f"{name} is compared with {self._word or 'its end'!r}", "a number")
        number = sign * float(self._word)
        self._next()
        return number
