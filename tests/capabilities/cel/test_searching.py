"""Filters as people write them: what they mean, and what is refused with its place."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetflow.capabilities.cel.searching import Fields, Search
from packetflow.capabilities.conditions import ConditionError

FIELDS = Fields(
    {"state": ("text", "state"), "error": ("text", "error"), "age": ("number", "age"), "at": ("time", "at")},
    words=("state", "error"),
)
ROWS = [("failed", "timeout", 10.0, 0.0), ("failed", None, 90.0, 60.0), ("completed", None, 5.0, 120.0)]


def found(where: str) -> list[int]:
    asked = Search(where, FIELDS)
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE rows (n INTEGER PRIMARY KEY, state, error, age, at)")
        database.executemany("INSERT INTO rows (state, error, age, at) VALUES (?, ?, ?, ?)", ROWS)
        rows = database.execute(f"SELECT n FROM rows WHERE {asked.sql} ORDER BY n", asked.values).fetchall()
    database.close()
    same = [n for n, row in enumerate(ROWS) if asked.holds(dict(zip(FIELDS.columns, row, strict=True)))]
    assert same == [row[0] - 1 for row in rows]
    return same


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
        ('stat == "x"', "names 'stat', which is no field; nearest state \\(column 1"),
        ("zzz == 1", "there is age, at, error, state"),
        ("state", "a filter can't ask this"),
        ("state == 1", "that is no text"),
        ('age == "x"', "that is no number"),
        ('at > "soon"', "'soon' is no time"),
        ("at > 5", "that is no time"),
        ('age > duration("soon")', "duration"),
        ('state == "a" state', "expected an operator or the end, but got 'state' \\(column 14"),
        ("(age < 1", "expected '\\)'"),
        ('state.matches("a")', "a filter can't ask this"),
        ("error < null", "neither less nor greater"),
        ("state == age", "compared with a constant"),
        ("age # 1", "column 5"),
        ("", "is empty"),
        ("(" * 60 + "age < 1", "nested too deep"),
        ("x" * 5000, "at most 4096"),
        ('state == "\\q"', "is no escape"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(where: str, words: str) -> None:
    with pytest.raises(ConditionError, match=words):
        Search(where, FIELDS)


@given(st.text(st.sampled_from("state=!&|()<>\"'.in[],age 19x;-"), max_size=30))
def test_whatever_is_written_is_a_filter_or_refused(where: str) -> None:
    try:
        asked: Any = Search(where, FIELDS)
    except ConditionError:
        return
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE rows (state, error, age, at)")
        database.execute(f"SELECT * FROM rows WHERE {asked.sql}", asked.values)
    database.close()
