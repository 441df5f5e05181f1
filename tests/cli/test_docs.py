"""The commands in docs/cli.md run, in order, in an empty folder."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from packetflow.cli.exits import MEANING, OF_CODE

from .conftest import ROOT, Cli

PAGE = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    blocks = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)
    return [
        line.removeprefix("$ ") for block in blocks for line in block.splitlines() if line.startswith("$ ")
    ]


@pytest.mark.timeout(180)
def test_the_commands_of_the_page_run(tmp_path: Path) -> None:
    run = Cli(tmp_path)
    stopped = False
    words_run = 0
    try:
        for command in commands():
            words = shlex.split(command.split(" | ")[0])
            if words[0] == "cd":
                run = Cli(run.folder / words[1])
                (run.folder / "config" / "node.toml").write_text(
                    re.sub(r"port = 742\d", "port = 0", (run.folder / "config" / "node.toml").read_text())
                )
                (run.folder / "guests.jsonl").write_text('{"name": "Ana", "message": "hello"}\n' * 3)
                continue
            if stopped and words[1] in ("call", "capability", "module"):
                assert run("start", "--detach").code == 0
                stopped = False
            if words[1] == "start":
                run("stop", "--yes")  # the page's section before may have left one running
                stopped = False
            ran = run(*words[1:])
            assert ran.code == 0, (command, ran)
            stopped = stopped or words[1] == "stop"
            words_run += 1
    finally:
        run("stop", "--yes")
    assert words_run >= 10


@pytest.mark.parametrize("exit", sorted(MEANING))
def test_the_page_lists_every_exit_code(exit: int) -> None:
    assert re.search(rf"^(\d+, )?{int(exit)}(, \d+)? \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("code", [code for code in OF_CODE if code not in ("finding", "interrupted")])
def test_the_page_names_every_error_code_beside_its_exit(code: str) -> None:
    row = next(line for line in PAGE.splitlines() if f"`{code}`" in line and " | " in line)
    assert row.startswith(f"{int(OF_CODE[code])} |")
