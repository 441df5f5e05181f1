"""`packetflow stream`: JSON Lines, ends quietly, and never leaves the node counting."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from packetflow.cli.screen.progress_line import progress_text
from packetflow.wire.stream import Progress

from .conftest import Cli, Desk, until
from .test_terminal import Terminal


def lines(text: str) -> list[object]:
    return [json.loads(line) for line in text.splitlines()]


def test_items_are_json_lines(desk: Desk) -> None:
    ran = desk("stream", "work.count", "upto=3")
    assert (ran.code, ran.out, ran.err) == (0, "0\n1\n2\n", "")
    desk("call", "ticket.open", "customer_id=C-7", "text=grüße")
    ran = desk("stream", "ticket.export")
    assert {"customer_id": "C-7", "text": "grüße"}.items() <= lines(ran.out)[-1].items()  # type: ignore[attr-defined]


def test_with_json_each_line_is_a_document_and_the_last_is_the_end(desk: Desk) -> None:
    ran = desk("stream", "work.count", "upto=2", "--json")
    *items, end = lines(ran.out)
    assert items == [{"item": 0}, {"item": 1}]
    assert isinstance(end, dict)
    assert (end["end"]["items"], end["end"]["complete"]) == (2, True)
    assert len(end["end"]["trace"]) == 32


def test_max_ends_it_after_so_many(desk: Desk) -> None:
    ran = desk("stream", "work.count", "--max", "2", "--json")
    assert (ran.code, lines(ran.out)) == (
        0,
        [{"item": 0}, {"item": 1}, {"end": {"items": 2, "complete": False}}],
    )
    ran = desk("stream", "work.count", "--max", "0")
    assert ran.code == 2


def test_an_error_after_items_is_told_after_them(desk: Desk) -> None:
    ran = desk("stream", "work.count", "upto=5", "fail_at=2")
    assert (ran.code, ran.out) == (1, "0\n1\n")
    assert ran.err.startswith("execution_failed: work.count failed: ValueError")
    ran = desk("stream", "work.count", "upto=5", "fail_at=2", "--json")
    assert ran.err == ""
    assert lines(ran.out)[-1]["error"]["code"] == "execution_failed"  # type: ignore[index]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["work.cont"], 5),
        (["work.count", "upto=many"], 2),
        (["work.count", "uptoo=3"], 2),
        (["ticket.open"], 2),
    ],
)
def test_what_can_not_begin_fails_as_a_call_does(desk: Desk, words: list[str], code: int) -> None:
    ran = desk("stream", *words)
    assert (ran.code, ran.out) == (code, ""), ran
    assert "upto" in ran.err or "next: packetflow capability" in ran.err


def test_a_misspelt_field_is_told_the_nearest(desk: Desk) -> None:
    assert "nearest upto" in desk("stream", "work.count", "uptoo=3").err


def test_what_is_no_stream_is_one_item(desk: Desk) -> None:
    assert desk("stream", "ticket.reply", "ticket_id=T-1", "text=hi").out == '"T-1: hi"\n'


def test_call_of_a_stream_says_what_to_run_instead(desk: Desk) -> None:
    ran = desk("call", "work.count", "upto=3")
    assert (ran.code, ran.out) == (2, "")
    assert "next: packetflow stream work.count" in ran.err


def test_the_payload_may_come_from_stdin(desk: Desk) -> None:
    assert desk("stream", "work.count", "--input", "-", input=b'{"upto": 1}').out == "0\n"


def test_items_come_when_they_are_made_and_ctrl_c_ends_it_quietly(project: Desk) -> None:
    project.start()
    process = project.begin("stream", "work.count", "seconds=0.02")
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == [b"0\n", b"1\n", b"2\n"]
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"")
    until(lambda: project.marks() == [-1])


def test_a_closed_pipe_ends_it_quietly(project: Desk) -> None:
    project.start()
    process = project.begin("stream", "work.count", "seconds=0.001")
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr.read() == b""
    process.stderr.close()
    until(lambda: project.marks() == [-1])


def test_a_killed_reader_ends_it_on_the_node(project: Desk) -> None:
    project.start()
    process = project.begin("stream", "work.count", "seconds=0.01")
    assert process.stdout is not None
    assert process.stdout.readline() == b"0\n"
    process.kill()
    process.communicate()
    until(lambda: project.marks() == [-1])


def test_a_node_that_dies_is_exit_3_and_never_0(project: Desk) -> None:
    project.start()
    process = project.begin("stream", "work.count", "seconds=0.01")
    assert process.stdout is not None
    assert process.stdout.readline() == b"0\n"
    assert project.process is not None
    project.end(signal.SIGKILL)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 3, (out, err)
    assert b"was lost" in err


def test_a_node_with_workers_streams_by_its_tcp_and_admin_doors(project: Desk) -> None:
    ready = project.start("--workers", "2")
    tcp = next(door["address"] for door in ready["doors"] if door["door"] == "tcp")
    for where in ([], ["--node", tcp if "://" in tcp else f"tcp://{tcp}"]):
        assert project("stream", "work.count", "upto=100", *where).out.split() == [str(n) for n in range(100)]


def test_the_trace_tells_how_the_stream_went(desk: Desk) -> None:
    ran = desk("stream", "work.count", "upto=3", "--json")
    trace = lines(ran.out)[-1]["end"]["trace"]  # type: ignore[index]
    assert "3 items, the first after" in desk("trace", trace).out


def test_capability_show_says_that_it_streams(desk: Desk) -> None:
    assert "gives a stream of  integer" in desk("capability", "show", "work.count").out
    assert desk("capability", "show", "work.count", "--json").document["streams"] is True
    assert desk("capability", "show", "ticket.open", "--json").document["streams"] is False


def test_no_node_is_exit_3(cli: Cli) -> None:
    assert cli("stream", "work.count").code == 3


# ---- a person ------------------------------------------------------------------------------------------------------------------


def test_a_person_sees_how_far_a_call_is(project: Desk) -> None:
    project.start()
    terminal = Terminal(project, ("call", "work.steps", "count=30", "seconds=0.05"))
    terminal.until("of 30")
    assert "stepping" in terminal.text
    assert terminal.end() == 0
    assert "of 30" not in terminal.text, "the line is gone when the answer is there"
    assert "30" in terminal.text


def test_a_pipe_sees_no_progress(project: Desk) -> None:
    project.start()
    ran = project("call", "work.steps", "count=2", "seconds=0.01")
    assert (ran.out, ran.err) == ("2\n", "")


def test_a_person_ends_a_stream_by_ctrl_c_without_a_word(project: Desk) -> None:
    project.start()
    terminal = Terminal(project, ("stream", "work.count", "seconds=0.05"))
    terminal.until("3")
    terminal.type("\x03")
    assert terminal.end() == 130
    assert "interrupted" not in terminal.text
    until(lambda: project.marks() == [-1])


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (Progress(3), "3"),
        (Progress(3, text="reading"), "3  reading"),
        (Progress(12, 24, "reading"), "############------------  50%  12 of 24  reading"),
        (Progress(99, 24), f"{'#' * 24} 100%  99 of 24"),
        (Progress(-1, 24), f"{'-' * 24}   0%  -1 of 24"),
        (Progress(1, 0), "1"),
        (Progress(1, text="\x1b[2Jno escape"), None),
    ],
)
def test_how_far_it_is_in_one_line(progress: Progress, text: str | None) -> None:
    shown = progress_text(progress, unicode=False)
    assert "\x1b" not in shown
    if text is not None:
        assert shown == text


def test_a_stream_into_a_full_pipe_waits_and_loses_nothing(desk: Desk) -> None:
    process = desk.begin("stream", "work.count", "upto=60000")
    assert process.stdout is not None
    first = process.stdout.readline()
    done = subprocess.run(["tail", "-n", "1"], stdin=process.stdout, capture_output=True, timeout=60)
    assert (first, done.stdout) == (b"0\n", b"59999\n")
    process.stdout.close()
    assert process.stderr is not None
    process.stderr.close()
    assert process.wait(20) == 0
