"""A million idle supervised actors on one node: their memory, the time to start them and the time to stop them; against
Elixir. BENCH_MILLION=0 leaves it out (Elixir needs 4 GB, and minutes).

python bench/otp/million.py
"""

from __future__ import annotations

import gc
import os
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo, resident
from bench.otp._peers import (
    BEAM,
    NO_ELIXIR,
    Figures,
    asked_for_a_row,
    beam_once,
    figure,
    in_turn,
    ours_once,
    skipped,
)
from bench.otp.children import specs, start_below
from packetflow.otp import DynamicSupervisor, Supervisor, System, stop

COUNT = 1_000_000
LIMIT = 0.8e9
clock = time.perf_counter


def dynamic(count: int) -> Figures:
    system = System()
    pool = DynamicSupervisor.start(system=system)
    start_below(pool, 1000)
    begin = clock()
    start_below(pool, count)
    begun = clock()
    took, whole = begun - begin, resident()
    assert len(system.processes()) == count + 1001
    begin = clock()
    stop(pool)
    return {"start": took, "stop": clock() - begin, "resident": whole}


def supervisor(count: int) -> Figures:
    system = System()
    stop(Supervisor.start(specs(1000), system=system))
    given = specs(count)
    gc.collect()
    begin = clock()
    tree = Supervisor.start(given, system=system)
    begun = clock()
    stop(tree)
    return {"start": begun - begin, "stop": clock() - begun}


def alone(count: int) -> Figures:
    system = System()
    for _ in range(1000):
        Echo.start(None, system=system)
    begin = clock()
    for _ in range(count):
        Echo.start(None, system=system)
    return {"start": clock() - begin}


def main() -> None:
    if asked_for_a_row({"dynamic": dynamic, "supervisor": supervisor, "alone": alone}):
        return
    if os.environ.get("BENCH_MILLION") == "0":
        skipped("otp: a million idle supervised actors", "BENCH_MILLION is 0")
        return
    what = "otp: a million idle actors"
    elixir = shutil.which("elixir") is not None
    for name, row, title in (
        ("dynamic", "children_dynamic", "of a DynamicSupervisor"),
        ("supervisor", "children_supervisor", "of a Supervisor"),
        ("alone", "children_alone", "unsupervised"),
    ):
        sides = {"ours": lambda name=name: ours_once(__file__, name, COUNT)}
        if elixir:
            sides[BEAM] = lambda row=row: beam_once(row, COUNT)
        found = in_turn(sides, rounds=3)
        ours, peer = found["ours"], found.get(BEAM)
        if name == "dynamic":
            size = ours["resident"] / 1e6
            figure(f"{what}, the whole process", size, LIMIT / 1e6, "the limit asked for", "MB", 1.0, "lower")
            # Elixir's DynamicSupervisor takes hours to stop a million; the Supervisor below is the comparison.
            print(f"{what} {title}: stopped in {ours['stop']:.2f} s", file=sys.stderr)
        if peer is None:
            skipped(f"{what} {title}", NO_ELIXIR)
            continue
        figure(f"{what} {title}, started", ours["start"], peer["start"], BEAM, "s", 0.6, "lower")
        if "stop" in peer:
            figure(f"{what} {title}, stopped", ours["stop"], peer["stop"], BEAM, "s", 0.5, "lower")


if __name__ == "__main__":
    main()
