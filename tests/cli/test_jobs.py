"""`call --detach` and `job`: what runs in the background, from the command line."""

from __future__ import annotations

import json
import signal

import pytest

from .conftest import Desk


def test_detach_prints_the_id_of_a_job_whose_value_is_there_later(desk: Desk) -> None:
    started = desk("call", "work.echo", "value=hi", "--detach")
    assert started.code == 0
    id = started.out.strip()
    assert len(id) == 32
    shown = desk("job", "show", id[:10], "--wait", "--json")
    assert (shown.code, shown.document["status"]) == (0, "done")
    assert shown.document["value"]["value"] == "hi"


def test_a_background_capability_prints_its_job_too(desk: Desk) -> None:
    id = desk("call", "work.report", "seconds=0").out.strip()
    assert json.loads(desk("call", "work.report", "seconds=0", "--json").out)["value"].keys() == {"job"}
    shown = desk("job", "show", id, "--wait")
    assert "done" in shown.out
    assert "pages\t3" in shown.out


def test_wait_gives_the_exit_that_the_call_would_have_had(desk: Desk) -> None:
    id = desk("call", "work.fail", "message=ink", "--detach").out.strip()
    shown = desk("job", "show", id, "--wait", "--json")
    assert (shown.code, shown.document["error"]["code"]) == (1, "execution_failed")
    assert desk("job", "show", id).code == 0


def test_wait_gives_up_after_its_timeout_and_says_how_to_go_on(desk: Desk) -> None:
    id = desk("call", "work.slow", "seconds=20", "--detach").out.strip()
    late = desk("job", "show", id, "--wait", "--timeout", "0.1", "--json")
    assert (late.code, late.document["error"]["code"]) == (7, "timeout")
    assert f"packetflow job cancel {id[:8]}" in late.document["error"]["next"]
    cancelled = desk("job", "cancel", id, "--json")
    assert (cancelled.document["changed"], cancelled.document["job"]["status"]) == (True, "cancelled")
    again = desk("job", "cancel", id)
    assert "nothing to do" in again.out
    listed = desk("job", "list", "--status", "cancelled", "--json").document["jobs"]
    assert id in [row["id"] for row in listed]


def test_what_is_refused_before_it_begins_fails_at_once(desk: Desk) -> None:
    assert desk("call", "ticket.open", "text=hi", "--detach").code == 2
    assert desk("call", "ticket.opne", "--detach", "--json").document["error"]["code"] == "not_found"
    assert desk("call", "work.echo", "--detach", "--from", "x.jsonl").code == 2


def test_an_unknown_job_is_no_such_thing(desk: Desk) -> None:
    ran = desk("job", "show", "ffffffff", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (5, "not_found")
    assert ran.document["error"]["next"] == ["packetflow job list"]


def test_who_calls_what_is_deprecated_is_told(desk: Desk) -> None:
    ran = desk("call", "work.old", "value=hi")
    assert (ran.out, ran.code) == ("hi\n", 0)
    assert "note: work.old is deprecated: use work.echo" in ran.err
    assert desk("call", "work.old", "value=hi", "--quiet").err == ""


def test_a_kill_loses_jobs_and_the_next_life_says_so(project: Desk) -> None:
    project.start()
    id = project("call", "work.slow", "seconds=60", "--detach").out.strip()
    assert project("job", "show", id, "--json").document["status"] == "running"
    project.end(signal.SIGKILL)
    project.start()
    shown = project("job", "show", id, "--json")
    assert (shown.code, shown.document["error"]["code"]) == (5, "not_found")
    assert "lost at a restart" in shown.document["error"]["message"]
    assert "durable=True" in shown.document["error"]["message"]
    assert project("job", "show", "last").code == 5
    assert project("job", "list", "--json").document["jobs"] == []


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("job", "show"), 2),
        (("job", "show", "fff"), 2),
        (("job", "show", "f" * 33), 2),
        (("job", "show", "--wiat", "ffff"), 2),
        (("job", "show", "\u202e" * 8), 5),
        (("job", "list", "--status", "runing"), 2),
        (("job", "list", "--limit", "0"), 2),
        (("job", "list", "ffff"), 2),
        (("job", "cancel"), 2),
        (("job", "cancel", "ffffffff"), 5),
        (("job", "cancel", "last", "last"), 2),
        (("job", "cancle", "ffff"), 2),
        (("call", "--detach"), 2),
        (("call", "work.echo", "--detach", "--output", "x"), 2),
        (("call", "work.count", "--detach", "to=3"), 2),
    ],
)
def test_wrong_words_are_refused_with_the_exit_of_their_kind(
    desk: Desk, words: tuple[str, ...], code: int
) -> None:
    ran = desk(*words)
    assert ran.code == code, ran
    assert ran.err
    assert "Traceback" not in ran.err
