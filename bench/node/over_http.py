"""HTTP with 64 connections by wrk: our node (session, contract, ten modules, trace) against FastAPI (`async def`) on uvicorn.

python bench/node/over_http.py          needs wrk (Debian: wrk)
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import environment, figure, skipped
from bench.node.over_tcp import end, free_port, start

HERE = Path(__file__).resolve().parent
NAME = "http: 64 connections"


def rate(address: str) -> float:
    command = [
        "wrk",
        "-t1",
        "-c64",
        "-d3",
        "-s",
        str(HERE / "_post.lua"),
        f"{address}/capabilities/bench.echo",
    ]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise RuntimeError(text)
    found = re.search(r"Requests/sec:\s+([\d.]+)", text)
    assert found, text
    return float(found[1])


def wait_for(address: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{address}/docs", timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError(f"{address} does not answer")


def main() -> None:
    python = environment("fastapi", "fastapi", "uvicorn[standard]")
    if shutil.which("wrk") is None or python is None:
        skipped(NAME, "needs wrk (Debian: wrk) and FastAPI")
        return
    port = free_port()
    peer = subprocess.Popen(
        [str(python), "-m", "uvicorn", "--port", port, "--log-level", "critical", "_fastapi_peer:app"],
        cwd=HERE,
    )
    node, line = start(sys.executable, str(HERE / "_server.py"), "1")
    try:
        wait_for(f"http://127.0.0.1:{port}")
        ours, theirs = [], []
        for _ in range(3):
            ours.append(rate(json.loads(line)["http"]))
            theirs.append(rate(f"http://127.0.0.1:{port}"))
    finally:
        end(node)
        peer.terminate()
        peer.wait()
    figure(NAME, statistics.median(ours), statistics.median(theirs), "FastAPI on uvicorn", "1/s", 4.0)


if __name__ == "__main__":
    main()
