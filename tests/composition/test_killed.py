"""kill -9 of a node with durable runs, again and again: every run ends, no finished step is run again, what has a key is once."""

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
KILLS = int(os.environ.get("PACKETFLOW_KILLS", "15"))
NEW = 30  # runs that each start of the node adds
RUNS = NEW * (KILLS + 1)
ROOT = Path(__file__).parents[2]


def start(folder: Path, runs: int) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    arguments = [sys.executable, str(PROGRAM), str(folder), str(runs)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
@pytest.mark.timeout(60 + 10 * KILLS)
def test_every_run_ends_and_no_finished_step_is_run_again(tmp_path: Path) -> None:
    draw = random.Random(7)
    killed = 0
    effects = tmp_path / "effects"
    for number in range(1, KILLS + 1):
        process = start(tmp_path, NEW * number)
        before = effects.stat().st_size if effects.exists() else 0
        # Killed somewhere in its work, which the file shows; once in a while it is done before that.
        wanted = before + draw.randrange(1, NEW * 300)
        pause = threading.Event()
        while process.poll() is None and (not effects.exists() or effects.stat().st_size < wanted):
            pause.wait(0.001)
        killed += process.poll() is None
        process.kill()
        process.communicate()
    process = start(tmp_path, RUNS)
    told, _ = process.communicate(timeout=60)
    assert process.returncode == 0, (tmp_path / "log").read_text()[-2_000:]
    assert killed >= KILLS // 2, "the work was over before it could be killed often enough"
    fails = len(range(0, RUNS, 3))
    assert told.strip() == str({"completed": RUNS - fails, "failed": fails})

    lines = [line.split(" ", 1) for line in effects.read_text().splitlines()]
    of_run: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for word, key in lines:
        run, _, place = key.partition("/")
        of_run[run].append((word, place))
    assert len(of_run) == RUNS
    order = ["0", "1", "2[0]/body", "2[1]/body", "2[2]/body", "4", "5"]
    for seen in of_run.values():
        forward = [
            place.partition("/")[0] if place.startswith("1/") else place
            for word, place in seen
            if word != "undo"
        ]
        ranks = [order.index(place) for place in forward]
        assert ranks == sorted(ranks), f"a step was run again after a later one had begun: {forward}"
        assert set(ranks) == set(range(len(order))), f"a step was left out: {forward}"
        undone = [place for word, place in seen if word == "undo"]
        if undone:
            assert list(dict.fromkeys(undone)) == ["4/compensate", "0/compensate"]
            assert seen.index(("undo", "4/compensate")) > max(
                index for index, (word, _) in enumerate(seen) if word != "undo"
            ), "nothing goes forward any more when it goes back"
    failed = sum(1 for seen in of_run.values() if any(word == "undo" for word, _ in seen))
    assert failed == fails
    # With a key that the other side honours: as often as there are steps, once each.
    steps = (RUNS * 8) + failed * 2
    assert len(list((tmp_path / "once").iterdir())) == steps
    assert len(lines) - steps <= killed * RUNS, "only what was under way at a kill is run again"
