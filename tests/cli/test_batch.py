"""`packetflow call --from`: thousands of lines, none twice, whatever happens meanwhile."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from packetflow.cli import documents

from .conftest import Desk, Ran, until


def rows_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def write_lines(desk: Desk, amount: int, name: str = "lines.jsonl", **more: Any) -> Path:
    path = desk.folder / name
    path.write_text("".join(json.dumps({"line": number, **more}) + "\n" for number in range(1, amount + 1)))
    return path


def summary_of(ran: Ran) -> dict[str, Any]:
    last: dict[str, Any] = rows_of(ran.out)[-1]
    TypeAdapter(documents.BatchEnd).validate_python(last)
    summary: dict[str, Any] = last["summary"]
    return summary


def test_each_line_is_one_request_and_one_result(project: Desk) -> None:
    project.start()
    write_lines(project, 2000)
    ran = project("call", "work.mark", "--from", "lines.jsonl", "--json")
    assert ran.code == 0, ran
    assert ran.err == ""
    results = rows_of(ran.out)[:-1]
    TypeAdapter(list[documents.BatchLine]).validate_python(results)
    assert sorted(row["line"] for row in results) == list(range(1, 2001))
    assert all(
        row["outcome"] == "ok" and row["value"] == row["line"] and len(row["trace"]) == 32 for row in results
    )
    assert sorted(project.marks()) == list(range(1, 2001))
    summary = summary_of(ran)
    assert summary["outcomes"] == {"ok": 2000}
    assert summary["latency"]["p50"] <= summary["latency"]["p99"] <= summary["latency"]["max"]
    assert summary["rate"] > 0


def test_malformed_lines_and_failures_are_told_and_the_rest_goes_on(desk: Desk) -> None:
    (desk.folder / "mixed.jsonl").write_bytes(
        b'{"times": 1}\nno json\n{"times": "many"}\n\n[1]\n{"times": 2}\n{"tims": 1}\n\xff\n{"times": 3}\n'
    )
    ran = desk("call", "work.echo", "--from", "mixed.jsonl")
    assert ran.code == 1
    outcomes = {row["line"]: row["outcome"] for row in rows_of(ran.out)}
    assert outcomes == {
        1: "ok",
        2: "malformed",
        3: "validation_failed",
        5: "malformed",
        6: "ok",
        7: "validation_failed",
        8: "malformed",
        9: "ok",
    }
    assert "line 2: malformed: not JSON" in ran.err
    assert re.search(r"^  malformed +3$", ran.err, re.MULTILINE)


def test_csv_and_stdin_are_typed_by_the_contract(desk: Desk) -> None:
    (desk.folder / "work.csv").write_text(
        'value,times,loud,tags\n12,3,true,"[""a""]"\n"x, y",1,,\nz,many,,\n'
    )
    ran = desk("call", "work.echo", "--from", "work.csv", "--concurrency", "1")
    values = {row["line"]: row.get("value") for row in rows_of(ran.out)}
    assert values[2] == {"value": 12, "times": 3, "loud": True, "tags": ["a"]}
    assert values[3] == {"value": "x, y", "times": 1, "loud": False, "tags": None}
    assert values[4] is None
    piped = desk("call", "work.echo", "--from", "-", "--format", "csv", input=b"times\n4\n")
    assert rows_of(piped.out)[0]["value"]["times"] == 4


def test_a_node_that_asks_for_patience_gets_it(project: Desk) -> None:
    project.start()
    write_lines(project, 120)
    ran = project("call", "work.limited", "--from", "lines.jsonl", "--retries", "100", "--json")
    assert ran.code == 0, ran
    assert summary_of(ran)["retries"] > 10
    assert summary_of(ran)["outcomes"] == {"ok": 120}
    impatient = project(
        "call", "work.limited", "--from", "lines.jsonl", "--retries", "0", "--key", "again", "--json"
    )
    assert impatient.code == 1
    assert summary_of(impatient)["outcomes"]["rate_limited"] > 10


def test_an_existing_output_is_never_overwritten(desk: Desk) -> None:
    write_lines(desk, 3, "three.jsonl")
    (desk.folder / "there.jsonl").write_text("mine\n")
    ran = desk("call", "work.mark", "--from", "three.jsonl", "--output", "there.jsonl")
    assert ran.code == 2
    assert (desk.folder / "there.jsonl").read_text() == "mine\n"
    resumed = desk("call", "work.mark", "--from", "three.jsonl", "--output", "there.jsonl", "--resume")
    assert resumed.code == 2


def test_an_interrupted_batch_goes_on_without_doing_a_line_twice(project: Desk) -> None:
    project.start()
    write_lines(project, 400, seconds=0.02)
    batch = project.begin(
        "call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl", "--concurrency", "8"
    )
    until(lambda: len(project.marks()) >= 40)
    batch.send_signal(signal.SIGINT)
    _, talk = batch.communicate(timeout=20)
    assert batch.returncode == 130, talk.decode()
    assert (
        "packetflow call work.mark --from lines.jsonl --output out.jsonl --concurrency 8 --resume"
        in talk.decode()
    )
    done = rows_of((project.folder / "out.jsonl").read_text())
    assert 40 <= len(done) < 400
    assert sorted(row["line"] for row in done) == sorted(project.marks())
    ran = project("call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl", "--resume", "--json")
    assert ran.code == 0, ran
    assert summary_of(ran)["skipped"] == len(done)
    assert Counter(project.marks()) == Counter(range(1, 401))
    again = project(
        "call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl", "--resume", "--json"
    )
    assert summary_of(again)["skipped"] == 400
    assert len(project.marks()) == 400


def test_another_input_is_refused_before_anything_is_sent_and_a_longer_one_is_not(project: Desk) -> None:
    project.start()
    path = write_lines(project, 10)
    words = ("call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl", "--resume")
    assert project(*words).code == 0
    good = path.read_text()
    path.write_text(good.replace('"line": 4}', '"line": 44}'))
    refused = project(*words)
    assert refused.code == 2
    assert "line 4 is another one" in refused.err
    path.write_text(good[: good.index('{"line": 7')])
    assert "line 7 is another one" in project(*words).err
    path.write_text(good + '{"line": 11}\n')
    assert project(*words).code == 0
    assert Counter(project.marks()) == Counter(range(1, 12))
    other = project("call", "work.limited", "--from", "lines.jsonl", "--output", "out.jsonl", "--resume")
    assert other.code == 2


def test_a_node_that_dies_leaves_what_was_done_and_open_lines_are_not_sent_to_its_successor(
    project: Desk,
) -> None:
    project.start()
    write_lines(project, 300, seconds=0.05)
    words = ("call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl")
    batch = project.begin(*words, "--concurrency", "8", "--json")
    until(lambda: len(project.marks()) >= 30)
    project.end(signal.SIGKILL)
    out, _ = batch.communicate(timeout=30)
    assert batch.returncode == 3, out
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert 1 <= summary["open"] <= 8
    assert summary["error"]["code"] == "unavailable"
    done = rows_of((project.folder / "out.jsonl").read_text())
    assert {row["line"] for row in done} <= set(project.marks())
    project.start()
    ran = project(*words, "--resume", "--json")
    assert ran.code == 1
    assert summary_of(ran)["outcomes"]["unknown"] == summary["open"]
    marks = Counter(project.marks())
    assert max(marks.values()) == 1, "a line was done twice"
    told = {row["line"]: row["outcome"] for row in rows_of((project.folder / "out.jsonl").read_text())}
    assert sorted(told) == list(range(1, 301))
    assert {line for line, outcome in told.items() if outcome == "ok"} <= set(marks)
    sent = project(*words, "--resume", "--resend-unknown", "--json")
    assert sent.code == 0, sent
    assert summary_of(sent)["outcomes"] == {"ok": summary["open"]}


def test_a_batch_that_is_killed_resumes_with_the_same_node(project: Desk) -> None:
    project.start()
    write_lines(project, 200, seconds=0.02)
    words = ("call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl")
    batch = project.begin(*words, "--concurrency", "4")
    until(lambda: len(project.marks()) >= 20)
    batch.kill()
    batch.communicate(timeout=20)
    with (project.folder / "out.jsonl").open("ab") as file:
        file.write(b'{"line": 199, "outc')
    ran = project(*words, "--resume", "--json")
    assert set(summary_of(ran)["outcomes"]) <= {"ok", "cancelled"}, (
        "the node cancelled what the killed process had asked for"
    )
    rows = rows_of((project.folder / "out.jsonl").read_text())
    assert Counter(row["line"] for row in rows) == Counter(range(1, 201))
    done = {row["line"] for row in rows if row["outcome"] == "ok"}
    assert Counter(project.marks()) == Counter(done)


def test_two_processes_do_not_write_one_output(project: Desk) -> None:
    project.start()
    write_lines(project, 100, seconds=0.1)
    words = ("call", "work.mark", "--from", "lines.jsonl", "--output", "out.jsonl")
    batch = project.begin(*words, "--concurrency", "2")
    until(lambda: len(project.marks()) >= 1)
    second = project(*words, "--resume")
    assert second.code == 1
    assert "another process is writing out.jsonl" in second.err
    batch.send_signal(signal.SIGINT)
    batch.communicate(timeout=20)


def test_a_reader_that_goes_away_ends_the_batch_quietly(desk: Desk) -> None:
    write_lines(desk, 3000, "many.jsonl")
    batch = desk.begin("call", "work.mark", "--from", "many.jsonl")
    assert batch.stdout is not None
    assert batch.stderr is not None
    assert batch.stdout.readline()
    batch.stdout.close()
    talk = batch.stderr.read().decode()
    batch.stderr.close()
    assert batch.wait(20) == 1
    assert "Traceback" not in talk
    assert "Broken" not in talk


def test_a_full_disk_ends_the_batch_and_says_so(desk: Desk) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    write_lines(desk, 50, "fifty.jsonl")
    with open("/dev/full", "wb") as full:
        batch = desk.begin("call", "work.echo", "--from", "fifty.jsonl", stdout=full)
        _, talk = batch.communicate(timeout=20)
    assert batch.returncode == 1
    assert "No space left" in talk.decode()


@pytest.mark.parametrize(
    "words",
    [
        ["--from", "nothing.jsonl"],
        ["--from", "."],
        ["--from", "empty.csv"],
        ["--from", "lines.jsonl", "--resume"],
        ["--from", "lines.jsonl", "text=hi"],
        ["--resume"],
        ["--from", "lines.jsonl", "--concurrency", "0"],
    ],
    ids=" ".join,
)
def test_what_can_not_be_begun_is_told(words: list[str], desk: Desk) -> None:
    write_lines(desk, 2)
    (desk.folder / "empty.csv").write_text("")
    ran = desk("call", "work.echo", *words)
    assert (ran.code, ran.out) == (2, ""), ran


def test_an_unknown_capability_is_told_once_and_not_for_each_line(desk: Desk) -> None:
    write_lines(desk, 50, "fifty.jsonl")
    ran = desk("call", "work.ecko", "--from", "fifty.jsonl")
    assert (ran.code, ran.out) == (5, "")
    assert "work.echo" in ran.err
