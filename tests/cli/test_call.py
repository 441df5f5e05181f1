"""`packetflow call` against a running node."""

from __future__ import annotations

import json

from .conftest import Cli, Desk


def test_a_value_reads_well_in_a_pipe_too(desk: Desk) -> None:
    ran = desk("call", "ticket.open", "customer_id=C-1001", "text=my card is lost")
    assert ran.code == 0, ran
    fields = dict(line.split("\t") for line in ran.out.splitlines())
    assert fields["customer_id"] == "C-1001"
    assert fields["open"] == "true"
    assert ran.err == ""


def test_json_is_the_whole_answer(desk: Desk) -> None:
    ran = desk("call", "work.echo", "value=12", "times=3", "loud=true", "--json")
    assert ran.document["value"] == {"value": 12, "times": 3, "loud": True, "tags": None}
    assert len(ran.document["trace"]) == 32
    assert ran.document["duration"] > 0


def test_fields_are_typed_by_the_contract(desk: Desk) -> None:
    ran = desk("call", "ticket.reply", "ticket_id=12", "text=true", "--json")
    assert ran.document["value"] == "12: true"


def test_a_payload_comes_from_a_file_from_stdin_and_from_fields_over_it(desk: Desk) -> None:
    (desk.folder / "payload.json").write_text('{"customer_id": "C-1", "text": "from the file"}')
    from_file = desk("call", "ticket.open", "--input", "payload.json", "text=from the line", "--json")
    assert from_file.document["value"]["text"] == "from the line"
    from_stdin = desk(
        "call", "ticket.open", "--input", "-", "--json", input=b'{"customer_id": "C-2", "text": "piped"}'
    )
    assert from_stdin.document["value"]["customer_id"] == "C-2"


def test_an_unknown_capability_names_the_nearest_and_exits_5(desk: Desk) -> None:
    ran = desk("call", "ticket.opne", "text=hi")
    assert ran.code == 5
    assert ran.out == ""
    assert "ticket.open" in ran.err
    assert "next: " in ran.err
    assert desk("call", "ticket.opne", "--json").document["error"]["code"] == "not_found"


def test_each_fault_of_a_payload_stands_on_its_line_with_its_path(desk: Desk) -> None:
    ran = desk("call", "ticket.open", "txt=hi", "text=")
    assert ran.code == 2
    lines = [line.split() for line in ran.err.splitlines()]
    assert [line[0] for line in lines[1:4]] == ["customer_id", "text", "txt"] or {
        "customer_id",
        "text",
        "txt",
    } <= {line[0] for line in lines if line}
    assert "nearest text" in ran.err
    assert "packetflow capability show ticket.open" in ran.err


def test_a_field_that_is_no_number_is_refused_before_it_is_sent(desk: Desk) -> None:
    ran = desk("call", "work.slow", "seconds=soon")
    assert ran.code == 2
    assert "seconds  expected a number, given 'soon'" in ran.err


def test_a_capability_that_fails_exits_1_and_names_its_trace(desk: Desk) -> None:
    ran = desk("call", "work.fail", "--json")
    assert ran.code == 1
    error = ran.document["error"]
    assert error["code"] == "execution_failed"
    assert len(error["trace"]) == 32
    assert desk("trace", error["trace"][:8], "--json").document["trace"]["id"] == error["trace"]


def test_what_takes_longer_than_its_timeout_exits_7(desk: Desk) -> None:
    ran = desk("call", "work.slow", "seconds=20", "--timeout", "100ms")
    assert ran.code == 7
    assert ran.err.startswith("timeout: ")


def test_verbose_shows_the_way_of_the_request_beside_the_value(desk: Desk) -> None:
    ran = desk("call", "ticket.reply", "ticket_id=T-1", "text=hello", "-v")
    assert ran.out == "T-1: hello\n"
    assert "rate_limit 100" in ran.err


def test_bad_json_on_stdin_is_told(desk: Desk) -> None:
    ran = desk("call", "ticket.open", "--input", "-", input=b"{")
    assert (ran.code, ran.out) == (2, "")
    assert "stdin: not JSON" in ran.err


def test_the_node_is_found_from_a_folder_below_and_by_every_name(desk: Desk) -> None:
    below = Cli(desk.folder / "modules" / "rate_limit")
    assert below("health").code == 0
    elsewhere = Cli(desk.folder.parent)
    socket = next(door["address"] for door in desk.ready["doors"] if door["door"] == "admin")
    for name in ("desk", "desk/run"):
        assert elsewhere("health", "--node", name).code == 0, name
    assert elsewhere("health", PACKETFLOW_NODE="desk/run").code == 0
    assert socket


def test_over_tcp_a_caller_may_call_and_not_look_inside(desk: Desk) -> None:
    address = next(door["address"] for door in desk.ready["doors"] if door["door"] == "tcp")
    called = desk("call", "work.echo", "value=hi", "times=2", "--node", address, "--json")
    assert called.document["value"]["times"] == 2
    looked = desk("status", "--node", address)
    assert looked.code == 4
    assert looked.err.startswith("forbidden: ")


def test_garbage_at_the_address_is_no_node(desk: Desk) -> None:
    address = next(door["address"] for door in desk.ready["doors"] if door["door"] == "http")
    ran = desk("call", "work.echo", "--node", address.replace("http://", "tcp://"), "--timeout", "5")
    assert ran.code in (2, 3), ran
    assert "Traceback" not in ran.err


def test_an_example_of_every_capability_can_be_copied(desk: Desk) -> None:
    shown = desk("capability", "show", "ticket.open").out
    assert "packetflow call ticket.open customer_id=C-1001 'text=my card is lost'" in shown
    assert json.loads(desk("capability", "show", "ticket.open", "--json").out)["examples"]
