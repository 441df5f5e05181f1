"""What every outbox promises: the one in memory and the one in the database."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from packetflow.storage.database import Database
from packetflow.storage.outbox import DatabaseOutbox, Event, MemoryOutbox, Outbox
from packetflow.wire.codec import Unencodable
from tests.storage.calendar import Calendar


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture(params=["memory", "database"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path, calendar: Calendar) -> Iterator[Outbox]:
    if request.param == "memory":
        yield MemoryOutbox(calendar.clock)
    else:
        with Database(tmp_path / "node.db") as database:
            yield DatabaseOutbox(database, calendar.clock)


def event(id: str, **more: str) -> Event:
    return Event(id * 32, "order.paid", {"amount": 5}, "run 1f2e", **more)  # type: ignore[arg-type]


def ids(outbox: Outbox, limit: int = 100) -> list[str]:
    return [one.id[0] for one in outbox.due(limit)]


def test_what_was_put_is_due_in_its_order_until_it_is_delivered(outbox: Outbox, calendar: Calendar) -> None:
    assert (outbox.due(), outbox.next_due()) == ([], None)
    outbox.put([event("b"), event("a")])
    outbox.put([event("c")])
    assert outbox.due()[0] == replace(event("b"), created=calendar.now.timestamp())
    assert ids(outbox) == ["b", "a", "c"]
    assert ids(outbox, 2) == ["b", "a"]
    assert outbox.next_due() == 0.0
    outbox.delivered(["a" * 32, "b" * 32])
    assert ids(outbox) == ["c"]


def test_one_that_was_put_twice_is_one(outbox: Outbox) -> None:
    outbox.put([event("a")])
    outbox.put([event("a")])
    assert ids(outbox) == ["a"]


def test_one_that_failed_is_due_later_and_the_others_go_on(outbox: Outbox, calendar: Calendar) -> None:
    outbox.put([event("a"), event("b")])
    outbox.failed("a" * 32, "nobody at home", 10.0)
    assert ids(outbox) == ["b"]
    outbox.delivered(["b" * 32])
    assert outbox.next_due() == pytest.approx(10.0)
    calendar.turn(seconds=11)
    [again] = outbox.due()
    assert (again.attempts, again.last_error) == (1, "nobody at home")


def test_a_subscriber_meets_an_event_for_the_first_time_once(outbox: Outbox, calendar: Calendar) -> None:
    assert outbox.first_time("mailer", "a")
    assert not outbox.first_time("mailer", "a")
    assert outbox.first_time("other", "a")
    assert outbox.first_time("mailer", "b")
    calendar.turn(days=8)
    assert outbox.prune() == 3
    assert outbox.first_time("mailer", "a")


def test_a_payload_that_can_not_be_kept_is_refused(outbox: Outbox) -> None:
    with pytest.raises(Unencodable):
        outbox.put([Event("a", "t", object())])
    assert outbox.due() == []


def test_an_event_is_there_if_and_only_if_its_transaction_is(tmp_path: Path) -> None:
    calendar = Calendar()
    with Database(tmp_path / "node.db") as database:
        outbox = DatabaseOutbox(database, calendar.clock)
        outbox.prepare()
        with pytest.raises(ZeroDivisionError):
            database.write(
                lambda within: (outbox.put([event("a")], within), outbox.first_time("s", "x", within), 1 / 0)
            )
        assert outbox.due() == []
        assert database.write(
            lambda within: (outbox.put([event("a")], within), outbox.first_time("s", "x", within))
        ) == (None, True)
    with Database(tmp_path / "node.db") as database:
        assert ids(DatabaseOutbox(database, calendar.clock)) == ["a"]
