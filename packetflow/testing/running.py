"""Runs the simulations that a file holds: every function in it whose name begins with `simulate` and that takes a world."""

from __future__ import annotations

import inspect
import json
import os
import random
import runpy
import subprocess
import sys
import traceback
from pathlib import Path
from types import FunctionType
from typing import Any

from typing_extensions import TypedDict

from packetflow.otp.errors import NotASimulation, SimulationFailed
from packetflow.testing.simulation import World, simulate

PREFIX = "simulate"
HASH_SEEDS = 2**32  # how many Python knows


class Outcome(TypedDict):
    """What one program did for one seed. seconds: virtual ones. digest: of the order that was drawn. error: None if all held.
    trace: where the error came from, as text. log: what the nodes logged, where it failed."""

    program: str
    seed: int
    turns: int
    seconds: float
    digest: int
    error: str | None
    trace: str
    log: str


def programs_of(path: Path) -> dict[str, FunctionType]:
    """The programs in a file, by name, in its order. Raises NotASimulation if it can't be run or has none."""
    sys.path.insert(0, str(path.resolve().parent))
    try:
        names = runpy.run_path(str(path))
    except BaseException as error:  # an author's code
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise NotASimulation(
            f"{path} can't be run: {type(error).__name__}: {error} (line {place.lineno})"
        ) from error
    found: dict[str, FunctionType] = {
        name: value
        for name, value in names.items()
        if name.startswith(PREFIX) and inspect.isfunction(value) and value.__module__ == "<run_path>"
    }
    if not found:
        raise NotASimulation(
            f"{path} has no simulation; expected functions such as: def simulate_refunds(world): ..."
        )
    for name, function in found.items():
        if len(inspect.signature(function).parameters) != 1:
            raise NotASimulation(f"{path}: {name} takes one thing, the world: def {name}(world): ...")
    return found


def _told(error: BaseException, file: str) -> str:
    """An error as Python tells it, from the frames of that file on."""
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename != file:
        trace = trace.tb_next
    return "".join(traceback.format_exception(error.with_traceback(trace or error.__traceback__)))


def run_seed(name: str, program: FunctionType, seed: int) -> Outcome:
    """One program, one seed."""
    worlds: list[World] = []

    def with_world(world: World) -> Any:
        worlds.append(world)
        return program(world)

    error, trace, log = None, "", ""
    turns, seconds, digest = 0, 0.0, 0
    try:
        run = simulate(with_world, seed)
        turns, seconds, digest = run.turns, run.seconds, run.digest
    except SimulationFailed as failed:
        cause = failed.__cause__
        error = str(failed)
        trace = "" if cause is None else _told(cause, program.__code__.co_filename)
        if worlds:
            world = worlds[0]
            turns, seconds, digest = world.progress()
            error, trace, log = world.told(error), world.told(trace), world.log
    return {
        "program": name, "seed": seed, "turns": turns, "seconds": seconds, "digest": digest, "error": error,
        "trace": trace, "log": log,
    }  # fmt: skip


def run_in_process(path: Path, seed: int) -> list[Outcome]:
    """All programs of a file for one seed, in a process of their own. Raises NotASimulation."""
    done = subprocess.run(
        [sys.executable, "-m", "packetflow.testing", str(path), "--seed", str(seed)],
        env={**os.environ, "PYTHONHASHSEED": str(seed % HASH_SEEDS)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode == 2 and lines:
        raise NotASimulation(lines[-1]["refused"])
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise NotASimulation(f"{path}: the process for seed {seed} ended with {done.returncode}: {last}")
    return lines


def main() -> None:
    """See `__main__`."""
    path, word, seed = [*sys.argv[1:], "", "", ""][:3]
    if word != "--seed" or not seed.lstrip("-").isdigit():
        sys.exit("usage: python -m packetflow.testing FILE --seed N")
    random.seed(int(seed))
    out = sys.stdout
    sys.stdout = sys.stderr  # what a program prints is talk
    try:
        programs = programs_of(Path(path))
    except NotASimulation as refused:
        out.write(json.dumps({"refused": str(refused)}) + "\n")
        sys.exit(2)
    for name, program in programs.items():
        out.write(json.dumps(run_seed(name, program, int(seed))) + "\n")
        out.flush()
