"""Effects on a node: in order, after the outcomes they are for, and never in an answer's way unless they are required."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Module, Node, Respond, Secret, capability
from packetflow.capabilities.backends.backend import EffectBackend, Execution, RequiredBackend
from packetflow.capabilities.effects import Effect, audit, counter, effect, emit, gauge, histogram
from packetflow.errors import Conflict, DefinitionError


class Noting(EffectBackend):
    """Writes down what it is told, and fails where its effect says so."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, bool]] = []

    def apply(self, effect: Effect, execution: Execution) -> None:
        self.seen.append((effect.name, execution.outcome, execution.answered))
        if effect.options.get("fails"):
            raise OSError("backend is down")


class Promising(RequiredBackend):
    """Intents and outcomes, in a list."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.broken = ""

    def begin(self, effect: Effect, execution: Execution) -> str:
        if self.broken == "begin":
            raise OSError("disk full")
        self.lines.append("intent")
        return execution.context.id

    def finish(self, effect: Effect, execution: Execution, intent: str) -> None:
        assert intent == execution.context.id
        if self.broken == "finish":
            raise OSError("disk full")
        self.lines.append(execution.outcome)

    def apply(self, effect: Effect, execution: Execution) -> None:
        self.lines.append(f"only {execution.outcome}")


Start = Callable[..., Node]


@pytest.fixture
def start() -> Iterator[Start]:
    nodes: list[Node] = []

    def started(*functions: Any, **options: Any) -> Node:
        node = Node(capabilities=functions, log_stream=io.StringIO(), **options)
        nodes.append(node)
        return node.start()

    yield started
    for node in nodes:
        node.stop(0.0)


def until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(10):
        while not condition():
            gevent.sleep(0.001)


def spans(node: Node) -> list[str]:
    return [span["where"] for span in node.trace("last")["spans"]]


def test_effects_run_in_declared_order_and_one_that_fails_changes_no_answer(start: Start) -> None:
    @capability(
        "a.b",
        effects=[effect("note", name="1"), effect("note", name="2", fails=True), effect("note", name="3")],
    )
    def work() -> int:
        """Work."""
        return 7

    noting = Noting()
    node = start(work, effects={"note": noting})
    assert node.call("a.b") == 7
    assert noting.seen == [("1", "ok", False), ("2", "ok", False), ("3", "ok", False)]
    [span] = [span for span in node.trace("last")["spans"] if span["kind"] == "effects"]
    assert span["notes"] == [{"what": "crashed", "detail": "effect 2: OSError"}]


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"n": 1}, ["success", "always"]),
        ({"n": 0}, ["failure", "always"]),
        ({"n": "x"}, ["failure", "always"]),
    ],
)
def test_when_says_after_which_outcome(start: Start, payload: dict[str, Any], expected: list[str]) -> None:
    whens: list[Any] = ["success", "failure", "always"]

    @capability("a.b", effects=[effect("note", name=when, when=when) for when in whens])
    def work(n: int) -> int:
        """Work."""
        if not n:
            raise Conflict("zero")
        return n

    noting = Noting()
    node = start(work, effects={"note": noting})
    node.request("a.b", payload)
    assert [name for name, _, _ in noting.seen] == expected


class Cache(Module):
    """Answers instead of the capability."""

    def handle_request(self, request: Any, context: Any) -> Any:
        return Respond(9)


def test_an_answer_by_a_module_has_only_the_effects_that_are_for_every_answer(start: Start) -> None:
    @capability(
        "a.b", effects=[effect("note", name="own"), effect("note", name="every", on_every_answer=True)]
    )
    def work() -> int:
        """Work."""
        return 7

    noting = Noting()
    node = start(work, modules=[Cache], effects={"note": noting})
    assert node.call("a.b") == 9
    assert noting.seen == [("every", "ok", True)]
    assert "effects" in spans(node)


class TestRequired:
    def node(self, start: Start, promising: Promising, **options: Any) -> Node:
        @capability("a.b", effects=[effect("promise", required=True, when="always")])
        def work(n: int) -> int:
            """Work."""
            promising.lines.append("run")
            if not n:
                raise Conflict("zero")
            return n

        return start(work, effects={"promise": promising}, **options)

    def test_the_intent_is_written_before_the_body_and_the_outcome_after(self, start: Start) -> None:
        promising = Promising()
        node = self.node(start, promising)
        assert node.call("a.b", {"n": 1}) == 1
        assert node.request("a.b", {"n": 0}).error is not None
        assert promising.lines == ["intent", "run", "ok", "intent", "run", "conflict"]

    def test_without_its_intent_it_is_not_run(self, start: Start) -> None:
        promising = Promising()
        promising.broken = "begin"
        node = self.node(start, promising)
        error = node.request("a.b", {"n": 1}).error
        assert error is not None
        assert (error.code, error.retry_after) == ("unavailable", 1.0)
        assert "was not run" in str(error)
        assert promising.lines == ["only unavailable"]
        assert not node.door.traces.last().began  # type: ignore[union-attr]

    def test_without_its_outcome_the_answer_stands_and_health_says_so(self, start: Start) -> None:
        promising = Promising()
        promising.broken = "finish"
        node = self.node(start, promising)
        assert node.call("a.b", {"n": 1}) == 1
        assert promising.lines == ["intent", "run"]
        [finding] = node.health()["findings"]
        assert "1 outcomes of required effects were not written" in finding["what"]

    def test_what_never_reaches_the_body_writes_no_intent(self, start: Start) -> None:
        promising = Promising()
        node = self.node(start, promising)
        node.request("a.b", {"n": "x"})
        assert promising.lines == ["only validation_failed"]

    def test_a_request_that_is_ended_has_its_outcome(self, start: Start) -> None:
        promising = Promising()

        @capability("a.b", effects=[effect("promise", required=True, when="always")])
        def wait() -> None:
            """Wait."""
            Event().wait()

        node = start(wait, effects={"promise": promising})
        assert node.request("a.b", timeout=0.05).error.code == "timeout"  # type: ignore[union-attr]
        assert promising.lines == ["intent", "timeout"]


def test_a_blocking_backend_holds_no_request(start: Start) -> None:
    gate, done = Event(), []

    class Slow(EffectBackend):
        blocking = True

        def apply(self, effect: Effect, execution: Execution) -> None:
            gate.wait()
            done.append(execution.value)

    @capability("a.b", effects=[effect("slow")])
    def work(n: int) -> int:
        """Work."""
        return n

    node = start(work, effects={"slow": Slow()})
    assert [node.call("a.b", {"n": n}) for n in range(3)] == [0, 1, 2]
    assert done == []
    gate.set()
    until(lambda: done == [0, 1, 2])


def test_metrics_take_amounts_and_labels_from_the_request_and_hide_secrets(start: Start) -> None:
    @capability(
        "pay.send",
        effects=[
            counter("sent", "payload.amount", labels={"to": "payload.to", "card": "payload.card"}),
            histogram("amounts", "payload.amount", buckets=[10, 100]),
            gauge("balance", "value.left"),
            counter("failures", when="failure", labels={"why": "outcome"}),
        ],
    )
    def send(to: str, amount: float, card: Annotated[str, Secret]) -> dict[str, float]:
        """Send."""
        if amount > 100:
            raise Conflict("too much")
        return {"left": 100 - amount}

    node = start(send)
    for amount in (5, 50, 500):
        node.request("pay.send", {"to": "bo", "amount": amount, "card": "4111"})
    stats = node.stats()
    found = {metric["name"]: metric["series"] for metric in stats["metrics"]}
    assert found["sent"] == [{"labels": {"to": "bo", "card": "***"}, "value": 55.0}]
    assert found["amounts"][0]["buckets"] == [[10.0, 1], [100.0, 2]]
    assert found["balance"] == [{"labels": {}, "value": 50.0}]
    assert found["failures"] == [{"labels": {"why": "conflict"}, "value": 1.0}]
    assert stats["counters"] == {"sent": 55, "failures": 1}


def test_an_event_reaches_who_subscribed_with_what_emit_says(start: Start) -> None:
    @capability(
        "order.place",
        effects=[emit("orders.placed", "{'sku': payload.sku, 'id': value}"), emit("orders.seen")],
    )
    def place(sku: str) -> int:
        """Place."""
        return 12

    node = start(place)
    got: list[Any] = []
    node.events.subscribe("test", "orders.*", got.append)
    trace = node.request("order.place", {"sku": "a1"}).trace_id
    until(lambda: len(got) == 2)
    assert [(one.topic, one.payload, one.origin) for one in got] == [
        ("orders.placed", {"sku": "a1", "id": 12}, trace),
        ("orders.seen", 12, trace),
    ]
    assert len({one.id for one in got}) == 2


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ([effect("nope")], "nothing does effects of the kind 'nope'"),
        ([effect("countr")], "nearest: counter"),
        ([Effect("emit", "emit", {"topic": "a", "data": "value"}, required=True)], "it can't be required"),
        ([counter("x", labels={"a": "payload.no"})], "'no' is no field of payload; the nearest is 'n'"),
        ([counter("x", -1)], "expected a number from 0"),
        ([counter("9x")], "expected a letter"),
        ([counter("x"), histogram("x")], "another kind, labels or buckets"),
        ([audit("verbose")], "expected minimal, standard or comprehensive"),
        ([audit(), audit("minimal")], "audit is declared twice"),
        ([emit("Bad Topic")], "expected lower-case words"),
        ([counter("x", when="sometimes")], "expected success, failure, always"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_effect_keeps_the_node_from_starting_and_names_its_line(
    declared: list[Effect], told: str
) -> None:
    @capability("a.b", effects=declared)
    def work(n: int) -> int:
        """Work."""
        return n

    node = Node(capabilities=[work], log_stream=io.StringIO())
    with pytest.raises(DefinitionError) as caught:
        node.start()
    assert told in str(caught.value)
    assert f"{__file__}:" in str(caught.value)


def test_a_wrong_effect_registered_at_run_time_leaves_all_as_it_was(start: Start) -> None:
    @capability("a.good")
    def good() -> int:
        """Good."""
        return 1

    @capability("a.bad", effects=[effect("nope")])
    def bad() -> int:
        """Bad."""
        return 1

    node = start(good)
    with pytest.raises(DefinitionError, match="nothing does effects"):
        node.register(bad)
    assert node.call("a.good") == 1
    assert node.request("a.bad").error.code == "not_found"  # type: ignore[union-attr]


@pytest.mark.parametrize(("kind", "backend"), [("audit", Noting()), ("x", object())])
def test_a_backend_that_is_none_or_whose_kind_is_taken_is_refused(
    start: Start, kind: str, backend: Any
) -> None:
    with pytest.raises(DefinitionError, match=r"have a backend already|is no backend"):
        start().effects.register(kind, backend)
