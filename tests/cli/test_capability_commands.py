"""`capability search`, `add` and `remove`, and what `show` says of options."""

from __future__ import annotations

import pytest

from .conftest import Desk

MORE = '''
from packetflow import Pool, capability, ttl


@capability("more.cached", cache=ttl(60), pool=Pool(2, name="more"), blocking=True, owner="the desk")
def cached(number: int) -> int:
    """Twice the number."""
    return 2 * number
'''


def test_search_finds_by_words_and_by_fields_that_are_taken_or_given(desk: Desk) -> None:
    def ids(*words: str) -> list[str]:
        rows = desk("capability", "search", *words, "--json").document["capabilities"]
        return [row["id"] for row in rows]

    assert ids("ticket", "answer") == ["ticket.reply"]
    assert set(ids("customer_id")) == {"ticket.open", "ticket.find", "ticket.export", "ticket.hello"}, (
        "by the name of a field"
    )
    assert ids("--requires", "customer_id") == ["ticket.hello", "ticket.open"]
    assert "ticket.find" in ids("--provides", "customer_id"), "a field of the items of a list"
    assert ids("ticket", "--requires", "words") == ["ticket.find"]
    assert desk("capability", "search").code == 2


def test_a_file_is_added_and_its_options_are_shown(project: Desk) -> None:
    project.start()
    (project.folder / "more").mkdir(exist_ok=True)
    (project.folder / "more" / "more.py").write_text(MORE)
    tried = project("capability", "add", "more/more.py", "--dry-run")
    assert (tried.code, tried.out) == (0, "would be: capability more.cached@1.0.0 added\n")
    assert project("call", "more.cached", "number:=1").code == 5
    assert project("capability", "add", "more/more.py").out == "capability more.cached@1.0.0 added\n"
    for _ in range(2):
        assert project("call", "more.cached", "number:=2").out == "4\n"
    shown = project("capability", "show", "more.cached").out
    assert "owner" in shown
    assert "threads" in shown
    assert "0 of 2 threads taken" in shown
    assert "1 of 1,000 answers, 50% of 2 hit" in shown
    project.end()
    project.start()
    assert project("call", "more.cached", "number:=3").out == "6\n"


def test_remove_asks_first_and_add_brings_it_back(project: Desk) -> None:
    project.start()
    refused = project("capability", "remove", "ticket.reply")
    assert refused.code == 2
    assert "--yes" in refused.err
    assert (
        project("capability", "remove", "ticket.reply", "--yes").out
        == "capability ticket.reply@1.0.0 removed\n"
    )
    assert project("call", "ticket.reply", "ticket_id=T-1", "text=hi").code == 5
    assert project("capability", "remove", "ticket.reply", "--yes").code == 5
    assert project("capability", "add", "ticket.reply").out == "capability ticket.reply@1.0.0 added\n"
    assert project("call", "ticket.reply", "ticket_id=T-1", "text=hi").out == "T-1: hi\n"


def test_a_broken_file_is_refused_with_its_line(project: Desk) -> None:
    project.start()
    (project.folder / "broken.py").write_text("import packetflow\n\nthis is no python\n")
    ran = project("capability", "add", "broken.py", "--json")
    assert (ran.code, ran.document["error"]["code"]) == (1, "rejected")
    assert "broken.py:3" in ran.document["error"]["message"]


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("show",), 2, "ID"),
        (("show", "ticket.opne"), 5, "ticket.open"),
        (("show", "ticket.open@9"), 5, "1.0.0"),
        (("show", "ticket.open", "ticket.find"), 2, "unexpected"),
        (("show", "\x1b[31mred"), 5, "no capability"),
        (("show", "x" * 100_000), 2, "at most 200 characters"),
        (("search",), 2, "word"),
        (("search", "--requires"), 2, "--requires"),
        (("search", "--requries", "text"), 2, "--requires"),
        (("list", "--tag"), 2, "--tag"),
        (("add",), 2, "FILE"),
        (("add", "nowhere.py"), 1, "no such file"),
        (("add", "capabilities.py"), 1, "is there already"),
        (("add", "config/node.toml"), 1, "node.toml"),
        (("add", "."), 5, "no file"),
        (("add", "", "--dry-run"), 5, "no file"),
        (("remove", "--yes"), 2, "ID"),
        (("remove", "ticket.opne", "--yes"), 5, "ticket.open"),
        (("remove", "ticket.open@9", "--yes"), 5, "1.0.0"),
        (("remove", "system.health", "--yes"), 1, "own"),
        (("remove", "nowhere.py", "--yes"), 5, "was not added"),
        (("remvoe", "ticket.open"), 2, "remove"),
    ],
)
def test_what_can_not_be_is_refused_in_words_and_changes_nothing(
    desk: Desk, words: tuple[str, ...], code: int, told: str
) -> None:
    ran = desk("capability", *words)
    assert (ran.code, "Traceback" in ran.err) == (code, False), ran
    assert told.lower() in ran.err.lower()
    assert desk("call", "work.echo", "value=1").code == 0
