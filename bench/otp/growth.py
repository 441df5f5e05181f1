"""What a call takes with 10, 1,000, 100,000 and 1,000,000 supervised actors alive: it must not grow.

Two figures, each the longest over the shortest of the four. Calls to ten of them in turn show what the runtime does: no
table is walked. Calls to any of them, drawn at random beforehand, show what the machine's caches do besides, for which
Elixir is the measure: its growth stands beside ours.

python bench/otp/growth.py
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo
from bench.otp._peers import (
    BEAM,
    NO_ELIXIR,
    Figures,
    asked_for_a_row,
    beam_once,
    clock,
    figure,
    in_turn,
    ours_once,
    skipped,
)
from packetflow.otp import ChildSpec, DynamicSupervisor, Ref, System, call

ALIVE = (10, 1_000, 100_000, 1_000_000)
CALLS = 20_000


def seconds_each(refs: list[Ref]) -> float:
    times = []
    for _ in range(7):
        begin = clock()
        for ref in refs:
            call(ref, 1)
        times.append(clock() - begin)
    return statistics.median(times) / len(refs)


def growth(alive: int) -> Figures:
    system = System()
    pool = DynamicSupervisor.start(system=system)
    refs = [DynamicSupervisor.start_child(pool, ChildSpec(Echo, None)) for _ in range(alive)]
    ten = [refs[number * alive // 10] for number in range(10)]
    draw = random.Random(1)
    few = seconds_each(ten * (CALLS // 10))
    return {"few": few, "any": seconds_each([draw.choice(refs) for _ in range(CALLS)])}


def main() -> None:
    if asked_for_a_row({"growth": growth}):
        return
    sizes = [size for size in ALIVE if size < 1_000_000 or os.environ.get("BENCH_MILLION") != "0"]
    elixir = shutil.which("elixir") is not None
    sides = {f"ours {size}": lambda size=size: ours_once(__file__, "growth", size) for size in sizes}
    if elixir:
        sides |= {f"{BEAM} {size}": lambda size=size: beam_once("growth", size) for size in sizes}
    else:
        skipped("otp: growth of a call to any actor", NO_ELIXIR)
    took = in_turn(sides, rounds=5)

    def grown(side: str, key: str) -> float:
        each = [took[f"{side} {size}"][key] for size in sizes]
        drawn = ", ".join(f"{size:,}: {one * 1e6:.2f} us" for size, one in zip(sizes, each, strict=True))
        print(f"{side}, a call to {key} of so many alive: {drawn}", file=sys.stderr)
        return max(each) / min(each)

    what = f"otp: a call, {sizes[0]} to {sizes[-1]:,} actors alive, slowest over fastest"
    figure(f"{what}, ten of them", grown("ours", "few"), 1.0, "no growth", "times", 1.15, "lower")
    if elixir:
        figure(f"{what}, any of them", grown("ours", "any"), grown(BEAM, "any"), BEAM, "times", 1.15, "lower")


if __name__ == "__main__":
    main()
