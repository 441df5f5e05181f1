"""The examples of the supervision runtime: each runs by its one command, shows what it says, and is typed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.running import environment

ROOT = Path(__file__).resolve().parents[2]
OTP = ROOT / "examples" / "otp"
SHOWS = {
    "hello": ["hello world"],
    "task_graph": ["finished: compile, docs, fetch, publish, test", "not published: test failed"],
    "nested_systems": [
        "4 apples: 4 apples",
        "2 bottles: only 1 bottles left",
        "1 books: Actor not found: books/shelf",
        "in the shop: [{'id': 'food', 'kind': 'system'}, {'id': 'desk', 'kind': 'actor'}]",
        "by route: 1 bottles",
        "a fault: execution_failed - KeyError: 'stones'",
        "anew: 10 apples",
        "food had 7 messages, 2 errors",
    ],
    "knowledge_graph": [
        "way: ada wrote_for analytical_engine inspired eckert built eniac led_to edvac inspired edsac",
        "from wilkes: ada, analytical_engine, eckert, edsac, edvac, eniac",
        "built by mauchly: eniac",
        "ada to mauchly: no way from ada to mauchly",
        "turing: Actor not found: turing",
        "ada was asked 3 times",
    ],
    "chat_room": [
        "the lobby died of: ValueError('empty range for randrange()')",
        "  bo leaves\n  -- the room is gone --",
        "  (ana comes in)\n  ana: where was I?",
        "lobby, restarts: 1",
    ],
}


def run(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(OTP / f"{name}.py")],
        cwd=folder, env=environment(), capture_output=True, text=True,
    )  # fmt: skip


def test_every_example_is_tested() -> None:
    assert {file.stem for file in OTP.glob("*.py")} == set(SHOWS)


@pytest.mark.parametrize("name", SHOWS)
def test_the_example_runs_and_shows(name: str, tmp_path: Path) -> None:
    done = run(name, tmp_path)
    assert done.returncode == 0, done.stderr
    for words in SHOWS[name]:
        assert words in done.stdout


def test_tasks_start_after_what_they_wait_for_and_as_soon_as_they_may(tmp_path: Path) -> None:
    lines = run("task_graph", tmp_path).stdout.split("release 2")[0].splitlines()
    at = {line.strip(): place for place, line in enumerate(lines)}
    needs = {"compile": ["fetch"], "docs": ["fetch"], "test": ["compile"], "publish": ["test", "docs"]}
    for before, after in ((before, after) for after, all_before in needs.items() for before in all_before):
        assert at[f"{before} is done"] < at[f"{after} starts"]
    assert at["docs starts"] < at["compile is done"]  # side by side
    assert at["compile starts"] < at["docs is done"]
    assert "publish starts" not in run("task_graph", tmp_path).stdout.split("release 2")[1]


def test_the_hello_world_is_at_most_ten_lines() -> None:
    tree = ast.parse((OTP / "hello.py").read_text())
    code = [line for line in (OTP / "hello.py").read_text().splitlines() if line.strip()]
    documentation = tree.body[0].end_lineno or 0
    assert len(code) - documentation <= 10


@pytest.mark.parametrize("name", ["task_graph", "nested_systems", "knowledge_graph"])
def test_factories_use_their_data_and_send_and_nothing_that_lives(name: str) -> None:
    """What a factory reads from its module are functions, classes and modules: no system, no actor, nothing that changes."""
    tree = ast.parse((OTP / f"{name}.py").read_text())
    variables = {
        target.id
        for statement in tree.body
        if isinstance(statement, ast.Assign | ast.AnnAssign)
        for target in ast.walk(statement)
        if isinstance(target, ast.Name) and isinstance(target.ctx, ast.Store)
    }
    factories = [
        function
        for function in tree.body
        if isinstance(function, ast.FunctionDef) and [one.arg for one in function.args.args][1:] == ["send"]
    ]
    assert factories
    for factory in factories:
        read = {node.id for node in ast.walk(factory) if isinstance(node, ast.Name)}
        assert not read & (variables | {"ActorSystem", "System", "Member", "Ref", "globals"}), factory.name
        assert not any(isinstance(node, ast.Global) for node in ast.walk(factory))


@pytest.mark.slow
def test_the_examples_are_typed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(OTP)],
        cwd=ROOT, capture_output=True, text=True, env={**environment(), "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
