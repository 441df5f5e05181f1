"""From the crash of a named, supervised server until a call to its name is answered again, and 1,000 crashes at once until
all are back; against Elixir.

python bench/otp/restart.py
"""

from __future__ import annotations

import logging
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent
from gevent.event import Event

from bench.otp._peers import BEAM, NO_ELIXIR, beam, figure, in_turn, skipped
from packetflow.otp import (
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    Ref,
    Supervisor,
    System,
    exit_signal,
    send,
    stop,
)

CRASHES, AT_ONCE = 2000, 1000
FOREVER = 1_000_000_000
clock = time.perf_counter


class Named(GenServer):
    """Crashes when it is told to."""

    def init(self) -> None:
        self.state = None

    def handle_call(self, request: Any, caller: Any) -> str:
        return "pong"

    def handle_cast(self, message: Any) -> None:
        raise RuntimeError("boom")


class Roll:
    """Who has come to life, and whether that is all."""

    def __init__(self) -> None:
        self.up: list[Ref] = []
        self.all_up = Event()


class Counter(GenServer):
    """Is told of each life by a message, as the process of Elixir's bench is."""

    def init(self, roll: Roll) -> None:
        self.roll = roll

    def handle_info(self, ref: Ref) -> None:
        self.roll.up.append(ref)
        if len(self.roll.up) == AT_ONCE:
            self.roll.all_up.set()


class Phoenix(GenServer):
    """Tells the counter each time it comes to life."""

    def init(self, counter: Ref) -> None:
        self.counter = counter
        send(counter, self.ref)


def crash_to_answer(system: System) -> float:
    old = system.whereis("named")
    begin = clock()
    system.cast("named", "crash")
    while True:
        now = system.whereis("named")
        if now is not None and now != old:
            break
        gevent.sleep(0)
    assert system.call("named", "ping") == "pong"
    return clock() - begin


def crashes(count: int) -> list[float]:
    system = System()
    tree = Supervisor.start(
        [ChildSpec(Named, name="named")], max_restarts=FOREVER, max_seconds=1.0, system=system
    )
    latencies = [crash_to_answer(system) for _ in range(count)]
    stop(tree)
    system.shutdown()
    return latencies


def restart() -> dict[str, float]:
    crashes(100)
    latencies = sorted(latency for _ in range(CRASHES // 100) for latency in crashes(100))
    return {"median": latencies[len(latencies) // 2], "p99": latencies[int(len(latencies) * 0.99)]}


def burst() -> dict[str, float]:
    system = System()
    roll = Roll()
    counter = Counter.start(roll, system=system)
    pool = DynamicSupervisor.start(max_restarts=FOREVER, max_seconds=1.0, system=system)
    for _ in range(AT_ONCE):
        DynamicSupervisor.start_child(pool, ChildSpec(Phoenix, counter))
    took = 0.0
    for _ in range(2):  # the first is the warm-up
        roll.all_up.wait()
        first, roll.up = roll.up, []
        roll.all_up.clear()
        begin = clock()
        for ref in first:
            exit_signal(ref, "boom")
        roll.all_up.wait()
        took = clock() - begin
    system.shutdown()
    return {"seconds": took}


def main() -> None:
    logging.getLogger("packetflow.otp").setLevel(
        logging.CRITICAL + 1
    )  # as Elixir's logger is off in its bench
    elixir = beam()
    if elixir is None:
        skipped("otp: restart", NO_ELIXIR)
        return
    one = in_turn({"ours": restart, BEAM: lambda: elixir.row("restart", CRASHES)})
    many = in_turn({"ours": burst, BEAM: lambda: elixir.row("burst", AT_ONCE)})
    elixir.close()
    for key, target in (("median", 1.2), ("p99", None)):
        ours, peer = one["ours"][key] * 1e6, one[BEAM][key] * 1e6
        figure(f"otp: crash to answering again, {key}", ours, peer, BEAM, "us", target, "lower")
    ours, peer = AT_ONCE / many["ours"]["seconds"], AT_ONCE / many[BEAM]["seconds"]
    figure("otp: restarts, 1,000 at once", ours, peer, BEAM, "1/s", 1.0)


if __name__ == "__main__":
    main()
