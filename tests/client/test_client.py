"""The client in a program that runs greenlets."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.client import Client, Reply
from packetflow.otp.clock import Clock
from packetflow.transports.admin import AdminListener
from packetflow.transports.tcp import TcpListener
from packetflow.wire.errors import NotFound, RateLimited, Timeout, TooLarge, ValidationFailed
from packetflow.wire.limits import Limits
from tests.transports.peers import until
from tests.transports.small_door import TRACE_ID, SmallDoor

Serve = Callable[..., TcpListener]
Connect = Callable[..., Client]


def test_call_gives_the_value(served: Serve, connect: Connect) -> None:
    assert connect(served().address).call("echo", {"text": "grüße"}) == {"text": "grüße"}


def test_call_raises_the_typed_error(served: Serve, connect: Connect, door: SmallDoor) -> None:
    client = connect(served().address)
    with pytest.raises(NotFound, match="no capability 'nope'"):
        client.call("nope")
    door.failure = RateLimited("slow down", {"module": "rate_limit"}, 2.5)
    with pytest.raises(RateLimited) as caught:
        client.call("fail")
    assert caught.value.details == {"module": "rate_limit"}
    assert caught.value.retry_after == 2.5


def test_request_gives_value_or_error_with_trace_and_seconds(served: Serve, connect: Connect) -> None:
    client = connect(served().address)
    good, bad = client.request("echo", {"a": 1}), client.request("nope")
    assert (good.ok, good.value, good.error) == (True, {"a": 1}, None)
    assert (good.trace_id, good.execution_time) == (TRACE_ID, 0.00125)
    assert not bad.ok
    assert bad.error is not None
    assert bad.error.code == "not_found"


def test_what_is_said_about_a_request_reaches_the_door(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served().address, timeout=12.0)
    door.capabilities["echo@2"] = dict
    client.call("echo@2", {"day": datetime.date(2026, 1, 2)}, idempotency_key="k")
    client.call("echo@2", timeout=0.5)
    (first, payload, _, metadata, _), (_, _, _, second, _) = door.seen
    assert (first, payload) == ("echo@2", {"day": "2026-01-02"})
    assert (metadata.timeout, metadata.idempotency_key) == (12.0, "k")
    assert (second.timeout, second.idempotency_key) == (0.5, None)


def test_many_greenlets_share_one_connection_and_get_their_own_answers(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    listener = served()
    client = connect(listener.address)
    callers = [gevent.spawn(client.call, "wait", {"name": str(number)}) for number in range(50)]
    until(lambda: len(door.waiting) == 50)
    for number in reversed(range(50)):
        door.release(str(number))
    gevent.joinall(callers, timeout=10)
    assert [caller.value for caller in callers] == [str(number) for number in range(50)]
    assert len(listener.connections) == 1


def test_submit_does_not_wait_and_result_does(served: Serve, connect: Connect, door: SmallDoor) -> None:
    client = connect(served().address)
    first, second = client.submit("wait", {"name": "a"}), client.submit("wait", {"name": "b"})
    until(lambda: door.waiting == {"a", "b"})
    assert not first.done
    door.release("b")
    assert second.result(10) == "b"
    with pytest.raises(Timeout, match=r"no answer within 0\.01 s; the request goes on"):
        first.result(0.01)
    door.release("a")
    assert first.reply(10).value == "a"
    assert first.result() == "a"
    assert first.done


def test_a_pending_can_be_cancelled(served: Serve, connect: Connect, door: SmallDoor) -> None:
    client = connect(served().address)
    pending = client.submit("wait", {"name": "w"})
    until(lambda: door.waiting)
    pending.cancel()
    assert pending.reply(10).error.code == "cancelled"  # type: ignore[union-attr]
    assert door.ended == [("w", "cancelled")]


def test_map_yields_each_as_it_finishes(served: Serve, connect: Connect, door: SmallDoor) -> None:
    client = connect(served().address)
    outcomes = client.map((("wait", {"name": str(number)}) for number in range(10)), concurrency=4)
    order = ["3", "1", "4", "0", "2", "8", "7", "5", "9", "6"]

    def release() -> None:
        for name in order:
            until(lambda name=name: name in door.waiting)  # type: ignore[misc]
            door.release(name)
            until(lambda name=name: name not in door.waiting)  # type: ignore[misc]
            gevent.sleep(0.005)

    releasing = gevent.spawn(release)
    got = [(index, reply.value) for index, reply in outcomes]
    releasing.get(timeout=10)
    assert sorted(got) == [(number, str(number)) for number in range(10)]
    assert got[0] == (3, "3")


def test_map_takes_keys_tells_errors_and_holds_to_what_the_node_takes(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served(in_flight=8).address)
    requests: list[Any] = [("echo", {"n": n}, f"k{n}") if n % 5 else ("nope", {}) for n in range(500)]
    got = dict(client.map(requests, concurrency=100))
    assert len(got) == 500
    for number, reply in got.items():
        if number % 5:
            assert reply.value == {"n": number}
        else:
            assert reply.error.code == "not_found"  # type: ignore[union-attr]
    assert {metadata.idempotency_key for _, _, _, metadata, _ in door.seen} >= {"k1", "k499"}


def test_map_that_is_left_early_cancels_what_is_under_way(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served().address)
    door.release("first")
    requests = [("wait", {"name": "first"}), ("wait", {"name": "a"}), ("wait", {"name": "b"})]
    for _index, reply in client.map(requests):
        assert reply.value == "first"
        break
    until(lambda: sorted(door.ended) == [("a", "cancelled"), ("b", "cancelled")])
    assert client.call("echo", {"x": 1}) == {"x": 1}


def test_map_with_large_payloads_and_answers_does_not_lock_itself_out(
    served: Serve, connect: Connect
) -> None:
    client = connect(served().address)
    payload = {"text": "x" * 200_000}
    done = 0
    for _, reply in client.map((("echo", payload) for _ in range(200)), concurrency=64):
        assert reply.value == payload
        done += 1
    assert done == 200


def test_more_submitted_than_the_node_takes_wait_for_room(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served(in_flight=2).address)
    blocked = [client.submit("wait", {"name": "w"}) for _ in range(2)]
    third = gevent.spawn(client.call, "echo", {"x": 1})
    until(lambda: len(door.in_flight) == 2)
    assert not third.dead
    door.release("w")
    assert third.get(timeout=10) == {"x": 1}
    assert [one.result(10) for one in blocked] == ["w", "w"]


def test_a_request_that_takes_longer_than_its_timeout_is_given_up_and_cancelled(
    served: Serve, connect: Connect, door: SmallDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("packetflow.client.client.GRACE", 0.0)
    client = connect(served().address)
    error = client.request("wait", {"name": "w"}, timeout=0.02).error
    assert error is not None
    assert error.code == "timeout"
    assert error.details["sent"] is True
    until(lambda: door.ended == [("w", "cancelled")])
    assert client.call("echo", {"x": 1}) == {"x": 1}


def test_heartbeat_gives_the_seconds_of_a_round_trip(served: Serve, connect: Connect) -> None:
    assert 0 < connect(served().address).heartbeat() < 5


def test_a_waiting_client_says_a_word_now_and_then(served: Serve, connect: Connect, door: SmallDoor) -> None:
    client = connect(served().address, heartbeat=0.01)
    pending = gevent.spawn(client.call, "wait", {"name": "w"})
    until(lambda: door.waiting)
    channel = client._channel
    assert channel is not None
    said: list[Any] = []
    say = channel._say
    channel._say = lambda message: (said.append(message), say(message))  # type: ignore[assignment,func-returns-value]
    until(lambda: len(said) >= 3)
    assert {"type": "heartbeat"} in said
    door.release("w")
    assert pending.get(timeout=10) == "w"


def test_the_operators_socket_is_reached_by_its_path(
    tmp_path: Path, connect: Connect, door: SmallDoor
) -> None:
    listener = AdminListener(door, Clock(), Limits(), path=str(tmp_path / "a b.sock"))
    listener.start()
    try:
        assert connect(f"unix://{tmp_path}/a%20b.sock").call("echo", {"x": 1}) == {"x": 1}
        assert door.sessions[0].operator
    finally:
        listener.close()


def test_a_payload_that_can_not_be_sent_is_told_and_costs_nothing(served: Serve, connect: Connect) -> None:
    client = connect(served().address)
    with pytest.raises(ValidationFailed, match="echo: the payload can't be sent"):
        client.call("echo", {"x": object()})
    with pytest.raises(TooLarge, match="the limit is 1048576"):
        client.call("echo", {"x": b"x" * (100 << 20)})
    assert [reply.ok for _, reply in client.map([("echo", {"x": object()}), ("echo", {})])] == [False, True]
    assert client.call("echo", {"x": 1}) == {"x": 1}
    assert not client._channel.pendings  # type: ignore[union-attr]


def test_answers_may_be_longer_and_deeper_than_requests(
    served: Serve, connect: Connect, door: SmallDoor
) -> None:
    client = connect(served().address)
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    door.value = {"many": list(range(20_000)), "long": "x" * 400_000, "deep": deep, "keys": {1: "one"}}
    assert client.call("value") == door.value


@pytest.mark.parametrize("url", ["127.0.0.1:7420", "http://127.0.0.1:7421", "unix://", "tcp://", "tcp:///x"])
def test_a_url_of_another_kind_is_refused_with_the_right_forms(url: str) -> None:
    with pytest.raises(ValueError, match=r'expected "tcp://host:port" or "unix:///path/admin\.sock"'):
        Client(url)


def test_an_unknown_concurrency_is_refused() -> None:
    with pytest.raises(ValueError, match='concurrency is "threads" or "gevent"'):
        Client("tcp://127.0.0.1:1", concurrency="asyncio")  # type: ignore[arg-type]


def test_a_reply_shows_itself() -> None:
    assert repr(Reply({"a": 1}, None, TRACE_ID)) == "<Reply {'a': 1} trace 01234567>"
