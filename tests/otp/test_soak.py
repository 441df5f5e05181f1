"""The soak, short: `python -m tests.otp.soak` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_nothing_is_left_lost_doubled_or_orphaned_under_random_kills() -> None:
    # In a process of its own: it counts all objects, descriptors and greenlets there are.
    command = [sys.executable, "-m", "tests.otp.soak", "--minutes", str(20 / 60), "--seed", "7"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
