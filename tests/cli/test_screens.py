"""The look of key screens at 60, 100 and 160 columns and in a pipe, kept in snapshots/.

`python -m tests.cli.test_screens` writes them anew; a person then reads the difference before it is kept.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from packetflow.cli.screen.painter import columns

from .screens import SCREENS, drawn

SNAPSHOTS = Path(__file__).parent / "snapshots"
WIDTHS = (60, 100, 160, None)


def whole(name: str) -> str:
    """A screen at every width."""
    parts = []
    for width in WIDTHS:
        head = f"=== {width} columns" if width is not None else "=== in a pipe"
        parts.append(f"{head}\n{drawn(name, width)}")
    return "".join(parts)


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_looks_as_it_was_kept(name: str) -> None:
    assert whole(name) == (SNAPSHOTS / f"{name}.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("width", [60, 100, 160])
@pytest.mark.parametrize("name", [name for name in SCREENS if name not in ("refused",)])
def test_a_screen_fits(name: str, width: int) -> None:
    too_wide = [line for line in drawn(name, width).splitlines() if columns(line) > width]
    commands = [line for line in too_wide if "packetflow " in line]
    assert too_wide == commands, "only a command to copy may be longer than the terminal"


if __name__ == "__main__":
    for screen in SCREENS:
        (SNAPSHOTS / f"{screen}.txt").write_text(whole(screen), encoding="utf-8")
