"""A node as a process, as a reader of the documentation starts it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def environment() -> dict[str, str]:
    """The test's environment: this checkout first, doors on free ports, our `packetflow` on the PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PACKETFLOW_")}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PACKETFLOW_TCP__PORT": "0",
        "PACKETFLOW_HTTP__PORT": "0",
    }


class RunningNode:
    """A node of a project folder, copied so that the checkout stays clean. Ends with the `with` block."""

    def __init__(self, project: Path, work: Path) -> None:
        self.folder = work / project.name
        shutil.copytree(project, self.folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
        self.status: dict[str, Any] = {}

    def __enter__(self) -> RunningNode:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "packetflow.cli", "start", "--json"],
            cwd=self.folder, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.status = json.loads(self.process.stdout.readline())
        return self

    def address(self, door: str) -> str:
        """Where a door listens, `host:port`."""
        found = next(one["address"] for one in self.status["doors"] if one["door"] == door)
        return str(found).rpartition("/")[2]

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run commands of a page in the project's folder."""
        if "localhost:7421" in script:
            script = script.replace("localhost:7421", self.address("http"))
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env=environment(),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def kill(self) -> None:
        """kill -9; `__enter__` starts it again."""
        self.process.kill()
        self.process.communicate()

    def __exit__(self, *failure: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=20)
        assert self.process.stdout is not None
        self.process.stdout.close()
