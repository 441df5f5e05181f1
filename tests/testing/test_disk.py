"""The disk of a simulation: what was synced is there after a crash, the rest as the seed draws it; and who writes copes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from packetflow import Module, capability
from packetflow.node.config import Overlay, OverlayError
from packetflow.storage.disk import DiskFile
from packetflow.testing import SimulatedDisk, World, explore, simulate
from packetflow.testing.disk import NodeDisk
from packetflow.wire.errors import Unavailable

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def mounted(world: World) -> tuple[SimulatedDisk, NodeDisk]:
    disk = world.disk("alone")
    return disk, NodeDisk(disk)


def outcomes(folder: Path, write: Callable[[NodeDisk, Path], None], seeds: int = 60) -> set[bytes | None]:
    """What one file holds after a crash, over many seeds."""
    found: set[bytes | None] = set()

    def program(world: World) -> None:
        file = folder / str(world.seed) / "file"
        file.parent.mkdir()
        _, node = mounted(world)
        write(node, file)
        node.crash()
        found.add(file.read_bytes() if file.exists() else None)

    explore(program, range(seeds))
    return found


def synced(node: NodeDisk, file: Path, data: bytes = b"synced") -> DiskFile:
    opened = node.open(file)
    opened.write(data)
    opened.sync()
    node.sync_folder(file.parent)
    return opened


def test_what_was_synced_is_there_after_a_crash(tmp_path: Path) -> None:
    assert outcomes(tmp_path, lambda node, file: synced(node, file).close()) == {b"synced"}


def test_what_was_not_synced_may_be_there_or_not_or_torn(tmp_path: Path) -> None:
    def write(node: NodeDisk, file: Path) -> None:
        synced(node, file).write(b"12345", 6)

    found = outcomes(tmp_path, write)
    assert {b"synced", b"synced12345"} <= found
    assert len(found) > 3
    assert all(b"synced12345".startswith(one or b"?") for one in found)


def test_of_two_writes_the_second_may_be_there_without_the_first(tmp_path: Path) -> None:
    def write(node: NodeDisk, file: Path) -> None:
        opened = synced(node, file, b"..")
        opened.write(b"1", 0)
        opened.write(b"2", 1)

    assert {b"..", b"1.", b".2", b"12"} == outcomes(tmp_path, write)


def test_a_new_name_is_certain_only_with_its_folder(tmp_path: Path) -> None:
    def write(node: NodeDisk, file: Path) -> None:
        opened = node.open(file)
        opened.write(b"x")
        opened.sync()

    assert {None, b"x"} == outcomes(tmp_path, write)


def test_a_rename_of_what_was_not_synced_may_leave_an_empty_file(tmp_path: Path) -> None:
    """The mistake that file systems are known for."""

    def write(node: NodeDisk, file: Path) -> None:
        synced(node, file, b"old")
        new = node.open(file.with_name("new"))
        new.write(b"new")
        node.rename(file.with_name("new"), file)

    found = outcomes(tmp_path, write)
    assert {b"old", b"", b"new"} <= found


def test_a_removed_file_may_come_back_until_its_folder_is_synced(tmp_path: Path) -> None:
    def remove(node: NodeDisk, file: Path) -> None:
        synced(node, file)
        node.remove(file)

    def remove_for_certain(node: NodeDisk, file: Path) -> None:
        remove(node, file)
        node.sync_folder(file.parent)

    assert {None, b"synced"} == outcomes(tmp_path, remove)
    for folder in tmp_path.iterdir():
        folder.rename(tmp_path / f"was-{folder.name}")
    assert {None} == outcomes(tmp_path, remove_for_certain)


def test_a_sync_that_failed_makes_nothing_certain_and_the_next_does_not_tell(tmp_path: Path) -> None:
    def write(node: NodeDisk, file: Path) -> None:
        opened = synced(node, file, b"old")
        opened.write(b"new")
        node._disk.faults = 1.0
        with pytest.raises(OSError, match="Input/output"):
            opened.sync()
        node._disk.faults = 0.0
        opened.sync()

    assert {b"old", b"new"} <= outcomes(tmp_path, write)


def test_what_was_there_before_the_world_stays(tmp_path: Path) -> None:
    def write(node: NodeDisk, file: Path) -> None:
        file.write_bytes(b"before")
        node.open(file).write(b"B")

    assert {b"before", b"Before"} == outcomes(tmp_path, write)


def test_after_a_crash_nothing_reaches_the_disk_and_its_files_are_closed(tmp_path: Path) -> None:
    def program(world: World) -> None:
        _, node = mounted(world)
        opened = synced(node, tmp_path / "file")
        node.crash()
        assert opened.closed
        for late in (
            lambda: opened.write(b"x"), lambda: node.open(tmp_path / "other"), lambda: node.remove(tmp_path / "file"),
            lambda: node.sync_folder(tmp_path), lambda: node.make_folder(tmp_path / "folder"),
        ):  # fmt: skip
            with pytest.raises(OSError, match="crashed"):
                late()
        assert (tmp_path / "file").read_bytes() == b"synced"

    simulate(program, 1)


def test_a_full_disk_takes_what_there_is_room_for(tmp_path: Path) -> None:
    def program(world: World) -> None:
        disk, node = mounted(world)
        disk.room = 10
        opened = node.open(tmp_path / "file")
        opened.write(b"1234567")
        opened.write(b"7654321")  # no growth
        with pytest.raises(OSError, match="No space") as full:
            opened.write(b"1234567", 7)
        assert full.value.errno == errno.ENOSPC
        assert opened.read(100) == b"7654321123"
        assert disk.room == 0
        opened.truncate(4)
        assert disk.room == 6
        node.remove(tmp_path / "file")
        assert disk.room == 10

    simulate(program, 1)


def test_a_slow_disk_holds_up_everybody(tmp_path: Path) -> None:
    def program(world: World) -> Any:
        disk, node = mounted(world)
        disk.latency = (1.0, 2.0)
        synced(node, tmp_path / "file")  # opened, written, synced, its folder synced
        return world.clock().monotonic()

    took = {run.value for run in explore(program, range(10))}
    assert len(took) == 10
    assert all(4.0 <= seconds <= 8.0 for seconds in took)


# ---- who writes ----------------------------------------------------------------------------------------------------------


def test_an_overlay_on_a_bad_disk_keeps_what_it_said_was_kept(tmp_path: Path) -> None:
    """After any faults and a crash there is a whole overlay: the last that was written without an error, or a later one."""
    refused = kept = 0

    def program(world: World) -> None:
        nonlocal refused, kept
        folder = tmp_path / str(world.seed)
        disk, node = mounted(world)
        draw = world.random
        disk.faults = draw.choice([0.0, 0.1, 0.4])
        disk.room = draw.choice([None, 500, 1500])
        acknowledged, tried = -1, -1
        try:
            overlay = Overlay(folder / "overlay.json", node)
            for number in range(draw.randrange(12)):
                tried = number
                try:
                    overlay.set("node.name", number, who="test", when=NOW)
                    acknowledged = number
                    kept += 1
                except OverlayError as error:
                    refused += 1
                    changed = "nothing was changed" not in str(error)
                    if changed != bool(overlay and overlay["node.name"].value == number):
                        raise AssertionError("it says the wrong thing") from error
        finally:
            node.crash()
        disk.faults, disk.room = 0.0, None
        after = Overlay(folder / "overlay.json", NodeDisk(disk))
        found = after["node.name"].value if after else -1
        assert acknowledged <= found <= tried
        after.set("node.name", 99, who="test", when=NOW)

    explore(program, range(300))
    assert refused > 100
    assert kept > 100


@capability("test.echo")
def echo(word: str) -> str:
    """Give it back."""
    return word


class Quiet(Module):
    """Does nothing."""

    def handle_request(self, request: Any, context: Any) -> None:
        return None


CONFIG = """
[node]
name = "from the file"

[[modules]]
name = "quiet"
module = "tests.testing.test_disk:Quiet"
"""


def test_what_was_changed_at_run_time_outlives_a_crash_on_a_bad_disk(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text(CONFIG)

    def program(world: World) -> bool:
        node = world.node("desk", capabilities=[echo], config=config)
        world.disk("desk").faults = 0.15
        try:
            node.change_module("disable", "quiet", "test", False)
            kept = True
        except Unavailable:
            kept = False
        assert node.list_active_modules() == []
        world.crash(node)
        world.disk("desk").faults = 0.0
        again = world.node("desk", capabilities=[echo], config=config)
        enabled = bool(again.list_active_modules())
        assert not (kept and enabled), "what was kept is gone"
        assert again.call("test.echo", {"word": "hello"}) == "hello"
        return kept

    assert {run.value for run in explore(program, range(30))} == {True, False}


def test_a_reload_in_a_world_reads_the_file_again(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"

    def program(world: World) -> None:
        config.write_text(CONFIG)
        node = world.node("desk", capabilities=[echo], config=config)
        assert [row["name"] for row in node.list_active_modules()] == ["quiet"]
        config.write_text(CONFIG + "enabled = false\n")
        assert node.reload()["changed"]
        assert node.list_active_modules() == []
        assert node.config.node.name == "desk"

    explore(program, range(5))


def test_a_node_whose_disk_is_full_does_not_start_and_says_why() -> None:
    def program(world: World) -> str:
        world.disk("desk").room = 3
        with pytest.raises(Exception, match="No space left") as refused:
            world.node("desk")
        world.disk("desk").room = None
        world.node("desk")
        return str(refused.value)

    assert "make room" in simulate(program, 1).value


def test_the_seed_draws_the_same_faults_again(tmp_path: Path) -> None:
    def program(world: World) -> str:
        world.disk().faults = 0.3
        told = []
        overlay = Overlay(tmp_path / f"{world.seed}.json", NodeDisk(world.disk()))
        for number in range(20):
            try:
                overlay.set("node.name", number, who="test", when=NOW)
                told.append("written")
            except OverlayError as error:
                told.append(str(error.__cause__).replace(str(tmp_path), ""))
        return json.dumps(told)

    first, again, other = simulate(program, 1), simulate(program, 1), simulate(program, 2)
    assert first == again
    assert first.value != other.value
