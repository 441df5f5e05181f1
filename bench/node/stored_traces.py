"""What storing traces costs a request: ours with `traces.store` as named against a node that stores none, in one run.

python bench/node/stored_traces.py
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from bench.figures import figure
from packetflow import Node, capability
from packetflow.node.config import NodeConfig

ROUNDS, REQUESTS = 7, 4_000


@capability("a.add")
def add(a: int, b: int) -> int:
    """Add."""
    return a + b


def node(folder: str, store: str) -> Node:
    off = {"enabled": False}
    settings = {"node": {"data_folder": folder}, "tcp": off, "http": off, "traces": {"store": store}}
    return Node(NodeConfig.model_validate(settings), capabilities=[add], log_stream=io.StringIO()).start()


def seconds_a_request(of: Node) -> tuple[float, float]:
    """Of the request itself, and with what is done beside it until all is stored."""
    begin = time.perf_counter()
    for n in range(REQUESTS):
        of.call("a.add", {"a": n, "b": 1})
    answered = time.perf_counter()
    while of.traces.unstored:
        gevent.sleep(0.001)
    gevent.sleep(0)
    return (answered - begin) / REQUESTS, (time.perf_counter() - begin) / REQUESTS


if __name__ == "__main__":
    with (
        tempfile.TemporaryDirectory() as one,
        tempfile.TemporaryDirectory() as two,
        tempfile.TemporaryDirectory() as three,
    ):
        nodes = {"none": node(one, "none"), "failed": node(two, "failed"), "all": node(three, "all")}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in nodes}
        for _ in range(ROUNDS):
            for name, each in nodes.items():
                taken[name].append(seconds_a_request(each))
        path = {name: statistics.median(one for one, _ in found) * 1e6 for name, found in taken.items()}
        whole = {name: statistics.median(all_ for _, all_ in found) * 1e6 for name, found in taken.items()}
        peer = "a node that stores none"
        figure("request, failed traces stored", path["failed"], path["none"], peer, "us", 1.05, "lower")
        figure("request, all traces stored", path["all"], path["none"], peer, "us", 1.25, "lower")
        figure("request and its trace on the disk", whole["all"], whole["none"], peer, "us", None, "lower")
        lost = nodes["all"].traces.lost
        for each in nodes.values():
            each.stop(0.0)
        assert lost == 0, f"{lost} traces were lost"
