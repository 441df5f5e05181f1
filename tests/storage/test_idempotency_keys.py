"""What every place for idempotency keys promises: the one in memory and the one in the database."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from packetflow.storage.database import Database
from packetflow.storage.errors import StorageUnavailable
from packetflow.storage.idempotency import DatabaseKeys, IdempotencyKeys, Kept, MemoryKeys, Place
from packetflow.testing.database_disk import Disk
from tests.storage.calendar import Calendar

PLACE = Place("scope", "pay.send", "k1")
KEPT = Kept(b"digest", b"\x00answer")


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture(params=["memory", "database"])
def keys(request: pytest.FixtureRequest, tmp_path: Path, calendar: Calendar) -> Iterator[IdempotencyKeys]:
    if request.param == "memory":
        yield MemoryKeys(calendar.clock)
    else:
        with Database(tmp_path / "node.db") as database:
            yield DatabaseKeys(database, calendar.clock)


def test_what_was_kept_is_found(keys: IdempotencyKeys) -> None:
    keys.check()
    assert keys.find(PLACE) is None
    keys.keep(PLACE, KEPT)
    assert keys.find(PLACE) == KEPT


@pytest.mark.parametrize("other", [("other",), ("scope", "pay.other"), ("scope", "pay.send", "k2")])
def test_a_key_is_one_of_a_scope_and_a_capability(keys: IdempotencyKeys, other: tuple[str, ...]) -> None:
    keys.keep(PLACE, KEPT)
    assert keys.find(Place(*other, *PLACE[len(other) :])) is None


def test_the_first_answer_stays(keys: IdempotencyKeys) -> None:
    keys.keep(PLACE, KEPT)
    keys.keep(PLACE, Kept(b"other", b"other"))
    assert keys.find(PLACE) == KEPT


def test_after_a_day_it_is_forgotten(keys: IdempotencyKeys, calendar: Calendar) -> None:
    keys.keep(PLACE, KEPT)
    calendar.turn(hours=23)
    keys.keep(Place("scope", "pay.send", "later"), KEPT)
    assert keys.find(PLACE) == KEPT
    calendar.turn(hours=2)
    assert keys.find(PLACE) is None
    assert keys.find(Place("scope", "pay.send", "later")) == KEPT
    keys.keep(PLACE, Kept(b"new", b"new"))  # one that is too old to be found is no first
    assert keys.find(PLACE) == Kept(b"new", b"new")


def test_what_is_too_old_takes_no_room(keys: IdempotencyKeys, calendar: Calendar) -> None:
    for number in range(5):
        keys.keep(Place("scope", "pay.send", str(number)), KEPT)
    calendar.turn(hours=25)
    keys.keep(PLACE, KEPT)
    keys.prune()
    assert keys.prune() == 0
    calendar.turn(hours=-25)
    assert keys.find(Place("scope", "pay.send", "0")) is None


def test_many_are_forgotten_in_several_writes(
    tmp_path: Path, calendar: Calendar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packetflow.storage.idempotency.SLICE", 3)
    with Database(tmp_path / "node.db") as database:
        keys = DatabaseKeys(database, calendar.clock)
        for number in range(10):
            keys.keep(Place("scope", "pay.send", str(number)), KEPT)
        calendar.turn(hours=25)
        assert keys.prune() == 10
        assert database.read("SELECT count(*) FROM idempotency_keys") == [(0,)]


def test_memory_has_a_bound(calendar: Calendar) -> None:
    keys = MemoryKeys(calendar.clock, most=3)
    for number in range(5):
        keys.keep(Place("scope", "pay.send", str(number)), KEPT)
    assert [keys.find(Place("scope", "pay.send", str(number))) for number in range(5)] == [None] * 2 + [
        KEPT
    ] * 3


def test_keys_survive_their_node(tmp_path: Path, calendar: Calendar) -> None:
    with Database(tmp_path / "node.db") as database:
        DatabaseKeys(database, calendar.clock).keep(PLACE, KEPT)
    with Database(tmp_path / "node.db") as database:
        assert DatabaseKeys(database, calendar.clock).find(PLACE) == KEPT


def test_a_place_that_can_not_keep_says_so_before_anything_is_run(tmp_path: Path, calendar: Calendar) -> None:
    with Disk() as disk, Database(tmp_path / "node.db", vfs=disk.name) as database:
        keys = DatabaseKeys(database, calendar.clock)
        keys.check()
        disk.room = 0
        filling = gevent.spawn(keys.keep, PLACE, Kept(b"digest", b"x" * 200_000))
        filling.join()
        assert isinstance(filling.exception, StorageUnavailable)
        with pytest.raises(StorageUnavailable, match="full"):
            keys.check()
        assert keys.find(PLACE) is None  # reading goes on
