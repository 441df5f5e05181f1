"""Streams over tcp on loopback, read one item after the other, each side with its own client library: our node (session,
contract in, each item checked, ten modules, credit, trace) against a stream of gRPC-python, whose items are packed and
unpacked by msgpack too.

    python bench/node/stream.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import environment, figure, skipped
from bench.node.over_tcp import HERE, end, start
from packetflow.client import Client

TEXT = "x" * 120
ITEMS = 60_000
TIMES = 1_500  # streams of one item
ROUNDS = 5


def ours(address: str) -> dict[str, float]:
    with Client(address) as client:

        def each(upto: int) -> int:
            return sum(1 for _ in client.stream("bench.items", {"text": TEXT, "upto": upto}))

        each(500)
        begin = time.perf_counter()
        assert each(ITEMS) == ITEMS
        long = ITEMS / (time.perf_counter() - begin)
        begin = time.perf_counter()
        for _ in range(TIMES):
            each(1)
        return {"items": long, "one": TIMES / (time.perf_counter() - begin)}


def peer(python: Path, port: str) -> dict[str, float]:
    command = [str(python), str(HERE / "_grpc_peer.py"), "read", port, str(ITEMS), str(TIMES)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    python = environment("grpc", "grpcio", "msgpack")
    if python is None:
        skipped("stream against gRPC-python", "its package can't be had here")
        return
    node, line = start(sys.executable, str(HERE / "_server.py"), "1")
    server, port = start(str(python), str(HERE / "_grpc_peer.py"), "server")
    mine: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    try:
        for _ in range(ROUNDS):  # in turn, so that a drift of the machine strikes all alike
            mine.append(ours(json.loads(line)["tcp"]))
            theirs.append(peer(python, port))
    finally:
        end(node)
        end(server)

    def middle(runs: list[dict[str, float]], what: str) -> float:
        return statistics.median(run[what] for run in runs)

    for what, name, target in (
        ("items", "stream: items of one stream", 6.0),
        ("one", "stream: streams of one item", 2.0),
    ):
        figure(name, middle(mine, what), middle(theirs, what), "gRPC-python", "1/s", target)


if __name__ == "__main__":
    main()
