"""Requests per second over tcp: a node with two workers against the node alone, in one run, the same clients for both.

    python bench/node/workers.py

The clients are processes of the same machine and take part of its cores: on two cores the two workers share them with their
callers, so the ratio says what is left over, not how workers scale. With more cores it says more; the machine's number is
printed. With one core there is nothing to see, and it is skipped.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import figure, skipped
from packetflow.client import Client

ROOT = Path(__file__).resolve().parents[2]
CLIENTS = 2  # processes
CONNECTIONS = 16  # of each: the kernel spreads them by chance, so few would fall unevenly
IN_FLIGHT = 16
ROUNDS = 3

CONFIG = """\
[node]
name = "bench"
[tcp]
port = 0
[http]
enabled = false
[[capabilities]]
path = "capabilities.py"
"""
CAPABILITIES = '''\
import hashlib

from packetflow import capability


@capability("bench.digest")
def digest(text: str, rounds: int) -> str:
    """Work for the processor."""
    data = text.encode()
    for _ in range(rounds):
        data = hashlib.sha256(data).digest()
    return data.hex()
'''
# What a request does, hashing so many times; how many of them a client process sends; what two workers should be ahead.
WORK = (
    ("no work", 1, 40_000, 1.0),
    ("1 ms of work", 2_500, 4_000, 1.5),
)


def payload(rounds: int) -> dict[str, object]:
    return {"text": "x" * 120, "rounds": rounds}


def load(address: str, rounds: int, total: int) -> None:
    """A client process: so many requests over CONNECTIONS connections."""
    import threading

    def one() -> None:
        with Client(address, concurrency="threads") as client:
            requests = (("bench.digest", payload(rounds)) for _ in range(total // CONNECTIONS))
            for _, reply in client.map(requests, concurrency=IN_FLIGHT):
                assert reply.error is None, reply.error

    threads = [threading.Thread(target=one) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rates(folder: Path, workers: int) -> list[float]:
    """Requests a second of a node with so many workers for each kind of work, by the clients' wall time."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    node = subprocess.Popen(
        [sys.executable, "-m", "packetflow.cli", "start", "--json", "--workers", str(workers)],
        cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert node.stdout is not None
    try:
        status = json.loads(node.stdout.readline())
        address = next(door["address"] for door in status["doors"] if door["door"] == "tcp")
        return [one_rate(address, environment, rounds, total) for _, rounds, total, _ in WORK]
    finally:
        node.send_signal(signal.SIGTERM)
        node.wait(timeout=60)
        node.stdout.close()


def one_rate(address: str, environment: dict[str, str], rounds: int, total: int) -> float:
    command = [sys.executable, __file__, address, str(rounds), str(total)]
    begin = time.perf_counter()
    clients = [subprocess.Popen(command, env=environment) for _ in range(CLIENTS)]
    codes = [client.wait() for client in clients]
    took = time.perf_counter() - begin
    assert codes == [0] * CLIENTS
    return CLIENTS * total / took


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    if cores < 2:
        skipped("tcp: 2 workers", "one core: two workers can't be faster than one")
        return
    folder = Path(tempfile.mkdtemp(prefix="packetflow-bench-"))
    try:
        (folder / "config").mkdir()
        (folder / "config" / "node.toml").write_text(CONFIG)
        (folder / "capabilities.py").write_text(CAPABILITIES)
        found: dict[int, list[list[float]]] = {1: [], 2: []}
        for _ in range(ROUNDS):  # in turn, so that a drift of the machine strikes both alike
            for workers, rounds in found.items():
                rounds.append(rates(folder, workers))
    finally:
        shutil.rmtree(folder)
    for place, (work, _, _, target) in enumerate(WORK):
        one, two = (statistics.median(round[place] for round in found[workers]) for workers in (1, 2))
        name = f"tcp: 2 workers, {work}, clients included, on {cores} cores"
        figure(name, two, one, "the node in one process", "1/s", target)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        load(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
