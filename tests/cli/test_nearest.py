"""Unknown words get the nearest known ones, and are not run."""

import pytest

from packetflow.cli.nearest import distance, nearest
from packetflow.cli.program import run


@pytest.mark.parametrize(
    ("left", "right", "apart"),
    [("", "", 0), ("a", "", 1), ("list", "lsit", 1), ("reload", "relod", 1), ("abc", "xyz", 3)],
)
def test_distance_counts_letters_and_swaps(left, right, apart):
    assert distance(left, right) == distance(right, left) == apart


def test_the_nearest_come_first():
    assert nearest("ticket.opne", ["ticket.find", "ticket.open", "ticket.reopen"])[0] == "ticket.open"


def test_nothing_is_near_a_word_from_elsewhere():
    assert nearest("zebra", ["list", "show", "enable"]) == []


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["modul", "list"], "packetflow module"),
        (["run"], "packetflow start"),
        (["module", "ls"], "packetflow module list"),
        (["capability", "get"], "packetflow capability show"),
        (["ls"], "packetflow capability list"),
        (["ping"], "packetflow health"),
        (["new"], "packetflow init"),
    ],
)
def test_an_unknown_command_names_what_was_meant_and_runs_nothing(words, meant, capsys):
    assert run(words) == 2
    talk = capsys.readouterr()
    assert talk.out == ""
    assert meant in talk.err
    assert "unknown command" in talk.err


def test_an_unknown_option_names_the_nearest(capsys):
    assert run(["version", "--jsno"]) == 2
    assert "--json" in capsys.readouterr().err


def test_a_wrong_choice_names_the_choices(capsys):
    assert run(["completion", "zs"]) == 2
    talk = capsys.readouterr().err
    assert 'shell "zs" is none of bash, zsh, fish' in talk
    assert "nearest  zsh" in talk


def test_usage_failures_are_json_under_json(capsys):
    assert run(["module", "ls", "--json"]) == 2
    talk = capsys.readouterr()
    assert talk.err == ""
    assert '"code": "usage"' in talk.out
