"""Compositions on the command line, against a node as a process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

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
    assert desk("flow", "show", "ticket.hello", "--as", "svg").out.startswith("<svg ")
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
    assert bad.out.startswith(
        f"{file}:7:5: no capability 'ticket.opn'; nearest ticket.open\n   7 |     {{ step = "
    )
    (fault,) = desk("flow", "check", str(file), "--json").document["faults"]
    assert (fault["place"], fault["line"], fault["column"]) == ("1", 7, 5)
    file.write_text(GOOD.replace("intent", "intnt"))
    worse = desk("flow", "check", str(file))
    assert worse.code == 2
    assert f"{file}:3:1: unknown key of a composition\n   3 | intnt = " in worse.err
    assert "nearest intent" in worse.err
    first, second = desk("flow", "check", str(file), "--json").document["error"]["details"]["faults"]
    assert (first["path"], first["line"], second["path"]) == ("intnt", 3, "intent")


def test_one_that_is_served_can_be_written_to_a_file_and_checked_again(desk: Desk, tmp_path: Path) -> None:
    for language in ("toml", "json", "yaml"):
        file = tmp_path / f"hello.{language}"
        file.write_text(desk("flow", "show", "ticket.hello", "--as", language).out)
        checked = desk("flow", "check", str(file))
        assert (checked.code, checked.out) == (0, "ticket.hello can run here: 2 nodes\n")


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


BAD = {
    "unknown": ('plan = "ticket.opn"', "no capability 'ticket.opn'; nearest ticket.open"),
    "missing": ('plan = "ticket.open"', "ticket.open requires 'customer_id', which nothing gives"),
    "type": ('requires = { customer_id = "array", text = "string" }\nplan = "ticket.open"', "customer_id is array"),
    "cycle": ('plan = { subflow = "test.bad" }', "it calls itself: test.bad -> test.bad"),
    "cel": ('plan = { branch = [{ when = "1 >", then = "ticket.open" }] }', "no CEL"),
    "unbound": ('plan = { loop = "ticket.open", while = "true" }', "a loop needs max_iterations"),
    "deep": (f"plan = {'[' * 10_000}'ticket.open'{']' * 10_000}", "nested deeper than 400 levels"),
    "endless": ('plan = { sleep = inf }', "expected seconds above 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_can_not_run_is_told_in_its_file_by_the_check(name: str, desk: Desk, tmp_path: Path) -> None:
    """Given a file that can't run here, when it is checked, then its fault is told with its line, and no fault of ours is."""
    text, said = BAD[name]
    file = tmp_path / f"{name}.toml"
    file.write_text(f'id = "test.bad"\nintent = "It can not run"\n{text}\n')
    ran = desk("flow", "check", str(file))
    assert ran.code in (2, 6), ran
    assert said in ran.out + ran.err
    assert f"{name}.toml:" in ran.out + ran.err
    assert "Traceback" not in ran.err
