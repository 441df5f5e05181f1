"""`packetflow start`, `stop`, and the signals between them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket

import pytest

from .conftest import Cli, Desk, until

CONFIG = "config/node.toml"


def test_the_banner_shows_what_the_node_is(project: Desk) -> None:
    process = project.begin("start", "--try", "ticket.open customer_id=C-1001 text=hi")
    assert process.stderr is not None
    lines: list[str] = []
    while not any("ticket.open@" in line or "rate_limit 100" in line for line in lines[6:]):
        line = process.stderr.readline().decode()
        assert line, "".join(lines)
        lines.append(line)
    process.send_signal(signal.SIGTERM)
    out, rest = process.communicate(timeout=20)
    talk = "".join(lines) + rest.decode()
    assert process.returncode == 0, talk
    assert out == b""
    assert re.search(r"^packetflow \d\S*   node desk   pid \d+   config/node.toml", talk, re.MULTILINE)
    assert re.search(
        r"^  doors   admin run/admin.sock   tcp 127.0.0.1:\d+   http 127.0.0.1:\d+$", talk, re.MULTILINE
    )
    assert re.search(r"^  access  OPEN: ", talk, re.MULTILINE)
    assert "  chain   rate_limit 100\n" in talk
    assert "try: packetflow call ticket." in talk
    assert "customer_id\tC-1001" in talk
    assert "\x1b" not in talk


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_exits_0(number: int, project: Desk) -> None:
    project.start()
    call = project.begin("call", "work.mark", "line=1", "seconds=0.5")
    until(lambda: project("status", "--json").code == 0 and in_flight(project))
    assert project.end(number) == 0
    assert call.wait(20) == 0
    call.communicate()
    assert project.marks() == [1]


def in_flight(desk: Desk) -> bool:
    return desk("stop", "--dry-run", "--json").document["in_flight"] >= 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_the_process_at_once(number: int, code: int, project: Desk) -> None:
    project.start()
    call = project.begin("call", "work.slow", "seconds=60")
    until(lambda: in_flight(project))
    assert project.process is not None
    project.process.send_signal(number)
    until(lambda: b"draining" in (project.folder / "log").read_bytes() or not health(project)["ready"])
    assert project.end(number) == code
    call.communicate(timeout=20)
    assert call.returncode in (1, 3)


def health(desk: Desk) -> dict[str, object]:
    ran = desk("health", "--json")
    return ran.document if "ready" in ran.document else {"ready": False}


def test_hang_up_reloads_the_config(project: Desk) -> None:
    project.start()
    config = project.folder / CONFIG
    config.write_text(config.read_text().replace("priority = 100", "priority = 150"))
    assert project.process is not None
    project.process.send_signal(signal.SIGHUP)
    until(lambda: project("module", "list", "--json").document["modules"][0]["priority"] == 150)


def test_stop_returns_when_the_node_is_gone(project: Desk) -> None:
    ready = project.start()
    ran = project("stop", "--yes", "--json")
    assert ran.code == 0, ran
    assert ran.document["stopped"] is True
    assert ran.document["pid"] == ready["pid"]
    assert project.process is not None
    assert project.process.wait(5) == 0
    assert project("health").code == 3


def test_stop_asks_and_without_a_terminal_names_the_flag(project: Desk) -> None:
    project.start()
    ran = project("stop")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert project("health").code == 0


def test_detach_returns_when_the_node_answers(project: Desk) -> None:
    ran = project("start", "--detach", "--json")
    assert ran.code == 0, ran
    try:
        assert project("health", "--json").document["pid"] == ran.document["pid"]
        second = project("start", "--detach")
        assert second.code == 3
        assert f"pid {ran.document['pid']}" in second.err
    finally:
        assert project("stop", "--yes").code == 0


def test_faults_of_the_config_are_all_told_with_their_places(project: Desk) -> None:
    config = project.folder / CONFIG
    config.write_text(config.read_text().replace("priority", "piority").replace('name = "desk"', "name = 7"))
    for words in (["start"], ["start", "--detach"]):
        ran = project(*words)
        assert ran.code == 2, ran
        assert "config/node.toml:4:" in ran.err
        assert re.search(r"config/node.toml:\d+:1: unknown key", ran.err)
        assert "nearest priority" in ran.err
    checked = project("config", "check", "--json")
    assert checked.code == 6
    assert len(checked.document["faults"]) == 2
    told = project("start", "--json")
    assert told.document["error"]["code"] == "config_invalid"
    assert len(told.document["error"]["details"]["faults"]) == 2


def test_a_file_that_is_not_there_is_told(project: Desk) -> None:
    ran = project("start", "config/nod.toml")
    assert ran.code == 2
    assert "nod.toml" in ran.err


def test_a_port_in_use_is_told(project: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = project("start", "--set", f"tcp.port={port}")
    assert ran.code == 3, ran
    assert str(port) in ran.err
    assert "packetflow doctor" in ran.err


def test_a_second_node_on_the_data_folder_is_told_who_holds_it(project: Desk) -> None:
    ready = project.start()
    ran = project("start", "--json")
    assert ran.code == 3
    assert f"pid {ready['pid']}" in ran.document["error"]["message"]


INIT_RAISES = """\
from packetflow import Module

class RateLimit(Module):
    def init(self, config):
        raise OSError("no oil")

    def handle_request(self, request, context):
        return None
"""


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("this is no Python", "rate_limit.py:1"),
        ("import no_such_library_anywhere", "no_such_library_anywhere"),
        (INIT_RAISES, "no oil"),
    ],
    ids=["syntax", "import", "init"],
)
def test_a_module_that_can_not_run_is_named_with_its_place_and_the_next_command(
    code: str, word: str, project: Desk
) -> None:
    (project.folder / "modules" / "rate_limit" / "rate_limit.py").write_text(code)
    ran = project("start", "--set", "modules.rate_limit.config={}")
    assert ran.code in (1, 2, 3), ran
    assert "rate_limit" in ran.err
    assert word in ran.err
    assert "next: " in ran.err
    assert "Traceback" not in ran.err


def test_without_leaves_a_broken_module_out(project: Desk) -> None:
    (project.folder / "modules" / "rate_limit" / "rate_limit.py").write_text("this is no Python")
    project.start("--without", "rate_limit")
    assert project("chain", "show", "--json").document["modules"] == []
    assert project("call", "work.echo").code == 0


def test_watch_reloads_when_a_file_changes(project: Desk) -> None:
    project.start("--watch")
    manifest = project.folder / "modules" / "rate_limit" / "module.toml"
    manifest.write_text(manifest.read_text().replace("1.0.0", "1.2.0"))
    code = project.folder / "modules" / "rate_limit" / "rate_limit.py"
    code.write_text(code.read_text() + "\n# changed\n")
    until(lambda: project("module", "list", "--json").document["modules"][0]["version"] == "1.2.0")


def test_a_new_project_runs_and_its_test_passes(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("new")
    cli = Cli(folder)
    assert cli("init", "book").code == 0
    assert cli("init", "book").code == 2
    book = Desk(folder / "book")
    assert book("config", "check").code == 0
    book.start("--set", "tcp.port=0", "--set", "http.port=0")
    signed = book("call", "guest.sign", "name=Ana", "message=hello   there", "--json")
    assert signed.document["value"] == {"number": 1, "name": "Ana", "message": "hello there"}
    refused = book("call", "guest.sign", "name=Ana", f"message={'x' * 201}")
    assert refused.code == 1
    assert "courtesy" in refused.err
    assert book.end() == 0
    import subprocess
    import sys

    from .conftest import environment

    tested = subprocess.run(
        [sys.executable, "-m", "unittest", "discover", "tests"],
        cwd=book.folder,
        env=environment(),
        capture_output=True,
        timeout=60,
    )
    assert tested.returncode == 0, tested.stderr.decode()


def test_doctor_finds_a_taken_port_and_a_folder_that_can_not_be_used(project: Desk) -> None:
    assert project("doctor").code == 0
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        config = project.folder / CONFIG
        config.write_text(config.read_text().replace("[tcp]\nport = 0", f"[tcp]\nport = {port}"))
        ran = project("doctor", "--json")
    assert ran.code == 6
    assert [check["name"] for check in ran.document["checks"] if check["severity"] == "error"] == ["port"]


def test_doctor_knows_what_a_killed_node_left(project: Desk) -> None:
    project.start()
    assert project.process is not None
    project.end(signal.SIGKILL)
    gone = project("health")
    assert gone.code == 3
    checks = {check["name"]: check for check in project("doctor", "--json").document["checks"]}
    assert checks["node"]["severity"] == "note"
    project.start()
    assert project("health").code == 0


def test_the_document_of_a_start_is_one_line_and_prints_of_capabilities_are_not_in_it(project: Desk) -> None:
    capabilities = project.folder / "capabilities.py"
    capabilities.write_text(
        capabilities.read_text()
        + '\n\n@capability("work.print")\ndef prints() -> None:\n    """Print."""\n    print("printed", flush=True)\n'
    )
    project.start()
    assert project("call", "work.print").code == 0
    assert project.process is not None
    out = project.process.stdout
    assert out is not None
    os.kill(project.process.pid, signal.SIGTERM)
    project.process.wait(20)
    assert out.read() == b""
    assert b"printed" in (project.folder / "log").read_bytes()
    assert json.dumps(project.ready)
