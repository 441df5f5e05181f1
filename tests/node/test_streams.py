"""Streams in process: items one by one, exactly one end, and nothing left behind however it comes."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Context, Node, Stream, capability
from packetflow.errors import Cancelled, ContractViolated, ExecutionFailed, NotFound, Timeout, Unavailable
from packetflow.node.config import NodeConfig
from packetflow.wire.values import Metadata
from tests.node import streaming
from tests.node.passing import Passing
from tests.node.streaming import SYNC, did, later, waiting_at
from tests.transports.peers import until


@pytest.fixture(autouse=True)
def _fresh() -> None:
    did.clear()


@pytest.fixture
def passing() -> Iterator[Passing]:
    made = Passing(SYNC)
    yield made
    nothing_is_left(made.door)


def nothing_is_left(door: Any) -> None:
    gc.collect(1)
    until(lambda: not door.streams)
    until(lambda: not door.in_flight)
    assert door.admission._reserved == 0
    assert not door.unsettled
    assert not door._owned
    assert not door._interrupted


def open_up(passing: Passing, capability: str = "count.up", **fields: Any) -> Stream:
    stream = passing(capability, **fields).unwrap()
    assert isinstance(stream, Stream)
    return stream


# ---- items ---------------------------------------------------------------------------------------------------------------


def test_the_value_of_a_streaming_capability_is_its_items_one_by_one(passing: Passing) -> None:
    assert list(open_up(passing, upto=4)) == [0, 1, 2, 3]
    assert did == ["begin", 0, 1, 2, 3, "end"]


def test_a_stream_may_have_no_items(passing: Passing) -> None:
    stream = open_up(passing, upto=0)
    assert list(stream) == []
    assert list(stream) == [], "and stays at its end"
    assert did == ["begin", "end"]


def test_nothing_runs_ahead_of_the_reader_but_the_first_item(passing: Passing) -> None:
    stream = open_up(passing, upto=10)
    assert did == ["begin", 0]
    assert next(stream) == 0
    assert did == ["begin", 0]
    assert next(stream) == 1
    assert did == ["begin", 0, 1]
    stream.close()


def test_items_that_are_models_come_as_models(passing: Passing) -> None:
    assert [line.number for line in open_up(passing, "count.lines", upto=2)] == [0, 1]


def test_a_stream_asks_for_what_it_needs_in_its_callers_name(passing: Passing) -> None:
    stream = open_up(passing, "count.asking", upto=3)
    assert list(stream) == [0, 1, 2]
    trace = passing.traces.last()
    assert len([call for call in passing.traces if call.parent is trace]) == 3


def test_a_stream_may_be_made_of_another(passing: Passing) -> None:
    assert list(open_up(passing, "count.twice", upto=3)) == [0, 2, 4]
    assert did[-1] == "end"


def test_it_is_read_by_one_greenlet_at_a_time(passing: Passing) -> None:
    stream = open_up(passing, "count.slowly", seconds=30)
    next(stream)
    reader = gevent.spawn(next, stream)
    until(lambda: passing.door.in_flight)
    with pytest.raises(RuntimeError, match="read by another greenlet"):
        next(stream)
    stream.close()
    with pytest.raises(Cancelled):
        reader.get()


# ---- what fails ----------------------------------------------------------------------------------------------------------


def test_what_fails_before_the_first_item_is_an_error_and_no_stream(passing: Passing) -> None:
    response = passing("count.up", upto=3, fail_at=0)
    assert isinstance(response.error, ExecutionFailed)
    assert did == ["begin", "end"]
    assert passing.registered[0].errors == 1


def test_what_fails_after_items_is_raised_after_them_and_again(passing: Passing) -> None:
    stream = open_up(passing, upto=3, fail_at=2)
    assert [next(stream), next(stream)] == [0, 1]
    for _ in range(2):
        with pytest.raises(ExecutionFailed, match="ValueError"):
            next(stream)
    assert passing.registered[0].errors == 1


@pytest.mark.parametrize("at", [0, 1, 3])
def test_each_item_is_checked_and_the_value_is_not_shown(passing: Passing, at: int) -> None:
    with pytest.raises(ContractViolated) as caught:
        list(open_up(passing, "count.wrong", at=at))
    assert "secret" not in str(caught.value)
    assert did == ["end"]


def test_a_generator_that_fails_while_it_cleans_up_has_ended_all_the_same(passing: Passing) -> None:
    stream = open_up(passing, "count.untidy")
    stream.close()
    assert "the broom is broken" in str(passing.registered[-1].last_error)
    with pytest.raises(StopIteration):
        next(stream)


def test_there_is_no_stream_of_an_unknown_capability(passing: Passing) -> None:
    assert isinstance(passing("count.down").error, NotFound)


# ---- its end -------------------------------------------------------------------------------------------------------------


def test_closing_cleans_up_before_it_returns_and_twice_is_once(passing: Passing) -> None:
    stream = open_up(passing, upto=10)
    next(stream)
    stream.close()
    assert did == ["begin", 0, "end"]
    stream.close()
    assert list(stream) == []
    assert passing.registered[0].errors == 0


def test_leaving_the_block_closes_it(passing: Passing) -> None:
    with open_up(passing, upto=10) as stream:
        next(stream)
    assert did[-1] == "end"


def test_letting_it_go_closes_it(passing: Passing) -> None:
    stream = open_up(passing, upto=10)
    next(stream)
    del stream
    gc.collect(1)
    until(lambda: "end" in did)


def test_a_killed_reader_ends_it(passing: Passing) -> None:
    stream = open_up(passing, "count.slowly", seconds=60)
    reader = gevent.spawn(list, stream)
    until(lambda: stream.count == 1)
    reader.kill()
    assert did == ["end"]
    assert stream.making.reason == "cancelled"


def test_a_reader_that_dies_between_two_items_ends_it(passing: Passing) -> None:
    def read() -> None:
        for _ in open_up(passing, upto=10):
            gevent.sleep(60)

    reader = gevent.spawn(read)
    until(lambda: did[-1:] == [0])
    gevent.sleep(0)
    reader.kill()
    del reader
    gc.collect(1)
    until(lambda: did[-1] == "end")


def test_a_cancel_reaches_it_in_a_wait(passing: Passing) -> None:
    stream = open_up(passing, "count.slowly", seconds=60)
    reader = gevent.spawn(lambda: [next(stream), next(stream)])
    until(lambda: stream.count == 1)
    assert passing.door.cancel(reader)
    with pytest.raises(Cancelled):
        reader.get()
    assert did == ["end"]


def test_a_cancel_reaches_it_in_a_request_that_it_made() -> None:
    asked = Event()

    @capability("slow.answer")
    def answer() -> int:
        """Never."""
        asked.set()
        gevent.sleep(60)
        return 1

    @capability("slow.answers")
    def answers(context: Context) -> Iterator[int]:
        """Answers."""
        try:
            yield 0
            yield context.call("slow.answer")
        finally:
            did.append("end")

    passing = Passing([answer, answers])
    stream = open_up(passing, "slow.answers")
    reader = gevent.spawn(list, stream)
    asked.wait()
    passing.door.cancel(reader)
    with pytest.raises(Cancelled):
        reader.get()
    assert did == ["end"]
    nothing_is_left(passing.door)


# ---- deadlines -----------------------------------------------------------------------------------------------------------


def test_the_timeout_bounds_the_first_item() -> None:
    @capability("late.first", timeout=0.05)
    def first() -> Iterator[int]:
        """Late."""
        gevent.sleep(60)
        yield 1

    assert isinstance(Passing([first])("late.first").error, Timeout)


def test_the_timeout_bounds_each_item_and_not_the_stream(passing: Passing) -> None:
    stream = passing.door.request(
        "count.slowly", {"seconds": 0.06}, passing.session, Metadata(timeout=0.3)
    ).unwrap()
    assert [next(stream) for _ in range(8)] == list(range(8)), "0.42 s in all"
    stream.close()
    stream = passing.door.request(
        "count.slowly", {"seconds": 60}, passing.session, Metadata(timeout=0.05)
    ).unwrap()
    next(stream)
    with pytest.raises(Timeout, match=r"no item within 0.05 s; 1 were given"):
        next(stream)
    assert did == ["end", "end"]


def test_the_time_that_a_reader_takes_is_not_the_streams(passing: Passing) -> None:
    stream = passing.door.request("count.up", {"upto": 3}, passing.session, Metadata(timeout=0.04)).unwrap()
    for _ in stream:
        gevent.sleep(0.1)
    assert did[-1] == "end"


def test_a_stream_timeout_bounds_the_whole_of_it_whoever_waits() -> None:
    @capability("bounded.count", stream_timeout=0.1)
    def bounded() -> Iterator[int]:
        """Count."""
        try:
            while True:
                yield 1
                gevent.sleep(0.01)
        finally:
            did.append("end")

    passing = Passing([bounded])
    with pytest.raises(Timeout, match=r"not over within 0.1 s"):
        list(open_up(passing, "bounded.count"))
    stream = open_up(passing, "bounded.count")
    until(lambda: len(did) == 2)
    with pytest.raises(Timeout, match=r"not over within 0.1 s"):
        list(stream)
    nothing_is_left(passing.door)


def test_a_reader_that_asks_for_nothing_more_loses_it(passing: Passing) -> None:
    passing.door.patience = 0.05
    stream = open_up(passing, upto=3)
    until(lambda: "end" in did)
    with pytest.raises(Timeout, match=r"nobody asked for the next item within 0\.05 s"):
        next(stream)


def test_a_generator_that_does_not_end_is_broken_off(passing: Passing) -> None:
    passing.door.ending = 0.05
    stream = open_up(passing, "count.stubborn")
    stream.close()
    assert did == ["broken off"]
    assert "took more than 0.05 s to clean up" in str(passing.registered[-2].last_error)


# ---- whose it is ---------------------------------------------------------------------------------------------------------


def test_a_stream_that_a_request_asked_for_dies_with_it(passing: Passing) -> None:
    assert passing("count.peek").unwrap() == 1
    assert did == ["begin", 0, 1, "end"]


def test_a_stream_that_a_stream_asked_for_dies_with_it(passing: Passing) -> None:
    stream = open_up(passing, "count.twice", upto=100)
    assert next(stream) == 0
    stream.close()
    assert did == ["begin", 0, "end"]


def test_a_stream_can_not_outlive_who_asked_for_it_in_another_greenlet() -> None:
    reading = Event()
    readers: list[Any] = []

    @capability("leaky.request")
    def leaky(context: Context) -> int:
        """Start a reader and go."""
        stream = context.call("count.slowly", {"seconds": 60})

        def read() -> list[int]:
            reading.set()
            return list(stream)

        readers.append(gevent.spawn(read))
        reading.wait()
        gevent.sleep(0)
        return 1

    passing = Passing([leaky, streaming.slowly])
    assert passing("leaky.request").unwrap() == 1
    with pytest.raises(Cancelled):
        readers[0].get(timeout=5)
    assert did == ["end"]
    readers.clear()
    nothing_is_left(passing.door)


def test_nothing_can_be_streamed_for_a_request_that_has_ended() -> None:
    kept: list[Context] = []

    @capability("kept.context")
    def keep(context: Context) -> int:
        """Keep it."""
        kept.append(context)
        return 1

    passing = Passing([keep, streaming.up])
    passing("kept.context")
    response = kept[0].request("count.up", {"upto": 3})
    assert isinstance(response.error, Cancelled)
    assert did == []


def test_an_open_stream_counts_among_the_requests_that_the_node_takes() -> None:
    passing = Passing(SYNC, limit=2)
    first, second = open_up(passing, upto=10), open_up(passing, upto=10)
    refused = passing("count.up", upto=1)
    assert refused.error is not None
    assert refused.error.code == "overloaded"
    assert next(first) == 0
    assert passing("count.one", number=1).error is not None
    first.close()
    assert passing("count.one", number=1).unwrap() == 1
    second.close()
    nothing_is_left(passing.door)


def test_who_waits_for_room_gets_it_when_a_stream_ends() -> None:
    passing = Passing(SYNC, limit=1, queue=1)
    stream = open_up(passing, upto=2)
    waiting = gevent.spawn(passing, "count.one", number=7)
    until(lambda: passing.door.admission.waiting)
    assert list(stream) == [0, 1]
    assert waiting.get(timeout=5).unwrap() == 7
    nothing_is_left(passing.door)


# ---- how it is seen ------------------------------------------------------------------------------------------------------


def test_the_trace_has_one_span_with_the_items_and_how_it_ended(passing: Passing) -> None:
    response = passing("count.up", upto=3)
    list(response.value)
    spans = passing.traces.as_data(response.trace)["spans"]
    assert [span["kind"] for span in spans].count("stream") == 1
    told = spans[-1]["notes"][0]["detail"]
    assert (told["items"], told["end"]) == (3, "done")
    assert 0 <= told["first"] <= response.trace.duration


@pytest.mark.parametrize(("end", "word"), [("close", "closed"), ("fail", "execution_failed")])
def test_the_trace_says_why_it_ended_early(passing: Passing, end: str, word: str) -> None:
    response = passing("count.up", upto=3, fail_at=2)
    if end == "close":
        response.value.close()
    else:
        with pytest.raises(ExecutionFailed):
            list(response.value)
    data = passing.traces.as_data(response.trace)
    assert data["spans"][-1]["notes"][0]["detail"]["end"] == word
    assert data["outcome"] == ("ok" if end == "close" else word)


def test_the_trace_of_an_open_stream_says_so(passing: Passing) -> None:
    response = passing("count.up", upto=3)
    assert passing.traces.row(response.trace)["outcome"] == "streaming"
    list(response.value)
    assert passing.traces.row(response.trace)["outcome"] == "ok"


def test_an_open_stream_is_among_the_active_requests(passing: Passing) -> None:
    stream = open_up(passing, upto=3)
    assert [call.capability for call in passing.door.active()] == ["count.up"]
    list(stream)
    assert list(passing.door.active()) == []


# ---- with a whole node -----------------------------------------------------------------------------------------------------


def test_asynchronous_generators_stream_too() -> None:
    with Node(capabilities=[later]) as node:
        assert list(node.call("count.async", {"upto": 3})) == [0, 1, 2]
        with pytest.raises(ExecutionFailed):
            list(node.call("count.async", {"upto": 3, "fail_at": 1}))
        stream = node.call("count.async", {"upto": 3})
        next(stream)
        stream.close()
        assert did == ["end", "end", "end"]
        stream = node.call("count.async", {"upto": 3, "hang_at": 1})
        reader = gevent.spawn(list, stream)
        until(lambda: stream.count == 1)
        reader.kill()
        assert did == ["end"] * 4, "its cleanup was awaited"
        nothing_is_left(node.door)


def test_a_drain_lets_a_stream_go_on_to_its_end() -> None:
    event = Event()
    node = Node(capabilities=[waiting_at(event)]).start()
    stream = node.call("count.waiting")
    reader = gevent.spawn(list, stream)
    until(lambda: stream.count == 1)
    stopping = gevent.spawn(node.stop, 20)
    until(lambda: not node.door.open)
    assert node.request("count.waiting").error is not None
    event.set()
    assert reader.get(timeout=10) == [0, 1]
    stopping.get(timeout=10)


def test_a_program_that_leaves_its_node_with_a_stream_half_read_does_not_wait_for_itself() -> None:
    with Node(capabilities=[streaming.up]) as node:
        stream = node.call("count.up", {"upto": 10})
        next(stream)
        begun = node.clock.monotonic()
    assert node.clock.monotonic() - begun < node.config.timeouts.drain / 2
    assert did[-1] == "end"
    with pytest.raises(Cancelled, match="the node is stopping"):
        next(stream)


def test_a_drain_whose_time_is_over_ends_streams_as_cancelled() -> None:
    node = Node(capabilities=[waiting_at(Event()), streaming.up]).start()
    read, unread = node.call("count.waiting"), node.call("count.up", {"upto": 3})
    reader = gevent.spawn(list, read)
    until(lambda: read.count == 1)
    node.stop(0.05)
    with pytest.raises(Cancelled, match="the node is stopping"):
        reader.get()
    with pytest.raises(Cancelled, match="the node is stopping"):
        next(unread)
    assert did.count("end") == 2
    nothing_is_left(node.door)


def test_a_generator_can_see_that_the_node_drains() -> None:
    @capability("feed.open")
    def feed(context: Context) -> Iterator[bool]:
        """Until the node drains."""
        while not context.draining:
            yield context.draining
            gevent.sleep(0.005)

    node = Node(capabilities=[feed]).start()
    reader = gevent.spawn(list, node.call("feed.open"))
    gevent.sleep(0)
    node.stop(20)
    assert set(reader.get(timeout=5)) == {False}


def test_streams_of_a_capability_that_is_gone_end_before_what_they_need_is_closed() -> None:
    with tempfile.TemporaryDirectory() as folder:
        config = NodeConfig.model_validate(
            {
                "node": {"name": "brief", "data_folder": folder},
                "tcp": {"enabled": False},
                "http": {"enabled": False},
                "timeouts": {"request": 0.05, "shutdown": 0.05},
            }
        )
        node = Node(config, capabilities=[streaming.one]).start()
        node.register(streaming.up)
        stream = node.call("count.up", {"upto": 3})
        node.unregister("count.up")
        node.settle()
        with pytest.raises(Unavailable, match="was replaced while it streamed"):
            next(stream)
        assert did == ["begin", 0, "end"]
        node.stop()
