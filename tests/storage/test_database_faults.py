"""Files and disks that won't: words that say which file, what is wrong with it and what to do; and back as soon as it can."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from packetflow.storage.database import Database
from packetflow.storage.errors import StorageUnavailable
from packetflow.testing.database_disk import Disk
from tests.storage.places import INSERT, a_table, wait_for, words, words_of_file


def _refusal(path: Path) -> StorageUnavailable:
    """Why a database can't be used, for who writes and for who reads."""
    with Database(path) as database:
        with pytest.raises(StorageUnavailable) as refused:
            a_table(database)
        with pytest.raises(StorageUnavailable):
            database.read("SELECT 1")
        assert database.state.name == refused.value.state
    assert str(path) in str(refused.value)
    assert refused.value.details["next"] in str(refused.value)
    assert refused.value.code == "unavailable"
    return refused.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with Database(tmp_path / "node.db") as database:
        a_table(database)
        database.append(INSERT, [(f"{number} {'x' * 1_000}",) for number in range(200)])
    return tmp_path / "node.db"


def test_what_is_no_database(path: Path) -> None:
    path.write_bytes(b"a letter to my aunt\n" * 500)
    refusal = _refusal(path)
    assert "is not a SQLite database" in str(refusal)
    assert "restore a backup" in str(refusal)
    assert path.read_bytes().startswith(b"a letter")  # and nobody touched it


def test_another_program_s_database(path: Path) -> None:
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE theirs (i)")
    other.close()
    before = path.read_bytes()
    assert "another program's database" in str(_refusal(path))
    assert path.read_bytes() == before


def test_a_file_of_a_newer_release(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("PRAGMA user_version = 99")
    other.close()
    assert "newer PacketFlow: the file has version 99, this one knows 1" in str(_refusal(path))


@pytest.mark.parametrize("size", [0, 1, 50, 99, 100, 1_000, 4_095, 4_096, 10_000, 40_000])
def test_a_truncated_file(path: Path, size: int) -> None:
    os.truncate(path, size)
    with (
        Database(path) as database,
        pytest.raises(StorageUnavailable, match=r"empty|damaged|not a SQLite|another program"),
    ):
        words(database)


def test_a_file_that_was_emptied_is_not_taken_for_a_new_one(path: Path) -> None:
    os.truncate(path, 0)
    assert "was truncated" in str(_refusal(path))


def test_a_log_without_its_file_is_not_mixed_into_a_new_one(path: Path) -> None:
    log = path.with_name("node.db-wal")
    path.rename(log)
    refusal = _refusal(path)
    assert "is missing, but its log node.db-wal is there" in str(refusal)
    assert log.exists()
    assert not path.exists()


def test_damage_that_a_read_meets_stops_writes_too(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4_096 * 8)
        file.write(b"\xff" * 4_096 * 20)
    with Database(path) as database:
        with pytest.raises(StorageUnavailable, match="damaged") as met:
            words(database)
        assert met.value.lasting
        assert met.value.retry_after is None
        assert database.state.name == "failed"
        with pytest.raises(StorageUnavailable, match="damaged"):
            database.append("INSERT INTO notes (number) VALUES (?)", [(1_000_000,)])


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "node.db").mkdir()
    assert "move that folder away" in str(_refusal(tmp_path / "node.db"))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "put the folder back" in str(_refusal(tmp_path / "gone" / "node.db"))


def test_it_is_opened_as_soon_as_it_can_be(tmp_path: Path) -> None:
    with Database(tmp_path / "gone" / "node.db") as database:
        with pytest.raises(StorageUnavailable):
            a_table(database)
        (tmp_path / "gone").mkdir()
        a_table(database)
        assert words(database) == []
        assert database.state.name == "writable"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("refused", ["file", "folder"])
def test_rights_that_are_missing(refused: str) -> None:
    program = f"""
        import os, tempfile
        from pathlib import Path
        from packetflow.storage.database import Database
        folder = Path(tempfile.mkdtemp())
        path = folder / "node.db"
        folder.chmod(0o755 if {refused!r} == "folder" else 0o777)
        if {refused!r} == "file":
            path.write_bytes(b"")
            path.chmod(0o400)
        def write(path):
            try:
                with Database(path) as database:
                    database.write(lambda transaction: None)
            except Exception as error:
                return str(error)
        write(Path("/nowhere/node.db"))  # all is imported now
        try:
            os.setresuid(65534, 65534, 0)
            print(write(path))
        finally:
            os.setresuid(0, 0, 0)
            path.unlink(missing_ok=True)
            folder.rmdir()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "node.db: can't be used, Permission denied; give the node's user the right" in done.stdout


@pytest.mark.parametrize("gone", ["node.db", "node.db-wal", "the folder"])
def test_a_file_that_is_taken_away_while_it_is_used(tmp_path: Path, gone: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    moved = folder if gone == "the folder" else folder / gone
    with Database(folder / "node.db") as database:
        a_table(database)
        moved.rename(tmp_path / "elsewhere")
        with pytest.raises(StorageUnavailable, match=r"moved, removed or replaced.*put both back"):
            database.append(INSERT, [("into nowhere",)])
        assert database.state.name == "failed"
        (tmp_path / "elsewhere").rename(moved)
        database.append(INSERT, [("there again",)])
        assert database.state.name == "writable"
    assert words_of_file(folder / "node.db")[-1] == "there again"


def test_closing_does_not_touch_a_file_that_was_put_in_its_place(tmp_path: Path) -> None:
    folder, other = tmp_path / "data", tmp_path / "other"
    for one in (folder, other):
        one.mkdir()
    with Database(other / "node.db") as database:
        a_table(database)
        database.append(INSERT, [("of the other",)])
        shutil.copytree(other, tmp_path / "copy")
    with Database(folder / "node.db") as database:
        a_table(database)
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "copy", folder)
        with pytest.raises(StorageUnavailable):
            database.append(INSERT, [("mine",)])
    assert words_of_file(folder / "node.db") == ["of the other"]


def test_a_file_that_another_program_holds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("packetflow.storage.sqlite.PATIENCE", 20)
    with Database(path) as database:
        assert len(words(database)) == 200
        hold = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); "
            "c.execute('BEGIN IMMEDIATE'); input(print())"
        )
        with subprocess.Popen(
            [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(StorageUnavailable, match="another program holds it locked"):
                database.append(INSERT, [("in vain",)])
            other.communicate(b"\n")
        database.append(INSERT, [("at last",)])
        assert words(database)[-1] == "at last"


def test_a_full_disk_refuses_what_has_no_room_and_nothing_else(tmp_path: Path) -> None:
    with Disk() as disk, Database(tmp_path / "node.db", vfs=disk.name) as database:
        a_table(database)
        database.append(INSERT, [("before",)])
        disk.room = 30_000
        big = gevent.spawn(database.append, INSERT, [("x" * 100_000,)])
        small = gevent.spawn(database.append, INSERT, [("small",)])
        gevent.joinall([big, small])
        assert small.successful()
        assert isinstance(big.exception, StorageUnavailable)
        assert (big.exception.state, big.exception.retry_after) == ("full", 5.0)
        assert "its disk is full; make room on it" in str(big.exception)
        assert words(database) == ["before", "small"]


def test_it_finds_out_by_itself_that_there_is_room_again(tmp_path: Path) -> None:
    told = []
    with Disk() as disk, Database(tmp_path / "node.db", vfs=disk.name, changed=told.append) as database:
        a_table(database)
        disk.room = 0
        with pytest.raises(StorageUnavailable, match="full"):
            database.append(INSERT, [("x" * 100_000,)])
        assert database.state.name == "full"
        disk.room = None
        wait_for(lambda: [state.name for state in told] == ["writable", "full", "writable"])


def test_a_slow_disk_delays_who_writes_and_nobody_else(tmp_path: Path) -> None:
    with Disk() as disk, Database(tmp_path / "node.db", vfs=disk.name) as database:
        a_table(database)
        disk.delay = 0.3
        writing = gevent.spawn(database.append, INSERT, [("slowly",)])
        turns = 0
        while not writing.dead:
            gevent.sleep(0.001)
            turns += 1
        assert turns > 20
        disk.delay = 0.0
        assert words(database) == ["slowly"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.getuid() != 0:
        pytest.skip("only root can mount a small disk")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "packetflow-test", str(place)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_disk_that_runs_full_loses_nothing_and_comes_back(small_disk: Path) -> None:
    told = []
    acknowledged = []
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 300_000)
    with Database(small_disk / "node.db", changed=told.append) as database:
        a_table(database)

        def fill() -> None:
            for number in range(10_000):
                database.append(INSERT, [(f"{number} {'y' * 3_000}",)])
                acknowledged.append(str(number))

        with pytest.raises(StorageUnavailable, match="its disk is full"):
            fill()
        assert 10 < len(acknowledged) < 1_000
        assert database.state.name == "full"
        assert [word.split()[0] for word in words(database)] == acknowledged  # reads go on
        shutil.copytree(small_disk, small_disk.parent / "crashed", ignore=shutil.ignore_patterns("ballast"))
        ballast.unlink()
        wait_for(lambda: database.state.name == "writable")
        database.append(INSERT, [("after all",)])
    # As it would have been found after a crash at that moment, and as it is found now.
    (small_disk.parent / "crashed" / "node.db-shm").unlink()
    assert [
        word.split()[0] for word in words_of_file(small_disk.parent / "crashed" / "node.db")
    ] == acknowledged
    assert words_of_file(small_disk / "node.db")[-1] == "after all"
    assert len(words_of_file(small_disk / "node.db")) == len(acknowledged) + 1


def test_a_disk_that_is_full_from_the_beginning(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"x" * (1 << 20))
    with Database(small_disk / "node.db") as database:
        with pytest.raises(StorageUnavailable, match="full"):
            a_table(database)
        assert [file.name for file in small_disk.iterdir()] == ["ballast"]
        (small_disk / "ballast").unlink()
        a_table(database)
