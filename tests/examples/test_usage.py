"""The usage examples run, each by its one command."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.running import environment

USAGE = Path(__file__).resolve().parents[2] / "examples" / "usage"
SHOWS = {
    "supervision_alone": ["10 + 5 = 15", "it crashed", "10 + 1 = 11"],
    "node_as_library": ["{'price': 8.0}", "rejected - at most 30 kg", "validation_failed", "heavyparcels"],
    "node_and_client": ["tea: 3", "milk: no item 'milk'", "in flight together: 150"],
    "worker_process": [
        "0 + 5 = 5 in a process of its own: True",
        "kill -9: ('signal', 'SIGKILL')",
        "0 + 1 = 1 and the other lives on: 0",
        "SIGTERM drains: normal",
    ],
    "own_wiring": ["passes: {'word': 'hello'}", "5", "word is required"],
}


def test_every_usage_example_is_tested() -> None:
    assert {file.stem for file in USAGE.glob("*.py")} == set(SHOWS)


@pytest.mark.parametrize("name", SHOWS)
def test_the_example_runs_and_shows(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(USAGE / f"{name}.py")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for words in SHOWS[name]:
        assert words in done.stdout
