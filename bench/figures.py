"""What every bench shares: a figure in the one form, a rate measured fairly, and peers in environments of their own."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".bench-venvs"


def figure(
    name: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    target: float | None,
    better: str = "higher",
) -> dict[str, Any]:
    """Print one figure as a JSON line. ratio = ours / peer, both of this run; met by which way is better.

    target None: nothing was asked, and then `met` is None too.
    """
    ratio = ours / peer if peer else float("inf")
    met = None if target is None else ratio >= target if better == "higher" else ratio <= target
    row = {
        "name": name, "ours": _rounded(ours), "peer": _rounded(peer), "peer_name": peer_name, "unit": unit,
        "better": better, "ratio": round(ratio, 3), "target": target, "met": met,
    }  # fmt: skip
    print(json.dumps(row), flush=True)
    return row


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def skipped(name: str, why: str) -> None:
    """Say that a figure can't be had here."""
    print(json.dumps({"name": name, "skipped": why}), flush=True)


def seconds_each(function: Callable[[], Any], budget: float = 0.2) -> float:
    """Seconds one call takes: as many calls as fit the budget."""
    function()
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            function()
        took = time.perf_counter() - start
        if took >= budget / 2:
            return took / count
        count = max(count * 2, int(count * budget / max(took, 1e-9)))


def in_turn(
    functions: dict[str, Callable[[], Any]], rounds: int = 7, budget: float = 0.2
) -> dict[str, float]:
    """Seconds of each function, measured in turn so that a drift of the machine strikes all alike; the median of the rounds."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(seconds_each(function, budget))
    return {name: statistics.median(values) for name, values in times.items()}


def environment(name: str, *packages: str) -> Path | None:
    """The Python of an environment with these packages, made on first use; None if they can't be had."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    stamp = folder / "packages.txt"
    wanted = "\n".join(packages)
    if not stamp.exists() or stamp.read_text() != wanted:
        command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
        if subprocess.run(command, check=False).returncode:
            return None
        stamp.write_text(wanted)
    return python
