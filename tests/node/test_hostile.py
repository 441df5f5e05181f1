"""Rules, effects and names that mean harm or go wrong: each costs its own request, and no secret gets out."""

from __future__ import annotations

import io
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import gevent
import pytest
from gevent.server import StreamServer

from packetflow import Context, Node, Secret, audit, capability, counter, effect, emit, notify
from packetflow.capabilities.backends.backend import EffectBackend, Execution
from packetflow.capabilities.effects import Effect
from packetflow.node.config import NodeConfig
from packetflow.storage.audit_chain import FOLDER, verify

SECRET = "s3cret-4111"


def config(folder: Path, **more: Any) -> NodeConfig:
    off = {"enabled": False}
    settings: dict[str, Any] = {"node": {"data_folder": folder}, "tcp": off, "http": off, **more}
    return NodeConfig.model_validate(settings)


def until(condition: Callable[[], Any]) -> Any:
    with gevent.Timeout(10):
        while not (found := condition()):
            gevent.sleep(0.002)
    return found


def waits_for_ever(payload: Any, context: Any) -> bool:
    gevent.sleep(3_600)
    return True


def computes_for_ever(payload: Any, context: Any) -> bool:
    while True:
        pass


def raises(payload: Any, context: Any) -> bool:
    raise LookupError(SECRET)


def says_yes_by_a_word(payload: Any, context: Any) -> Any:
    return "yes"


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        (raises, "forbidden"),
        (says_yes_by_a_word, "forbidden"),
        (waits_for_ever, "timeout"),
        (computes_for_ever, "execution_failed"),
        ("payload.n.all(a, payload.n.all(b, payload.n.all(c, a + b + c >= 0)))", "forbidden"),
        ("payload.missing == 1 || payload.n[100000] > 0", None),
    ],
)
def test_a_rule_that_can_not_be_decided_lets_nobody_in_and_holds_nobody_else_up(
    tmp_path: Path, rule: Any, code: str | None
) -> None:
    ran: list[int] = []

    def guarded(n: list[int]) -> int:
        """Guarded."""
        ran.append(1)
        return 1

    @capability("a.free")
    def free() -> int:
        """Free."""
        return 2

    if code is None:  # what is not there is seen when it is declared
        with pytest.raises(Exception, match="'missing' is no field of payload"):
            capability("a.guarded", authorize=rule)(guarded)
        return
    made = capability("a.guarded", authorize=rule, timeout=0.3)(guarded)
    settings = config(tmp_path, timeouts={"hub": 0.2})
    with Node(settings, capabilities=[made, free], log_stream=io.StringIO(), watchdog=True) as node:
        asked = gevent.spawn(node.request, "a.guarded", {"n": list(range(200))})
        assert node.call("a.free") == 2
        error = asked.get(timeout=20).error
        assert error.code == code, error
        assert SECRET not in str(error.as_dict())
        assert node.call("a.free") == 2
    assert ran == []


class Hanging(EffectBackend):
    def apply(self, effect: Effect, execution: Execution) -> None:
        gevent.sleep(3_600)


def test_an_effect_that_hangs_is_cut_off_and_changes_no_answer_and_those_behind_it_are_done(
    tmp_path: Path,
) -> None:
    @capability("a.b", effects=[effect("hang"), counter("done"), audit(), emit("a.done")], timeout=0.2)
    def work() -> int:
        """Work."""
        return 7

    got: list[Any] = []
    log = io.StringIO()
    with Node(config(tmp_path), capabilities=[work], effects={"hang": Hanging()}, log_stream=log) as node:
        node.events.subscribe("test", "a.*", got.append)
        assert node.call("a.b") == 7
        until(lambda: got)
        assert node.stats()["counters"] == {"done": 1}
        [record] = node.audit()
        assert record["outcome"] == "ok"
        assert "effect failed" in log.getvalue()


HOSTILE = [
    "x" * 1_000_000,
    'ana", "outcome": "ok"}\n{"n": 1',
    "ana\x00\x1b[2J\r\n",
    "ana\ud800",
    "../../etc/passwd",
    "'; DROP TABLE traces; --",
    "*",
    "{payload.card}",
    "",
]


@pytest.mark.parametrize("principal", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_just_a_name(tmp_path: Path, principal: str) -> None:
    @capability(
        "a.b",
        effects=[
            audit(required=True),
            counter("by", labels={"who": "context.principal"}),
            emit("a.b", "context.principal"),
        ],
    )
    def work(context: Context) -> int:
        """Work."""
        return 1

    log = io.StringIO()
    settings = config(tmp_path, traces={"store": "all"}, log={"format": "json"})
    with Node(settings, capabilities=[work], log_stream=log) as node:
        hostile = node.session(principal)
        assert node.request("a.b", session=hostile).error is None
        node.request("a.nothing", session=hostile)
        node.call("a.b", session=node.session("bo"))
        assert [len(str(one)) < 10_000 for one in node.audit()] == [True] * 4
        assert [one["principal"] for one in node.audit(principal="bo")] == ["bo", "bo"]
        until(lambda: node.traces.stored == 3)
        assert len(node.recent(10, {"principal": "bo"})) == 1
        assert len(node.recent(10)) == 3
    found = verify(tmp_path / FOLDER)
    assert (found.broken, found.records) == ("", 4)


def test_no_secret_gets_into_logs_records_traces_notices_errors_or_the_database(tmp_path: Path) -> None:
    @capability(
        "pay.card",
        effects=[
            audit("comprehensive", required=True),
            notify("ops", "{payload.card} {value.card} {payload.deep}"),
            counter("by_card", labels={"card": "payload.card"}),
        ],
        authorize="payload.card != 'nobody'",
    )
    def pay(card: Annotated[str, Secret], amount: int, deep: dict[str, Any]) -> dict[str, Any]:
        """Pay."""
        if amount < 0:
            raise LookupError("no such thing")
        return {"card": card, "paid": amount} if amount else {"card": [card]}

    log = io.StringIO()
    channels = [{"name": "ops", "kind": "webhook", "url": f"http://127.0.0.1:1/{SECRET}", "attempts": 1}]
    settings = config(
        tmp_path,
        channels=channels,
        traces={"store": "all"},
        audit={"mask": ["pin"]},
        timeouts={"shutdown": 0.2},
    )
    with Node(settings, capabilities=[pay], log_stream=log) as node:
        told: list[Any] = []
        for payload in (
            {"card": SECRET, "amount": 5, "deep": {"pin": SECRET}},
            {"card": SECRET, "amount": -5, "deep": {}},
            {"card": [SECRET], "amount": 5, "deep": {}},
            {"card": SECRET, "amount": "much", "deep": {"pin": SECRET}},
            {"card": SECRET, "amount": 5},
        ):
            error = node.request("pay.card", payload).error
            told.append(None if error is None else error.as_dict())
        until(lambda: node.letters.rows(10))
        until(lambda: node.traces.stored == 5)
        told += [node.audit(), node.recent(10), [node.trace(row["id"]) for row in node.recent(10)], node.health(),
                 node.stats(), [node.letters.show(row["id"]) for row in node.letters.rows(10)]]  # fmt: skip
    assert SECRET not in str(told)
    assert SECRET not in log.getvalue()
    for file in tmp_path.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


@pytest.fixture
def silent() -> Iterator[int]:
    """A server that takes connections and says nothing."""
    kept: list[socket.socket] = []
    server = StreamServer(
        ("127.0.0.1", 0), lambda connection, address: (kept.append(connection), gevent.sleep(60))
    )
    server.start()
    yield server.server_port
    server.stop(timeout=0)


def test_a_mail_server_that_says_nothing_holds_nobody_up(tmp_path: Path, silent: int) -> None:
    @capability("a.b", effects=[notify("post", "text")])
    def work() -> int:
        """Work."""
        return 1

    channels = [{
        "name": "post", "kind": "mail", "host": "127.0.0.1", "port": silent, "sender": "a@b.example",
        "recipients": ["c@d.example"], "attempts": 1, "timeout": "100ms",
    }]  # fmt: skip
    settings = config(tmp_path, channels=channels, timeouts={"shutdown": 0.2})
    with Node(settings, capabilities=[work], log_stream=io.StringIO()) as node:
        assert node.call("a.b") == 1
        [letter] = until(lambda: node.letters.rows(10))
        assert "0.1 s" in letter["reason"] or "timed out" in letter["reason"]


def test_an_audit_record_of_what_can_not_be_written_shows_what_it_is(tmp_path: Path) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError("no words")

    @capability("a.b", effects=[audit("comprehensive", required=True)])
    def work(size: int) -> dict[str, Any]:
        """Work."""
        endless: list[Any] = []
        endless.append(endless)
        return {"odd": Odd(), "endless": endless, "huge": 10**size, "text": "\ud800", "bytes": b"\xff" * 10}

    with Node(config(tmp_path), capabilities=[work], log_stream=io.StringIO()) as node:
        assert node.request("a.b", {"size": 30}).error is None
        outcome, _ = node.audit()
        assert outcome["value"]["odd"] == "<Odd>"
        assert outcome["value"]["bytes"] == "<10 bytes>"
        assert node.request("a.b", {"size": 10_000}).error is None  # more digits than Python writes
    assert verify(tmp_path / FOLDER).broken == ""
