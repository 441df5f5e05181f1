"""Durable runs of five steps against DBOS on SQLite: one at a time, and 256 at once. Each of ours is acknowledged with FULL.

Every step of ours is a request through the one door; the peer's are plain functions. Each round asks both in turn.

python bench/composition/durable.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from bench.figures import environment, figure, skipped
from packetflow import Node, capability
from packetflow.composition.building import composition, pipeline, step
from packetflow.node.config import NodeConfig

ROUNDS = 3
BUDGET = 2.0  # seconds of one round, one at a time
MANY = 256
PEER = Path(__file__).with_name("_dbos_peer.py")
ROWS = {"one": ("one at a time", 5.0), "many": (f"{MANY} at once", 60.0)}


@capability("bench.add")
def add(n: int) -> int:
    """One more."""
    return n + 1


FIVE = composition(
    "bench.five",
    "Five steps",
    pipeline(*(step("bench.add", outputs={"result": "n"}, name=f"step{number}") for number in range(5))),
    requires={"n": int},
    durable=True,
)


def node_in(folder: str) -> Node:
    """A node without doors whose data lies in a folder."""
    data = {
        "node": {"name": "bench", "data_folder": folder},
        "tcp": {"enabled": False},
        "http": {"enabled": False},
        "limits": {"in_flight_node": 2 * MANY},
    }
    log = open("/dev/null", "w")  # noqa: SIM115 - the node's, as long as it lives
    return Node(NodeConfig.model_validate(data), capabilities=[add, FIVE], log_stream=log)


def ours(node: Node) -> dict[str, float]:
    """Runs a second."""

    def ask() -> Any:
        return node.call("bench.five", {"n": 0})

    assert ask() == 5
    count, begun = 0, time.perf_counter()
    while time.perf_counter() < begun + BUDGET:
        ask()
        count += 1
    one = count / (time.perf_counter() - begun)
    begun = time.perf_counter()
    rounds = 4
    for _ in range(rounds):
        gevent.joinall([gevent.spawn(ask) for _ in range(MANY)], raise_error=True)
    return {"one": one, "many": rounds * MANY / (time.perf_counter() - begun)}


def main() -> None:
    python = environment("dbos", "dbos")
    own: dict[str, list[float]] = {row: [] for row in ROWS}
    theirs: dict[str, list[float]] = {row: [] for row in ROWS}
    with tempfile.TemporaryDirectory() as folder, node_in(str(Path(folder) / "run")) as node:
        for number in range(ROUNDS):
            for row, rate in ours(node).items():
                own[row].append(rate)
            if python is None:
                continue
            place = Path(folder) / f"peer{number}"
            place.mkdir()
            done = subprocess.run(
                [str(python), str(PEER), str(place), str(BUDGET)],
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
            for row, rate in json.loads(done.stdout.splitlines()[-1]).items():
                theirs[row].append(rate)
    for row, (what, target) in ROWS.items():
        name = f"composition: durable, five steps, {what}"
        if python is None:
            skipped(name, "dbos can't be had")
            continue
        one, other = statistics.median(own[row]), statistics.median(theirs[row])
        figure(name, one, other, "DBOS on SQLite", "runs/s", target)


if __name__ == "__main__":
    main()
