"""A hop to a thread and to a process and back, against gevent's own ThreadPool and the standard library's
ProcessPoolExecutor; and what a watchdog costs the calls of actors.

    python bench/otp/offload.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent
from gevent.threadpool import ThreadPool as GeventThreadPool

from bench.figures import figure, in_turn
from packetflow.otp import GenServer, ProcessPool, System, ThreadPool, Watchdog, call

CALLERS = 64


class Echo(GenServer):
    def handle_call(self, request: Any, caller: Any) -> Any:
        return request


def at_once(run: Callable[[Callable[[], int]], int]) -> Callable[[], None]:
    """Many callers who each hop once."""

    def burst() -> None:
        gevent.joinall([gevent.spawn(run, int) for _ in range(CALLERS)], raise_error=True)

    return burst


def threads() -> None:
    ours, peer = ThreadPool(4), GeventThreadPool(4)
    took = in_turn({"ours": lambda: ours.run(int), "peer": lambda: peer.apply(int)})
    figure(
        "offload: a hop to a thread", took["ours"] * 1e6, took["peer"] * 1e6, "gevent ThreadPool.apply",
        "us", 1.2, "lower",
    )  # fmt: skip
    took = in_turn({"ours": at_once(ours.run), "peer": at_once(peer.apply)})
    figure(
        f"offload: {CALLERS} callers, 4 threads", CALLERS / took["ours"], CALLERS / took["peer"],
        "gevent ThreadPool.apply", "1/s", 1.0,
    )  # fmt: skip
    ours.close()
    peer.kill()


def processes() -> None:
    ours = ProcessPool(1, spare=0)
    with ProcessPoolExecutor(1) as peer:
        took = in_turn({"ours": lambda: ours.run(int), "peer": lambda: peer.submit(int).result()})
        figure(
            "offload: a hop to a process", took["ours"] * 1e6, took["peer"] * 1e6, "ProcessPoolExecutor",
            "us", 1.0, "lower",
        )  # fmt: skip
        data = os.urandom(1_000_000)
        took = in_turn({"ours": lambda: ours.run(len, data), "peer": lambda: peer.submit(len, data).result()})
        figure(
            "offload: a megabyte to a process", took["ours"] * 1e6, took["peer"] * 1e6, "ProcessPoolExecutor",
            "us", 1.0, "lower",
        )  # fmt: skip
    ours.close()


def watchdog() -> None:
    system = System("bench")
    ref = Echo.start(system=system)
    dog = Watchdog()

    def calls() -> None:
        for _ in range(1000):
            call(ref, 1)

    def watched() -> None:
        with dog:
            for _ in range(100):
                calls()

    def alone() -> None:
        for _ in range(100):
            calls()

    took = in_turn({"watched": watched, "alone": alone}, budget=0.5)
    figure(
        "watchdog: calls/s while it watches", 100_000 / took["watched"], 100_000 / took["alone"],
        "without it", "1/s", 0.97,
    )  # fmt: skip
    system.shutdown()


if __name__ == "__main__":
    threads()
    processes()
    watchdog()
