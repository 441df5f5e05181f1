"""What a person sees on a real terminal (a pty, read by pyte)."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from typing import Any

import pyte
import pytest

from .conftest import PROGRAM, Desk, environment


class Terminal:
    """A command on a terminal of its own."""

    def __init__(
        self, desk: Desk, words: tuple[str, ...], width: int = 100, height: int = 40, **variables: str
    ) -> None:
        self.screen = pyte.Screen(width, height)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
        self.process = subprocess.Popen(
            [*PROGRAM, *words],
            cwd=desk.folder,
            env=environment(**variables),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        self.ours = ours

    def read(self, seconds: float = 0.05) -> bool:
        """Takes what has come; false at the end."""
        if not select.select([self.ours], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self.ours, 65536)
        except OSError:  # EIO: the other end has closed
            return False
        self.raw += data
        self.stream.feed(data)
        return bool(data)

    def until(self, text: str, seconds: float = 20.0) -> None:
        """Reads until the screen shows a text."""
        end = time.monotonic() + seconds
        while text not in self.text:
            alive = self.read()
            assert alive or text in self.text, f"ended without {text!r}:\n{self.text}"
            assert time.monotonic() < end, f"no {text!r}:\n{self.text}"

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def end(self, seconds: float = 20.0) -> int:
        """Reads to the end and answers the exit code."""
        end = time.monotonic() + seconds
        while self.read():
            assert time.monotonic() < end, self.text
        return self.process.wait(seconds)

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        os.close(self.ours)


@pytest.fixture
def terminal() -> Iterator[Any]:
    opened: list[Terminal] = []

    def begin(desk: Desk, *words: str, **more: Any) -> Terminal:
        opened.append(Terminal(desk, words, **more))
        return opened[-1]

    yield begin
    for one in opened:
        one.close()


def test_a_start_shows_its_banner_and_ctrl_c_drains(project: Desk, terminal: Any) -> None:
    start = terminal(project, "start")
    start.until("Ctrl-C drains, twice stops")
    assert "node desk" in start.text
    assert "rate_limit 100" in start.text
    start.type("\x03")
    assert start.end() == 0
    assert "stopped" in start.text


def test_ctrl_c_twice_stops_at_once(project: Desk, terminal: Any) -> None:
    start = terminal(project, "start")
    start.until("Ctrl-C drains, twice stops")
    call = project.begin("call", "work.slow", "seconds=60")
    while project("stop", "--dry-run", "--json").document["in_flight"] == 0:
        assert call.poll() is None
    start.type("\x03")
    start.until("draining")
    start.type("\x03")
    assert start.end() == 130, start.text
    call.communicate(timeout=20)


def test_a_terminal_that_closes_drains_the_node(project: Desk, terminal: Any) -> None:
    start = terminal(project, "start")
    start.until("Ctrl-C drains, twice stops")
    start.process.send_signal(signal.SIGHUP)
    assert start.end() == 0


def test_stop_asks_and_no_changes_nothing(project: Desk, terminal: Any) -> None:
    project.start()
    asked = terminal(project, "stop")
    asked.until("stop node desk (pid")
    asked.type("n\n")
    assert asked.end() == 1
    assert "nothing was changed" in asked.text
    yes = terminal(project, "stop")
    yes.until("[y/N]")
    yes.type("y\n")
    assert yes.end() == 0
    assert "stopped: node desk" in yes.text


@pytest.mark.parametrize("width", [60, 100, 160])
@pytest.mark.parametrize(
    "words",
    [
        "status",
        "module list",
        "capability list",
        "tree",
        "trace list",
        "capability show ticket.open",
        "doctor",
    ],
)
def test_every_line_fits_the_terminal(words: str, width: int, desk: Desk, terminal: Any) -> None:
    shown = terminal(desk, *words.split(), width=width, height=80)
    assert shown.end() == 0
    for line in shown.raw.decode().replace("\r", "").split("\n"):
        screen = pyte.Screen(400, 1)
        pyte.Stream(screen).feed(line)
        shown_line = screen.display[0].rstrip()
        assert len(shown_line) <= width or "packetflow " in shown_line, "only a command to copy may be longer"


def test_colour_is_there_for_people_and_not_by_no_color_or_a_dumb_terminal(desk: Desk, terminal: Any) -> None:
    coloured = terminal(desk, "module", "list")
    assert coloured.end() == 0
    assert b"\x1b[" in coloured.raw
    for variables in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        plain = terminal(desk, "module", "list", **variables)
        assert plain.end() == 0
        assert b"\x1b" not in plain.raw
    never = terminal(desk, "module", "list", "--color", "never")
    assert never.end() == 0
    assert b"\x1b" not in never.raw


def test_a_batch_shows_its_progress_and_goes_on_after_ctrl_c(project: Desk, terminal: Any) -> None:
    project.start()
    lines = [json.dumps({"line": number, "seconds": 0.05}) for number in range(1, 1001)]
    (project.folder / "lines.jsonl").write_text("\n".join(lines) + "\n")
    batch = terminal(
        project, "call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl", "--concurrency", "8"
    )
    batch.until("% ")
    batch.until(" left")
    batch.type("\x03")
    assert batch.end() == 130
    assert "--output out.jsonl --concurrency 8 --resume" in batch.text.replace("\n", "")
    assert "━" not in batch.text, "the progress line is taken off at the end"
    assert batch.screen.cursor.x == 0


def test_a_usage_error_fits_and_names_the_next_command(desk: Desk, terminal: Any) -> None:
    shown = terminal(desk, "modul", "list", width=60)
    assert shown.end() == 2
    assert "next: packetflow module" in shown.text
