"""What a node's files are written by: whole or not at all, and nothing is left of what failed."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from packetflow.storage.disk import Disk, DiskFile


class FailsAt(Disk):
    """The machine's disk, until the operation of a number fails."""

    def __init__(self, number: int) -> None:
        self.left = number

    def _count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def open(self, path: Path, *, new: bool = False) -> DiskFile:
        self._count()
        disk = self

        class File(DiskFile):
            __slots__ = ()

            def write(self, data: bytes, offset: int = 0) -> None:
                super().write(data[: len(data) // 2], offset)
                disk._count()
                super().write(data[len(data) // 2 :], offset + len(data) // 2)

            def sync(self) -> None:
                disk._count()
                super().sync()

        return File(self._descriptor(path, new))

    def rename(self, source: Path, target: Path) -> None:
        self._count()
        super().rename(source, target)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("number", range(1, 5))
def test_a_replacement_that_fails_anywhere_leaves_the_file_as_it_was_and_nothing_beside_it(
    number: int, tmp_path: Path
) -> None:
    file = tmp_path / "kept"
    file.write_bytes(b"before")
    open_before = descriptors()
    with pytest.raises(OSError, match="Input/output"):
        FailsAt(number).replace(file, b"afterwards")
    assert file.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["kept"]
    assert descriptors() == open_before


def test_a_replacement_is_the_users_own_and_takes_no_link_that_lies_in_wait(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"another's")
    (tmp_path / ".kept.new").symlink_to(elsewhere)
    Disk().replace(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o600
    assert elsewhere.read_bytes() == b"another's"


def test_what_a_dead_process_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".kept.new").write_bytes(b"half of something much longer")
    Disk().replace(tmp_path / "kept", b"new")
    assert (tmp_path / "kept").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["kept"]


def test_a_file_is_read_and_written_at_any_place(tmp_path: Path) -> None:
    file = Disk().open(tmp_path / "file")
    file.write(b"0123456789", 2)
    file.write(b"ab", 4)
    file.truncate(8)
    file.sync()
    assert file.size() == 8
    assert file.read(100) == b"\x00\x0001ab45"
    assert file.read(2, 4) == b"ab"
    file.close()
    file.close()
    assert file.closed
    with pytest.raises(ValueError, match="closed"):
        file.size()


def test_removing_what_is_not_there_is_no_error_and_a_full_disk_is_one(tmp_path: Path) -> None:
    disk = Disk()
    disk.remove(tmp_path / "nothing")
    disk.make_folder(tmp_path / "a" / "b")
    disk.make_folder(tmp_path / "a" / "b")
    disk.sync_folder(tmp_path / "a" / "b")
    with pytest.raises(FileNotFoundError):
        disk.sync_folder(tmp_path / "c")
    full = DiskFile(os.open("/dev/full", os.O_RDWR))
    with pytest.raises(OSError, match="No space"):
        full.write(b"x")
    full.close()
