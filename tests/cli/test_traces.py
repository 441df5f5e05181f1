"""`packetflow trace list`: filters in words and in CEL, over what is in memory and what outlived the node."""

from __future__ import annotations

from .conftest import Desk


def test_requests_are_found_by_what_came_of_them_after_a_restart(project: Desk) -> None:
    project.start("--set", "traces.store=all")
    assert project("call", "ticket.open", "customer_id=C-1", "text=hi").code == 0
    assert project("call", "ticket.open", "customer_id=nobody-at-all-42", "text=hi").code in (0, 5)
    assert project("call", "ticket.nothing").code == 5
    project.end()
    project.start("--set", "traces.store=all")
    found = project("trace", "list", "--capability", "ticket.open", "--outcome", "ok", "--json")
    assert found.code == 0, found
    rows = found.document["traces"]
    assert rows
    assert {row["capability"] for row in rows} == {"ticket.open"}
    where = 'capability.startsWith("ticket.") && outcome != "ok"'
    missed = project("trace", "list", "--where", where, "--since", "1h", "--json").document["traces"]
    assert "not_found" in {row["outcome"] for row in missed}
    shown = project("trace", rows[0]["id"][:12], "--json").document["trace"]
    assert shown["id"] == rows[0]["id"]
    assert shown["spans"]
    assert project("trace", "list", "--longer", "3600", "--json").document["traces"] == []


def test_a_filter_that_is_none_is_told_with_its_place(project: Desk) -> None:
    project.start()
    wrong = project("trace", "list", "--where", "outcom == 'ok'")
    assert wrong.code != 0
    assert "nearest outcome" in wrong.err
    assert "column 1" in wrong.err
    when = project("trace", "list", "--until", "yesterday")
    assert when.code == 2
    assert '--until "yesterday"' in when.err


def test_of_a_node_with_workers_all_processes_store_and_one_is_asked(project: Desk) -> None:
    project.start("--workers", "2", "--set", "traces.store=all")
    tcp = next(one["address"] for one in project.ready["doors"] if one["door"] == "tcp")
    for _ in range(8):
        assert project("call", "ticket.open", "customer_id=C-1", "text=hi", "--node", tcp).code == 0
    listed = project("trace", "list", "--capability", "ticket.open", "--json").document["traces"]
    assert len(listed) == 8
    project.end()
    project.start("--set", "traces.store=all")
    stored = project("trace", "list", "--capability", "ticket.open", "--json").document["traces"]
    assert {row["id"] for row in stored} == {row["id"] for row in listed}
