"""What the tests of the database share: a table, and a wait for a condition."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from packetflow.storage.database import Database

INSERT = "INSERT INTO notes (word) VALUES (?)"


def a_table(database: Database) -> None:
    database.write(
        lambda transaction: transaction.execute(
            "CREATE TABLE IF NOT EXISTS notes (number INTEGER PRIMARY KEY, word TEXT UNIQUE) STRICT"
        )
    )


def words(database: Database) -> list[str]:
    return [word for (word,) in database.read("SELECT word FROM notes ORDER BY number")]


def words_of_file(path: Path) -> list[str]:
    """As another node would find them, that starts now."""
    with Database(path) as database:
        return words(database)


READERS = "the readers of"  # how the pool of a database's readers is called


def our_threads() -> int:
    """How many native threads of databases there are."""
    count = 0
    for frame in sys._current_frames().values():
        while frame.f_back is not None:
            frame = frame.f_back
        name, owner = frame.f_code.co_name, str(getattr(frame.f_locals.get("self"), "name", ""))
        if (name == "_serve" and owner.startswith(READERS)) or (
            name in ("serve", "_serve") and "packetflow/storage/" in frame.f_code.co_filename
        ):
            count += 1
    return count


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "waited in vain"
        gevent.sleep(0.002)
    return found
