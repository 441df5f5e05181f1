"""The map of the supervision runtime names each of its files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_map_names_every_file_of_the_runtime_and_no_other() -> None:
    page = (ROOT / "docs" / "reference" / "otp.md").read_text().split("Code:")[0]
    folder = ROOT / "packetflow" / "otp"
    files = {
        str(path.relative_to(folder).with_suffix(""))
        for path in folder.rglob("*.py")
        if path.stem != "__init__"
    }
    named = set()
    for line in page.splitlines():
        room = (re.findall(r"\| `(\w+/)` \|", line) or [""])[0]
        named |= {room + name for name in re.findall(r"`(\w+)`", line)}
    assert named == files
