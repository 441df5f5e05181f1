"""What holds for every command in click's tree."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import click
import pytest
from pydantic import TypeAdapter

from packetflow.cli.lazy import LazyGroup
from packetflow.cli.leaf import EVERYWHERE, LeafCommand
from packetflow.cli.tree import root

from .conftest import Cli, Desk, put_dead_letter, put_run

WORLD = Path(__file__).resolve().parents[2] / "examples" / "simulation" / "two_desks.py"

FLOW = Path(__file__).resolve().parent / "desk" / "flows" / "hello.toml"

# What a leaf needs to do something harmless against the tests' node.
WORDS = {
    "call": ["ticket.open", "customer_id=C-1", "text=hi"],
    "job show": ["last"],
    "job cancel": ["last"],
    "stream": ["work.count", "upto=2"],
    "capability show": ["ticket.open"],
    "capability search": ["ticket"],
    "capability add": ["more/later.py", "--dry-run"],
    "capability remove": ["ticket.reply", "--dry-run"],
    "module show": ["rate_limit"],
    "module enable": ["rate_limit"],
    "module disable": ["rate_limit", "--dry-run"],
    "module reload": ["rate_limit", "--dry-run"],
    "module restart": ["rate_limit", "--dry-run"],
    "dead-letter show": ["dead"],
    "dead-letter replay": ["dead"],
    "dead-letter remove": ["dead", "--yes"],
    "stop": ["--dry-run"],
    "completion": ["bash"],
    "init": ["made", "--dry-run"],
    "flow show": ["ticket.hello"],
    "flow check": [str(FLOW)],
    "flow run": ["ticket.hello", "customer_id=C-1"],
    "flow inspect": ["feed"],
    "flow replay": ["feed", "--version", "keep"],
    "flow fork": ["feed", "--version", "keep"],
    "flow approve": ["feed"],
    "flow reject": ["feed"],
    "flow cancel": ["--where", 'state == "none"', "--yes"],
    "flow resume": ["--where", 'state == "none"', "--yes"],
    "flow retry": ["--where", 'state == "none"', "--yes"],
    "flow signal": ["test.nothing"],
    "simulate": [str(WORLD), "--runs", "2"],
}
NEEDS_NO_NODE = {
    "simulate",
    "version",
    "completion",
    "help",
    "doctor",
    "init",
    "start",
    "audit verify",
    "config check",
    "config show",
    "config schema",
}


def leaves() -> list[tuple[str, LeafCommand]]:
    found: list[tuple[str, LeafCommand]] = []

    def walk(group: LazyGroup, path: tuple[str, ...]) -> None:
        context = click.Context(group)
        for word in group.entries:
            command = group.get_command(context, word)
            if isinstance(command, LazyGroup):
                walk(command, (*path, word))
            else:
                assert isinstance(command, LeafCommand), f"{path} {word} is no leaf of ours"
                found.append((" ".join((*path, word)), command))

    walk(root(), ())
    return found


LEAVES = leaves()
PATHS = [path for path, _ in LEAVES]
NODE_PATHS = [path for path in PATHS if path not in NEEDS_NO_NODE]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=PATHS)
def test_help_opens_with_two_examples(path: str, command: LeafCommand) -> None:
    assert len(command.examples) >= 2
    context = click.Context(command, info_name=path)
    text = command.get_help(context)
    for example in command.examples:
        words = shlex.split(example)
        assert words[: len(path.split())] == path.split() or (path == "trace show" and words[0] == "trace")
        assert f"packetflow {example}" in text
    assert text.index("Examples:") < text.index("Usage:")


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=PATHS)
def test_the_common_options_are_there(path: str, command: LeafCommand) -> None:
    names = {parameter.name for parameter in command.params}
    assert names.issuperset(EVERYWHERE)


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=PATHS)
def test_the_help_fits_a_narrow_terminal(path: str, command: LeafCommand) -> None:
    context = click.Context(command, info_name=f"packetflow {path}", terminal_width=60)
    own = [line for line in command.get_help(context).splitlines() if not line.startswith("  packetflow ")]
    assert max(len(line) for line in own) <= 60


@pytest.fixture(autouse=True)
def a_dead_letter(request: pytest.FixtureRequest) -> None:
    """The desk has one for each command that needs it, and a run that waits for a decision."""
    arguments = request.node.callspec.params if hasattr(request.node, "callspec") else {}
    if "desk" in request.fixturenames and str(arguments.get("path")).startswith("dead-letter "):
        desk: Desk = request.getfixturevalue("desk")
        put_dead_letter(desk)
    if "desk" in request.fixturenames and "feed" in WORDS.get(str(arguments.get("path")), ()):
        put_run(request.getfixturevalue("desk"))


def parts(path: str) -> list[str]:
    return [*path.split(), *WORDS.get(path, [])]


@pytest.mark.parametrize("path", NODE_PATHS)
def test_without_a_node_a_failure_is_one_json_document_and_exit_3(path: str, cli: Cli) -> None:
    ran = cli(*parts(path), "--json")
    assert ran.code == 3, ran
    assert ran.err == ""
    assert ran.document["error"]["code"] == "unavailable"
    assert ran.document["error"]["next"]


@pytest.mark.parametrize("path", [path for path in PATHS if path != "start"])
def test_json_is_a_document_of_the_published_shape(path: str, desk: Desk) -> None:
    ran = desk(*parts(path), "--json")
    assert ran.code in (0, 6), ran
    command = dict(LEAVES)[path]
    module, _, name = command.document.partition(":")
    shape = getattr(__import__(module, fromlist=[name]), name)
    documents = list(map(json.loads, ran.out.splitlines())) if path == "stream" else [ran.document]
    for document in documents:
        TypeAdapter(shape).validate_python(document)
        assert set(document) <= set(shape.__annotations__), "a field that the shape does not publish"


@pytest.mark.parametrize("path", [path for path in PATHS if path != "start"])
def test_closed_stdin_never_hangs_and_a_pipe_gets_no_escape(path: str, desk: Desk) -> None:
    process = desk.begin(*parts(path), stdin=None, preexec_fn=lambda: __import__("os").close(0))
    out, err = process.communicate(timeout=40)
    assert b"\x1b" not in out + err
    assert b"Traceback" not in err, err.decode()
    assert process.returncode in (0, 6), (out, err)


@pytest.mark.parametrize("path", ["module list", "tree", "trace list", "capability list", "help"])
def test_a_closed_pipe_ends_quietly(path: str, desk: Desk) -> None:
    process = desk.begin(*path.split())
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    talk = process.stderr.read()
    process.stderr.close()
    assert process.wait(40) == 0
    assert talk == b""


def test_the_lazy_table_and_the_commands_say_the_same_names() -> None:
    for path, command in LEAVES:
        assert command.name == path.split()[-1]


def test_json_schema_needs_no_arguments(cli: Cli) -> None:
    ran = cli("capability", "show", "--json-schema")
    assert ran.code == 0
    assert ran.document["type"] == "object"


def test_a_noun_alone_shows_its_help_and_exits_2(cli: Cli) -> None:
    ran = cli("module")
    assert (ran.code, ran.err) == (2, "")
    assert "restart" in ran.out
