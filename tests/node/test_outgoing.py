"""What effects give to the outbox: stored before the answer, delivered at least once, with a run's step or not at all."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Context, Node, Secret, audit, capability, counter, effect, emit, notify
from packetflow.capabilities.backends.backend import EffectBackend, Execution
from packetflow.capabilities.effects import Effect
from packetflow.composition.building import composition, pipeline, step
from packetflow.node.config import NodeConfig
from packetflow.wire.errors import Conflict
from tests.notices.test_delivery import Hook


def config(folder: Path, url: str = "http://127.0.0.1:1/t0ken", **channel: Any) -> NodeConfig:
    return NodeConfig.model_validate(
        {
            "node": {"data_folder": folder},
            "tcp": {"enabled": False},
            "http": {"enabled": False},
            "timeouts": {"shutdown": 0.2},
            "channels": [{"name": "ops", "kind": "webhook", "url": url, **channel}],
        }
    )


def until(condition: Any) -> Any:
    with gevent.Timeout(10):
        while not (found := condition()):
            gevent.sleep(0.002)
    return found


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    yield made
    made.server.stop()


@capability(
    "order.place", effects=[notify("ops", "order {value}, card {payload.card}"), emit("order.placed")]
)
def place(card: Annotated[str, Secret]) -> int:
    """Place."""
    return 12


def test_a_notice_that_could_not_be_delivered_is_by_the_next_life_of_the_node(
    tmp_path: Path, hook: Hook
) -> None:
    with Node(config(tmp_path), capabilities=[place], log_stream=io.StringIO()) as node:
        assert node.call("order.place", {"card": "4111"}) == 12
        until(lambda: node.stats()["effects"]["channels"][0]["retried"])
    assert b"4111" not in (tmp_path / "node.db").read_bytes()
    with Node(config(tmp_path, hook.url), capabilities=[place], log_stream=io.StringIO()) as node:
        until(lambda: hook.got)
        until(lambda: node.stats()["effects"]["channels"][0]["waiting"] == 0)
    assert json.loads(hook.got[0][1])["text"] == "order 12, card ***"


def test_a_notice_that_was_tried_often_enough_is_a_dead_letter_and_can_be_replayed(
    tmp_path: Path, hook: Hook
) -> None:
    hook.answer = ("404 Not Found", [])
    with Node(config(tmp_path, hook.url), capabilities=[place], log_stream=io.StringIO()) as node:
        node.call("order.place", {"card": "4111"})
        [letter] = until(lambda: node.letters.rows(10))
        assert (letter["kind"], letter["what"], letter["principal"]) == ("notice", "ops", "local")
        assert "answered 404" in letter["reason"]
        assert "t0ken" not in str(node.letters.show(letter["id"]))
        hook.answer = ("204 No Content", [])
        node.letters.replay(letter["id"], "operator")
        until(lambda: len(hook.got) == 2)
        assert node.letters.rows(10) == []
    first, second = (json.loads(body)["id"] for _, body in hook.got)
    assert first == second


def test_a_channel_that_hangs_holds_up_no_request_no_event_and_no_other_channel(
    tmp_path: Path, hook: Hook
) -> None:
    gate = Event()
    slow = Hook()
    slow.serve = lambda environ, begin: gate.wait()  # type: ignore[method-assign, assignment]
    slow.server.application = slow.serve
    settings = config(tmp_path, slow.url).model_dump(mode="python")
    settings["channels"] = [*settings["channels"], {"name": "desk", "kind": "webhook", "url": hook.url}]

    @capability("order.both", effects=[notify("ops", "a"), notify("desk", "b"), emit("order.both")])
    def both() -> int:
        """Both."""
        return 1

    got: list[Any] = []
    with Node(NodeConfig.model_validate(settings), capabilities=[both], log_stream=io.StringIO()) as node:
        node.events.subscribe("test", "order.*", got.append)
        node.call("order.both")
        until(lambda: hook.got and got)
        gate.set()
    slow.server.stop()


@pytest.mark.parametrize(
    ("status", "headers", "again"),
    [
        ("302 Found", [("Location", "http://127.0.0.1:{port}/admin")], False),
        ("307 Temporary Redirect", [("Location", "http://127.0.0.1:{port}/admin")], False),
        ("503 Unavailable", [("Retry-After", "99999999")], True),
        ("429 Too Many", [("Retry-After", "-1")], True),
        ("200 OK", [("Content-Length", "999999999999")], True),
    ],
)
def test_hostile_answers_lead_nowhere(
    tmp_path: Path, hook: Hook, status: str, headers: list[tuple[str, str]], again: bool
) -> None:
    inner = Hook()  # what a redirect points to: a door of this machine
    hook.answer = (status, [(key, value.format(port=inner.server.server_port)) for key, value in headers])
    with Node(
        config(tmp_path, hook.url, timeout="200ms"), capabilities=[place], log_stream=io.StringIO()
    ) as node:
        node.call("order.place", {"card": "1"})

        def settled() -> Any:
            [row] = node.stats()["effects"]["channels"]
            return row if row["retried"] or row["failed"] or row["sent"] else None

        assert bool(until(settled)["retried"]) is again
    inner.server.stop()
    assert inner.got == []


def test_what_can_not_be_stored_changes_no_answer_and_takes_nothing_else_along(tmp_path: Path) -> None:
    log = io.StringIO()

    @capability(
        "a.odd",
        effects=[emit("odd.object", "value.made"), emit("odd.huge", "value.huge"), emit("odd.fine", "1")],
    )
    def odd() -> dict[str, Any]:
        """Odd."""
        return {"made": object(), "huge": 2**70}

    got: list[str] = []
    with Node(config(tmp_path), capabilities=[odd], log_stream=log) as node:
        node.events.subscribe("test", "odd.*", lambda event: got.append(event.topic))
        response = node.request("a.odd")
        assert response.error is None
        until(lambda: got)
        notes = (
            [note["detail"] for note in node.trace("last")["notes"]] if "notes" in node.trace("last") else []
        )
        assert got == ["odd.fine"], notes
    assert log.getvalue().count("effect failed") == 2


def test_an_event_of_a_runs_step_is_published_if_and_only_if_its_result_is_stored(tmp_path: Path) -> None:
    tries: list[str] = []
    gate, reached = Event(), Event()

    @capability("a.tell", effects=[emit("step.told", "payload.word")])
    def tell(word: str, context: Context) -> dict[str, str]:
        """Tell."""
        tries.append(word)
        inner: dict[str, str] = context.call("a.inner", {"word": word})
        return inner

    @capability("a.inner", effects=[emit("step.inner", "payload.word")])
    def inner(word: str) -> dict[str, str]:
        """Inside."""
        return {"word": word}

    @capability("a.hold", effects=[emit("step.held", "payload.word")])
    def hold(word: str) -> dict[str, str]:
        """Hold."""
        reached.set()
        gate.wait()
        return {"word": word}

    @capability("a.fails", effects=[emit("step.failed", "outcome", when="failure")])
    def fails(word: str) -> None:
        """Fail."""
        raise Conflict("no")

    plan = composition(
        "a.flow",
        "A flow",
        pipeline(step("a.tell"), step("a.hold"), step("a.fails")),
        requires={"word": str},
        durable=True,
    )
    got: list[tuple[str, Any]] = []

    def begun() -> Node:
        node = Node(config(tmp_path), capabilities=[tell, inner, hold, fails, plan], log_stream=io.StringIO())
        node.events.subscribe("test", "step.*", lambda event: got.append((event.topic, event.payload)))
        return node.start()

    node = begun()
    running = gevent.spawn(node.request, "a.flow", {"word": "w"})
    reached.wait()
    until(lambda: len(got) == 2)
    assert got == [("step.inner", "w"), ("step.told", "w")]
    node.stop(0.0)  # the step under way is left: nothing of it is stored, so nothing is published
    running.get()
    reached.clear()
    gate.set()
    node = begun()
    until(lambda: len(got) == 4)
    node.stop()
    assert got[2:] == [("step.held", "w"), ("step.failed", "conflict")]
    assert tries == ["w"]


def test_effects_of_a_stream_are_done_at_its_end(tmp_path: Path) -> None:
    @capability(
        "a.count",
        effects=[
            counter("items", "value.items"),
            counter("failed", when="failure", labels={"why": "outcome"}),
            emit("stream.ended", "value.end"),
        ],
    )
    def count(to: int) -> Iterator[int]:
        """Count."""
        for number in range(to):
            if number == 5:
                raise LookupError("five")
            yield number

    got: list[Any] = []
    with Node(config(tmp_path), capabilities=[count], log_stream=io.StringIO()) as node:
        node.events.subscribe("test", "stream.*", lambda event: got.append(event.payload))
        stream = node.call("a.count", {"to": 3})
        assert node.stats()["counters"] == {}
        assert list(stream) == [0, 1, 2]
        until(lambda: got == ["done"])
        with pytest.raises(Exception, match="failed"):
            list(node.call("a.count", {"to": 9}))
        left = node.call("a.count", {"to": 3})
        next(left)
        left.close()
        totals = node.stats()["counters"]
        assert totals["items"] == 4
        [labelled] = [one for one in node.stats()["metrics"] if one["name"] == "failed"]
        assert labelled["series"] == [{"labels": {"why": "execution_failed"}, "value": 1.0}]


def test_effects_of_a_background_capability_are_its_jobs(tmp_path: Path) -> None:
    gate = Event()

    @capability("a.long", background=True, effects=[counter("done"), emit("a.done", "payload.n")])
    def long(n: int) -> int:
        """Long."""
        gate.wait()
        return n

    got: list[Any] = []
    with Node(config(tmp_path), capabilities=[long], log_stream=io.StringIO()) as node:
        node.events.subscribe("test", "a.*", lambda event: got.append(event.payload))
        assert "job" in node.call("a.long", {"n": 5})
        assert node.stats()["counters"].get("done", 0) == 0
        gate.set()
        until(lambda: got == [5])
        assert node.stats()["counters"] == {"done": 1}


def test_notices_of_a_channel_that_is_gone_are_told(tmp_path: Path) -> None:
    with Node(config(tmp_path), capabilities=[place], log_stream=io.StringIO()) as node:
        node.call("order.place", {"card": "1"})
    with Node(config(tmp_path, name="other"), log_stream=io.StringIO()) as node:
        [finding] = node.health()["findings"]
        assert finding["what"].startswith("1 notices wait for channel ops")


PROGRAM = """
import os, sys
from packetflow import Node, capability, emit
from packetflow.node.config import NodeConfig

@capability("a.b", effects=[emit("a.told", "payload.n")])
def work(n: int) -> int:
    '''Work.'''
    return n

off = {"enabled": False}
settings = NodeConfig.model_validate({"node": {"data_folder": sys.argv[1]}, "tcp": off, "http": off})
with Node(settings, capabilities=[work]) as node:
    node.events.subscribe("away", "*", lambda event: 1 / 0)
    for n in range(100_000):
        node.call("a.b", {"n": n})
        os.write(1, f"{n}\\n".encode())
"""


def test_what_was_answered_before_a_kill_9_is_published_after_it(tmp_path: Path) -> None:
    program = subprocess.Popen(
        [sys.executable, "-P", "-c", textwrap.dedent(PROGRAM), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert program.stdout is not None
    answered = [int(program.stdout.readline()) for _ in range(50)]
    program.send_signal(signal.SIGKILL)
    answered += [int(line) for line in program.stdout.read().split()]
    program.wait()
    program.stdout.close()
    got: set[int] = set()
    node = Node(config(tmp_path), log_stream=io.StringIO())
    node.events.subscribe("here", "a.*", lambda event: got.add(event.payload))
    with node:
        until(lambda: got >= set(answered))


def test_declared_effects_of_all_kinds_are_seen_after_a_call_in_their_order(
    tmp_path: Path, hook: Hook
) -> None:
    """An audit record, a count, a notice and an event; the one that fails in their midst changes no answer."""

    class Order(EffectBackend):
        def __init__(self) -> None:
            self.seen: list[str] = []

        def apply(self, effect: Effect, execution: Execution) -> None:
            self.seen.append(effect.name)
            if effect.name == "second":
                raise OSError("down")

    order = Order()

    @capability(
        "order.full",
        effects=[
            effect("order", name="first"), audit("comprehensive"), effect("order", name="second"), counter("full"),
            notify("ops", "{value}"), effect("order", name="third"), emit("order.full"),
        ],
    )  # fmt: skip
    def full(n: int) -> int:
        """All."""
        return n

    got: list[Any] = []
    with Node(
        config(tmp_path, hook.url), capabilities=[full], effects={"order": order}, log_stream=io.StringIO()
    ) as node:
        node.events.subscribe("test", "order.*", got.append)
        response = node.request("order.full", {"n": 4})
        assert response.value == 4
        assert order.seen == ["first", "second", "third"]
        assert node.stats()["counters"] == {"full": 1}
        assert [record["value"] for record in node.audit()] == [4]
        until(lambda: hook.got and got)
        spans = node.trace(response.trace_id)["spans"]
        assert [span["kind"] for span in spans] == ["session", "contract", "run", "contract", "effects"]
        [note] = spans[-1]["notes"]
        assert "second" in note["detail"]
    assert json.loads(hook.got[0][1])["text"] == "4"


def test_a_slow_disk_costs_time_and_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from packetflow.storage.outbox import DatabaseOutbox

    @capability("a.b", effects=[emit("a.done")], timeout=0.1)
    def work() -> int:
        """Work."""
        return 1

    put = DatabaseOutbox.put

    def slow(self: DatabaseOutbox, events: Any, transaction: Any = None) -> None:
        gevent.sleep(0.3)
        put(self, events, transaction)

    monkeypatch.setattr(DatabaseOutbox, "put", slow)
    got: list[Any] = []
    with Node(config(tmp_path), capabilities=[work], log_stream=io.StringIO()) as node:
        node.events.subscribe("test", "a.*", got.append)
        assert node.call("a.b") == 1
        until(lambda: got)
