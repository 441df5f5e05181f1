"""`packetflow audit`: the records of a running node, and whether they hold, with and without it."""

from __future__ import annotations

import signal
from pathlib import Path

from packetflow.storage.audit_chain import files_of, verify

from .conftest import Desk


def audited(project: Desk) -> Path:
    """A node that was changed by its operator, so that there are records; the folder of its audit files."""
    project.start()
    for _ in range(3):
        assert project("module", "disable", "rate_limit").code == 0
        assert project("module", "enable", "rate_limit").code == 0
    return project.folder / "run" / "audit"


def test_what_the_operator_changed_is_listed(project: Desk) -> None:
    audited(project)
    ran = project("audit", "list", "--capability", "system.module.*", "--json")
    assert ran.code == 0, ran
    records = ran.document["records"]
    assert [record["capability"] for record in records[:2]] == [
        "system.module.enable@1.0.0",
        "system.module.disable@1.0.0",
    ]
    assert records[0]["principal"] == "operator"
    assert records[0]["payload"]["name"] == "rate_limit"
    assert len(project("audit", "list", "--since", "1h", "--limit", "2", "--json").document["records"]) == 2
    assert "operator" in project("audit", "list").out
    assert project("audit", "list", "--principal", "nobody", "--json").document == {"records": []}


def test_a_time_that_is_none_is_the_callers_fault(project: Desk) -> None:
    project.start()
    ran = project("audit", "list", "--since", "yesterday")
    assert ran.code == 2
    assert "30m, 1h, 7d" in ran.err


def test_it_is_verified_with_and_without_a_node(project: Desk) -> None:
    audited(project)
    live = project("audit", "verify", "--json")
    assert live.code == 0, live
    assert live.document["intact"] is True
    project.end()
    after = project("audit", "verify")
    assert after.code == 0, after
    assert "intact" in after.out
    assert "without --head" in after.out
    head = project("audit", "verify", "--json").document["head"]
    assert project("audit", "verify", "--head", head).code == 0


def test_a_broken_chain_exits_6_and_names_the_first_broken_record(project: Desk) -> None:
    folder = audited(project)
    project.end()
    [file] = files_of(folder)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"operator"', b'"somebody"')
    file.write_bytes(b"".join(lines))
    ran = project("audit", "verify", "--json")
    assert ran.code == 6, ran
    assert ran.document["broken"].startswith("record 3 ")
    assert "BROKEN" in project("audit", "verify", "--folder", "run").out


def test_a_node_that_was_killed_goes_on_with_its_chain(project: Desk) -> None:
    folder = audited(project)
    project.end(signal.SIGKILL)
    before = verify(folder).last
    with files_of(folder)[-1].open("ab") as stream:
        stream.write(b'{"n": 99, "prev"')  # what a power cut leaves of a record
    assert project("audit", "verify", "--json").document["torn"] == 16
    project.start()
    assert project("module", "disable", "rate_limit").code == 0
    project.end()
    found = verify(folder)
    assert (found.broken, found.torn) == ("", 0)
    assert found.last >= before + 2
    assert "bytes of an audit record" in (project.folder / "log").read_text()


def test_of_a_node_with_workers_all_processes_write_one_chain(project: Desk) -> None:
    project.start("--workers", "2", "--set", 'access.local=["other.*"]')
    tcp = next(one["address"] for one in project.ready["doors"] if one["door"] == "tcp")
    for _ in range(12):
        assert project("call", "ticket.open", "customer_id=C-1", "text=hi", "--node", tcp).code == 4
    refused = project("audit", "list", "--capability", "ticket.open", "--json").document["records"]
    assert [(one["event"], one["outcome"]) for one in refused] == [("refused", "forbidden")] * 12
    assert project("module", "disable", "rate_limit").code == 0
    project.end()
    found = verify(project.folder / "run" / "audit")
    assert found.broken == ""
    assert found.records >= 13


def test_what_is_no_head_and_no_folder_is_told(project: Desk) -> None:
    assert project("audit", "verify", "--head", "abc").code == 2
    assert project("audit", "verify", "--folder", "nowhere").code == 5
    assert project("audit", "verify", "--node", "tcp://127.0.0.1:1").code == 2
