"""Power cuts: whatever is torn or lost below, what was acknowledged is there, and the rest is whole or absent."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from pathlib import Path

import gevent
import pytest

from packetflow.storage import checkpoint
from packetflow.storage.database import Database
from packetflow.testing.database_disk import Disk
from packetflow.wire.errors import RequestError
from tests.storage.places import INSERT, a_table, words

TIMES = int(os.environ.get("PACKETFLOW_POWER_CUTS", "60"))
BYTES_BETWEEN_CUTS = int(
    os.environ.get("PACKETFLOW_BYTES_BETWEEN_CUTS", "97")
)  # 1 for every byte: seven minutes
ROWS = 3  # of each write


@pytest.mark.parametrize("kept", ["nothing that was not synced", "any sector of what was not synced"])
@pytest.mark.parametrize("seed", range(TIMES))
def test_what_was_acknowledged_survives_a_power_cut_at_any_operation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, kept: str
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(checkpoint, "DUE", 20)  # so that the cut strikes checkpoints too
    monkeypatch.setattr(checkpoint, "TOO_LONG", 60)
    path = tmp_path / "node.db"
    with Disk() as disk:
        with Database(path, vfs=disk.name) as database:
            a_table(database)
        acknowledged: set[str] = set()
        disk.cut_power(
            after=chance.randrange(0, 250),
            chance=random.Random(seed) if kept.startswith("any") else None,
        )
        database = Database(path, vfs=disk.name)

        def write(who: int) -> None:
            for number in range(25):
                size = chance.choice((5, 300, 9_000))
                try:
                    database.append(INSERT, [(f"{who}.{number} {row}{'x' * size}",) for row in range(ROWS)])
                except RequestError:
                    return
                acknowledged.add(f"{who}.{number}")

        gevent.joinall([gevent.spawn(write, who) for who in range(4)], raise_error=True)
        database.close()
        disk.cut_power()  # if it was not yet
        disk.restore_power()
        with Database(path, vfs=disk.name) as again:
            assert again.check() == []
            found = Counter(word.split()[0] for word in words(again))
            again.append(INSERT, [("and on it goes",)])
    assert set(found.values()) <= {ROWS}  # each is whole
    assert acknowledged <= set(found)


def test_power_that_is_cut_is_a_state_and_told(tmp_path: Path) -> None:
    told = []
    with Disk() as disk:
        database = Database(tmp_path / "node.db", vfs=disk.name, changed=told.append)
        a_table(database)
        disk.cut_power()
        with pytest.raises(RequestError, match="disk fails") as refused:
            database.append(INSERT, [("lost",)])
        assert refused.value.code == "unavailable"
        assert [state.name for state in told] == ["writable", "failed"]
        disk.restore_power()
        database.append(INSERT, [("found",)])  # a disk that was away for a moment
        assert [state.name for state in told] == ["writable", "failed", "writable"]
        assert words(database) == ["found"]
        database.close()


def _crashed(tmp_path: Path) -> tuple[Path, list[int]]:
    """A file and its log as a killed process leaves them, and how long the log was after each of six writes."""
    path = tmp_path / "node.db"
    lengths = []
    with Database(path) as database:
        a_table(database)
        for number in range(6):
            database.append(INSERT, [(f"{number} {row} {'x' * 1_500}",) for row in range(ROWS)])
            lengths.append((tmp_path / "node.db-wal").stat().st_size)
        (tmp_path / "crashed").mkdir()
        for name in ("node.db", "node.db-wal"):
            shutil.copy(tmp_path / name, tmp_path / "crashed" / name)
    return tmp_path / "crashed", lengths


def _check_cut(crashed: Path, work: Path, lengths: list[int], cut: int) -> None:
    work.mkdir(exist_ok=True)
    shutil.copy(crashed / "node.db", work / "node.db")
    (work / "node.db-wal").write_bytes((crashed / "node.db-wal").read_bytes()[:cut])
    with Database(work / "node.db") as database:
        found = Counter(word.split()[0] for word in words(database))
        assert database.check() == []
    assert found == {str(number): ROWS for number, length in enumerate(lengths) if length <= cut}, cut


def test_a_log_cut_at_the_edges_of_its_frames_and_between_gives_what_is_whole_in_it(tmp_path: Path) -> None:
    crashed, lengths = _crashed(tmp_path)
    edges = {length + step for length in lengths[3:] for step in (-4_096, -4_097, -25, -24, -1, 0, 1, 24, 25)}
    cuts = (edges | set(range(lengths[2], lengths[-1], 331))) & set(range(lengths[2], lengths[-1] + 1))
    for cut in sorted(cuts):
        _check_cut(crashed, tmp_path / "work", lengths, cut)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_log_cut_at_any_byte_gives_what_is_whole_in_it(tmp_path: Path) -> None:
    crashed, lengths = _crashed(tmp_path)
    for cut in range(lengths[-3], lengths[-1] + 1, BYTES_BETWEEN_CUTS):
        _check_cut(crashed, tmp_path / "work", lengths, cut)


def test_a_log_with_a_byte_changed_gives_what_stands_before_it(tmp_path: Path) -> None:
    crashed, lengths = _crashed(tmp_path)
    log = (crashed / "node.db-wal").read_bytes()
    for place in range(lengths[3], lengths[-1], 997):
        (crashed / "node.db-wal").write_bytes(log[:place] + bytes([log[place] ^ 255]) + log[place + 1 :])
        shutil.copytree(crashed, tmp_path / "work", dirs_exist_ok=True)
        with Database(tmp_path / "work" / "node.db") as database:
            found = {word.split()[0] for word in words(database)}
            assert {"0", "1", "2", "3"} <= found
            assert database.check() == []
