"""Completion: our words always, the node's ids when it answers."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from .conftest import PROGRAM, Cli, Desk, environment


def completed(cli: Cli, *words: str, shell: str = "bash") -> list[str]:
    ran = cli(input="\n".join([*words, ""]).encode(), _PACKETFLOW_COMPLETE=shell)
    assert ran.code == 0, ran
    assert ran.err == ""
    return [line.split("\t")[0] for line in ran.out.splitlines()]


def test_ids_come_from_the_node(desk: Desk) -> None:
    assert completed(desk, "call", "ticket.") == [
        "ticket.export",
        "ticket.find",
        "ticket.hello",
        "ticket.open",
        "ticket.reply",
    ]
    assert completed(desk, "stream", "ticket.e") == ["ticket.export"]
    assert "upto=" in completed(desk, "stream", "work.count", "")
    assert completed(desk, "module", "show", "") == ["rate_limit"]
    assert "last" in completed(desk, "trace", "")
    assert completed(desk, "call", "ticket.open", "cu") == ["customer_id="]
    assert "text=" in completed(desk, "call", "ticket.open", "customer_id=C-1", "")


def test_without_a_node_there_are_none_and_nothing_is_said(cli: Cli) -> None:
    assert completed(cli, "call", "") == []
    assert completed(cli, "module", "") == ["list", "show", "enable", "disable", "reload", "restart"]
    assert completed(cli, "completion", "") == ["bash", "zsh", "fish"]
    assert completed(cli, "config", "show", "--co") == ["--config", "--color"]
    assert completed(cli, "module", "list", "--color", "") == ["auto", "always", "never"]
    assert completed(cli, "nonsense", "") == []


def test_a_socket_where_nobody_answers_holds_nobody_up(cli: Cli) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        assert completed(cli, "call", "--node", address, "") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_understood_by_its_shell(shell: str, cli: Cli) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    script = cli("completion", shell).out
    check = subprocess.run([shell, "-n"], input=script.encode(), capture_output=True, check=False)
    assert check.returncode == 0, check.stderr


def test_bash_completes_by_the_script(desk: Desk) -> None:
    script = desk("completion", "bash").out
    session = (
        f'packetflow() {{ {" ".join(PROGRAM)} "$@"; }}\n{script}\n'
        "COMP_WORDS=(packetflow module re); COMP_CWORD=2; _packetflow_complete; echo ${COMPREPLY[@]}\n"
        "COMP_WORDS=(packetflow call ticket.o); COMP_CWORD=2; _packetflow_complete; echo ${COMPREPLY[@]}\n"
    )
    done = subprocess.run(
        ["bash"],
        input=session.encode(),
        capture_output=True,
        cwd=desk.folder,
        env=environment(),
        timeout=40,
        check=True,
    )
    assert done.stdout.decode().splitlines() == ["reload restart", "ticket.open"], done.stderr.decode()
