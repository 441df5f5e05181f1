"""Bytes of an idle supervised actor, of 100,000: what the machine sees (resident memory) and what the runtime books
(tracemalloc; the BEAM's own count); against Elixir, and against Pykka (2,000 of its actors, a thread each, unsupervised).

python bench/otp/idle_memory.py
"""

from __future__ import annotations

import gc
import shutil
import sys
import tracemalloc
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo, resident
from bench.otp._peers import (
    BEAM,
    NO_ELIXIR,
    PYKKA,
    Figures,
    asked_for_a_row,
    beam_once,
    environment,
    figure,
    in_turn,
    ours_once,
    pykka_once,
    skipped,
)
from packetflow.otp import ChildSpec, DynamicSupervisor, System

COUNT, PYKKAS = 100_000, 2_000


def start(count: int) -> tuple[System, int]:
    """A system with a pool of count children, and the resident memory before the last of them were started."""
    system = System()
    pool = DynamicSupervisor.start(system=system)
    for _ in range(1000):
        DynamicSupervisor.start_child(pool, ChildSpec(Echo, None))
    gc.collect()
    before = resident()
    for _ in range(count):
        DynamicSupervisor.start_child(pool, ChildSpec(Echo, None))
    return system, before


def seen(count: int) -> Figures:
    system, before = start(count)
    gc.collect()
    each = (resident() - before) / count
    assert len(system.processes()) > count
    return {"rss": each}


def booked(count: int) -> Figures:
    tracemalloc.start()
    system, _ = start(0)
    begin = tracemalloc.get_traced_memory()[0]
    pool = system.processes()[0]
    for _ in range(count):
        DynamicSupervisor.start_child(pool, ChildSpec(Echo, None))
    gc.collect()
    return {"bytes": (tracemalloc.get_traced_memory()[0] - begin) / count}


def main() -> None:
    if asked_for_a_row({"seen": seen, "booked": booked}):
        return
    sides = {"ours": lambda: ours_once(__file__, "seen", COUNT) | ours_once(__file__, "booked", COUNT)}
    if shutil.which("elixir"):
        sides[BEAM] = lambda: beam_once("children_dynamic", COUNT)
    else:
        skipped("otp: memory of an idle supervised actor", NO_ELIXIR)
    if environment("pykka", "pykka"):
        sides[PYKKA] = lambda: pykka_once("idle", PYKKAS)
    else:
        skipped("otp: memory of an idle actor", "Pykka can't be had here")
    found = in_turn(sides, rounds=3)
    ours = found["ours"]
    if BEAM in found:
        what = "otp: memory of an idle supervised actor"
        figure(f"{what}, resident", ours["rss"], found[BEAM]["rss"], BEAM, "bytes", 0.25, "lower")
        figure(f"{what}, booked", ours["bytes"], found[BEAM]["bytes"], BEAM, "bytes", 0.25, "lower")
    if PYKKA in found:
        figure(
            "otp: memory of an idle actor, resident",
            ours["rss"],
            found[PYKKA]["rss"],
            PYKKA,
            "bytes",
            0.25,
            "lower",
        )


if __name__ == "__main__":
    main()
