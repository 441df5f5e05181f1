"""Filters as people write them: what they mean, and what is refused with its place."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetflow.storage.where import Fields, translated
from packetflow.wire.errors import ValidationFailed

FIELDS = Fields(
    {"state": ("text", "state"), "error": ("text", "error"), "age": ("number", "age"), "at": ("time", "at")},
    "state || ' ' || coalesce(error, '')",
)
ROWS = [("failed", "timeout", 10.0, 0.0), ("failed", None, 90.0, 60.0), ("completed", None, 5.0, 120.0)]


def found(where: str) -> list[int]:
    asked = translated(where, FIELDS)
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, state, error, age, at)")
        database.executemany("INSERT INTO rows (state, error, age, at) VALUES (?, ?, ?, ?)", ROWS)
        rows = database.execute(f"SELECT n FROM rows WHERE {asked.sql} ORDER BY n", asked.values).fetchall()
    database.close()
    return [row[0] - 1 for row in rows]


@pytest.mark.parametrize(
    ("where", "rows"),
    [
        ('state == "failed"', [0, 1]),
        ('state != "failed"', [2]),
        ('!(state == "failed")', [2]),
        ('error == "timeout"', [0]),
        ('error != "timeout"', [1, 2]),
        ("error == null", [1, 2]),
        ("!(error != null) && age < 50", [2]),
        ('state in ["failed", "other"] && age >= 10.0', [0, 1]),
        ('state == "completed" || age > 50', [1, 2]),
        ('state.startsWith("comp")', [2]),
        ('!error.contains("time")', [1, 2]),
        ('text("FAILED time")', [0]),
        ('age > duration("1m")', [1]),
        ('age < duration("500ms")', []),
        ('at > "1970-01-01T00:01:00Z"', [2]),
        ("age == -1", []),
        ("!!(age < 50)", [0, 2]),
        ("state == 'it\\'s \"so\"'", []),
        ("state in []", []),
    ],
)
def test_a_filter_finds_what_it_says(where: str, rows: list[int]) -> None:
    assert found(where) == rows


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ('stat == "x"', "column 1: there is no 'stat'; nearest state"),
        ("zzz == 1", "expected one of state, error, age, at"),
        ("state", "state is compared with nothing"),
        ("state == 1", "column 10: '1' stands where a text should"),
        ('age == "x"', "age is compared with"),
        ('at > "soon"', "'soon' is no time; expected RFC 3339"),
        ("at > 5", "at is compared with '5'"),
        ('age > duration("soon")', "'soon' is no duration"),
        ('state == "a" state', "column 14: 'state' can't stand here"),
        ("(age < 1", "stands where '\\)' should"),
        ('state.matches("a")', "has no 'matches'"),
        ("error < null", "neither less nor greater"),
        ("age # 1", "column 5: '#' can't stand here"),
        ("", "its end"),
        ("(" * 60 + "age < 1", "more than 50 brackets"),
        ("x" * 3000, "at most 2,000"),
        ('state == "\\q"', "is no text"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(where: str, words: str) -> None:
    with pytest.raises(ValidationFailed, match=words):
        translated(where, FIELDS)


@given(st.text(st.sampled_from("state=!&|()<>\"'.in[],age 19x;-"), max_size=30))
def test_whatever_is_written_is_a_filter_or_refused(where: str) -> None:
    try:
        asked: Any = translated(where, FIELDS)
    except ValidationFailed:
        return
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE rows (state, error, age, at)")
        database.execute(f"SELECT * FROM rows WHERE {asked.sql}", asked.values)
    database.close()
