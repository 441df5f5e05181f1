"""The database: writes of many greenlets in one commit, each alone in what it does wrong; reads beside them."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import apsw
import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from packetflow.otp.errors import HubBlocked, OffloadFailed, WrongThread
from packetflow.storage.database import Database
from packetflow.storage.errors import ConstraintFailed, StatementFailed, StorageUnavailable
from packetflow.storage.schema import Schema
from packetflow.storage.transaction import Transaction
from packetflow.wire.errors import Overloaded, Timeout
from tests.storage.places import INSERT, a_table, our_threads, wait_for, words, words_of_file


@pytest.fixture
def database(tmp_path: Path) -> Any:
    with Database(tmp_path / "node.db") as database:
        a_table(database)
        yield database


class Hold:
    """A write that keeps the writer busy until it is let go."""

    def __init__(self, database: Database) -> None:
        self.began = get_original("_thread", "allocate_lock")()
        self._gone_on = get_original("_thread", "allocate_lock")()
        self.began.acquire()
        self._gone_on.acquire()
        self.greenlet = gevent.spawn(database.write, self._work)
        wait_for(lambda: not self.began.locked())

    def _work(self, transaction: Transaction) -> None:
        if self.began.locked():
            self.began.release()
        self._gone_on.acquire(timeout=20)
        self._gone_on.release()

    def let_go(self) -> None:
        self._gone_on.release()
        self.greenlet.get()


def test_what_was_written_is_there_after_the_file_was_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with Database(path) as database:
        a_table(database)
        database.append(INSERT, [("one",), ("two",)])
        assert (
            database.write(
                lambda transaction: (transaction.execute(INSERT, ("three",)), transaction.last_row)[1]
            )
            == 3
        )
    assert words_of_file(path) == ["one", "two", "three"]
    assert [file.name for file in tmp_path.iterdir()] == ["node.db"]  # closed in order: no log is left


def test_nothing_is_opened_before_it_is_used(tmp_path: Path) -> None:
    wait_for(lambda: our_threads() == 0)
    with Database(tmp_path / "node.db") as database:
        assert database.state.name == "new"
        assert list(tmp_path.iterdir()) == []
        assert our_threads() == 0
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_for_its_owner_alone(database: Database, tmp_path: Path) -> None:
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_writes_that_gathered_are_one_commit(database: Database) -> None:
    hold = Hold(database)
    commits = []
    connection = database._writer._connection
    assert connection is not None
    connection.set_commit_hook(lambda: commits.append(1) is not None)
    waiting = [gevent.spawn(database.append, INSERT, [(f"w{n}",)]) for n in range(100)]
    wait_for(lambda: database.waiting == 101)
    hold.let_go()
    gevent.joinall(waiting, raise_error=True)
    assert len(commits) == 2  # the one that was held, and the hundred
    assert words(database) == [f"w{n}" for n in range(100)]  # in the order in which they came


def test_what_one_write_does_wrong_is_its_own_matter(database: Database) -> None:
    hold = Hold(database)
    database_error = RuntimeError("mine")

    def breaks(transaction: Transaction) -> None:
        transaction.execute(INSERT, ("half",))
        raise database_error

    given: list[Any] = [
        gevent.spawn(database.append, INSERT, [("a",)]),
        gevent.spawn(database.append, INSERT, [("b",), ("a",)]),
        gevent.spawn(database.write, breaks),
        gevent.spawn(database.append, INSERT, [("c",)]),
        gevent.spawn(database.append, "INSERT INTO nowhere VALUES (?)", [(1,)]),
        gevent.spawn(database.append, INSERT, [(object(),)]),
        gevent.spawn(database.write, lambda transaction: sys.exit(3)),
        gevent.spawn(database.append, INSERT, [("d",)]),
    ]
    wait_for(lambda: database.waiting == 9)
    hold.let_go()
    gevent.joinall(given)
    kinds = [None if one.successful() else type(one.exception) for one in given]
    assert kinds == [
        None, ConstraintFailed, RuntimeError, None, StatementFailed, TypeError, OffloadFailed, None,
    ]  # fmt: skip
    assert given[2].exception is database_error
    assert words(database) == ["a", "c", "d"]


def test_a_write_that_ends_the_common_transaction_takes_nobody_with_it(database: Database) -> None:
    hold = Hold(database)
    spoiling = "INSERT OR ROLLBACK INTO notes (word) VALUES (?)"
    given = [
        gevent.spawn(database.append, INSERT, [("a",)]),
        gevent.spawn(database.write, lambda transaction: transaction.execute(spoiling, ("a",))),
        gevent.spawn(database.append, INSERT, [("b",)]),
    ]
    wait_for(lambda: database.waiting == 4)
    hold.let_go()
    gevent.joinall(given)
    assert [one.successful() for one in given] == [True, False, True]
    assert isinstance(given[1].exception, ConstraintFailed)
    assert words(database) == ["a", "b"]


def test_a_work_that_swallows_the_error_that_ended_its_transaction_fails(database: Database) -> None:
    database.append(INSERT, [("a",)])

    def swallows(transaction: Transaction) -> str:
        transaction.execute(INSERT, ("lost",))
        try:
            transaction.execute("INSERT OR ROLLBACK INTO notes (word) VALUES ('a')")
        except ConstraintFailed:
            pass
        return "all is well"

    with pytest.raises(StatementFailed, match="swallowed"):
        database.write(swallows)
    assert words(database) == ["a"]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT mine",
        "PRAGMA synchronous = OFF",
        "ATTACH ':memory:' AS other",
    ],
)
def test_a_work_keeps_its_hands_off_the_transaction(database: Database, statement: str) -> None:
    with pytest.raises(StatementFailed, match="can't begin or end"):
        database.write(lambda transaction: transaction.execute(statement))
    database.append(INSERT, [("still fine",)])
    assert words(database) == ["still fine"]


def test_a_transaction_is_over_when_its_work_returns(database: Database) -> None:
    kept = database.write(lambda transaction: transaction)
    with pytest.raises(StatementFailed, match="over"):
        kept.execute("SELECT 1")


def test_who_gives_up_leaves_the_line_and_nothing_behind(database: Database) -> None:
    hold = Hold(database)
    patient = gevent.spawn(database.append, INSERT, [("patient",)])
    hasty = gevent.spawn(database.append, INSERT, [("hasty",)])
    killed = gevent.spawn(database.write, lambda transaction: transaction.execute(INSERT, ("killed",)))
    wait_for(lambda: database.waiting == 4)
    killed.kill()
    hasty.kill(gevent.Timeout(1))
    assert isinstance(hasty.exception, gevent.Timeout)
    hold.let_go()
    patient.get()
    wait_for(lambda: database.waiting == 0)
    assert words(database) == ["patient"]
    gc.collect()
    from packetflow.storage.writer import Write

    assert [one for one in gc.get_objects() if type(one) is Write and one.greenlet is not None] == []


def test_more_than_may_wait_are_refused(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db", queue=3) as database:
        a_table(database)
        hold = Hold(database)
        waiting = [gevent.spawn(database.append, INSERT, [(f"w{n}",)]) for n in range(2)]
        wait_for(lambda: database.waiting == 3)
        with pytest.raises(Overloaded, match="3 writes wait") as refused:
            database.append(INSERT, [("one too many",)])
        assert refused.value.retry_after
        hold.let_go()
        gevent.joinall(waiting, raise_error=True)
        assert words(database) == ["w0", "w1"]


def test_closing_finishes_what_waits_and_takes_no_more(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.db")
    a_table(database)
    hold = Hold(database)
    waiting = [gevent.spawn(database.append, INSERT, [(f"w{n}",)]) for n in range(20)]
    wait_for(lambda: database.waiting == 21)
    closing = gevent.spawn(database.close)
    wait_for(lambda: database._closed)
    with pytest.raises(StorageUnavailable, match="closed"):
        database.append(INSERT, [("late",)])
    hold.let_go()
    closing.get()
    gevent.joinall(waiting, raise_error=True)
    database.close()
    assert database.state.name == "closed"
    assert words_of_file(tmp_path / "node.db") == [f"w{n}" for n in range(20)]


def test_closing_ends_the_threads_and_gives_the_files_back(tmp_path: Path) -> None:
    gevent.sleep(0.001)  # the hub has files of its own
    open_files = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with Database(tmp_path / "node.db") as database:
            a_table(database)
            words(database)
            wait_for(lambda: our_threads() == 2)
    wait_for(lambda: our_threads() == 0)
    assert len(list(Path("/proc/self/fd").iterdir())) == open_files


def test_a_snapshot_sees_one_moment(database: Database) -> None:
    database.append(INSERT, [("before",)])
    looked, written = Event(), Event()
    thread_written = get_original("_thread", "allocate_lock")()
    thread_written.acquire()
    bell = gevent.get_hub().loop.async_()
    bell.start(looked.set)

    def look(transaction: Transaction) -> list[int]:
        first = transaction.execute("SELECT count(*) FROM notes")[0][0]
        bell.send()
        thread_written.acquire(timeout=20)
        return [first, transaction.execute("SELECT count(*) FROM notes")[0][0]]

    looking = gevent.spawn(database.snapshot, look)
    looked.wait(20)
    database.append(INSERT, [("meanwhile",)])
    written.set()
    thread_written.release()
    assert looking.get() == [1, 1]
    assert words(database) == ["before", "meanwhile"]
    bell.stop()
    bell.close()


def test_a_read_can_not_write(database: Database) -> None:
    with pytest.raises(StatementFailed, match="give that statement to `write`"):
        database.read("DELETE FROM notes")
    assert database.state.name == "writable"


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def test_a_read_that_takes_too_long_is_broken_off_and_its_thread_is_free_again(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db", readers=1) as database:
        with pytest.raises(Timeout, match=r"0\.05 s"):
            database.read(ENDLESS, timeout=0.05)
        assert database.read("SELECT 5") == [(5,)]


def test_closing_breaks_reads_off(tmp_path: Path) -> None:
    database = Database(tmp_path / "node.db")
    reading = gevent.spawn(database.read, ENDLESS)
    wait_for(lambda: database._readers._pool.statistics().running)
    database.close()
    with pytest.raises(StorageUnavailable, match="closed"):
        reading.get()


def test_a_killed_reader_s_connection_is_the_next_one_s(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db", readers=1) as database:
        for _ in range(20):
            reading = gevent.spawn(database.read, ENDLESS)
            wait_for(lambda: database._readers._pool.statistics().running)
            reading.kill()
            assert database.read("SELECT 5") == [(5,)]


def test_the_log_stays_short_however_much_is_written(database: Database, tmp_path: Path) -> None:
    database.write(
        lambda transaction: transaction.execute("CREATE TABLE blobs (number INTEGER PRIMARY KEY, b BLOB)")
    )
    for number in range(120):
        database.append("INSERT INTO blobs VALUES (?, zeroblob(1000000))", [(number,)])
    assert (tmp_path / "node.db-wal").stat().st_size < 40_000_000
    assert database.read("SELECT count(*) FROM blobs") == [(120,)]


def test_room_is_given_back_a_little_at_a_time(database: Database, tmp_path: Path) -> None:
    database.write(lambda transaction: transaction.execute("CREATE TABLE blobs (b BLOB)"))
    database.append("INSERT INTO blobs VALUES (zeroblob(100000))", [()] * 100)
    database.write(lambda transaction: transaction.execute("DELETE FROM blobs"))
    assert 9_900_000 < database.vacuum() < 10_500_000
    assert database.vacuum() == 0
    database.close()
    assert (tmp_path / "node.db").stat().st_size < 100_000


def test_a_backup_is_a_database_of_its_own(database: Database, tmp_path: Path) -> None:
    database.append(INSERT, [("kept",)])
    copy = tmp_path / "copy.db"
    database.backup(copy)
    database.append(INSERT, [("later",)])
    assert words_of_file(copy) == ["kept"]
    assert copy.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageUnavailable, match="there already"):
        database.backup(copy)
    with pytest.raises(StorageUnavailable, match=r"nowhere/copy\.db: .*No such file"):
        database.backup(tmp_path / "nowhere" / "copy.db")
    assert database.state.name == "writable"


V1 = Schema("pets", ("CREATE TABLE pets (name TEXT)",))
V2 = Schema("pets", (*V1.steps, "ALTER TABLE pets ADD COLUMN age INTEGER; UPDATE pets SET age = 7"))
BROKEN = Schema("pets", (*V2.steps, "DROP TABLE pets; SELECT no_such_function()"))


def test_tables_are_brought_forward_and_the_old_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with Database(path) as database:
        database.prepare(V1)
        database.append("INSERT INTO pets VALUES (?)", [("rex",)])
    with Database(path) as database:
        database.prepare(V2)
        database.prepare(V2)
        assert database.read("SELECT * FROM pets") == [("rex", 7)]
    with Database(tmp_path / "node.db.before-pets-2") as kept:
        assert kept.read("SELECT * FROM pets") == [("rex",)]
    assert not (tmp_path / "node.db.before-pets-1").exists()  # there was nothing before


def test_a_step_that_fails_leaves_everything_as_it_was(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db") as database:
        database.prepare(V1)
    with Database(tmp_path / "node.db") as database:
        with pytest.raises(StatementFailed, match="no_such_function"):
            database.prepare(BROKEN)
        with pytest.raises(StatementFailed, match="no_such_function"):  # also for who tries again
            database.prepare(BROKEN)
        database.prepare(V1)
        assert database.read("SELECT * FROM pets") == []


def test_an_older_release_leaves_a_newer_part_alone(tmp_path: Path) -> None:
    path = tmp_path / "node.db"
    with Database(path) as database:
        database.prepare(V2)
    with (
        Database(path) as database,
        pytest.raises(
            StorageUnavailable,
            match=r"node\.db: was written by a newer PacketFlow: pets has version 2, this one knows 1",
        ),
    ):
        database.prepare(V1)


def test_it_belongs_to_its_thread(database: Database) -> None:
    seen: list[BaseException] = []

    def other() -> None:
        try:
            database.append(INSERT, [("x",)])
        except BaseException as error:  # noqa: BLE001 - looked at below
            seen.append(error)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert isinstance(seen[0], WrongThread)


def test_the_hub_itself_must_not_wait(database: Database) -> None:
    seen: list[Any] = []

    def callback() -> None:
        try:
            database.append(INSERT, [("x",)])
        except HubBlocked as error:
            seen.append(error)

    gevent.get_hub().loop.run_callback(callback)
    wait_for(lambda: seen)


def test_other_greenlets_run_while_the_disk_is_waited_for(database: Database) -> None:
    hold = Hold(database)
    turns = [gevent.sleep(0) for _ in range(50)]
    assert len(turns) == 50
    assert not hold.greenlet.dead
    hold.let_go()


PROGRAM = """
    {patch}
    import sys, gevent
    from pathlib import Path
    from packetflow.storage.database import Database
    one, other = (Database(Path(sys.argv[1]) / name) for name in ("one.db", "other.db"))
    for database in (one, other):
        database.write(lambda t: t.execute("CREATE TABLE n (i INTEGER)"))
    gevent.joinall(
        [gevent.spawn(d.append, "INSERT INTO n VALUES (?)", [(i,)]) for i in range(50) for d in (one, other)],
        raise_error=True,
    )
    print([d.read("SELECT count(*), sum(i) FROM n") for d in (one, other)])
    if sys.argv[2] == "close":
        one.close()
        other.close()
"""


@pytest.mark.parametrize("end", ["close", "leave open"])
@pytest.mark.parametrize("patch", ["from gevent import monkey; monkey.patch_all()", ""])
def test_two_in_one_process_with_and_without_patching(tmp_path: Path, patch: str, end: str) -> None:
    program = textwrap.dedent(PROGRAM).format(patch=patch)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, str(tmp_path), end],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[[(50, 1225)], [(50, 1225)]]\n"


def test_the_driver_can_do_what_is_built_on() -> None:
    assert apsw.sqlite_lib_version() >= "3.45"
    assert "ENABLE_FTS5" in apsw.compile_options
