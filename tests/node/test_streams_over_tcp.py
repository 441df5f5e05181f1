"""Streams over tcp: no faster than the peer lets them come, one end each, and nothing left when the peer is gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow import Context, capability
from packetflow.wire.errors import Cancelled
from packetflow.wire.limits import Limits
from tests.node.passing import Passing
from tests.node.streaming import SYNC, did
from tests.node.test_streams import nothing_is_left
from tests.node.wired import Caller, over_tcp
from tests.transports.peers import JsonMessages, until


@capability("big.items")
def big(size: int, upto: int = 1000) -> Iterator[str]:
    """Large texts."""
    try:
        for number in range(upto):
            did.append(number)
            yield "x" * size
    finally:
        did.append("end")


@capability("odd.items")
def odd() -> Iterator[Any]:
    """Something that no message can hold."""
    try:
        yield 1
        yield float("nan")
    finally:
        did.append("end")


@capability("work.steps")
def steps(count: int, context: Context, pause: float = 0.0) -> int:
    """Tell how far it is."""
    for number in range(count):
        context.progress(number, count, "working")
        gevent.sleep(pause)
    return count


@pytest.fixture(autouse=True)
def _fresh() -> None:
    did.clear()


@pytest.fixture
def passing() -> Iterator[Passing]:
    made = Passing([*SYNC, big, odd, steps], door="tcp")
    yield made
    nothing_is_left(made.door)


@pytest.fixture
def caller(passing: Passing) -> Iterator[Caller]:
    with over_tcp(passing) as listener, Caller(listener.address) as made:
        made.greet("stream", "progress", "cancel", "heartbeat")
        yield made


def test_items_come_in_order_and_then_one_end(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 3})
    items, end = caller.to_the_end()
    assert items == [0, 1, 2]
    assert (end["type"], end["id"], end["payload"]) == ("stream_end", 1, {"items": 3})
    assert len(end["context"]["trace_id"]) == 32
    assert end["metadata"]["execution_time"] > 0


def test_a_stream_without_items_is_an_end_alone(caller: Caller) -> None:
    caller.stream("a", "count.up", {"upto": 0})
    assert caller.to_the_end()[1]["payload"] == {"items": 0}


def test_json_speaks_the_same(passing: Passing) -> None:
    class JsonCaller(JsonMessages, Caller):
        """The same in JSON."""

    with over_tcp(passing) as listener, JsonCaller(listener.address) as caller:
        caller.greet("stream")
        caller.stream(1, "count.lines", {"upto": 1})
        items, end = caller.to_the_end()
        assert items[0]["number"] == 0
        assert end["payload"] == {"items": 1}


def test_other_requests_are_answered_between_items(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 3}, credit=1)
    assert caller.item() == 0
    caller.ask(2, "count.one", {"number": 7})
    assert caller.answer()["payload"] == 7
    caller.credit(1, 5)
    assert caller.to_the_end()[0] == [1, 2]


# ---- flow control ----------------------------------------------------------------------------------------------------------


def test_no_more_comes_than_the_credit_lets(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 100}, credit=2)
    assert caller.items(2) == [0, 1]
    caller.say(type="heartbeat", id=9)
    assert caller.answer()["type"] == "heartbeat", "and nothing else before it"
    assert did == ["begin", 0, 1], "nor was anything else made"
    caller.credit(1, 3)
    assert caller.items(3) == [2, 3, 4]
    assert did == ["begin", 0, 1, 2, 3, 4]


def test_without_credit_nothing_comes_until_there_is_some(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 2}, credit=0)
    caller.say(type="heartbeat", id=9)
    assert caller.answer()["type"] == "heartbeat"
    caller.credit(1, 0)
    caller.credit(1, 10)
    assert caller.to_the_end()[0] == [0, 1]


def test_the_end_needs_no_credit_of_its_own_but_has_to_be_asked_for(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 2}, credit=2)
    assert caller.items(2) == [0, 1]
    caller.credit(1, 1)
    assert caller.to_the_end()[1]["payload"] == {"items": 2}


@pytest.mark.parametrize("items", [-1, 1_000_001, "3", 1.5, True, None])
def test_credit_that_is_no_number_of_items_is_refused_and_the_stream_goes_on(
    caller: Caller, items: Any
) -> None:
    caller.stream(1, "count.up", {"upto": 2}, credit=1)
    assert caller.item() == 0
    caller.credit(1, items)
    answer = caller.answer()
    assert (answer["type"], answer["id"], answer["payload"]["code"]) == (
        "capability_error",
        None,
        "protocol_error",
    )
    caller.credit(1, 5)
    assert caller.to_the_end()[0] == [1]


@pytest.mark.parametrize("credit", [-1, "3", 1_000_001, True])
def test_a_first_credit_that_is_no_number_of_items_refuses_the_request(caller: Caller, credit: Any) -> None:
    caller.stream(1, "count.up", {"upto": 2}, credit=credit)
    assert caller.answer()["payload"]["code"] == "protocol_error"
    assert did == []


def test_credit_for_what_is_no_stream_does_nothing(caller: Caller) -> None:
    caller.credit(77, 5)
    caller.credit(None, 5)
    caller.ask(2, "count.one", {"number": 7})
    assert caller.answer()["payload"] == 7


def test_a_request_without_credit_takes_no_stream(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 2}, credit=None)
    answer = caller.answer()
    assert (answer["type"], answer["payload"]["code"]) == ("capability_error", "validation_failed")
    assert answer["payload"]["details"]["streams"] is True
    assert did == []


def test_a_peer_that_takes_nothing_holds_up_the_generator_and_no_memory(passing: Passing) -> None:
    with over_tcp(passing) as listener, Caller(listener.address, receive_buffer=4096) as slow:
        slow.greet("stream")
        slow.stream(1, "big.items", {"size": 100_000}, credit=1_000_000)
        until(lambda: any(connection.stuck for connection in listener.connections))
        made = len(did)
        with Caller(listener.address) as other:
            other.greet()
            other.ask(1, "count.one", {"number": 1})
            assert other.answer()["payload"] == 1, "the others are served"
        (connection,) = [one for one in listener.connections if one.stuck]
        assert len(connection._rest) + connection.size <= 256 * 1024 + 200_000
        assert len(did) == made
        assert slow.items(made)[-1] == "x" * 100_000, "it goes on where it stood"
        until(lambda: len(did) > made)


def test_a_generous_peer_does_not_keep_the_others_waiting(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 100_000}, credit=1_000_000)
    caller.say(type="heartbeat", id="now")
    before = 0
    while caller.answer()["type"] != "heartbeat":
        before += 1
    assert before < 50_000
    assert caller.to_the_end()[1]["payload"] == {"items": 100_000}


# ---- its end ----------------------------------------------------------------------------------------------------------------


def test_an_error_after_items_is_in_the_end(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 9, "fail_at": 2})
    items, end = caller.to_the_end()
    assert items == [0, 1]
    assert end["type"] == "stream_end"
    assert end["payload"]["items"] == 2
    assert end["payload"]["error"]["code"] == "execution_failed"


def test_an_error_before_the_first_item_is_the_answer(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 9, "fail_at": 0})
    answer = caller.answer()
    assert (answer["type"], answer["payload"]["code"]) == ("capability_error", "execution_failed")


def test_an_item_that_can_not_be_sent_ends_the_stream(caller: Caller) -> None:
    caller.stream(1, "odd.items")
    items, end = caller.to_the_end()
    assert (items, end["payload"]["error"]["code"]) == ([1], "execution_failed")
    assert end["payload"]["items"] == 1
    assert did == ["end"]


def test_an_item_that_is_too_large_ends_the_stream(passing: Passing) -> None:
    with over_tcp(passing, Limits(frame=2000, payload=2000)) as listener, Caller(listener.address) as caller:
        caller.greet("stream")
        caller.stream(1, "big.items", {"size": 5000})
        items, end = caller.to_the_end()
        assert (items, end["payload"]["error"]["code"]) == ([], "too_large")
        assert end["payload"]["items"] == 0
    assert did == [0, "end"]


@pytest.mark.parametrize("credit", [1, 1000])
def test_a_cancel_ends_it_whatever_it_waits_for(caller: Caller, credit: int) -> None:
    """For credit, or for the generator."""
    caller.stream(1, "count.slowly", {"seconds": 60}, credit=credit)
    assert caller.item() == 0
    caller.say(type="cancel", id=1)
    caller.say(type="cancel", id=1)
    end = caller.to_the_end()[1]
    assert (end["type"], end["payload"]["error"]["code"]) == ("stream_end", "cancelled")
    assert did == ["end"]
    caller.ask(1, "count.one", {"number": 1})
    assert caller.answer()["payload"] == 1, "the id is free again"


@pytest.mark.parametrize("credit", [1, 1000])
def test_a_peer_that_is_gone_ends_it_whatever_it_waits_for(passing: Passing, credit: int) -> None:
    with over_tcp(passing) as listener:
        caller = Caller(listener.address)
        caller.greet("stream")
        caller.stream(1, "count.slowly", {"seconds": 60}, credit=credit)
        assert caller.item() == 0
        caller.close()
        until(lambda: did == ["end"])


def test_a_peer_that_is_gone_while_much_was_sent_ends_it(passing: Passing) -> None:
    with over_tcp(passing) as listener:
        caller = Caller(listener.address)
        caller.greet("stream")
        caller.stream(1, "big.items", {"size": 100_000}, credit=1_000_000)
        until(lambda: any(connection.stuck for connection in listener.connections))
        caller.close()
        until(lambda: did[-1] == "end")


def test_the_timeout_of_the_request_holds_for_each_item(caller: Caller) -> None:
    caller.stream(1, "count.slowly", {"seconds": 60}, timeout=50)
    items, end = caller.to_the_end()
    assert (items, end["payload"]["error"]["code"]) == ([0], "timeout")


def test_who_lets_nothing_come_loses_the_stream(passing: Passing, caller: Caller) -> None:
    passing.door.patience = 0.05
    caller.stream(1, "count.up", {"upto": 9}, credit=1)
    items, end = caller.to_the_end()
    assert (items, end["payload"]["error"]["code"]) == ([0], "timeout")
    assert "nobody asked for the next item" in end["payload"]["error"]["message"]


def test_a_goodbye_of_the_peer_lets_streams_come_to_their_end(caller: Caller) -> None:
    caller.stream(1, "count.up", {"upto": 3}, credit=1)
    assert caller.item() == 0
    caller.say(type="goodbye")
    caller.credit(1, 9)
    assert caller.to_the_end()[0] == [1, 2]
    assert caller.hear() is None


def test_readers_of_streams_hear_goodbye_when_the_node_begins_to_drain(passing: Passing) -> None:
    with over_tcp(passing) as listener, Caller(listener.address) as caller, Caller(listener.address) as idle:
        caller.greet("stream")
        idle.greet("stream")
        caller.stream(1, "count.up", {"upto": 2}, credit=1)
        assert caller.item() == 0
        listener.announce()
        assert caller.answer()["type"] == "goodbye"
        caller.credit(1, 5)
        assert caller.to_the_end()[0] == [1]
        assert caller.hear() is None
        idle.say(type="heartbeat", id=1)
        assert idle.answer()["type"] == "heartbeat", "the others hear it later"


def test_a_drain_whose_time_is_over_ends_streams_with_an_end(passing: Passing) -> None:
    with over_tcp(passing) as listener, Caller(listener.address) as caller:
        caller.greet("stream")
        caller.stream(1, "count.slowly", {"seconds": 60})
        assert caller.item() == 0
        assert not listener.drain(0.01)
        answers = [caller.answer(), caller.answer()]
        assert [answer["type"] for answer in answers] == ["goodbye", "stream_end"]
        assert answers[1]["payload"]["error"]["code"] == Cancelled.code


# ---- progress ---------------------------------------------------------------------------------------------------------------


def test_progress_comes_to_who_asks_for_it_the_latest_only(caller: Caller) -> None:
    caller.ask(1, "work.steps", {"count": 500, "pause": 0.0005}, metadata={"progress": True})
    told = []
    while (answer := caller.answer())["type"] == "progress":
        assert answer["id"] == 1
        told.append(answer["payload"])
    assert answer["payload"] == 500
    assert told[0] == {"done": 0, "total": 500, "text": "working"}
    assert [one["done"] for one in told] == sorted({one["done"] for one in told})
    assert len(told) < 50, "and not each of 500"


@pytest.mark.parametrize("metadata", [None, {"timeout": 5000}, {"progress": False}])
def test_progress_does_not_come_to_who_does_not_ask(caller: Caller, metadata: Any) -> None:
    caller.ask(1, "work.steps", {"count": 3}, metadata=metadata)
    assert caller.answer()["type"] == "capability_response"


def test_a_wish_for_progress_that_is_none_is_refused(caller: Caller) -> None:
    caller.ask(1, "work.steps", {"count": 3}, metadata={"progress": "yes"})
    assert caller.answer()["payload"]["code"] == "protocol_error"


def test_a_stream_may_tell_its_progress_between_items(passing: Passing) -> None:
    @capability("told.count")
    def told(context: Context) -> Iterator[int]:
        """Count and tell."""
        for number in range(3):
            context.progress(number)
            yield number

    other = Passing([told], door="tcp")
    with over_tcp(other) as listener, Caller(listener.address) as caller:
        caller.greet("stream", "progress")
        caller.stream(1, "told.count", progress=True)
        kinds = []
        while (answer := caller.answer())["type"] != "stream_end":
            kinds.append(answer["type"])
        assert kinds[0] == "progress"
        assert kinds.count("stream_item") == 3
    nothing_is_left(other.door)


def test_a_blocking_capability_tells_its_progress_from_its_thread(passing: Passing) -> None:
    @capability("blocking.steps", blocking=True)
    def blocking(context: Context) -> int:
        """Tell from a thread."""
        context.progress(1, 2)
        return 2

    other = Passing([blocking], door="tcp")
    try:
        with over_tcp(other) as listener, Caller(listener.address) as caller:
            caller.greet("progress")
            heard: list[Any] = []
            while not any(message["type"] == "progress" for message in heard):
                caller.ask(len(heard), "blocking.steps", metadata={"progress": True})
                heard.append(caller.answer())
                assert len(heard) < 100
    finally:
        other.registered[0].close()
