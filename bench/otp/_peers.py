"""The peers of the supervision runtime, asked for a row of work at a time, in turn with ours.

A peer is a program that reads lines "ROW COUNT" and answers each with a line of JSON: `_beam.exs` on Elixir with one
scheduler, `_pykka_peer.py` in an environment of its own. BENCH_ROUNDS says how often each side takes its turn; BENCH_CLOCK=cpu
counts the processor's time in place of the wall's where the figure is a rate, for a machine that others load.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.figures import environment, skipped
from bench.figures import figure as shown

HERE = Path(__file__).resolve().parent
BEAM = "Elixir, one scheduler"
PYKKA = "Pykka"
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "9"))
ELIXIR = ("elixir", "--erl", "+S 1:1 +P 2000000", str(HERE / "_beam.exs"))
NO_ELIXIR = "elixir is not installed (Debian: erlang-base, elixir)"

clock = time.process_time if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter

FORM = ", compiled" if os.environ.get("BENCH_FORM") == "compiled" else ""

Figures = dict[str, float]


def figure(
    name: str,
    ours: float,
    peer: float,
    peer_name: str,
    unit: str,
    target: float | None,
    better: str = "higher",
) -> None:
    """Prints one figure; its name tells the form of our core where it is not the pure one."""
    from packetflow.otp import calls

    assert str(calls.__file__).endswith(".py") == (not FORM), calls.__file__
    shown(name + FORM, ours, peer, peer_name, unit, target, better)


class Peer:
    """A running peer."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def row(self, name: str, count: int) -> Figures:
        """Has it do a row of work. Raises RuntimeError if it can't."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{name} {count}\n")
        self._process.stdin.flush()
        return _figures(self._process.stdout.readline(), name)

    def close(self) -> None:
        """Lets it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def beam() -> Peer | None:
    """Elixir with one scheduler; None where it is absent."""
    return Peer(*ELIXIR) if shutil.which("elixir") else None


def pykka() -> Peer | None:
    """Pykka; None where it can't be had."""
    python = environment("pykka", "pykka")
    return Peer(str(python), str(HERE / "_pykka_peer.py")) if python else None


def beam_once(name: str, count: int) -> Figures:
    """A row in a BEAM of its own, for what leaves a virtual machine changed: memory, a million processes."""
    return _once([*ELIXIR, name, str(count)], name)


def pykka_once(name: str, count: int) -> Figures:
    """A row in a Python of its own with Pykka."""
    python = environment("pykka", "pykka")
    assert python is not None
    return _once([str(python), str(HERE / "_pykka_peer.py"), name, str(count)], name)


def ours_once(file: str, name: str, count: int) -> Figures:
    """A row of a bench file of ours in a Python of its own: `file ROW COUNT`."""
    return _once([sys.executable, file, name, str(count)], name)


def _once(command: list[str], name: str) -> Figures:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return _figures(done.stdout, name)


def _figures(line: str, name: str) -> Figures:
    if not line.strip():
        raise RuntimeError(f"the peer ended in row {name}")
    found: Figures = json.loads(line.splitlines()[-1])
    return found


def in_turn(sides: dict[str, Callable[[], Figures]], rounds: int = ROUNDS) -> dict[str, Figures]:
    """Each side's figures, taken in turn so that a drift of the machine strikes all alike; medians of the rounds."""
    runs: dict[str, list[Figures]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            runs[name].append(side())
    return {
        name: {key: statistics.median(run[key] for run in found) for key in found[0]}
        for name, found in runs.items()
    }


class Rate:
    """One figure in operations a second: `ours(count)` gives the seconds of count operations, after a warm-up.

    row: the peers' name of the same work. share: the part of the work that Pykka gets, which is slow.
    """

    def __init__(
        self,
        name: str,
        ours: Callable[[int], float],
        row: str,
        count: int,
        target: float | None,
        share: float = 0.0,
    ) -> None:
        self.name = name
        self.ours = ours
        self.row = row
        self.count = count
        self.target = target
        self.share = share


def rates(figures: Iterable[Rate]) -> None:
    """Measures and prints figures in operations a second, against the BEAM, and Pykka where it has a share."""
    figures = list(figures)
    elixir = beam()
    python = pykka() if any(one.share for one in figures) else None
    try:
        for one in figures:
            _rate(one, elixir, python)
    finally:
        for peer in (elixir, python):
            if peer is not None:
                peer.close()


def _rate(one: Rate, elixir: Peer | None, python: Peer | None) -> None:
    count, few = one.count, int(one.count * one.share)
    sides: dict[str, Callable[[], Figures]] = {"ours": lambda: {"seconds": one.ours(count)}}
    if elixir is None:
        skipped(one.name, NO_ELIXIR)
    else:
        sides[BEAM] = lambda: elixir.row(one.row, count)
    if one.share and python is None:
        skipped(one.name, "Pykka can't be had here")
    elif one.share and python is not None:
        sides[PYKKA] = lambda: python.row(one.row, few)
    if len(sides) == 1:
        return
    took = in_turn(sides)
    done = {"ours": count, BEAM: count, PYKKA: few}
    each = {name: done[name] / found["seconds"] for name, found in took.items()}
    for name in (BEAM, PYKKA):
        if name in each:
            target = one.target if name == BEAM else 1.0
            figure(one.name, each["ours"], each[name], name, "1/s", target)


def asked_for_a_row(rows: dict[str, Callable[[int], Figures]]) -> bool:
    """Does the row that the command line names, if it names one, and prints its figures. Returns whether it did."""
    if len(sys.argv) < 3:
        return False
    print(json.dumps(rows[sys.argv[1]](int(sys.argv[2]))), flush=True)
    return True


def warm(work: Callable[[int], Any], count: int) -> float:
    """Seconds of work(count), after a tenth of it as warm-up: what the peers do."""
    work(max(1, count // 10))
    begin = clock()
    work(count)
    return clock() - begin
