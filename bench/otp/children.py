"""100,000 children: started one by one below a DynamicSupervisor and all at once by a Supervisor that has their specs, and
stopped; against Elixir, each figure with the supervisor that does the same, and OTP's own simple_one_for_one.

Elixir's DynamicSupervisor takes a minute to stop as many, so that its figure is of 10,000. Each row runs in a process of
its own on either side, after a thousand children as warm-up.

python bench/otp/children.py
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo
from bench.otp._peers import (
    BEAM,
    NO_ELIXIR,
    ROUNDS,
    Figures,
    asked_for_a_row,
    beam_once,
    figure,
    in_turn,
    ours_once,
    skipped,
)
from packetflow.otp import ChildSpec, DynamicSupervisor, Ref, Supervisor, System, stop

COUNT, FEW = 100_000, 10_000
clock = time.perf_counter


def start_below(pool: Ref, count: int) -> None:
    for _ in range(count):
        DynamicSupervisor.start_child(pool, ChildSpec(Echo, None))


def dynamic(count: int) -> Figures:
    system = System()
    pool = DynamicSupervisor.start(system=system)
    start_below(pool, 1000)
    stop(pool)
    pool = DynamicSupervisor.start(system=system)
    begin = clock()
    start_below(pool, count)
    begun = clock()
    stop(pool)
    return {"start": begun - begin, "stop": clock() - begun}


def specs(count: int) -> list[ChildSpec]:
    return [ChildSpec(Echo, None, id=number) for number in range(count)]


def supervisor(count: int) -> Figures:
    system = System()
    stop(Supervisor.start(specs(1000), system=system))
    given = specs(count)
    begin = clock()
    tree = Supervisor.start(given, system=system)
    begun = clock()
    stop(tree)
    return {"start": begun - begin, "stop": clock() - begun}


def both(name: str, peer_name: str, count: int) -> tuple[Figures, Figures]:
    took = in_turn(
        {"ours": lambda: ours_once(__file__, name, count), BEAM: lambda: beam_once(peer_name, count)},
        rounds=min(ROUNDS, 5),
    )
    return took["ours"], took[BEAM]


def main() -> None:
    if asked_for_a_row({"dynamic": dynamic, "supervisor": supervisor}):
        return
    if not shutil.which("elixir"):
        skipped("otp: 100,000 children", NO_ELIXIR)
        return
    ours, peer = both("supervisor", "children_supervisor", COUNT)
    what = "otp: 100,000 children of a Supervisor"
    figure(f"{what}, started", ours["start"], peer["start"], BEAM, "s", 0.8, "lower")
    figure(f"{what}, stopped", ours["stop"], peer["stop"], BEAM, "s", 0.5, "lower")
    ours, peer = both("dynamic", "children_dynamic", COUNT)
    what = "otp: 100,000 children of a DynamicSupervisor"
    figure(f"{what}, started", ours["start"], peer["start"], BEAM, "s", 0.8, "lower")
    ours, peer = both("dynamic", "children_simple", COUNT)
    simple = f"{BEAM}, simple_one_for_one"
    figure(f"{what}, started", ours["start"], peer["start"], simple, "s", 0.8, "lower")
    figure(f"{what}, stopped", ours["stop"], peer["stop"], simple, "s", 0.5, "lower")
    ours, peer = both("dynamic", "stop_dynamic", FEW)
    figure(
        "otp: 10,000 children of a DynamicSupervisor, stopped",
        ours["stop"],
        peer["stop"],
        BEAM,
        "s",
        0.5,
        "lower",
    )


if __name__ == "__main__":
    main()
