"""The command line as a process, and a real node to talk to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DESK = Path(__file__).parent / "desk"
PROGRAM = [sys.executable, "-m", "packetflow.cli"]


def environment(**more: str) -> dict[str, str]:
    """The tests' environment without what would change the program's manners."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PACKETFLOW", "NO_COLOR", "COLUMNS"))
    }
    path = os.pathsep.join(part for part in (str(ROOT), kept.get("PYTHONPATH", "")) if part)
    return {**kept, "PYTHONPATH": path, "TERM": "xterm-256color", **more}


class Ran:
    """A command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[bytes]) -> None:
        self.code = done.returncode
        self.out = done.stdout.decode()
        self.err = done.stderr.decode()

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit {self.code}\n--- out\n{self.out}\n--- err\n{self.err}"


class Cli:
    """Runs commands in a folder, stdin closed unless given."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self, *words: str | Path, input: bytes | None = None, timeout: float = 40, **variables: str
    ) -> Ran:
        return Ran(
            subprocess.run(
                [*PROGRAM, *map(str, words)],
                cwd=self.folder,
                env=environment(**variables),
                input=input,
                stdin=subprocess.DEVNULL if input is None else None,
                capture_output=True,
                timeout=timeout,
            )
        )

    def begin(self, *words: str | Path, **more: Any) -> subprocess.Popen[bytes]:
        """A command that goes on beside the test; stdout and stderr are pipes."""
        settings: dict[str, Any] = {
            "cwd": self.folder,
            "env": environment(),
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        }
        return subprocess.Popen([*PROGRAM, *map(str, words)], **{**settings, **more})


class Desk(Cli):
    """A project with its node as a process."""

    process: subprocess.Popen[bytes] | None = None
    ready: dict[str, Any]

    def start(self, *words: str) -> dict[str, Any]:
        """Starts the node and answers its document when it is ready."""
        log = (self.folder / "log").open("ab")
        self.process = self.begin("start", "--json", *words, stderr=log)
        log.close()
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the node did not start: {(self.folder / 'log').read_text()}"
        self.ready = json.loads(line)
        assert "error" not in self.ready, self.ready
        return self.ready

    def end(self, number: int = signal.SIGTERM) -> int:
        """Ends the node by a signal and answers its exit code."""
        assert self.process is not None
        self.process.send_signal(number)  # nothing happens to a process that has ended
        code = self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def marks(self) -> list[int]:
        """The lines that work.mark was called for."""
        file = self.folder / "run" / "marks.txt"
        return [int(line) for line in file.read_text().split()] if file.exists() else []


def put_dead_letter(desk: Desk, id: str = "dead" * 8) -> None:
    """A request of the desk that failed for good."""
    from packetflow.otp.clock import Clock
    from packetflow.storage.database import Database
    from packetflow.storage.dead_letters import DatabaseDeadLetters, DeadLetter

    body = {"payload": {"customer_id": "C-1", "text": "hi"}, "patterns": ["ticket.*"]}
    letter = DeadLetter(
        id,
        "request",
        "ticket.open",
        body,
        "unavailable",
        "the mail server is away",
        principal="ana",
        origin="a test",
    )
    with Database(desk.folder / "run" / "node.db") as database:
        DatabaseDeadLetters(database, Clock()).put(letter)


def put_run(desk: Desk, id: str = "feed" * 8) -> None:
    """A durable run of the desk that waits for a decision."""
    from packetflow.storage.database import Database
    from packetflow.storage.runs.records import NewRun, Question, Wait
    from packetflow.storage.runs.sqlite import SqliteRuns

    plan = b'{"plan": {"approval": ["ana"]}, "provides": null}'
    run = NewRun(id, "test.asked", "1.0.0", "feed", "ana", "", ("*",), b"{}", time.time())
    wait = Wait("", "approval", "approval", time.time())
    asked = Question(id, "", "approval", ("ana",), "", time.time(), None, "reject")
    with Database(desk.folder / "run" / "node.db") as database:
        store = SqliteRuns(lambda: database)
        for old in store.find(id):
            for table, column in (
                ("journal", "run"),
                ("waits", "run"),
                ("approvals", "run"),
                ("runs", "number"),
            ):
                database.append(f"DELETE FROM {table} WHERE {column} = ?", [(old.number,)])
        number, _ = store.create(run, plan, [wait, asked])
        store.park(number, [], 1, (0, 0), time.time())


def until(condition: Any, seconds: float = 20.0) -> None:
    """Waits for a condition, and fails if it does not come."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.01)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command line in an empty folder."""
    return Cli(tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Desk]:
    """A project of its own for the test; its node is started by the test."""
    folder = tmp_path / "desk"
    shutil.copytree(DESK, folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
    desk = Desk(folder)
    yield desk
    finish(desk)


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A running node, shared by tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("shared") / "desk"
    shutil.copytree(DESK, folder, ignore=shutil.ignore_patterns("run", "__pycache__"))
    desk = Desk(folder)
    desk.start()
    assert desk("call", "work.mark", "line=0", "--detach").code == 0  # so that there is a job to be shown
    yield desk
    finish(desk)


def finish(desk: Desk) -> None:
    """Ends what the test left running."""
    if desk.process is not None:
        desk.end()
