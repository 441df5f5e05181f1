"""docs/storage.md: its program runs, and what it says of settings and messages is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from packetflow.node.config import NodeConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "storage.md").read_text()


def test_its_program_runs(tmp_path: Path) -> None:
    [program] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    path = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, env=path, timeout=30)


def test_its_settings_and_times_are_those_of_the_schema() -> None:
    rows = re.findall(r"\| (\d+) (hours|days) \| `storage\.(\w+)` \|", PAGE)
    seconds = {name: int(count) * {"hours": 3_600, "days": 86_400}[unit] for count, unit, name in rows}
    assert seconds == {
        name: getattr(NodeConfig().storage, name) for name in ("idempotency_keys", "dead_letters")
    }


def test_what_it_says_of_a_sick_database_is_what_a_node_says() -> None:
    code = "".join(
        (ROOT / "packetflow" / "storage" / name).read_text()
        for name in ("sqlite.py", "errors.py", "writer.py")
    )
    said = re.findall(r"^\| (.+?) \|", PAGE.split("## When something is wrong")[1], re.MULTILINE)[1:]
    for row in said:
        assert row.split(",")[0].removeprefix("was ") in code, row
    assert len(said) == 8
