"""The map of the supervision runtime names each of its files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_map_names_every_file_of_the_runtime_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "otp.md").read_text().split("Code:")[0]
    files = {path.stem for path in (ROOT / "packetflow" / "otp").glob("*.py")} - {"__init__"}
    assert set(re.findall(r"`(\w+)`", page)) == files
