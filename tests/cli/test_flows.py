"""Compositions on the command line, against a node as a process."""

from __future__ import annotations

import signal
from pathlib import Path

from .conftest import Desk, until

GOOD = """
id = "ticket.two"
intent = "Two tickets"
requires = { customer_id = "string" }
steps = [
    { step = "ticket.open", inputs = { text = { value = "one" } } },
    { step = "ticket.open", inputs = { text = { value = "two" } }, name = "second" },
]
"""


def test_they_are_listed_shown_and_run(desk: Desk) -> None:
    (row,) = desk("flow", "list", "--json").document["flows"]
    assert (row["id"], row["nodes"], row["faults"]) == ("ticket.hello", 2, [])
    shown = desk("flow", "show", "ticket.hello").out
    assert "requires  customer_id" in shown
    assert "step ticket.open (text='hello')" in shown
    assert desk("flow", "show", "ticket.hello", "--as", "mermaid").out.startswith("flowchart TD\n")
    document = desk("flow", "run", "ticket.hello", "customer_id=C-1", "--json").document
    assert document["value"]
    assert set(document) == set(desk("call", "ticket.hello", "customer_id=C-1", "--json").document)


def test_one_that_is_not_there_has_a_nearest_and_exit_5(desk: Desk) -> None:
    ran = desk("flow", "show", "ticket.helo")
    assert ran.code == 5
    assert "ticket.hello" in ran.err


def test_a_file_is_checked_against_the_node(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(GOOD)
    good = desk("flow", "check", str(file))
    assert (good.code, good.out) == (0, "ticket.two can run here: 3 nodes\n")
    file.write_text(
        GOOD.replace(
            'ticket.open", inputs = { text = { value = "two', 'ticket.opn", inputs = { text = { value = "two'
        )
    )
    bad = desk("flow", "check", str(file))
    assert bad.code == 6
    assert bad.out == f"{file}: 1: no capability 'ticket.opn'; nearest ticket.open\n"
    file.write_text(GOOD.replace("intent", "intnt"))
    worse = desk("flow", "check", str(file))
    assert worse.code == 2
    assert "intnt: unknown key of a composition; nearest intent" in worse.err
    assert len(desk("flow", "check", str(file), "--json").document["error"]["details"]["faults"]) == 2


def test_a_plans_file_is_loaded_again_when_it_changes(project: Desk) -> None:
    with_two = project.folder / "flows" / "two.toml"
    project.start()
    assert project("call", "ticket.two", "customer_id=C-1").code == 5
    with_two.write_text(GOOD)
    assert project.process is not None
    project.process.send_signal(signal.SIGHUP)
    until(lambda: project("flow", "run", "ticket.two", "customer_id=C-1").code == 0)
    with_two.write_text(GOOD.replace("steps", "stps"))
    assert project.process is not None
    project.process.send_signal(signal.SIGHUP)
    assert project("flow", "run", "ticket.two", "customer_id=C-1").code == 0
