"""`packetflow simulate`: the worlds of a file in virtual time, a process for each seed."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.progress_line import LiveLine
from packetflow.cli.screen.table import pad
from packetflow.cli.screen.units import count, number, seconds

FIRST = 1.0  # seconds before progress is shown
SHOWN = 12  # lines of a failure's traceback and log


@leaf(
    "simulate",
    document="packetflow.cli.documents:Simulated",
    examples=[
        "simulate examples/simulation/two_desks.py --runs 20",
        "simulate examples/simulation/two_desks.py --seed 47",
    ],
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--seed", type=int, metavar="N", help="This seed; with --runs, the first of them.")
@click.option(
    "--runs", type=click.IntRange(1, 1_000_000), metavar="N", help="How many seeds [100, or 1 with --seed]."
)
def simulate(run: Invocation, file: Path, seed: int | None, runs: int | None) -> int:
    """Runs the simulations of a Python file: nodes and actors in virtual time, in an order that a seed draws.

    FILE has functions such as `def simulate_refunds(world): ...`, which start nodes, let accidents happen and assert what
    must hold. The same seed does the same again. Exit 6 if one failed, with its seed.
    """
    if not file.is_file():
        raise usage(f"there is no file {file}", next=["packetflow help simulate"])
    first = 1 if seed is None else seed
    wanted = runs if runs is not None else 100 if seed is None else 1
    outcomes: list[Mapping[str, Any]] = []
    progress = Progress(run, wanted)
    try:
        for done in in_processes(file, range(first, first + wanted)):
            outcomes += done
            progress.show()
    finally:
        progress.hide()
    failed: dict[str, list[int]] = {}
    for one in outcomes:
        if one["error"] is not None:
            failed.setdefault(one["program"], []).append(one["seed"])
    document = {
        "file": str(file), "seed": first, "runs": wanted, "turns": sum(one["turns"] for one in outcomes),
        "seconds": sum(one["seconds"] for one in outcomes), "failed": failed, "outcomes": outcomes,
    }  # fmt: skip
    run.answer(document, lambda out: show_outcomes(out, file, outcomes, failed))
    return Exit.BAD_NEWS if failed else Exit.DONE


def in_processes(file: Path, seeds: Sequence[int]) -> Iterator[list[Any]]:
    """The outcomes seed by seed, in their order, as many processes at once as there are processors. Raises Failure."""
    from concurrent.futures import ThreadPoolExecutor

    from packetflow.otp.errors import NotASimulation
    from packetflow.testing.running import run_in_process

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        try:
            yield from pool.map(lambda seed: run_in_process(file, seed), seeds)
        except NotASimulation as error:
            raise Failure("validation_failed", str(error)) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


class Progress(LiveLine):
    """How many seeds are done, on a terminal, from the first second on."""

    def __init__(self, run: Invocation, total: int) -> None:
        from packetflow.otp.clock import Clock

        super().__init__(run.err)
        self._total = total
        self._done = 0
        self._monotonic = Clock().monotonic
        self._begun = self._monotonic()
        self._wanted = run.err.terminal and not (run.json or run.quiet)

    def show(self) -> None:
        """One more is done."""
        self._done += 1
        if self._wanted and self._monotonic() - self._begun >= FIRST:
            self.redraw(f"{number(self._done)} of {count(self._total, 'seed')} done")


def show_outcomes(
    out: Painter, file: Path, outcomes: Sequence[Mapping[str, Any]], failed: Mapping[str, Sequence[int]]
) -> None:
    """A line a program, then the first failure of each in full."""
    programs = list(dict.fromkeys(one["program"] for one in outcomes))
    room = max(map(len, programs))
    for program in programs:
        own = [one for one in outcomes if one["program"] == program]
        bad = failed.get(program, ())
        word = out.paint("FAILED", "red", "bold") if bad else out.paint("ok    ", "green")
        turns, virtual = sum(one["turns"] for one in own), sum(one["seconds"] for one in own)
        told = f"{count(len(own), 'seed')}, {number(turns)} turns, {seconds(virtual)} of virtual time"
        out.line(f"{word}  {pad(program, room)}  {told}" + (f", {len(bad)} failed" if bad else ""))
    for program, seeds in failed.items():
        show_failure(
            out, next(one for one in outcomes if one["program"] == program and one["seed"] == seeds[0])
        )
        out.line(out.paint(f"  next: packetflow simulate {file} --seed {seeds[0]}", "dim"))


def show_failure(out: Painter, outcome: Mapping[str, Any]) -> None:
    """What went wrong, where, and what the nodes logged last."""
    out.line("")
    after = f"after {number(outcome['turns'])} turns, at {seconds(outcome['seconds'])}"
    out.line(f"{outcome['program']}, {after}: {outcome['error']}")
    for title, text in (("", outcome["trace"]), ("log", outcome["log"])):
        lines = text.rstrip().splitlines()[-SHOWN:]
        if title and lines:
            out.line(f"  the last lines of the {title}:")
        for line in lines:
            out.line(f"    {line}")
