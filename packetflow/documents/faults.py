"""What is wrong with a file, as values: where, what was given, what was expected, what is nearest, what to do.

Nothing here knows how the faults were found. `render` writes them for people, `Fault.as_dict` for programs.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any, Literal

#: A key's way through nested tables and lists: `("modules", 1, "priority")`.
KeyPath = tuple[str | int, ...]

MASK = "****"
LONGEST_GIVEN = 60
LONGEST_EXCERPT = 100
LONGEST_WORD = 64  # a longer word than this is no misspelling of a key


@dataclass(frozen=True, slots=True)
class Place:
    """A stretch of one line of a source. Lines and columns count from 1, `end` is the column after the last.

    A source without lines (an environment variable, a flag) has line 0. `text` is the line, secrets hidden.
    """

    file: str
    line: int = 0
    column: int = 0
    end: int = 0
    text: str = ""

    def __str__(self) -> str:
        if not self.line:
            return shown(self.file)
        return f"{shown(self.file)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `file` to `end` say where (line 0: the source has no lines), the rest may be empty."""

    message: str
    file: str
    line: int = 0
    column: int = 0
    end: int = 0
    key: str = ""
    given: str = ""
    expected: str = ""
    nearest: str = ""
    next: str = ""
    excerpt: str = ""
    severity: Literal["error", "warning"] = "error"

    @classmethod
    def at(
        cls,
        place: Place,
        message: str,
        *,
        key: str = "",
        given: str = "",
        expected: str = "",
        nearest: str = "",
        next: str = "",
        severity: Literal["error", "warning"] = "error",
    ) -> Fault:
        """A fault at a place."""
        return cls(
            message=message,
            file=place.file,
            line=place.line,
            column=place.column,
            end=place.end,
            key=key,
            given=given,
            expected=expected,
            nearest=nearest,
            next=next,
            excerpt=place.text,
            severity=severity,
        )

    @property
    def place(self) -> Place:
        """Where it is."""
        return Place(self.file, self.line, self.column, self.end, self.excerpt)

    def as_dict(self) -> dict[str, Any]:
        """For programs: what is known, by name."""
        data: dict[str, Any] = {"severity": self.severity, "message": self.message, "file": self.file}
        if self.line:
            data.update(line=self.line, column=self.column, end=self.end)
        for name in ("key", "given", "expected", "nearest", "next"):
            if value := getattr(self, name):
                data[name] = value
        return data

    def __str__(self) -> str:
        return render_fault(self)


def render(faults: Sequence[Fault], ending: str = "") -> str:
    """All faults for people, then how many; `ending` says what that means ("the running node is untouched")."""
    lines = [render_fault(fault) for fault in faults]
    errors = sum(fault.severity == "error" for fault in faults)
    warnings = len(faults) - errors
    counts = [
        f"{count} {word}{'' if count == 1 else 's'}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count or (word == "error" and not warnings)
    ]
    lines.append(", ".join(counts) + (f"; {ending}" if ending else ""))
    return "\n".join(lines)


def render_fault(fault: Fault) -> str:
    """One fault: its place and what is wrong, the line with carets, the key, what was expected, what to do."""
    severity = "warning: " if fault.severity == "warning" else ""
    lines = [f"{fault.place}: {severity}{fault.message}"]
    if fault.line and fault.excerpt.strip():
        lines += _excerpt(fault)
    parts = [
        f"{word} {value}"
        for word, value in (("key", fault.key), ("given", fault.given), ("nearest", fault.nearest))
        if value
    ]
    if parts:
        lines.append("  " + "   ".join(parts))
    if fault.expected:
        lines.append(f"  expected {fault.expected}")
    if fault.next:
        lines.append(f"  next: {fault.next}")
    return "\n".join(lines)


def _excerpt(fault: Fault) -> list[str]:
    start = min(fault.column, len(fault.excerpt) + 1) - 1
    end = max(fault.end - 1, start + 1)
    first = max(0, start - LONGEST_EXCERPT // 2)
    text = fault.excerpt[first : first + LONGEST_EXCERPT]
    # Escapes make the text longer: the carets are counted on what is shown.
    before = shown(fault.excerpt[first:start])
    marked = shown(fault.excerpt[start : min(end, first + LONGEST_EXCERPT)])
    head = "..." if first else ""
    tail = "..." if first + LONGEST_EXCERPT < len(fault.excerpt) else ""
    number = f"{fault.line:>4}"
    return [
        f"{number} | {head}{shown(text)}{tail}",
        f"{' ' * len(number)} | {' ' * (len(head) + len(before))}{'^' * max(1, len(marked))}",
    ]


def shown(text: str) -> str:
    """The text with everything that a terminal would act on (control characters, direction marks) as escapes."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else (" " if c == "\t" else _escaped(c)) for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def reason(error: OSError | ValueError) -> str:
    """Why a file can't be had, in the system's words."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return "its name holds a character that no file's name may hold"  # Python's own words differ by version


def path_text(path: KeyPath) -> str:
    """A path as people write it: `modules[1].priority`, `tags."a.b"`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + key_text(part)
    return text


def key_text(key: str) -> str:
    """A key as TOML would write it: quoted where it is more than letters, digits, `_` and `-`."""
    if key and key.isascii() and key.replace("_", "").replace("-", "").isalnum():
        return key
    if key in ("-", "_"):
        return key
    quoted = json.dumps(key, ensure_ascii=False) if len(key) <= LONGEST_GIVEN else _cut(key)
    return shown(quoted)


def _cut(text: str) -> str:
    return json.dumps(text[: LONGEST_GIVEN - 3], ensure_ascii=False)[:-1] + '..."'


def value_text(value: object) -> str:
    """A value as TOML would write it, cut where it is long, on one line."""
    if isinstance(value, str):
        return shown(json.dumps(value, ensure_ascii=False) if len(value) <= LONGEST_GIVEN else _cut(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, int) and value.bit_length() > 200:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list | tuple):
        return _joined("[", [value_text(item) for item in value[:8]], len(value) > 8, "]")
    if isinstance(value, dict):
        some = list(value.items())[:8]
        pairs = [f"{key_text(str(key))} = {value_text(item)}" for key, item in some]
        return _joined("{", pairs, len(value) > 8, "}")
    return shown(str(value))


def _joined(opening: str, items: list[str], more: bool, closing: str) -> str:
    text = ", ".join(items)
    if len(text) > LONGEST_GIVEN:
        text, more = text[: LONGEST_GIVEN - 3].rstrip(), False
        text += "..."
    return f"{opening}{text}{', ...' if more else ''}{closing}"


def kind_text(value: object) -> str:
    """What sort of value it is, in TOML's words."""
    if isinstance(value, bool):
        return "a boolean"
    for kinds, words in (
        (str, "a string"),
        (int, "an integer"),
        (float, "a float"),
        (dict, "a table"),
        (list | tuple, "a list"),
        (datetime | date | time, "a date or time"),
    ):
        if isinstance(value, kinds):
            return words
    return "nothing" if value is None else type(value).__name__


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that this one was probably meant to be, or an empty text."""
    if len(word) > LONGEST_WORD:
        return ""
    words = {name.casefold(): name for name in known}
    found = difflib.get_close_matches(word.casefold(), list(words), n=1, cutoff=0.6)
    if found:
        return words[found[0]]
    # "prio" for "priority", "maxconcurrency" for "max_concurrency"
    starts = [name for folded, name in words.items() if len(word) >= 3 and folded.startswith(word.casefold())]
    return starts[0] if len(starts) == 1 else ""
