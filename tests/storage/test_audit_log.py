"""Audit files: one chain over all of them, which shows every change, and survives crashes and full disks."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.otp.clock import Clock
from packetflow.storage.audit_chain import Head, files_of, parse_head, records, sealed, signature_of, verify
from packetflow.storage.audit_log import AuditLog, AuditLogError

KEY = bytes(range(32))


def log_in(folder: Path, **more: object) -> AuditLog:
    return AuditLog(folder, KEY, Clock(), **more)  # type: ignore[arg-type]


def written(folder: Path, count: int = 6, who: str = "ana", **more: object) -> AuditLog:
    log = log_in(folder, **more)
    for number in range(count):
        log.append([{"event": "request", "principal": who, "what": number}])
    log.checkpoint()
    log.close()
    return log


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Files may be no longer than this: writing fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_records_are_one_chain_over_several_files(tmp_path: Path) -> None:
    written(tmp_path, 20, size=500)
    assert len(files_of(tmp_path)) > 3
    found = verify(tmp_path, key=KEY)
    assert (found.broken, found.records, found.first, found.last, found.notes) == ("", 20, 1, 20, [])
    assert [record["what"] for record in records(tmp_path)] == list(range(19, -1, -1))


def test_it_goes_on_where_it_ended(tmp_path: Path) -> None:
    written(tmp_path, 3)
    written(tmp_path, 3)
    assert verify(tmp_path, key=KEY).last == 6


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda lines: [*lines[:2], lines[2].replace(b'"ana"', b'"bob"'), *lines[3:]],
            "record 3 .*hash is not that",
        ),
        (lambda lines: [*lines[:2], *lines[3:]], "record 3 is missing"),
        (lambda lines: [*lines[:3], lines[2], *lines[3:]], "record 3 is there twice"),
        (lambda lines: lines[1:], "record 1 is missing"),
        (lambda lines: lines[:4], "checkpoint says that there were 6 records, and there are 4"),
        (lambda lines: [], "checkpoint says that there were 6 records, and there are 0"),
        (
            lambda lines: [
                *lines[:2],
                sealed({"event": "request"}, 3, json.loads(lines[1])["hash"])[0],
                *lines[3:],
            ],
            "record 4 .*does not follow record 3",
        ),
        (lambda lines: [*lines[:2], b"{}\n", *lines[3:]], "record 3"),
    ],
)
def test_every_kind_of_change_is_found_and_the_first_record_named(
    tmp_path: Path, harm: object, told: str
) -> None:
    written(tmp_path)
    [file] = files_of(tmp_path)
    file.write_bytes(b"".join(harm(file.read_bytes().splitlines(keepends=True))))  # type: ignore[operator]
    assert re.search(told, verify(tmp_path).broken), verify(tmp_path).broken


def test_a_chain_written_anew_is_shown_by_the_checkpoint_and_by_a_head_kept_elsewhere(tmp_path: Path) -> None:
    head = written(tmp_path / "a").heads[-1]
    forged = written(tmp_path / "b", who="bob").heads[-1]
    assert verify(tmp_path / "a", head=head, key=KEY).broken == ""
    assert "written anew" in verify(tmp_path / "b", head=head).broken
    unsigned = Head(forged.n, forged.hash, signature_of(forged.n, forged.hash, b"another key"))
    assert "not signed by this node's key" in verify(tmp_path / "b", head=unsigned, key=KEY).broken
    assert verify(tmp_path / "b", head=parse_head(f"{forged.n}:{forged.hash}"), key=KEY).broken == ""


@pytest.mark.parametrize("text", ["", "1", "x:" + "0" * 64, "1:abc:def", "1:" + "0" * 64 + ":1"])
def test_what_is_no_head_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no head"):
        parse_head(text)


def test_an_anchor_gets_every_head(tmp_path: Path) -> None:
    anchor = tmp_path / "elsewhere"
    log = written(tmp_path / "audit", anchor=anchor)
    assert [parse_head(line) for line in anchor.read_text().splitlines()] == log.heads


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_byte_can_be_changed_unseen(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("audit")
    written(folder, 4, size=400)
    file = data.draw(st.sampled_from(files_of(folder)))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    file.write_bytes(content)
    found = verify(folder)
    assert found.broken or found.torn


@pytest.mark.parametrize("left", [1, 40, 150])
def test_a_torn_record_at_the_end_is_cut_off_and_told(tmp_path: Path, left: int) -> None:
    written(tmp_path, 3)
    [file] = files_of(tmp_path)
    line = sealed({"event": "request", "long": "x" * 200}, 4, "0" * 64)[0]
    with file.open("ab") as stream:
        stream.write(line[:left])
    torn = verify(tmp_path)
    assert (torn.broken, torn.torn) == ("", left)
    log = log_in(tmp_path)
    assert log.recovered == left
    log.append([{"event": "request"}])
    log.close()
    found = verify(tmp_path)
    assert (found.broken, found.torn, found.last) == ("", 0, 5)
    assert [record["event"] for record in records(tmp_path)][:2] == ["request", "recovered"]


def test_a_tail_that_was_cut_off_stays_missing_when_the_node_goes_on(tmp_path: Path) -> None:
    written(tmp_path, 6)
    [file] = files_of(tmp_path)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:4]))
    log = log_in(tmp_path)
    assert log.damage == "records 5 to 6 are missing at the end"
    log.append([{"event": "request"}])
    log.checkpoint()
    log.close()
    assert "record 5 is missing" in verify(tmp_path).broken


def test_a_changed_last_record_is_told_and_stays_to_be_seen(tmp_path: Path) -> None:
    written(tmp_path, 3)
    [file] = files_of(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"what":2', b'"what":7'))
    log = log_in(tmp_path)
    assert "was changed" in log.damage
    log.append([{"event": "request"}])
    log.close()
    assert verify(tmp_path).broken_at == 3


def test_a_full_disk_writes_all_of_a_group_or_nothing_and_the_chain_goes_on_after_it(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append([{"event": "request", "what": "before"}])
    size = files_of(tmp_path)[0].stat().st_size
    with room_for(size + 300), pytest.raises(AuditLogError, match=r"File too large|No space"):
        log.append([{"event": "request", "what": "x" * 100} for _ in range(5)])
    assert files_of(tmp_path)[0].stat().st_size == size
    log.append([{"event": "request", "what": "after"}])
    log.close()
    found = verify(tmp_path)
    assert (found.broken, found.torn, found.last) == ("", 0, 2)


def test_intents_without_an_outcome_are_open(tmp_path: Path) -> None:
    log = log_in(tmp_path)
    log.append([{"event": "intent", "trace": "a"}, {"event": "intent", "trace": "b"}])
    log.append([{"event": "outcome", "trace": "a", "outcome": "ok"}])
    log.close()
    assert verify(tmp_path).open == {"b": 2}


WRITER = """
import sys
from pathlib import Path
from packetflow.otp.clock import Clock
from packetflow.storage.audit_log import AuditLog

log = AuditLog(Path(sys.argv[1]), bytes(32), Clock(), size=4000)
number = log.n
while True:
    group = [{"event": "request", "what": number + one, "text": "x" * (number % 90)} for one in range(1 + number % 7)]
    log.append(group)
    number += len(group)
    print(number, flush=True)
"""


@pytest.mark.parametrize("groups", [1, 3, 17, 60])
def test_what_was_said_to_be_written_survives_kill_9(tmp_path: Path, groups: int) -> None:
    for _ in range(2):  # the second time on what the first one left
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        assert writer.stdout is not None
        said = [writer.stdout.readline() for _ in range(groups)]
        writer.kill()
        said += writer.stdout.readlines()
        writer.wait()
        writer.stdout.close()
        promised = max(int(line) for line in said if line.endswith("\n"))
        log_in(tmp_path).close()
        found = verify(tmp_path)
        assert found.broken == ""
        assert found.last >= promised
