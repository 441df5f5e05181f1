"""The exit status of a child process, whoever asks the kernel first."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

# Each in a Python of its own: whether libev reaps is a matter of the whole process, and for good.
SCRIPT = """
import os, signal, sys
import gevent
if {used}:
    from gevent import subprocess
    subprocess.run([sys.executable, "-c", ""], check=True)
from packetflow.otp.pools.reaping import Reaper

def launch(code):
    return os.posix_spawn(sys.executable, [sys.executable, "-S", "-c", code], dict(os.environ))

told = []
for code in ("raise SystemExit(3)", "pass", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"):
    reaper = Reaper(launch(code), lambda: told.append(1))
    while not reaper.look():
        gevent.sleep(0.001)
    print(reaper.status)
print("told", bool(told))
import subprocess as plain
if not {used}:
    print(plain.run([sys.executable, "-c", "raise SystemExit(5)"]).returncode)
"""


@pytest.mark.parametrize("used", [False, True], ids=["nobody else reaps", "libev reaps"])
def test_the_status_is_learned_whoever_reaps(used: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT.format(used=used)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)])),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    lines = done.stdout.split("\n")
    assert lines[:3] == ["3", "0", "-9"]
    assert lines[3:5] == (["told True", ""] if used else ["told False", "5"])
