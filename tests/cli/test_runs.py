"""Durable runs on the command line, against a node as a process."""

from __future__ import annotations

import signal
from pathlib import Path

from .conftest import Desk

REFUND = """
id = "ticket.refund"
intent = "A refund that somebody has to approve"
requires = { customer_id = "string", total = "number" }
durable = true

[[steps]]
step = "ticket.open"
inputs = { text = { value = "refund" } }

[[steps]]
approval = ["ana"]
subject = "a refund"

[[steps]]
step = "ticket.open"
inputs = { text = { value = "paid" } }
name = "paid"
"""


def begun(project: Desk) -> str:
    (project.folder / "flows" / "refund.toml").write_text(REFUND)
    if project.process is None:
        project.start()
    words = ("ticket.refund", "customer_id=C-1", "total=80", "--durable", "--no-wait")
    return str(project("flow", "run", *words).out.strip())


def waiting(project: Desk) -> None:
    for _ in range(100):
        if project("flow", "runs", "--state", "waiting", "--json").document["runs"]:
            return
    raise AssertionError("no run waits")


def test_a_refund_is_driven_from_the_command_line_over_a_kill_of_its_node(project: Desk) -> None:
    run = begun(project)
    waiting(project)
    project.end(signal.SIGKILL)
    project.start()
    (row,) = project("flow", "runs", "--where", 'state == "waiting" && age < 600.0', "--json").document[
        "runs"
    ]
    assert (row["id"], row["composition"], row["waits"][0]["what"]) == (run, "ticket.refund", "approval")
    assert project("flow", "runs").out.startswith("id\tcomposition\tstate\twaits for\tby\t")
    shown = project("flow", "inspect", run[:8]).out
    assert "ticket.refund@1.0.0" in shown
    assert "a refund: open, asks ana" in shown
    late = project("flow", "run", "ticket.hello", "customer_id=C-1", "--durable")
    assert late.code == 0, "any composition can be run durably"
    approved = project("flow", "approve", run[:8], "--reason", "fine")
    assert (approved.code, approved.out.partition(":")[0]) == (0, "approved")
    again = project("flow", "reject", run[:8])
    assert again.code == 1
    assert "was approved by" in again.err
    assert (
        project("flow", "replay", run[:8]).out.strip()
        == f"{run[:8]} would go the same way on ticket.refund@1.0.0"
    )
    assert project("flow", "inspect", run, "--json").document["state"] == "completed"
    forked = project("flow", "fork", run[:8], "--from", "paid", "--json").document["runs"][0]
    assert (forked["outcome"], forked["state"]) == ("done", "completed")
    assert project("flow", "inspect", forked["id"], "--json").document["origin"] == f"{run} from paid"


def test_what_can_not_be_done_says_why_and_what_to_do(project: Desk) -> None:
    run = begun(project)
    waiting(project)
    unknown = project("flow", "inspect", "ffff0000")
    assert (unknown.code, "no run 'ffff0000'" in unknown.err) == (5, True)
    wrong = project("flow", "runs", "--where", 'stat == "failed"')
    assert wrong.code == 2
    assert "nearest state" in wrong.err
    assert "column 1" in wrong.err
    nothing = project("flow", "retry", run[:8])
    assert (nothing.code, "so there is nothing to retry" in nothing.err) == (1, True)
    in_time = project(
        "flow", "run", "ticket.refund", "customer_id=C-1", "total=80", "--durable", "--timeout", "1"
    )
    assert (in_time.code, "is waiting for approval" in in_time.err) == (7, True)
    assert project("flow", "cancel", run[:8]).code == 2, "it wants consent"
    assert project("flow", "cancel", "--where", 'state == "waiting"', "--dry-run").code == 0
    cancelled = project("flow", "cancel", "--where", 'state == "waiting"', "--yes", "--json").document["runs"]
    assert {(one["outcome"], one["state"]) for one in cancelled} == {("done", "cancelled")}
    assert len(cancelled) == 2
    retried = project("flow", "retry", run[:8], "--json").document["runs"][0]
    assert (retried["outcome"], retried["state"]) == ("done", "waiting")
    rejected = project("flow", "reject", run[:8], "--reason", "too dear")
    assert rejected.code == 0
    assert "too dear" in project("flow", "inspect", run[:8]).out
    key = ("--durable", "--no-wait", "--key", "k1")
    first = project("flow", "run", "ticket.refund", "customer_id=C-1", "total=80", *key)
    same = project("flow", "run", "ticket.refund", "customer_id=C-1", "total=80", *key)
    other = project("flow", "run", "ticket.refund", "customer_id=C-1", "total=81", *key)
    assert first.out == same.out
    assert (other.code, "with another payload" in other.err) == (1, True)


def test_a_plan_that_changed_is_told_by_replay(project: Desk) -> None:
    run = begun(project)
    waiting(project)
    project("flow", "approve", run[:8])
    file: Path = project.folder / "flows" / "refund.toml"
    project.end()
    file.write_text(REFUND.replace('name = "paid"', 'name = "paid"\n\n[[steps]]\nstep = "ticket.open"\n'
                                   'inputs = { text = { value = "more" } }\nname = "more"'))  # fmt: skip
    project.start()
    told = project("flow", "replay", run[:8])
    assert told.code == 6
    assert "step ticket.open would run" in told.out
    assert project("flow", "replay", run[:8], "--version", "keep").code == 0
