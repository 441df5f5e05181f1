"""What modules see of a stream: its head once, each item if they ask for it; no less than they have to (design ruling 5)."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow import Change, Context, Continue, Intercept, Module, Reject, Respond, Transform
from packetflow.errors import Internal, Rejected, Unavailable
from packetflow.wire.stream import Stream
from packetflow.wire.values import NO_METADATA
from tests.node.passing import Passing, gate
from tests.node.streaming import SYNC, did
from tests.node.test_door import module
from tests.node.test_streams import nothing_is_left


@pytest.fixture(autouse=True)
def _fresh() -> None:
    did.clear()


class Watching(Module):
    """Writes down what it sees."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def handle_request(self, request: Any, context: Context) -> None:
        self.seen.append("request")

    def handle_response(self, response: Any, context: Context) -> None:
        self.seen.append(type(response.value).__name__ if response.ok else response.error.code)

    def handle_item(self, item: Any, context: Context) -> None:
        self.seen.append(item)


class Doubling(Module):
    def handle_item(self, item: int, context: Context) -> Change:
        return Change(item * 2)


class Hiding(Module):
    redacts = True

    def handle_response(self, response: Any, context: Context) -> None: ...


def items_of(passing: Passing, capability: str = "count.up", **fields: Any) -> list[Any]:
    found = list(passing(capability, **(fields or {"upto": 3})).unwrap())
    nothing_is_left(passing.door)
    return found


def test_a_module_sees_the_head_once_and_each_item_when_it_is_made() -> None:
    watching = Watching()
    passing = Passing(SYNC, [gate(watching, "watching")])
    stream = passing("count.up", upto=3).unwrap()
    assert watching.seen == ["request", "Stream"]
    assert next(stream) == 0
    assert watching.seen == ["request", "Stream", 0]
    assert list(stream) == [1, 2]
    assert watching.seen == ["request", "Stream", 0, 1, 2]


def test_items_pass_modules_in_the_order_of_responses() -> None:
    order: list[str] = []

    def noting(name: str) -> Any:
        return module(handle_item=lambda item, context: order.append(name))

    gates = [gate(noting("first"), "first", 1), gate(noting("second"), "second", 2)]
    items_of(Passing(SYNC, gates), upto=1)
    assert order == ["second", "first"]


def test_a_changed_item_is_what_the_others_see_and_the_caller_gets() -> None:
    watching = Watching()
    passing = Passing(SYNC, [gate(watching, "watching", 1), gate(Doubling(), "doubling", 2)])
    assert items_of(passing) == [0, 2, 4]
    assert watching.seen[2:] == [0, 2, 4]
    assert passing.routes.chain.gates[1].changed == 3


def test_a_module_that_refuses_an_item_ends_the_stream_with_its_word() -> None:
    refusing = module(handle_item=lambda item, context: Reject("enough") if item == 2 else Continue())
    passing = Passing(SYNC, [gate(refusing, "refusing")])
    stream = passing("count.up", upto=9).unwrap()
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(Rejected) as caught:
        next(stream)
    assert caught.value.details == {"reason": "enough", "module": "refusing"}
    assert did[-1] == "end"
    nothing_is_left(passing.door)


def raises(item: int, context: Context) -> Any:
    if item == 1:
        raise RuntimeError("boom")


def misfits(item: int, context: Context) -> Any:
    return Change("no number") if item == 1 else None


def nonsense(item: int, context: Context) -> Any:
    return 7 if item == 1 else None


def overruns(item: int, context: Context) -> Any:
    if item == 1:
        gevent.sleep(60)


@pytest.mark.parametrize("hook", [raises, misfits, nonsense, overruns])
@pytest.mark.parametrize(("on_error", "error"), [("skip", None), ("fail", Internal), ("reject", Rejected)])
def test_on_error_decides_for_an_item_that_a_module_fails_at(hook: Any, on_error: Any, error: Any) -> None:
    failing = gate(module(handle_item=hook), "failing", on_error=on_error, timeout=0.05)
    passing = Passing(SYNC, [failing])
    stream = passing("count.up", upto=3).unwrap()
    assert next(stream) == 0
    if error is None:
        assert list(stream) == [1, 2]
    else:
        with pytest.raises(Unavailable if (hook, error) == (overruns, Internal) else error):
            next(stream)
    assert failing.errors == 1
    assert failing.busy is None
    assert failing.running == 0
    nothing_is_left(passing.door)


def test_a_module_that_fails_at_every_item_does_not_fill_the_trace() -> None:
    def boom(item: int, context: Context) -> None:
        raise RuntimeError("boom")

    passing = Passing(SYNC, [gate(module(handle_item=boom), "failing", on_error="skip")])
    response = passing("count.up", upto=60)
    assert len(list(response.value)) == 60
    assert len(response.trace.notes) <= 20


def test_one_message_at_a_time_holds_for_items_too() -> None:
    inside: list[int] = []

    def one_by_one(item: int, context: Context) -> None:
        inside.append(1)
        assert len(inside) == 1
        gevent.sleep(0.001)
        inside.pop()

    passing = Passing(SYNC, [gate(module(handle_item=one_by_one), "slow")])
    readers = [gevent.spawn(items, passing) for items in [lambda p: list(p("count.up", upto=5).unwrap())] * 4]
    assert [reader.get(timeout=10) for reader in readers] == [[0, 1, 2, 3, 4]] * 4


def test_a_request_of_an_item_hook_skips_its_own_module() -> None:
    calls: list[int] = []

    class Asking(Module):
        def handle_request(self, request: Any, context: Context) -> None:
            calls.append(1)

        def handle_item(self, item: int, context: Context) -> Change:
            return Change(context.call("count.one", {"number": item + 10}))

    assert items_of(Passing(SYNC, [gate(Asking(), "asking")])) == [10, 11, 12]
    assert calls == [1]


# ---- what a redacting module can't see is refused --------------------------------------------------------------------------


def test_a_stream_is_refused_if_a_module_that_redacts_can_not_see_its_items() -> None:
    passing = Passing(SYNC, [gate(Hiding(), "hiding")])
    error = passing("count.up", upto=3).error
    assert isinstance(error, Rejected)
    assert error.details == {"module": "hiding", "reason": "stream_not_seen"}
    assert did == [], "nothing of it ran"
    assert passing("count.one", number=1).unwrap() == 1
    nothing_is_left(passing.door)


def test_it_is_not_refused_if_the_module_sees_items_or_does_not_match() -> None:
    class Seeing(Hiding):
        def handle_item(self, item: int, context: Context) -> None: ...

    elsewhere = gate(Hiding(), "elsewhere", match=["other.*"])
    others = gate(Hiding(), "others", match={"principals": ["bob"]})
    assert items_of(Passing(SYNC, [gate(Seeing(), "seeing"), elsewhere, others])) == [0, 1, 2]


def test_it_is_refused_for_the_principal_that_the_module_matches() -> None:
    passing = Passing(SYNC, [gate(Hiding(), "hiding", match={"principals": ["ana"]})])
    assert isinstance(passing("count.up", upto=3).error, Rejected)


def test_the_shipped_redaction_masks_the_items_of_streams() -> None:
    from modules.pii_redaction.pii_redaction import PiiRedaction

    redaction = PiiRedaction()
    redaction.init(PiiRedaction.Config())
    redaction.config = PiiRedaction.Config()
    (line,) = items_of(Passing(SYNC, [gate(redaction, "pii")]), "count.lines", upto=1)
    assert line.text == "line 0 of a***@example.com"


# ---- the head --------------------------------------------------------------------------------------------------------------


def test_a_module_may_refuse_a_stream_at_its_head_and_the_generator_cleans_up() -> None:
    refusing = module(handle_response=lambda response, context: Reject("no_streams"))
    passing = Passing(SYNC, [gate(refusing, "refusing")])
    assert isinstance(passing("count.up", upto=3).error, Rejected)
    assert did == ["begin", 0, "end"]
    nothing_is_left(passing.door)


def test_a_module_can_not_put_another_value_in_a_streams_place() -> None:
    replacing = module(
        handle_response=lambda response, context: Transform(response.with_value([7])),
    )
    passing = Passing(SYNC, [gate(replacing, "replacing", on_error="fail")])
    assert isinstance(passing("count.up", upto=3).error, Internal)
    assert "can't replace a stream" in str(passing.routes.chain.gates[0].last_error)
    passing = Passing(SYNC, [gate(replacing, "replacing", on_error="skip")])
    assert items_of(passing) == [0, 1, 2]


def test_a_module_may_answer_a_stream_by_a_list() -> None:
    watching, answering = Watching(), module(handle_request=lambda request, context: Respond([5, "6"]))
    gates = [gate(watching, "watching", 1), gate(answering, "answering", 2)]
    passing = Passing(SYNC, gates)
    assert items_of(passing) == [5, 6]
    assert watching.seen == ["request", "Stream", 5, 6]
    assert did == []


def test_a_list_that_does_not_fit_is_the_modules_fault() -> None:
    answering = module(handle_request=lambda request, context: Respond(["no number"]))
    assert items_of(Passing(SYNC, [gate(answering, "answering", on_error="skip")])) == [0, 1, 2]


def test_a_request_that_became_a_stream_on_its_way_is_one() -> None:
    watching = Watching()

    def turn(request: Any, context: Context) -> Any:
        if request.capability == "count.one":
            return Intercept(request.with_capability("count.up", {"upto": 2}))
        return None

    gates = [gate(module(handle_request=turn), "turning", 1), gate(watching, "watching", 2)]
    passing = Passing(SYNC, gates)
    value = passing("count.one", number=1).unwrap()
    assert isinstance(value, Stream)
    assert list(value) == [0, 1]
    assert watching.seen == ["request", "Stream", 0, 1]
    nothing_is_left(passing.door)


def test_a_caller_by_wire_that_takes_no_stream_is_told_before_anything_runs() -> None:
    passing = Passing(SYNC, door="tcp")
    error = passing.door.request("count.up", {"upto": 3}, passing.session, NO_METADATA).error
    assert error is not None
    assert error.code == "validation_failed"
    assert error.details["streams"] is True
    assert did == []
    nothing_is_left(passing.door)
