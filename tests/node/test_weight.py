"""What a minimal node weighs: figures are told, what is loaded is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CODE = """
import json, os, sys, time
begin = time.perf_counter()
from packetflow import Node, capability

@capability("echo.say")
def say(word: str) -> str:
    "Say it again."
    return word

with Node(capabilities=[say]) as node:
    assert node.call("echo.say", {"word": "hi"}) == "hi"
    pages = int(open("/proc/self/statm").read().split()[1]) if os.path.exists("/proc/self/statm") else 0
    print(json.dumps({
        "answers_after_ms": (time.perf_counter() - begin) * 1000,
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "loaded": sorted(name for name in sys.modules if name.startswith("packetflow")),
    }))
"""


def test_a_minimal_node_loads_what_it_uses_and_no_more() -> None:
    """No module that ships, no command line, no client, no extra face of the runtime; 100 MB at most."""
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    sys.stdout.write(
        f"first answer after {found['answers_after_ms']:.0f} ms, {found['rss_mb']:.0f} MB\n"
    )  # pytest -s
    unused = ("packetflow_modules", "packetflow.cli", "packetflow.client", "packetflow.otp.supervision.router",
              "packetflow.otp.actor_system.system", "packetflow.otp.envelope")  # fmt: skip
    assert [name for name in found["loaded"] if name.startswith(unused)] == []
    assert found["rss_mb"] < 100
