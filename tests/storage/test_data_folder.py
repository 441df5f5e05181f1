"""The data folder: one node at a time, an admin socket that can be found, and clear words when the disk won't."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from packetflow.errors import DataFolderError
from packetflow.otp.clock import Clock
from packetflow.storage.data_folder import DataFolder, find_admin_socket, holder


def test_a_second_node_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    first = DataFolder(tmp_path / "run", "desk", Clock())
    with pytest.raises(
        DataFolderError, match=rf"belongs to node desk \(pid {os.getpid()}, since .*choose another"
    ):
        DataFolder(tmp_path / "run", "other", Clock())
    first.close()
    DataFolder(tmp_path / "run", "other", Clock()).close()


def test_the_lock_dies_with_its_process_even_by_kill_9(tmp_path: Path) -> None:
    code = f"""
        import sys, time
        from pathlib import Path
        from packetflow.otp.clock import Clock
        from packetflow.storage.data_folder import DataFolder
        folder = DataFolder(Path({str(tmp_path)!r}), "victim", Clock())
        print("held", flush=True)
        time.sleep(60)
    """
    victim = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE)
    assert victim.stdout is not None
    assert victim.stdout.readline() == b"held\n"
    with pytest.raises(DataFolderError, match="node victim"):
        DataFolder(tmp_path, "next", Clock())
    victim.kill()
    victim.wait()
    victim.stdout.close()
    DataFolder(tmp_path, "next", Clock()).close()


def test_the_admin_socket_is_found_also_where_the_path_is_too_long(tmp_path: Path) -> None:
    for folder in (tmp_path / "run", tmp_path / ("long" * 40)):
        held = DataFolder(folder, "desk", Clock())
        assert find_admin_socket(folder) is None
        path = held.claim_admin_socket()
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        assert find_admin_socket(folder) == path
        listening.close()
        held.close()
        assert find_admin_socket(folder) is None


def test_a_dead_nodes_socket_is_replaced(tmp_path: Path) -> None:
    held = DataFolder(tmp_path, "desk", Clock())
    (tmp_path / "admin.sock").write_text("left behind")
    assert not held.claim_admin_socket().exists()
    held.close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFolderError, match=r"Not a directory; choose another one by node\.data_folder"):
        DataFolder(tmp_path / "file" / "run", "desk", Clock())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_told_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "node.lock").symlink_to("/dev/full")
    with pytest.raises(DataFolderError, match=r"No space left on device; make room|Invalid argument"):
        DataFolder(tmp_path, "desk", Clock())


def test_an_unreadable_lock_names_nobody(tmp_path: Path) -> None:
    (tmp_path / "node.lock").write_text("{half")
    assert holder(tmp_path) is None
    (tmp_path / "node.lock").write_text(json.dumps([1]))
    assert holder(tmp_path) is None
