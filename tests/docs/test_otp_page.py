"""docs/otp.md is one session: its snippets run one after the other, and print what their comments say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packetflow import otp
from tests.docs.running import environment

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "otp.md").read_text()
# What a block needs that this version has not is left out with it.
BLOCKS = [
    block
    for need, block in re.findall(r"(?:<!-- needs: (\w+) -->\n)?```python\n(.*?)```", PAGE, re.DOTALL)
    if not need or need in otp.__all__
]


def test_the_page_runs_as_one_session_and_prints_what_it_says(tmp_path: Path) -> None:
    program = tmp_path / "page.py"
    program.write_text("\n".join(BLOCKS))
    expected = [text.strip() for line in "\n".join(BLOCKS).splitlines() for text in told(line)]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        cwd=tmp_path, env=environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert len(expected) > 25


def told(line: str) -> list[str]:
    """What a line's comments say it prints: those two spaces behind the code, one a printed line."""
    said = re.match(r"(.*?(?:print\(.*\)|sleep\(0\)))  # (.*)$", line)
    return said[2].split("  # ") if said else []


def test_every_name_that_the_page_imports_is_public() -> None:
    imported = {
        name.split(" as ")[0].strip()
        for names in re.findall(r"^from packetflow\.otp import (.+)$", "\n".join(BLOCKS), re.MULTILINE)
        for name in names.split(",")
    }
    assert imported <= set(otp.__all__)
