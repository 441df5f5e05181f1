"""Appends of 200 bytes a second that are acknowledged (on the disk, `synchronous=FULL`) with 1, 16 and 256 greenlets at once:
the database's group commit, against one commit each with the standard library's sqlite3, in turn in one run. Beside them the
disk itself: 200 bytes and `fdatasync`, and rows of a plain loop without any promise.

python bench/storage/appends.py
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from bench.figures import figure
from packetflow.storage.database import Database

EVENT = (("run-0123456789abcdef", b"e" * 200),)
TABLE = "CREATE TABLE events (seq INTEGER PRIMARY KEY, run TEXT NOT NULL, body BLOB NOT NULL)"
INSERT = "INSERT INTO events (run, body) VALUES (?, ?)"
SECONDS = 0.5
ROUNDS = 7


def ours(folder: Path, writers: int) -> float:
    with Database(folder / "events.db") as database:
        database.write(lambda transaction: transaction.execute(TABLE))
        return rate(lambda: database.append(INSERT, EVENT), writers)


def rate(append: Callable[[], object], writers: int) -> float:
    counts = [0] * writers
    start = time.perf_counter()
    until = start + SECONDS

    def write(who: int) -> None:
        while time.perf_counter() < until:
            append()
            counts[who] += 1

    gevent.joinall([gevent.spawn(write, who) for who in range(writers)], raise_error=True)
    return sum(counts) / (time.perf_counter() - start)


def one_commit_each(folder: Path) -> float:
    database = sqlite3.connect(folder / "events.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(TABLE)
    try:
        return rate(lambda: database.execute(INSERT, EVENT[0]), 1)
    finally:
        database.close()


def disk(folder: Path) -> float:
    descriptor = os.open(folder / "log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)

    def append() -> None:
        os.write(descriptor, EVENT[0][1])
        os.fdatasync(descriptor)

    try:
        return rate(append, 1)
    finally:
        os.close(descriptor)


def main() -> None:
    ways: dict[str, Callable[[Path], float]] = {
        "each": one_commit_each,
        "disk": disk,
        **{str(writers): (lambda folder, n=writers: ours(folder, n)) for writers in (1, 16, 256)},  # type: ignore[misc]
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            # A real disk, not a file system in memory: where the bench stands.
            with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA", Path.cwd())) as folder:
                rates[name].append(way(Path(folder)))
    middle = {name: statistics.median(values) for name, values in rates.items()}
    peer = "sqlite3, one commit each"
    for writers, target in ((1, None), (16, None), (256, 20.0)):
        figure(
            f"appends of 200 bytes, {writers} at once",
            middle[str(writers)],
            middle["each"],
            peer,
            "appends/s",
            target,
        )
    figure(
        "the disk beside it: one commit each",
        middle["each"],
        middle["disk"],
        "200 bytes and fdatasync",
        "1/s",
        None,
    )


if __name__ == "__main__":
    main()
