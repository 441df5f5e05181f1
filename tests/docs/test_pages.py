"""The documentation is tested: files shown are the files, links lead somewhere, commands are run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.running import RunningNode, environment

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("README.md"),
                *(ROOT / "modules").rglob("README.md"), ROOT / "bench" / "README.md"])  # fmt: skip


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_shows_are_as_shown(page: Path) -> None:
    for name, text in re.findall(r"<!-- file: (\S+) -->\n```\w*\n(.*?)```", page.read_text(), re.DOTALL):
        assert (ROOT / name).read_text() == text, f"{page.name} shows another {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if not link.startswith(("http://", "https://", "mailto:")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def blocks(kind: str) -> list[tuple[Path, str, str]]:
    """(page, folder, text) of the blocks that are marked so."""
    found = []
    for page in PAGES:
        for folder, text in re.findall(
            rf"<!-- {kind}: (\S+) -->\n```\w*\n(.*?)```", page.read_text(), re.DOTALL
        ):
            found.append((page, folder, text))
    return found


@pytest.mark.parametrize(
    ("page", "folder", "text"), blocks("run"), ids=lambda part: Path(str(part)[:40]).name
)
def test_commands_of_a_page_run_on_a_node_of_its_example(
    page: Path, folder: str, text: str, tmp_path: Path
) -> None:
    with RunningNode(ROOT / folder, tmp_path) as node:
        done = node.shell(text)
        assert done.returncode == 0, f"{page.name}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize(
    ("page", "folder", "text"), blocks("python"), ids=lambda part: Path(str(part)[:40]).name
)
def test_python_of_a_page_runs_in_its_example(page: Path, folder: str, text: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(ROOT / folder, work)
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=work, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{page.name}\n{done.stdout}\n{done.stderr}"


def test_the_first_five_minutes_show_what_they_say(tmp_path: Path) -> None:
    """The README's way: a capability, a module, a call, its trace, a refusal, a reload."""
    first, second = (
        text for page, _, text in blocks("run") if page.name == "README.md" and page.parent == ROOT
    )
    with RunningNode(ROOT / "examples" / "first_steps", tmp_path) as node:
        done = node.shell(first)
        assert "hello Ana" in done.stdout
        assert '"hello Bo"' in done.stdout
        assert "politeness" in done.stdout  # the trace shows what the module changed
        assert "refused, exit code 1" in done.stdout
        assert "refused, exit code 2" in done.stdout
        code = node.folder / "modules" / "politeness" / "politeness.py"
        code.write_text(code.read_text().replace(".title()", ".upper()"))
        assert "politeness" in node.shell(second).stdout
        assert "hello ANA" in node.shell("packetflow call greeting.hello name=ana").stdout
