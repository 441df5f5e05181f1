"""`packetflow config`: what may be set, what is set and where, and what is wrong with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import DESK, Cli


@pytest.fixture
def folder(tmp_path: Path) -> Cli:
    shutil.copytree(DESK, tmp_path / "desk", ignore=shutil.ignore_patterns("run", "__pycache__"))
    return Cli(tmp_path / "desk")


def test_a_right_config_has_no_faults(folder: Cli) -> None:
    ran = folder("config", "check")
    assert (ran.code, ran.out) == (0, "config/node.toml: no faults\n")


def test_each_setting_is_shown_with_its_place(folder: Cli) -> None:
    rows = dict(line.split("\t", 1) for line in folder("config", "show", "--origin").out.splitlines())
    assert rows["node.name"] == "desk\tconfig/node.toml:4"
    assert rows["modules.rate_limit.config.every"].startswith("3\tconfig/node.toml:")
    assert rows["http.host"] == "127.0.0.1\tdefault"
    changed = folder("config", "show", "http.port", "--origin", PACKETFLOW_HTTP__PORT="8080").out.splitlines()
    assert changed[1:] == ["http.port\t8080\tenvironment PACKETFLOW_HTTP__PORT"]


def test_a_section_is_shown_alone_and_an_unknown_one_has_its_nearest(folder: Cli) -> None:
    document = folder("config", "show", "http", "--json").document
    assert list(document["values"]) == ["http"]
    missed = folder("config", "show", "htpp")
    assert missed.code == 5
    assert "nearest  http" in missed.err


def test_the_schema_is_json_schema(folder: Cli) -> None:
    schema = folder("config", "schema", "--json").document
    assert schema["$schema"].endswith("2020-12/schema")
    assert "modules" in schema["properties"]
    assert folder("config", "schema", "nothing").code == 5


def test_a_secret_is_never_shown(folder: Cli) -> None:
    config = folder.folder / "config" / "node.toml"
    config.write_text(config.read_text().replace("every = 3", 'every = 3\npassword = "hunter2"'))
    for words in (["check"], ["check", "--json"], ["show"], ["show", "--json"], ["show", "--origin"]):
        ran = folder("config", *words)
        assert "hunter2" not in ran.out + ran.err


def test_a_file_that_is_not_there_exits_5(folder: Cli) -> None:
    assert folder("config", "check", "config/nod.toml").code == 5


def test_a_broken_file_above_is_told_by_every_node_command(folder: Cli) -> None:
    (folder.folder / "config" / "node.toml").write_text("[node\n")
    ran = folder("health")
    assert ran.code == 2
    assert "packetflow config check" in ran.err
    assert folder("config", "check").code == 6
