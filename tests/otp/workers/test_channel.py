"""The channel between a worker process and its parent: both ends here, over a real socket pair."""

from __future__ import annotations

import pickle
import socket
import threading
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow.otp.errors import CallTimeout, PacketFlowError, WorkerFailed
from packetflow.otp.workers.channel import (
    HIGH_WATER,
    REQUEST,
    WORD,
    Channel,
    ChannelClosed,
    PlainSocket,
    as_failure,
    failed_of,
    frame,
)
from tests.otp.actors import until


class End:
    """One end, and what it got."""

    def __init__(self, sock: socket.socket) -> None:
        self.words: list[Any] = []
        self.closed = 0
        self.answer: Any = lambda request: request
        self.channel = Channel(sock, lambda request: self.answer(request), self.words.append, self._end)

    def _end(self) -> None:
        self.closed += 1

    def ask(self, message: Any) -> gevent.event.AsyncResult[Any]:
        outcome: gevent.event.AsyncResult[Any] = gevent.event.AsyncResult()
        self.channel.ask(message, lambda worked, value: outcome.set((worked, value)))
        return outcome


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    left, right = socket.socketpair()
    one, other = (End(PlainSocket(fileno=each.detach())) for each in (left, right))
    yield one, other
    one.channel.close()
    other.channel.close()


@pytest.fixture
def raw() -> Iterator[tuple[End, socket.socket]]:
    left, right = socket.socketpair()
    end = End(PlainSocket(fileno=left.detach()))
    yield end, right
    end.channel.close()
    right.close()


def test_requests_go_both_ways_at_once_and_each_gets_its_own_answer(ends: tuple[End, End]) -> None:
    one, other = ends
    one.answer = lambda request: ("one", request)
    other.answer = lambda request: gevent.sleep(0.01 * (5 - request)) or ("other", request)
    asked = [(one.ask(number), other.ask(number)) for number in range(5)]
    assert [first.get(timeout=5) for first, _ in asked] == [(True, ("other", number)) for number in range(5)]
    assert [second.get(timeout=5) for _, second in asked] == [(True, ("one", number)) for number in range(5)]


def test_what_comes_byte_by_byte_is_put_together(raw: tuple[End, socket.socket]) -> None:
    end, peer = raw
    data = frame(WORD, 0, {"a": 1}) + frame(WORD, 0, "b")
    for place in range(len(data)):
        peer.send(data[place : place + 1])
        gevent.sleep(0)
    until(lambda: end.words == [{"a": 1}, "b"])


def test_what_can_not_be_read_is_refused_and_the_rest_goes_on(raw: tuple[End, socket.socket]) -> None:
    end, peer = raw
    broken = b"this is no pickle"
    head = frame(REQUEST, 7, None)[: -len(pickle.dumps(None, pickle.HIGHEST_PROTOCOL))]
    peer.sendall(len(broken).to_bytes(4, "big") + head[4:] + broken)
    peer.sendall(frame(WORD, 0, "next"))
    until(lambda: end.words == ["next"])
    peer.settimeout(5)
    size, kind, number = (
        int.from_bytes(peer.recv(4), "big"),
        peer.recv(1)[0],
        int.from_bytes(peer.recv(8), "big"),
    )
    failure = pickle.loads(peer.recv(size))
    assert (kind, number) == (3, 7)
    assert isinstance(failure, WorkerFailed)
    assert failure.kind == "UnpicklingError"


def test_a_sender_waits_while_the_other_side_takes_nothing_and_goes_on_when_it_does(
    ends: tuple[End, End],
) -> None:
    one, other = ends
    other.channel._reader.stop()
    block = b"x" * (HIGH_WATER // 4)
    for _ in range(10):
        one.channel.tell(block)
    waiting = gevent.spawn(one.channel.wait_for_room)
    gevent.sleep(0.01)
    assert not waiting.ready()
    assert one.channel.backlog > HIGH_WATER
    other.channel._reader.start(other.channel.read)
    waiting.get(timeout=5)
    one.channel.flush(5)
    until(lambda: len(other.words) == 10)
    assert one.channel.backlog == 0


def test_the_end_of_one_side_is_told_once_and_who_waits_gets_no_answer(ends: tuple[End, End]) -> None:
    one, other = ends
    other.answer = lambda request: gevent.sleep(600)
    asked = one.ask("a")
    until(lambda: other.channel.answering == 1)
    other.channel.close()
    worked, error = asked.get(timeout=5)
    assert not worked
    assert isinstance(error, ChannelClosed)
    assert (one.closed, other.closed) == (1, 1)
    one.channel.close()
    assert one.closed == 1
    with pytest.raises(ChannelClosed):
        one.ask("b")
    one.channel.tell("nobody hears that, and it is no error")


def test_one_waits_until_all_is_answered(ends: tuple[End, End]) -> None:
    one, other = ends
    go = gevent.event.Event()
    other.answer = lambda request: go.wait()
    asked = one.ask("a")
    until(lambda: other.channel.answering == 1)
    assert not other.channel.wait_quiet(0.01)
    go.set()
    assert other.channel.wait_quiet(5)
    assert asked.get(timeout=5) == (True, True)


def test_an_answer_that_nobody_waits_for_any_more_is_dropped(ends: tuple[End, End]) -> None:
    one, _ = ends
    got: list[Any] = []

    def settle(worked: bool, value: Any) -> None:
        got.append(value)

    one.channel.ask("a", settle)
    one.channel.forget(settle)
    assert one.ask("b").get(timeout=5) == (True, "b")
    assert got == []


def ends_with(cleaned: list[Any]) -> Any:
    def answer(request: Any) -> Any:
        try:
            gevent.sleep(600)
        finally:
            cleaned.append(request)

    return answer


def test_what_is_done_for_an_answer_that_nobody_waits_for_is_ended(ends: tuple[End, End]) -> None:
    one, other = ends
    cleaned: list[Any] = []
    other.answer = ends_with(cleaned)
    settle = lambda worked, value: cleaned.append("never")  # noqa: E731
    one.channel.ask("a", settle)
    until(lambda: other.channel.answering == 1)
    one.channel.forget(settle)
    until(lambda: other.channel.answering == 0)
    assert cleaned == ["a"]
    assert other.channel.wait_quiet(5)


def test_one_that_is_given_up_before_it_has_begun_is_ended_too(ends: tuple[End, End]) -> None:
    """Request and word of it come in one read."""
    one, other = ends
    cleaned: list[Any] = []
    other.answer = ends_with(cleaned)
    settle = lambda worked, value: cleaned.append("never")  # noqa: E731
    one.channel.ask("a", settle)
    one.channel.forget(settle)
    other.channel.read()
    assert other.channel.answering == 1
    until(lambda: other.channel.answering == 0)
    assert cleaned == ["a"]


def test_what_is_done_for_one_that_is_gone_is_ended(ends: tuple[End, End]) -> None:
    one, other = ends
    cleaned: list[Any] = []
    other.answer = ends_with(cleaned)
    one.ask("a")
    one.ask("b")
    until(lambda: other.channel.answering == 2)
    one.channel.close()
    until(lambda: other.channel.answering == 0)
    assert cleaned == ["a", "b"]


def test_words_may_come_from_other_threads(ends: tuple[End, End]) -> None:
    one, other = ends
    threads = [threading.Thread(target=one.channel.tell, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: sorted(other.words) == list(range(20)))


class Awkward(Exception):
    """Pickles, and does not come out of it."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} {second}")


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (KeyError("x"), KeyError),
        (CallTimeout("somebody", 1.0), WorkerFailed),
        (Awkward("a", "b"), WorkerFailed),
        (WorkerFailed("KeyError", "'x'", "Traceback ..."), WorkerFailed),
    ],
    ids=["plain", "of several arguments", "awkward", "from a worker"],
)
def test_an_exception_is_sent_as_itself_or_as_what_it_says(error: Exception, kind: type[Exception]) -> None:
    sent = pickle.loads(pickle.dumps(as_failure(error)))
    assert type(sent) is kind
    assert str(error) in str(sent)


def test_what_says_an_exception_in_words_has_its_traceback() -> None:
    try:
        raise ValueError("no oil")
    except ValueError as error:
        failed = failed_of(error)
    assert isinstance(failed, PacketFlowError)
    assert (failed.kind, failed.text, str(failed)) == ("ValueError", "no oil", "ValueError: no oil")
    assert "raise ValueError" in failed.traceback
