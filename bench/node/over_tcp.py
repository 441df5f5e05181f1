"""Over tcp on loopback, one request at a time and 64 in flight on one connection, each side with its own client library:
our node (session, contract, ten modules, trace) against an echo of gRPC-python and of zerorpc.

    python bench/node/over_tcp.py
"""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import environment, figure, skipped
from packetflow.client import Client

HERE = Path(__file__).resolve().parent
PAYLOAD = {"text": "x" * 120, "n": 42}
SECONDS = 1.2
ROUNDS = 5


def start(*command: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ours(address: str) -> dict[str, float]:
    with Client(address) as client:
        for _ in range(500):
            client.call("bench.echo", PAYLOAD)
        count, finish = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < finish:
            client.call("bench.echo", PAYLOAD)
            count += 1
        one, total = count / SECONDS, 40_000
        begin = time.perf_counter()
        for _, reply in client.map((("bench.echo", PAYLOAD) for _ in range(total)), concurrency=64):
            assert reply.error is None, reply.error
        return {"one": one, "many": total / (time.perf_counter() - begin)}


def peer(python: Path, script: str, port: str) -> dict[str, float]:
    command = [str(python), str(HERE / script), "ask", port, str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return str(listening.getsockname()[1])


def main() -> None:
    peers: list[tuple[str, str, Path | None]] = [
        ("gRPC-python", "_grpc_peer.py", environment("grpc", "grpcio", "msgpack")),
        ("zerorpc", "_zerorpc_peer.py", environment("zerorpc", "zerorpc", "setuptools<81")),
    ]
    node, line = start(sys.executable, str(HERE / "_server.py"), "1")
    servers: list[Any] = [
        start(str(python), str(HERE / script), "server", free_port()) if python else None
        for _, script, python in peers
    ]
    try:
        runs: dict[str, list[dict[str, float]]] = {"ours": []}
        for _ in range(ROUNDS):  # in turn, so that a drift of the machine strikes all alike
            runs["ours"].append(ours(json.loads(line)["tcp"]))
            for (name, script, python), server in zip(peers, servers, strict=True):
                if python is not None:
                    runs.setdefault(name, []).append(peer(python, script, server[1]))
    finally:
        for process in [node, *(server[0] for server in servers if server)]:
            end(process)
    middle = {
        name: {way: statistics.median(run[way] for run in found) for way in ("one", "many")}
        for name, found in runs.items()
    }
    for name, _, python in peers:
        if python is None:
            skipped(f"tcp against {name}", "its package can't be had here")
            continue
        figure("tcp: one at a time", middle["ours"]["one"], middle[name]["one"], name, "1/s", 6.0)
        figure("tcp: 64 in flight", middle["ours"]["many"], middle[name]["many"], name, "1/s", 12.0)


if __name__ == "__main__":
    main()
