"""Idempotency keys: same key same payload is one request; another payload is refused; nobody else's answer is given."""

from __future__ import annotations

import io
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gevent
import pytest
from pydantic import BaseModel

from packetflow import Node, capability
from packetflow.errors import Rejected
from packetflow.node.config import NodeConfig
from packetflow.otp import kill, tree
from packetflow.security.access import Session
from packetflow.wire.values import Metadata, Response
from tests.node.passing import Passing
from tests.storage.places import wait_for

ran: list[int] = []


@capability("pay.send")
def send(amount: int) -> int:
    """Pay, once."""
    ran.append(amount)
    gevent.sleep(0.01)
    if amount == 13:
        raise RuntimeError("bad luck")
    if amount == 7:
        raise Rejected("not today")
    return len(ran)


@pytest.fixture
def passing() -> Passing:
    ran.clear()
    return Passing([send])


def pay(
    passing: Passing, amount: Any, key: str, session: Session | None = None, timeout: float | None = None
) -> Response:
    metadata = Metadata(timeout=timeout, idempotency_key=key)
    return passing.door.request("pay.send", {"amount": amount}, session or passing.session, metadata)


def test_the_second_gets_the_first_ones_answer(passing: Passing) -> None:
    assert [pay(passing, 5, "k").value, pay(passing, 5, "k").value] == [1, 1]
    assert ran == [5]


def test_another_payload_is_a_conflict(passing: Passing) -> None:
    pay(passing, 5, "k")
    error = pay(passing, 6, "k").error
    assert error is not None
    assert error.code == "conflict"
    assert ran == [5]


def test_one_that_is_under_way_is_waited_for(passing: Passing) -> None:
    both = [gevent.spawn(pay, passing, 5, "k") for _ in range(10)]
    assert {one.get().value for one in both} == {1}
    assert ran == [5]


def test_a_duplicate_waits_at_most_its_own_deadline(passing: Passing) -> None:
    first = gevent.spawn(pay, passing, 5, "k")
    gevent.sleep(0)
    error = pay(passing, 5, "k", timeout=0.001).error
    assert error is not None
    assert error.code == "timeout"
    assert first.get().ok


def test_a_failure_that_began_is_kept_and_one_that_did_not_is_not(passing: Passing) -> None:
    assert pay(passing, 13, "a").error.code == "execution_failed"  # type: ignore[union-attr]
    assert pay(passing, 13, "a").error.code == "execution_failed"  # type: ignore[union-attr]
    assert pay(passing, "many", "b").error.code == "validation_failed"  # type: ignore[union-attr]
    assert pay(passing, 2, "b").ok
    assert ran == [13, 2]


def test_keys_of_another_scope_are_others(passing: Passing) -> None:
    other = Session("eve", passing.session.grants)
    assert pay(passing, 5, "k").value == 1
    assert pay(passing, 5, "k", session=other).value == 2


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_of_the_wrong_length_is_refused(passing: Passing, key: str) -> None:
    assert pay(passing, 5, key).error is not None
    assert ran == []


def test_a_killed_first_frees_the_key(passing: Passing) -> None:
    first = gevent.spawn(pay, passing, 5, "k")
    gevent.sleep(0)
    first.kill()
    assert pay(passing, 5, "k").ok


class Shown(BaseModel):
    number: int
    at: datetime


@capability("pay.show")
def show(number: int) -> Shown:
    """Say it as a model."""
    ran.append(number)
    return Shown(number=number, at=datetime(2026, 11, 25, tzinfo=UTC))


@capability("pay.odd")
def odd() -> object:
    """Give what no message can hold."""
    ran.append(1)
    return Opaque()


class Opaque:
    pass


def node_in(folder: Path) -> Node:
    config = {"node": {"data_folder": str(folder)}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    return Node(NodeConfig.model_validate(config), capabilities=[send, show, odd], log_stream=io.StringIO())


def ask(node: Node, id: str, payload: dict[str, Any], key: str) -> Response:
    return node.door.request(id, payload, node.session(), Metadata(idempotency_key=key))


def test_answers_survive_the_node(tmp_path: Path) -> None:
    ran.clear()
    with node_in(tmp_path) as node:
        first = [ask(node, "pay.show", {"number": 5}, "a"), ask(node, "pay.send", {"amount": 13}, "b")]
    with node_in(tmp_path) as node:
        second = [ask(node, "pay.show", {"number": 5}, "a"), ask(node, "pay.send", {"amount": 13}, "b")]
        other = ask(node, "pay.show", {"number": 6}, "a")
    assert ran == [5, 13]
    assert second[0].value == first[0].value == Shown(number=5, at=datetime(2026, 11, 25, tzinfo=UTC))
    assert second[0].trace_id == first[0].trace_id
    assert second[1].error is not None
    assert first[1].error is not None
    assert second[1].error.as_dict() == first[1].error.as_dict()
    assert other.error is not None
    assert other.error.code == "conflict"


def test_duplicates_of_one_that_is_looked_up_wait_for_it(tmp_path: Path) -> None:
    ran.clear()
    with node_in(tmp_path) as node:
        ask(node, "pay.send", {"amount": 5}, "k")
    with node_in(tmp_path) as node:
        both = [gevent.spawn(ask, node, "pay.send", {"amount": 5}, "k") for _ in range(10)]
        odd_one = gevent.spawn(ask, node, "pay.send", {"amount": 6}, "k")
        assert [one.get().value for one in both] == [1] * 10
        assert odd_one.get().error.code == "conflict"
    assert ran == [5]


def test_a_node_that_stores_nothing_makes_no_file_and_loads_no_driver(tmp_path: Path) -> None:
    program = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from packetflow import Node, capability
        from packetflow.node.config import NodeConfig

        @capability("a.b")
        def a() -> int:
            "One."
            return 1

        config = {{"node": {{"data_folder": {str(tmp_path)!r}}}, "tcp": {{"port": 0}}, "http": {{"port": 0}}}}
        with Node(NodeConfig.model_validate(config), capabilities=[a]) as node:
            assert node.call("a.b") == 1
            assert node.health()["status"] == "ok"
        assert "apsw" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, timeout=30)
    assert not list(tmp_path.glob("node.db*"))


def test_what_no_message_can_hold_is_remembered_until_the_node_ends(tmp_path: Path) -> None:
    ran.clear()
    with node_in(tmp_path) as node:
        first = ask(node, "pay.odd", {}, "k")
        assert ask(node, "pay.odd", {}, "k").value is first.value
    assert ran == [1]


def test_a_database_that_can_not_be_written_runs_nothing_that_needs_it(tmp_path: Path) -> None:
    ran.clear()
    (tmp_path / "node.db").write_bytes(b"no database at all " * 100)
    with node_in(tmp_path) as node:
        refused = ask(node, "pay.send", {"amount": 5}, "k")
        assert refused.error is not None
        assert refused.error.code == "unavailable"
        assert "is not a SQLite database" in str(refused.error)
        assert ran == []
        assert node.call("pay.send", {"amount": 5}) == 1  # the rest is served
        health = node.health()
        assert health["status"] == "ill"
        assert health["ready"]
        assert "node.db can't be written: is not a SQLite database" in health["findings"][0]["what"]
        assert "restore a backup" in health["findings"][0]["next"]


def test_a_killed_storage_process_comes_back_with_all_that_was_kept(tmp_path: Path) -> None:
    ran.clear()
    with node_in(tmp_path) as node:
        ask(node, "pay.send", {"amount": 5}, "k")
        before = node.stores
        child = next(one for one in tree(node._root).children if one.id == "storage")  # type: ignore[arg-type]
        kill(child.ref)
        wait_for(lambda: node.stores is not before)
        assert ask(node, "pay.send", {"amount": 5}, "k").value == 1
    assert ran == [5]
