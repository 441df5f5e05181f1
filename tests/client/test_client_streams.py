"""Streams as a program reads them by the client: from greenlets and from threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest

from packetflow.client import Client
from packetflow.client.streams import BYTES, MOST, Feed
from packetflow.errors import (
    Cancelled,
    ExecutionFailed,
    NotFound,
    ProtocolError,
    Timeout,
    Unavailable,
    ValidationFailed,
)
from packetflow.otp.clock import Clock
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from packetflow.wire.stream import Progress
from tests.node.passing import Passing
from tests.node.streaming import SYNC, did
from tests.node.test_streams import nothing_is_left
from tests.node.test_streams_over_tcp import big, steps
from tests.node.wired import over_tcp
from tests.transports.peers import until
from tests.transports.small_door import ServedThread

Connect = Callable[..., Client]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    did.clear()


@pytest.fixture
def passing() -> Iterator[Passing]:
    made = Passing([*SYNC, big, steps], door="tcp")
    yield made
    nothing_is_left(made.door)


@pytest.fixture
def client(passing: Passing, connect: Connect) -> Iterator[Client]:
    with over_tcp(passing) as listener:
        made = connect(listener.address)
        yield made
        made.close()


@pytest.fixture
def threads(connect: Connect) -> Iterator[Client]:
    """A client that blocks its thread, of a door in a thread of its own."""

    def make(_: Any) -> TcpListener:
        passing = Passing([*SYNC, big, steps], door="tcp")
        return TcpListener(passing.door, Clock(), Limits(), port=0, sweep=0.02)

    with ServedThread(make) as served:
        yield connect(served.address, concurrency="threads")


def test_the_items_come_one_by_one_and_then_it_is_at_its_end(client: Client) -> None:
    stream = client.stream("count.up", {"upto": 200})
    assert list(stream) == list(range(200))
    assert list(stream) == []
    assert (stream.count, stream.ended, stream.complete, stream.error) == (200, True, True, None)
    assert len(stream.trace_id) == 32
    assert stream.execution_time > 0


def test_what_is_no_stream_is_one_of_one_item(client: Client) -> None:
    stream = client.stream("count.one", {"number": 7})
    assert list(stream) == [7]
    assert list(stream) == []
    assert stream.complete


def test_errors_are_raised_after_the_items_before_them(client: Client) -> None:
    with pytest.raises(NotFound):
        next(client.stream("count.down"))
    stream = client.stream("count.up", {"upto": 9, "fail_at": 2})
    assert [next(stream), next(stream)] == [0, 1]
    with pytest.raises(ExecutionFailed):
        next(stream)
    assert not stream.complete
    assert isinstance(stream.error, ExecutionFailed)


def test_a_call_of_a_stream_says_how_to_ask(client: Client) -> None:
    with pytest.raises(ValidationFailed, match=r"Client\.stream"):
        client.call("count.up", {"upto": 3})


def test_no_node_is_an_error_of_the_iteration() -> None:
    client = Client("tcp://127.0.0.1:1", concurrency="gevent")
    with pytest.raises(Unavailable):
        list(client.stream("count.up", {"upto": 3}))


# ---- the window --------------------------------------------------------------------------------------------------------------


def test_the_node_is_a_small_window_ahead_and_no_more(client: Client) -> None:
    stream = client.stream("count.up", {"upto": 1000})
    for read in range(500):
        assert next(stream) == read
        made = len(did) - 1
        assert made - (read + 1) <= MOST + 1
    stream.close()


def test_large_items_are_not_fetched_ahead(client: Client) -> None:
    stream = client.stream("big.items", {"size": 2 * BYTES})
    for read in range(5):
        next(stream)
        assert client.heartbeat() >= 0, "by then it would have been on its way"
        assert len(did) == read + 1
    stream.close()


def test_the_window_never_holds_more_than_its_bytes() -> None:
    feed = Feed(None, None)
    assert feed.wanted() == 0, "before the size of any is known"
    feed.take_item("x", 1000)
    feed.granted += feed.wanted()
    assert 0 < (feed.granted + len(feed.items)) * 1000 <= BYTES
    feed.take_item("x", 10 * BYTES)
    assert feed.wanted() == 0


def test_a_node_that_sends_more_than_it_may_is_left() -> None:
    feed = Feed(None, None)
    feed.take_item("x", 10)
    with pytest.raises(ProtocolError, match="more items of a stream than were let come"):
        feed.take_item("y", 10)


# ---- its end -----------------------------------------------------------------------------------------------------------------


def test_closing_ends_it_on_the_node(client: Client) -> None:
    stream = client.stream("count.slowly", {"seconds": 60})
    assert next(stream) == 0
    stream.close()
    stream.close()
    assert list(stream) == []
    assert not stream.complete
    until(lambda: did == ["end"])
    assert client.call("count.one", {"number": 1}) == 1


def test_leaving_the_block_ends_it(client: Client) -> None:
    with client.stream("count.up", {"upto": 1000}) as stream:
        next(stream)
    until(lambda: did[-1] == "end")


def test_letting_it_go_ends_it_with_the_next_use_of_the_connection(client: Client) -> None:
    stream = client.stream("count.slowly", {"seconds": 60})
    next(stream)
    del stream
    gc.collect()
    assert client.call("count.one", {"number": 1}) == 1
    until(lambda: did == ["end"])


def test_a_killed_reader_ends_it(client: Client) -> None:
    def read() -> None:
        with client.stream("count.slowly", {"seconds": 60}) as stream:
            list(stream)

    reader = gevent.spawn(read)
    until(lambda: client._channel is not None and client._channel.pendings)
    reader.kill()
    until(lambda: client._channel is not None and not client._channel.pendings)
    assert client.call("count.one", {"number": 1}) == 1


def test_closing_the_client_ends_its_streams(client: Client) -> None:
    stream = client.stream("count.slowly", {"seconds": 60})
    next(stream)
    reader = gevent.spawn(next, stream)
    gevent.sleep(0)
    client.close()
    with pytest.raises(Cancelled):
        reader.get(timeout=5)
    until(lambda: did == ["end"])


def test_a_lost_connection_is_told_after_the_items_that_came(passing: Passing, connect: Connect) -> None:
    with over_tcp(passing) as listener:
        stream = connect(listener.address).stream("count.up", {"upto": 1000})
        assert next(stream) == 0
        until(lambda: len(did) > MOST // 2)
        (connection,) = listener.connections
        connection.close()  # type: ignore[attr-defined]
        for read in range(1, stream.at_hand):
            assert next(stream) == read
        with pytest.raises(Unavailable, match="was lost"):
            list(stream)
        assert stream.count > 1


def test_the_timeout_holds_for_each_item(client: Client) -> None:
    stream = client.stream("count.slowly", {"seconds": 60}, timeout=0.05)
    assert next(stream) == 0
    with pytest.raises(Timeout, match="no item within"):
        next(stream)


def test_the_clients_own_timeout_does_not_count(passing: Passing, connect: Connect) -> None:
    with over_tcp(passing) as listener:
        client = connect(listener.address, timeout=0.001)
        with client.stream("count.slowly", {"seconds": 0.02}) as stream:
            assert [next(stream) for _ in range(3)] == [0, 1, 2]
        client.close()


def test_goodbye_lets_a_stream_come_to_its_end(passing: Passing, connect: Connect) -> None:
    with over_tcp(passing) as listener:
        stream = connect(listener.address).stream("count.up", {"upto": 200})
        assert next(stream) == 0
        listener.announce()
        assert list(stream) == list(range(1, 200))


# ---- several at once -----------------------------------------------------------------------------------------------------------


def test_streams_and_calls_share_one_connection(client: Client, passing: Passing) -> None:
    def read(upto: int) -> list[int]:
        return list(client.stream("count.up", {"upto": upto}))

    readers = [gevent.spawn(read, upto) for upto in (50, 150, 300)]
    calls = [gevent.spawn(client.call, "count.one", {"number": number}) for number in range(20)]
    assert [one.get(timeout=20) for one in calls] == list(range(20))
    assert [one.get(timeout=20) for one in readers] == [list(range(upto)) for upto in (50, 150, 300)]


def test_a_reader_that_does_not_read_holds_up_nobody_else(client: Client) -> None:
    idle = client.stream("count.up", {"upto": 1000})
    next(idle)
    assert list(client.stream("count.up", {"upto": 300})) == list(range(300))
    assert client.call("count.one", {"number": 1}) == 1
    assert list(idle) == list(range(1, 1000))


def test_threads_read_streams_of_their_own_by_one_connection(threads: Client) -> None:
    results: dict[int, Any] = {}

    def read(upto: int) -> None:
        results[upto] = list(threads.stream("count.up", {"upto": upto}))

    workers = [threading.Thread(target=read, args=[upto]) for upto in (100, 500, 1000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert results == {upto: list(range(upto)) for upto in (100, 500, 1000)}


def test_a_thread_may_close_its_stream_and_go_on(threads: Client) -> None:
    for _ in range(3):
        with threads.stream("count.slowly", {"seconds": 60}) as stream:
            assert next(stream) == 0
    assert threads.call("count.one", {"number": 2}) == 2


# ---- progress ------------------------------------------------------------------------------------------------------------------


def told_by(listened: list[Progress]) -> list[float]:
    return [progress.done for progress in listened]


def test_progress_is_told_to_who_waits_in_its_own_greenlet(client: Client) -> None:
    heard: list[Any] = []
    reader = gevent.getcurrent()

    def listen(progress: Progress) -> None:
        heard.append(progress)
        assert gevent.getcurrent() is reader

    assert client.call("work.steps", {"count": 100, "pause": 0.003}, progress=listen) == 100
    assert heard[0] == Progress(0, 100, "working")
    assert told_by(heard) == sorted(set(told_by(heard)))
    assert 2 <= len(heard) < 50


def test_progress_is_told_in_the_callers_thread(threads: Client) -> None:
    heard: list[int] = []
    assert (
        threads.call("work.steps", {"count": 3}, progress=lambda _: heard.append(threading.get_ident())) == 3
    )
    assert set(heard) == {threading.get_ident()}


def test_a_listener_that_fails_is_told_so_itself(client: Client) -> None:
    def listen(progress: Progress) -> None:
        raise RuntimeError("the listener's own")

    with pytest.raises(RuntimeError, match="the listener's own"):
        client.call("work.steps", {"count": 3, "pause": 0.01}, progress=listen)
    assert client.call("count.one", {"number": 1}) == 1
