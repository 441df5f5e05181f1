from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.errors import NotFound, Unavailable
from tests.examples.loading import ROOT, Desk, eventually

schema: Any = sys.modules[Desk.__module__.rpartition(".")[0] + ".schema"]


def texts(desk: Any, **what: Any) -> list[str]:
    return [ticket.text for ticket in desk.find(limit=100, **what).tickets]


def in_the_thread(desk: Any) -> None:
    """Wait until the database's thread has taken what was handed over, and so waits for the file."""
    eventually(lambda: desk._database._driver is not None and not desk._database._waiting)


def busy_elsewhere(path: Path) -> sqlite3.Connection:
    """Another program's connection, in the middle of a write."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


# ---- one thread, many greenlets ------------------------------------------------------------------------------------------


def test_the_hub_goes_on_while_the_database_waits(desk: Any, tmp_path: Path) -> None:
    with closing(busy_elsewhere(tmp_path / "desk.sqlite")) as other:
        opening = gevent.spawn(desk.open_ticket, "C-1001", "wait for me", "general")
        turns = 0
        while turns < 200:  # other greenlets run on
            gevent.sleep(0)
            turns += 1
        assert not opening.ready()
        other.execute("ROLLBACK")
        assert opening.get(timeout=20).id == "T-1"


def test_writes_that_gather_share_a_transaction_and_only_the_faulty_one_fails(
    desk: Any, tmp_path: Path
) -> None:
    with closing(busy_elsewhere(tmp_path / "desk.sqlite")) as other:
        first = gevent.spawn(desk.open_ticket, "C-1001", "first", "general")
        in_the_thread(desk)
        customers = ["C-1001", "C-9999", "C-1002"]
        rest = [
            gevent.spawn(desk.open_ticket, customer, f"for {customer}", "general") for customer in customers
        ]
        eventually(lambda: len(desk._database._waiting) == 3)
        other.execute("ROLLBACK")
        gevent.joinall([first, *rest], timeout=20)
    assert isinstance(rest[1].exception, NotFound)
    assert [rest[0].value.id, rest[2].value.id] == ["T-2", "T-3"]
    assert texts(desk) == ["for C-1002", "for C-1001", "first"]


def test_a_caller_that_is_ended_takes_its_unbegun_work_along_and_nobody_elses(
    desk: Any, tmp_path: Path
) -> None:
    with closing(busy_elsewhere(tmp_path / "desk.sqlite")) as other:
        begun = gevent.spawn(desk.open_ticket, "C-1001", "begun", "general")
        in_the_thread(desk)
        dropped = gevent.spawn(desk.open_ticket, "C-1001", "dropped", "general")
        kept = gevent.spawn(desk.open_ticket, "C-1001", "kept", "general")
        eventually(lambda: len(desk._database._waiting) == 2)
        begun.kill()
        dropped.kill()
        other.execute("ROLLBACK")
        kept.get(timeout=20)
    assert texts(desk) == ["kept", "begun"]


def test_closing_finishes_what_was_handed_over_and_then_refuses(desk: Any, tmp_path: Path) -> None:
    opening = [
        gevent.spawn(desk.open_ticket, "C-1001", f"number {number}", "general") for number in range(20)
    ]
    gevent.sleep(0)
    desk.close()
    desk.close()
    assert {one.get(timeout=20).status for one in opening} == {"open"}
    with pytest.raises(Unavailable, match=r"desk\.sqlite is closed"):
        desk.customer("C-1001")
    reopened = Desk(tmp_path / "desk.sqlite")
    assert len(texts(reopened)) == 20
    reopened.close()


# ---- files and disks -----------------------------------------------------------------------------------------------------


def test_a_full_disk_is_told_and_what_needs_no_room_goes_on(desk: Any) -> None:
    desk.open_ticket("C-1001", "there before", "general")
    # SQLite's own limit on the file: the same error, at the same places, as a disk without room.
    pages = desk._database.read(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
    desk._database.read(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages}").fetchone())

    def fill() -> None:
        for _ in range(100):
            desk.open_ticket("C-1001", "x" * 4000, "general")

    with pytest.raises(Unavailable, match=r"desk\.sqlite: its disk is full; make room") as error:
        fill()
    assert error.value.details["reason"] == "database or disk is full"
    assert desk.customer("C-1001").id == "C-1001"
    assert "there before" in texts(desk)
    count = len(texts(desk))
    desk._database.read(lambda connection: connection.execute("PRAGMA max_page_count = 100000").fetchone())
    desk.open_ticket("C-1001", "y" * 4000, "general")
    assert len(texts(desk)) == count + 1


def test_all_who_share_a_transaction_are_told_when_the_file_fails(desk: Any) -> None:
    desk._database.read(lambda connection: connection.execute("PRAGMA query_only = 1"))
    opening = [gevent.spawn(desk.open_ticket, "C-1001", "x", "general") for _ in range(5)]
    gevent.joinall(opening, timeout=20)
    assert {type(one.exception) for one in opening} == {Unavailable}
    assert "it can't be written; give this user the right" in str(opening[0].exception)
    assert texts(desk) == []


def test_a_file_that_is_no_database_is_told_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "desk.sqlite").write_text("this is a letter, not a database. " * 100)
    with pytest.raises(
        Unavailable, match=r"desk\.sqlite: it is no SQLite database; move it away and start anew"
    ):
        Desk(tmp_path / "desk.sqlite")


def test_a_damaged_file_is_told_and_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "desk.sqlite"
    desk = Desk(path)
    for number in range(50):
        desk.open_ticket("C-1001", f"number {number} " * 100, "general")
    desk.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))

    def use() -> None:
        damaged = Desk(path)
        try:
            damaged.find(query="number")
        finally:
            damaged.close()

    with pytest.raises(Unavailable, match=r"desk\.sqlite: the file is damaged; move it away"):
        use()


@pytest.mark.parametrize("place", ["no/such/folder/desk.sqlite", "."])
def test_a_place_where_no_file_can_be_is_told(tmp_path: Path, place: str) -> None:
    with pytest.raises(Unavailable, match="it can't be opened; expected a file in a folder that exists"):
        Desk(tmp_path / place)


# ---- schema --------------------------------------------------------------------------------------------------------------


def test_customers_are_seeded_once(tmp_path: Path) -> None:
    for _ in range(2):
        desk = Desk(tmp_path / "desk.sqlite")
        count = desk._database.read(
            lambda connection: connection.execute("SELECT count(*) FROM customers").fetchone()[0]
        )
        desk.close()
    assert count == 40


def test_an_older_file_is_migrated_and_its_tickets_can_be_found(tmp_path: Path) -> None:
    path = tmp_path / "desk.sqlite"
    with closing(sqlite3.connect(path)) as old:
        schema.migrate(old, schema.MIGRATIONS[:1])
        schema.seed(old, Path(sys.modules[Desk.__module__].CUSTOMERS))
        old.execute(
            "INSERT INTO tickets VALUES (5, 'C-1001', 'general', 'open', '2025-01-01T00:00:00', '2025-01-01T00:00:00')"
        )
        old.execute(
            "INSERT INTO messages VALUES (9, 5, 0, 'customer', 'an old umbrella', '2025-01-01T00:00:00')"
        )
        old.commit()
    desk = Desk(path)
    assert texts(desk, query="umbrellas") == ["an old umbrella"]
    assert desk.open_ticket("C-1001", "another umbrella", "general").id == "T-6"
    assert len(texts(desk, query="umbrella")) == 2
    desk.close()


def test_a_file_of_a_later_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "desk.sqlite"
    with closing(sqlite3.connect(path)) as later:
        later.execute("PRAGMA user_version = 99")
    with pytest.raises(
        Unavailable, match="schema version 99, this program knows 2; run the program that wrote it"
    ):
        Desk(path)


# ---- crashes -------------------------------------------------------------------------------------------------------------

WRITER = """
import itertools, sys
from pathlib import Path
import gevent
from packetflow.capabilities.source import Source

Desk = Source(Path("examples/support_desk/store.py")).namespace.Desk
desk, numbers = Desk(Path(sys.argv[1])), itertools.count()

def write():
    while True:
        ticket = desk.open_ticket("C-1001", f"number {next(numbers)}", "general")
        print(ticket.id, ticket.text, flush=True)

gevent.joinall([gevent.spawn(write) for _ in range(8)])
"""


def test_every_acknowledged_ticket_is_there_after_a_kill_in_the_middle_of_writing(tmp_path: Path) -> None:
    path = tmp_path / "desk.sqlite"
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    with writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline() for _ in range(300)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    if not acknowledged[-1].endswith("\n"):
        acknowledged.pop()  # cut in the middle of the line
    desk = Desk(path)
    with closing(sqlite3.connect(path)) as reader:
        there = dict(reader.execute("SELECT ticket, text FROM messages"))
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    for line in acknowledged:
        id, text = line.rstrip("\n").split(" ", 1)
        assert there[int(id.removeprefix("T-"))] == text
    assert sorted(there) == list(range(1, len(there) + 1))
    assert desk.open_ticket("C-1001", "afterwards", "general").id == f"T-{len(there) + 1}"
    desk.close()
