"""What every place for dead letters promises: the one in memory and the one in the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from packetflow.storage.database import Database
from packetflow.storage.dead_letters import DatabaseDeadLetters, DeadLetter, DeadLetters, MemoryDeadLetters
from packetflow.wire.codec import Unencodable
from tests.storage.calendar import Calendar

LETTER = DeadLetter(
    "ab12cd34" * 4,
    "request",
    "mail.send",
    {"to": "ana", "parts": [1, b"two", None]},
    "execution_failed",
    "no route to host",
    {"attempts": 3},
    principal="ana",
    tenant="acme",
    origin="run 1f2e, step 2",
)


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture(params=["memory", "database"])
def letters(request: pytest.FixtureRequest, tmp_path: Path, calendar: Calendar) -> Iterator[DeadLetters]:
    if request.param == "memory":
        yield MemoryDeadLetters(calendar.clock)
    else:
        with Database(tmp_path / "node.db") as database:
            yield DatabaseDeadLetters(database, calendar.clock)


def another(id: str, **changes: str) -> DeadLetter:
    return replace(LETTER, id=id * 32, **changes)  # type: ignore[arg-type]


def test_a_letter_is_found_as_it_was_put(letters: DeadLetters, calendar: Calendar) -> None:
    assert (letters.newest(), letters.count()) == ([], 0)
    letters.put(LETTER)
    [found] = letters.newest()
    assert found == replace(LETTER, created=calendar.now.timestamp())
    assert letters.count() == 1


def test_of_two_with_one_id_the_first_stays(letters: DeadLetters) -> None:
    letters.put(LETTER)
    letters.put(replace(LETTER, reason="another"))
    assert [letter.reason for letter in letters.newest()] == ["no route to host"]


def test_the_newest_come_first_by_kind_or_by_what(letters: DeadLetters) -> None:
    letters.put(another("a"))
    letters.put(another("b", kind="event", what="mail.sent"))
    letters.put(another("c"))
    assert [letter.id[0] for letter in letters.newest()] == ["c", "b", "a"]
    assert [letter.id[0] for letter in letters.newest(2)] == ["c", "b"]
    assert [letter.id[0] for letter in letters.newest(kind="event")] == ["b"]
    assert [letter.id[0] for letter in letters.newest(kind="request", what="mail.sent")] == []
    assert [letter.id[0] for letter in letters.newest(what="mail.send")] == ["c", "a"]


def test_the_beginning_of_an_id_is_enough(letters: DeadLetters) -> None:
    letters.put(LETTER)
    letters.put(another("f"))
    assert [letter.id for letter in letters.find("ab12")] == [LETTER.id]
    assert [letter.id for letter in letters.find("f" * 32)] == ["f" * 32]
    assert letters.find("f" * 33) == letters.find("0") == []
    assert len(letters.find("")) == 2


def test_replays_are_counted(letters: DeadLetters) -> None:
    letters.put(LETTER)
    letters.replayed(LETTER.id, "timeout: not done")
    letters.replayed(LETTER.id, "timeout: again")
    letters.replayed("0" * 32, "of nobody")
    [found] = letters.newest()
    assert (found.replays, found.last_replay) == (2, "timeout: again")


def test_one_that_is_removed_is_gone(letters: DeadLetters) -> None:
    letters.put(LETTER)
    assert letters.remove(LETTER.id)
    assert not letters.remove(LETTER.id)
    assert letters.count() == 0


def test_after_thirty_days_they_are_forgotten(letters: DeadLetters, calendar: Calendar) -> None:
    letters.put(LETTER)
    calendar.turn(days=29)
    letters.put(another("b"))
    assert letters.prune() == 0
    calendar.turn(days=2)
    assert letters.prune() == 1
    assert [letter.id[0] for letter in letters.newest()] == ["b"]


def test_a_body_that_can_not_be_kept_is_refused(letters: DeadLetters) -> None:
    with pytest.raises(Unencodable):
        letters.put(replace(LETTER, body=object()))
    assert letters.count() == 0


def test_memory_has_a_bound() -> None:
    letters = MemoryDeadLetters(Calendar().clock, most=2)
    for id in "abc":
        letters.put(another(id))
    assert [letter.id[0] for letter in letters.newest()] == ["c", "b"]


def test_a_letter_is_put_with_what_else_is_written_or_not_at_all(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db") as database:
        letters = DatabaseDeadLetters(database, Calendar().clock)
        letters.prepare()
        with pytest.raises(ZeroDivisionError):
            database.write(lambda transaction: (letters.put(LETTER, transaction), 1 / 0))
        assert letters.count() == 0
        database.write(lambda transaction: letters.put(LETTER, transaction))
    with Database(tmp_path / "node.db") as database:
        assert DatabaseDeadLetters(database, Calendar().clock).count() == 1
