"""What is asked of traces: in memory by looking at each, in the database by SQL, with one meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, TypedDict

from packetflow.capabilities.cel.searching import Fields
from packetflow.node.searching import search_of
from packetflow.wire.errors import ValidationFailed

PATTERN = re.compile(r"[*?\[]")
#: What a condition may ask for.
FIELDS = Fields(
    {
        **{
            name: ("text", name)
            for name in (
                "id",
                "parent",
                "capability",
                "version",
                "principal",
                "tenant",
                "door",
                "outcome",
                "error",
            )
        },
        "started": ("time", "started"),
        "duration": ("number", "duration"),
    },
    words=("capability", "principal", "outcome", "error"),
)


class TraceFilter(TypedDict, total=False):
    """where: a condition in CEL over FIELDS. capability, principal: patterns. outcome: `ok`, `error` (any), or an error's code.
    since, until: RFC 3339. longer, shorter: seconds. text: what the error's words hold. module: one that it passed. nested: also
    requests that requests made.
    """

    where: str
    capability: str
    principal: str
    tenant: str
    door: str
    outcome: str
    since: str
    until: str
    longer: float
    shorter: float
    text: str
    module: str
    nested: bool


class _Part(NamedTuple):
    sql: str
    parameters: tuple[Any, ...]
    holds: Callable[[Mapping[str, Any]], bool]


class TraceSearch:
    """A filter, ready to be asked. sql, parameters: a WHERE clause. Raises ValidationFailed for one that is none."""

    def __init__(self, asked: TraceFilter) -> None:
        parts = [_part(key, value) for key, value in asked.items() if key not in ("where", "nested")]
        if not asked.get("nested"):
            parts.append(_Part("parent IS NULL", (), lambda row: row["parent"] is None))
            parts.append(_Part(
                "capability NOT GLOB 'system.*' AND capability NOT GLOB 'job.*'", (),
                lambda row: not row["capability"].startswith(("system.", "job.")),
            ))  # fmt: skip
        text = asked.get("where")
        if text is not None:
            parts.append(_condition(text))
        self._parts = parts
        self.sql = " AND ".join(part.sql for part in parts) or "1"
        self.parameters = tuple(value for part in parts for value in part.parameters)

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether a trace is one of those. row: by FIELDS, and modules: names of those it passed."""
        return all(part.holds(row) for part in self._parts)


def _part(key: str, value: Any) -> _Part:
    match key:
        case "capability" | "principal" | "tenant" | "door" if not PATTERN.search(value):
            return _Part(f"{key} = ?", (value,), lambda row: bool(row[key] == value))  # by the index
        case "capability" | "principal" | "tenant" | "door":
            return _Part(
                f"{key} GLOB ?", (value.replace("[!", "[^"),), lambda row: fnmatchcase(str(row[key]), value)
            )
        case "module":
            return _Part(
                "EXISTS (SELECT 1 FROM json_each(CAST(body AS TEXT), '$.spans') AS span"
                " WHERE span.value ->> 'where' = ? AND span.value ->> 'priority' IS NOT NULL)",
                (value,),
                lambda row: value in row["modules"],
            )
        case "outcome" if value == "error":
            return _Part("outcome != 'ok'", (), lambda row: bool(row["outcome"] != "ok"))
        case "outcome":
            return _Part("outcome = ?", (value,), lambda row: bool(row["outcome"] == value))
        case "since":
            begin = _moment(key, value)
            return _Part("started >= ?", (begin,), lambda row: bool(row["started"] >= begin))
        case "until":
            end = _moment(key, value)
            return _Part("started < ?", (end,), lambda row: bool(row["started"] < end))
        case "longer":
            return _Part("duration >= ?", (value,), lambda row: bool(row["duration"] >= value))
        case "shorter":
            return _Part("duration < ?", (value,), lambda row: bool(row["duration"] < value))
        case "text":
            return _Part("instr(lower(error), lower(?)) > 0", (value,),
                         lambda row: value.lower() in (row["error"] or "").lower())  # fmt: skip
    raise _wrong(key, f"traces can't be asked for {key!r}")


def _condition(text: str) -> _Part:
    search = search_of(text, FIELDS)
    return _Part(search.sql, search.values, search.holds)


def _moment(key: str, text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(
            key, f"{key} {text!r} is no time; expected RFC 3339, such as 2026-01-31T12:00:00Z"
        ) from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def _wrong(key: str, message: str) -> ValidationFailed:
    return ValidationFailed(message, {"faults": [{"path": key, "message": message}]})
