"""How fast the command line answers, against a bare Python; and how soon a node has served its first request.

python bench/cli/start.py
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from bench.figures import figure

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(ROOT),
    "PACKETFLOW_TCP__PORT": "0",
    "PACKETFLOW_HTTP__PORT": "0",
}
LIMIT, SERVED = 300.0, 2000.0  # ms
ROUNDS = 7


def took(action: Callable[[], object]) -> float:
    begin = time.perf_counter()
    action()
    return (time.perf_counter() - begin) * 1000


def command(*words: str, folder: Path = ROOT) -> Callable[[], object]:
    line = [sys.executable, "-m", "packetflow", *words]
    return lambda: subprocess.run(line, cwd=folder, env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)


def bare() -> object:
    return subprocess.run([sys.executable, "-c", "pass"], check=True)


def first_request(folder: Path) -> float:
    """ms from `packetflow start` to an answer to `packetflow health`."""
    begin = time.perf_counter()
    node = subprocess.Popen(
        [sys.executable, "-m", "packetflow", "start", "--json"],
        cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert node.stdout is not None
        json.loads(node.stdout.readline())
        command("health", folder=folder)()
        return (time.perf_counter() - begin) * 1000
    finally:
        node.terminate()
        node.wait()


def main() -> None:
    commands = {"--help": ["--help"], "version": ["version"], "completion bash": ["completion", "bash"]}
    times: dict[str, list[float]] = {name: [] for name in ["bare Python", *commands]}
    for _ in range(ROUNDS):
        times["bare Python"].append(took(bare))
        for name, words in commands.items():
            times[name].append(took(command(*words)))
    middle = {name: statistics.median(values) for name, values in times.items()}
    for name in commands:
        print(f"{name}: {middle[name] / middle['bare Python']:.1f} times a bare Python", file=sys.stderr)
        figure(f"cli: {name}", middle[name], LIMIT, "the limit asked for", "ms", 1.0, "lower")
    with tempfile.TemporaryDirectory() as place:
        command("init", "desk", folder=Path(place))()
        served = statistics.median(first_request(Path(place) / "desk") for _ in range(3))
    figure("cli: start to a served request", served, SERVED, "the limit asked for", "ms", 1.0, "lower")


if __name__ == "__main__":
    main()
