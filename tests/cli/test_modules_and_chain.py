"""Looking at the chain, and changing it: a change returns when it is seen."""

from __future__ import annotations

from packetflow.cli.commands.module import ailment

from .conftest import Desk


def statuses(desk: Desk) -> dict[str, str]:
    return {
        module["name"]: module["status"] for module in desk("module", "list", "--json").document["modules"]
    }


def test_a_module_is_disabled_and_enabled_and_each_is_seen(project: Desk) -> None:
    project.start()
    disabled = project("module", "disable", "rate_limit", "--json")
    assert disabled.code == 0, disabled
    assert disabled.document["changed"] is True
    assert disabled.document["chain"] == []
    assert statuses(project)["rate_limit"] == "disabled"
    again = project("module", "disable", "rate_limit")
    assert again.out.startswith("nothing to do")
    enabled = project("module", "enable", "rate_limit")
    assert "now running" in enabled.out
    assert statuses(project)["rate_limit"] == "running"


def test_a_dry_run_changes_nothing(project: Desk) -> None:
    project.start()
    ran = project("module", "disable", "rate_limit", "--dry-run")
    assert ran.code == 0
    assert ran.out.startswith("would be disabled")
    assert statuses(project)["rate_limit"] == "running"


def test_reload_loads_new_code_and_keeps_the_old_one_if_it_is_faulty(project: Desk) -> None:
    project.start()
    manifest = project.folder / "modules" / "rate_limit" / "module.toml"
    code = project.folder / "modules" / "rate_limit" / "rate_limit.py"
    manifest.write_text(manifest.read_text().replace("1.0.0", "1.1.0"))
    assert project("module", "reload", "rate_limit", "--json").document["module"]["version"] == "1.1.0"
    good = code.read_text()
    code.write_text(good + "\nthis is no Python\n")
    failed = project("module", "reload", "rate_limit")
    assert failed.code != 0
    assert "rate_limit.py" in failed.err
    code.write_text(good)
    assert statuses(project)["rate_limit"] == "running"


def test_restart_returns_when_it_runs(project: Desk) -> None:
    project.start()
    ran = project("module", "restart", "rate_limit", "--json")
    assert ran.code == 0, ran
    assert ran.document["module"]["status"] == "running"


def test_an_unknown_module_names_the_nearest(desk: Desk) -> None:
    ran = desk("module", "show", "rate_limt")
    assert ran.code == 5
    assert "rate_limit" in ran.err


def test_the_chain_of_one_capability(desk: Desk) -> None:
    assert [
        row["name"] for row in desk("chain", "show", "--for", "ticket.open", "--json").document["modules"]
    ] == ["rate_limit"]
    assert desk("chain", "show", "--for", "system.health", "--json").document["modules"] == []
    assert desk("chain", "show", "--for", "no.such").code == 5


def test_an_ambiguous_or_unknown_trace_is_told(desk: Desk) -> None:
    assert desk("trace", "ffffffffffff").code == 5
    assert desk("trace", "zz").code == 2


def test_search_finds_by_words(desk: Desk) -> None:
    found = [
        row["id"]
        for row in desk("capability", "search", "answer", "ticket", "--json").document["capabilities"]
    ]
    assert "ticket.reply" in found


def test_what_ails_a_module_is_counted_in_words() -> None:
    module = {"restarts": 1, "errors": 1, "last_error": {"message": "KeyError 'x'", "where": "a.py:3"}}
    assert ailment(module) == "1 restart, 1 error, last: KeyError 'x' at a.py:3"
    assert ailment({"restarts": 2, "errors": 1200}) == "2 restarts, 1,200 errors"
