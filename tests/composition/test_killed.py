"""kill -9 of a node with durable runs, again and again: every run ends, no finished step is run again, what has a key is once.

PACKETFLOW_KILLS says how often it is killed: 20 by default, 100 and more by who wants to be sure.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections import defaultdict
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("durable_program.py")
KILLS = int(os.environ.get("PACKETFLOW_KILLS", "20"))
SEED = int(os.environ.get("PACKETFLOW_KILLS_SEED", "7"))
NEW = 30  # runs that each start of the node adds
ROOT = Path(__file__).parents[2]
ORDER = [
    "0",
    "1",
    "2[0]/body",
    "2[1]/body",
    "2[2]/body",
    "4",
    "5",
]  # the places of steps that are asked forward


def start(folder: Path, runs: int, losses: int = 0) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, str(PROGRAM), str(folder), str(runs), str(losses)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def kill_at_random(process: subprocess.Popen[str], effects: Path, draw: random.Random) -> bool:
    """Kill a node somewhere in its work, which the file shows, or at any time of its life; whether it was still alive."""
    before = size(effects)
    pause = threading.Event()
    if draw.random() < 0.25:
        pause.wait(draw.random())
    else:
        wanted = before + draw.randrange(1, NEW * 300)
        while process.poll() is None and size(effects) < wanted:
            pause.wait(0.001)
    alive = process.poll() is None
    process.kill()
    process.communicate()
    return alive


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def finish(folder: Path, runs: int, losses: int = 0) -> None:
    """Let a node end all runs, and see that it did."""
    process = start(folder, runs, losses)
    told, _ = process.communicate(timeout=60 + runs / 50)
    assert process.returncode == 0, (folder / "log").read_text()[-2_000:]
    fails = len(range(0, runs, 3))
    assert told.strip() == str({"completed": runs - fails, "failed": fails})


def judge(folder: Path, runs: int) -> int:
    """What the effects tell: every step of every run, in order, none run again when a later one had begun, each key once.

    Gives how often a step was run that had been under way at a kill.
    """
    fails = len(range(0, runs, 3))
    lines = [line.split(" ", 1) for line in (folder / "effects").read_text().splitlines()]
    of_run: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for word, key in lines:
        run, _, place = key.partition("/")
        of_run[run].append((word, place))
    assert len(of_run) == runs, "a run was lost"
    failed = 0
    for seen in of_run.values():
        forward = [
            place.partition("/")[0] if place.startswith("1/") else place
            for word, place in seen
            if word != "undo"
        ]
        ranks = [ORDER.index(place) for place in forward]
        assert ranks == sorted(ranks), f"a step was run again after a later one had begun: {forward}"
        assert set(ranks) == set(range(len(ORDER))), f"a step was left out: {forward}"
        undone = [place for word, place in seen if word == "undo"]
        if undone:
            failed += 1
            assert list(dict.fromkeys(undone)) == ["4/compensate", "0/compensate"]
            first = next(index for index, (word, _) in enumerate(seen) if word == "undo")
            assert all(word == "undo" for word, _ in seen[first:]), "nothing goes forward when it goes back"
            assert undone == sorted(undone, reverse=True), "a compensation was run again after the next"
    assert failed == fails, "a run that failed was not undone, or one that did not was"
    # With a key that the other side honours: as often as there are steps, once each.
    steps = runs * 8 + fails * 2
    assert len(list((folder / "once").iterdir())) == steps
    return len(lines) - steps


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
def test_after_kill_9_every_run_ends_and_no_finished_step_is_run_again(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    killed = 0
    for number in range(1, KILLS + 1):
        process = start(tmp_path, NEW * number)
        killed += kill_at_random(process, tmp_path / "effects", draw)
    assert killed >= KILLS // 2, "the work was over before it could be killed often enough"
    runs = NEW * KILLS
    finish(tmp_path, runs)
    again = judge(tmp_path, runs)
    assert 0 < again <= killed * NEW * 2, "only what was under way at a kill is run again"


@pytest.mark.slow
@pytest.mark.timeout(60 + 4 * KILLS)
def test_a_node_that_loses_the_process_of_its_runs_takes_them_up_itself(tmp_path: Path) -> None:
    draw = random.Random(SEED)
    rounds = max(3, KILLS // 10)
    for number in range(1, rounds + 1):
        finish(tmp_path, NEW * 4 * number, losses=draw.randrange(1, 4))
    assert any(int(line) for line in (tmp_path / "losses").read_text().split()), "runs were under way"
    judge(tmp_path, NEW * 4 * rounds)
