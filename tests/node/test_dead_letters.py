"""Dead letters of a node: listed, shown, replayed with the rights that they had, removed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from packetflow import Context, Node, capability
from packetflow.errors import Rejected
from packetflow.node.config import NodeConfig
from packetflow.node.letters import letter_of_request
from packetflow.storage.dead_letters import DeadLetter
from packetflow.wire.errors import ExecutionFailed, Forbidden, NotFound, Unavailable, ValidationFailed

closed = [True]
sent: list[tuple[str, str]] = []


@capability("mail.send")
def send(to: str, context: Context) -> str:
    """Send a mail, if the post office is open."""
    if closed[0]:
        raise Rejected("the post office is closed")
    sent.append((to, context.principal))
    return f"sent to {to}"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    closed[0] = True
    sent.clear()
    config = {"node": {"data_folder": str(tmp_path)}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    with Node(NodeConfig.model_validate(config), capabilities=[send], log_stream=io.StringIO()) as node:
        yield node


def put(node: Node, id: str = "abcdef0123456789" * 2, grants: tuple[str, ...] = ("mail.*",)) -> DeadLetter:
    session = node.session("ana", grants, tenant="acme")
    error = ExecutionFailed("no route", {"host": "mx1"})
    letter = letter_of_request(id, "mail.send", {"to": "bo"}, error, session, origin="run 7, step 2")
    node.stores.dead_letters.put(letter)
    return letter


def ask(node: Node, capability: str, **payload: Any) -> Any:
    return node.call(capability, payload, session=node.session("op", ("*", "system.*")))


def test_it_is_listed_and_shown_with_its_reason(node: Node) -> None:
    assert ask(node, "system.dead_letter.list") == {"dead_letters": []}
    put(node)
    [row] = ask(node, "system.dead_letter.list")["dead_letters"]
    assert (row["what"], row["code"], row["reason"]) == ("mail.send", "execution_failed", "no route")
    assert (row["principal"], row["tenant"], row["origin"]) == ("ana", "acme", "run 7, step 2")
    assert ask(node, "system.dead_letter.list", kind="event")["dead_letters"] == []
    shown = ask(node, "system.dead_letter.show", id="abcd")["dead_letter"]
    assert shown["body"] == {"payload": {"to": "bo"}, "patterns": ["mail.*"]}
    assert shown["details"] == {"host": "mx1"}


def test_a_replay_that_fails_keeps_it_and_one_that_works_removes_it(node: Node) -> None:
    put(node)
    for count in (1, 2):
        with pytest.raises(Rejected, match="closed"):
            ask(node, "system.dead_letter.replay", id="abcdef")
        [row] = ask(node, "system.dead_letter.list")["dead_letters"]
        assert (row["replays"], row["last_replay"]) == (count, "rejected: the post office is closed")
    closed[0] = False
    done = ask(node, "system.dead_letter.replay", id="abcdef")
    assert (done["done"], done["letter"]["what"]) == ("replayed", "mail.send")
    assert sent == [("bo", "ana")]  # as whom it was, not as the operator
    assert ask(node, "system.dead_letter.list")["dead_letters"] == []


def test_a_replay_has_no_more_rights_than_it_had(node: Node) -> None:
    closed[0] = False
    put(node, grants=("ticket.*",))
    with pytest.raises((Forbidden, NotFound)):
        ask(node, "system.dead_letter.replay", id="abcdef")
    assert sent == []


def test_removing_forgets_it(node: Node) -> None:
    put(node)
    assert ask(node, "system.dead_letter.remove", id="abcdef")["done"] == "removed"
    with pytest.raises(NotFound, match="no dead letter 'abcdef'"):
        ask(node, "system.dead_letter.remove", id="abcdef")


def test_an_id_that_is_short_or_ambiguous_is_told(node: Node) -> None:
    put(node, "aaaa1111" * 4)
    put(node, "aaaa2222" * 4)
    with pytest.raises(ValidationFailed, match="4 letters or more"):
        ask(node, "system.dead_letter.show", id="aaa")
    with pytest.raises(ValidationFailed, match="begins 2 dead letters") as told:
        ask(node, "system.dead_letter.show", id="aaaa")
    assert told.value.details["candidates"] == ["aaaa1111" * 4, "aaaa2222" * 4]


def test_a_kind_that_nobody_knows_stays(node: Node) -> None:
    node.stores.dead_letters.put(DeadLetter("f" * 32, "riddle", "sphinx", {}, "internal", "no answer"))
    with pytest.raises(Unavailable, match="kind 'riddle'"):
        ask(node, "system.dead_letter.replay", id="ffff")
    assert node.stores.dead_letters.count() == 1
    node.letters.replays["riddle"] = lambda letter: sent.append((letter.what, "solved"))
    ask(node, "system.dead_letter.replay", id="ffff")
    assert sent == [("sphinx", "solved")]


def test_only_operators_see_them(node: Node) -> None:
    put(node)
    with pytest.raises((Forbidden, NotFound)):
        node.call("system.dead_letter.list", {})
