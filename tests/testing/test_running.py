"""Simulations in files: a process for each seed, the same to the byte, and what is wrong with a file is told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from packetflow.testing.running import NotASimulation, run_in_process

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples" / "simulation"

ORDER = '''
"""What depends on everything that may differ from process to process."""
import random
import gevent
from packetflow import capability

def simulate_order(world):
    @capability("test.word")
    def word(word: str) -> str:
        """Give it back."""
        gevent.sleep(random.random())
        return word
    node = world.node(capabilities=[word], doors=True)
    client = world.client(node)
    world.network.latency = (0.0, 0.1)
    words = set("the quick brown fox jumps over the lazy dog".split())
    asked = [gevent.spawn(client.request, "test.word", {"word": one}) for one in words]
    gevent.joinall(asked)
    told = [(one.value.value, one.value.trace_id) for one in asked]
    raise AssertionError(repr((told, world.clock().monotonic())))
'''


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def written(folder: Path, text: str) -> Path:
    file = folder / "world.py"
    file.write_text(text)
    return file


def test_the_same_seed_is_the_same_to_the_byte_in_another_process(tmp_path: Path) -> None:
    file = written(tmp_path, ORDER)
    first, again, other = (run_in_process(file, seed) for seed in (7, 7, 8))
    assert first == again
    assert first[0]["error"] is not None
    assert "AssertionError" in first[0]["error"]
    assert first[0]["digest"] != other[0]["digest"]
    assert first[0]["error"] != other[0]["error"]


def test_a_failure_tells_where_and_what_was_logged(tmp_path: Path) -> None:
    text = '''
from packetflow import capability

@capability("test.crash")
def crash() -> int:
    """It does not go well."""
    raise ValueError("no oil")

def simulate_crash(world):
    assert world.node(capabilities=[crash]).request("test.crash").ok, "it had to go well"
'''
    (outcome,) = run_in_process(written(tmp_path, text), 3)
    assert outcome["seed"] == 3
    assert "it had to go well" in str(outcome["error"])
    assert "simulate_crash" in outcome["trace"]
    assert "no oil" in outcome["log"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\n", "def simulate_refunds(world)"),
        ("def simulate_it():\n    pass\n", "takes one thing, the world"),
        ("def simulate_it(world)\n", "SyntaxError"),
        ("import no_such_module_there\n", "no_such_module_there"),
        ("raise SystemExit(3)\n", "SystemExit"),
        ("from packetflow.testing.simulation import simulate\n", "has no simulation"),
    ],
)
def test_what_is_no_simulation_is_told(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(NotASimulation, match=r"world\.py") as refused:
        run_in_process(written(tmp_path, text), 1)
    assert said in str(refused.value)


def test_a_process_that_dies_is_told(tmp_path: Path) -> None:
    file = written(tmp_path, "import os\ndef simulate_it(world):\n    os._exit(9)\n")
    with pytest.raises(NotASimulation, match="ended with 9"):
        run_in_process(file, 1)


def test_what_a_program_prints_is_no_result(tmp_path: Path) -> None:
    file = written(tmp_path, "def simulate_it(world):\n    print('{hello')\n")
    (outcome,) = run_in_process(file, 1)
    assert outcome["error"] is None


def test_the_module_says_how_it_is_used() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "packetflow.testing", "x"], capture_output=True, text=True, env=os.environ
    )
    assert done.returncode == 1
    assert "usage:" in done.stderr


@pytest.mark.parametrize("example", ["two_desks.py", "kept_switch.py"])
def test_the_examples_hold_for_some_seeds(example: str) -> None:
    for seed in range(3):
        for outcome in run_in_process(EXAMPLES / example, seed):
            assert outcome["error"] is None, json.dumps(outcome)


def test_the_example_that_loses_an_update_does_so_for_some_seed() -> None:
    errors = [run_in_process(EXAMPLES / "lost_update.py", seed)[0]["error"] for seed in range(1, 8)]
    assert any("an order was lost" in error for error in errors if error is not None)
    assert None in errors
