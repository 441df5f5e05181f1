"""The tcp door: what bad, broken and greedy peers see, and that they harm nobody else."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

import gevent
import msgpack
import pytest

from packetflow.transports.tcp import TcpListener
from packetflow.wire.errors import Internal, RequestError
from packetflow.wire.limits import Limits
from tests.transports.peers import JsonMessages, Messages, TurnedClock, until
from tests.transports.small_door import SmallDoor

Make = Callable[..., TcpListener]


def refusal_of(peer: Messages) -> dict[str, object]:
    """The error of the goodbye that is the last word to a peer."""
    goodbye = peer.answer()
    assert goodbye["type"] == "goodbye"
    assert peer.hear() is None
    return goodbye["payload"]  # type: ignore[no-any-return]


def still_serves(listener: TcpListener) -> None:
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "echo", {"ok": True})
        assert peer.answer()["payload"] == {"ok": True}


@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "protocol_error"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500), "protocol_error"),
        (b"\x00\x00\x00\x03\xc1\xc1\xc1", "protocol_error"),
        (b"\x00\x00\x00\x01\x05", "protocol_error"),
        (b"\x00\x00\x00\x00", "protocol_error"),
        (b"\x00\x00\x00\x02{]", "protocol_error"),
        (b"\xff\xff\xff\xff", "protocol_error"),
    ],
)
def test_garbage_before_hello_is_refused_and_the_connection_closed(
    tcp: Make, garbage: bytes, code: str
) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.send(garbage)
        if garbage[4:5] == b"{":
            peer.decode = JsonMessages.decode  # type: ignore[method-assign]
        assert refusal_of(peer)["code"] == code
    still_serves(listener)


def test_another_version_is_refused_with_those_that_are_spoken(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.say(version=9, type="hello", payload={"versions": [9, 8]})
        error = refusal_of(peer)
    assert error["code"] == "protocol_error"
    assert error["message"] == "this node speaks version 1 of the protocol, and hello offers 9, 8"
    assert error["details"] == {"versions": [1]}


def test_a_version_alone_is_an_offer(tcp: Make) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.say(version=2, type="hello")
        assert refusal_of(peer)["code"] == "protocol_error"
    with Messages(listener.address) as peer:
        peer.say(version=1, type="hello")
        assert peer.answer()["type"] == "welcome"


def test_a_request_before_hello_is_refused(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.ask(1, "echo", {})
        assert refusal_of(peer)["message"] == "the first message has to be hello, not 'capability_request'"
    assert not door.seen


def test_an_unknown_type_is_refused_by_name_and_the_connection_goes_on(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.say(type="subscribe", id=4, payload={"topic": "x"})
        answer = peer.answer()
        assert answer["id"] == 4
        assert answer["payload"]["code"] == "protocol_error"
        assert answer["payload"]["message"].startswith("unknown message type 'subscribe'; known: hello, ")
        peer.say(nothing=1)
        assert peer.answer()["id"] is None
        peer.say(type="welcome")
        assert peer.answer()["payload"]["message"] == "welcome has no place here"
        peer.ask(5, "echo", {})
        assert peer.answer()["id"] == 5


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"capability_id": 7}, "protocol_error"),
        ({"capability_id": ""}, "protocol_error"),
        ({"capability_id": "x" * 300}, "protocol_error"),
        ({"payload": [1, 2]}, "validation_failed"),
        ({"payload": "text"}, "validation_failed"),
        ({"intent": 5}, "protocol_error"),
        ({"metadata": []}, "protocol_error"),
        ({"metadata": {"timeout": -1}}, "protocol_error"),
        ({"metadata": {"timeout": True}}, "protocol_error"),
        ({"metadata": {"timeout": "1"}}, "protocol_error"),
        ({"metadata": {"idempotency_key": ""}}, "protocol_error"),
        ({"context": 3}, "protocol_error"),
        ({"payload": {"n": float("nan")}}, "protocol_error"),
        ({"payload": {"n": float("inf")}}, "protocol_error"),
        ({"payload": {"s": "x" * 300_000}}, "too_large"),
        ({"payload": {"l": list(range(10_001))}}, "too_large"),
        ({"payload": {1: "x"}}, "protocol_error"),
        ({"payload": {"x": msgpack.ExtType(5, b"x")}}, "protocol_error"),
    ],
)
def test_a_bad_request_is_answered_by_its_id_and_the_connection_goes_on(
    tcp: Make, door: SmallDoor, fields: dict[str, object], code: str
) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.say(**{"type": "capability_request", "id": 3, "capability_id": "echo", "payload": {}, **fields})
        answer = peer.answer()
        assert (answer["type"], answer["id"], answer["payload"]["code"]) == ("capability_error", 3, code)
        assert not door.seen
        peer.ask(4, "echo", {})
        assert peer.answer()["id"] == 4


@pytest.mark.parametrize("id", [None, -1, 1.5, "", "x" * 129, [], True, 1 << 63])
def test_a_request_without_a_usable_id_is_refused_without_one(tcp: Make, id: object) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(id, "echo", {})
        answer = peer.answer()
        assert (answer["id"], answer["payload"]["code"]) == (None, "protocol_error")
        peer.ask(4, "echo", {})
        assert peer.answer()["id"] == 4


def test_depth_is_bounded(tcp: Make) -> None:
    def nested(depth: int) -> object:
        value: object = 1
        for _ in range(depth - 1):
            value = [value]
        return {"v": value}

    with Messages(tcp(Limits(depth=8)).address) as peer:
        peer.greet()
        peer.ask(1, "echo", nested(8))
        assert peer.answer()["type"] == "capability_response"
        peer.ask(2, "echo", nested(9))
        answer = peer.answer()
        assert (answer["id"], answer["payload"]["code"]) == (2, "too_large")
        assert answer["payload"]["details"]["limit"] == "depth"
        # so deep that the decoder itself gives up
        body = msgpack.packb({"type": "capability_request", "id": 3, "capability_id": "echo"})
        body = b"\x84" + body[1:] + b"\xa7payload" + b"\x91" * 5000 + b"\xc0"
        peer.send(struct.pack(">I", len(body)) + body)
        assert peer.answer()["payload"]["code"] == "too_large"


def test_undecodable_bytes_after_hello_end_the_connection_with_a_word(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "w"})
        until(lambda: door.waiting)
        peer.send(b"\x00\x00\x00\x02\xc1\xc1")
        assert refusal_of(peer)["code"] == "protocol_error"
    until(lambda: door.ended == [("w", "cancelled")])
    still_serves(listener)


def test_text_that_is_not_utf8_is_a_protocol_error(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        body = b"\x84\xa4type\xb2capability_request\xa2id\x01\xadcapability_id\xa4echo\xa7payload\x81\xa1t\xa2\xff\xfe"
        peer.send(struct.pack(">I", len(body)) + body)
        answer = peer.answer()
        assert (answer["id"], answer["payload"]["code"]) == (1, "protocol_error")


def test_100_megabytes_are_refused_at_the_length_and_never_kept(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.send(struct.pack(">I", 100 << 20))
        for _ in range(100):
            peer.send(bytes(1 << 20))  # all of it is taken, so that the word arrives; nothing of it is kept
            for connection in listener.connections:
                assert len(connection.cutter._kept) == 0  # type: ignore[attr-defined]
        error = refusal_of(peer)
    assert error["code"] == "too_large"
    assert error["details"] == {"limit": "frame", "allowed": 1 << 20}
    still_serves(listener)


def test_a_payload_above_its_own_limit_is_too_large(tcp: Make) -> None:
    with Messages(tcp(Limits(frame=4096, payload=1000)).address) as peer:
        peer.greet()
        peer.ask(1, "echo", {"s": "x" * 900})
        assert peer.answer()["type"] == "capability_response"
        peer.ask(2, "echo", {"s": "x" * 1100})
        error = peer.answer()["payload"]
        assert (error["code"], error["details"]["limit"]) == ("too_large", "payload")


def test_what_was_sent_before_the_garbage_is_still_answered(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.send(
            peer.frame({"type": "capability_request", "id": 1, "capability_id": "echo"}) + b"\xff" * 100
        )
        assert peer.answer()["id"] == 1
        assert refusal_of(peer)["code"] == "too_large"


def test_no_hello_in_time_is_told_and_closed(tcp: Make, clock: TurnedClock) -> None:
    listener = tcp()
    with Messages(listener.address) as silent, Messages(listener.address) as half:
        half.send(b"\x00\x00\x00\x10\x81")
        until(lambda: len(listener.connections) == 2)
        clock.turn(4.0)
        assert len(listener.connections) == 2
        clock.turn(3.0)
        for peer in (silent, half):
            clock_until_told(listener, clock)
            assert refusal_of(peer)["message"] == "no hello within 5 s"
    until(lambda: not listener.connections)


def test_a_peer_whose_hello_lay_there_while_the_node_was_busy_is_not_blamed(
    tcp: Make, clock: TurnedClock
) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        until(lambda: listener.connections)
        peer.say(version=1, type="hello")
        clock.turn(60.0)  # as if the hub had been blocked: the sweep comes before the bytes
        gevent.get_hub().loop.run_callback(listener._sweep)
        assert peer.answer()["type"] == "welcome"


def test_a_door_that_was_made_long_before_it_opened_gives_its_first_peer_time(
    tcp: Make, clock: TurnedClock
) -> None:
    made = TcpListener(SmallDoor(), clock, Limits(), port=0, sweep=0.02)
    clock.turn(60.0)
    made.start()
    try:
        with Messages(made.address) as peer:
            until(lambda: made.connections)
            (connection,) = made.connections
            assert connection.deadline > clock.monotonic() + 4
            peer.greet()
    finally:
        made.close()


def clock_until_told(listener: TcpListener, clock: TurnedClock) -> None:
    """A peer that is overdue is looked at once more before it is blamed: so the clock is turned a little further."""
    before = listener.now
    until(lambda: listener.now > before)
    clock.turn(1.1)


def test_half_a_frame_and_then_silence_ends_after_a_while_and_cancels(
    tcp: Make, door: SmallDoor, clock: TurnedClock
) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "wait", {"name": "w"})
        peer.send(b"\x00\x00\x10\x00half")
        until(lambda: door.waiting and any(c.cutter.partial for c in listener.connections))  # type: ignore[attr-defined]
        clock.turn(31.0)
        clock_until_told(listener, clock)
        assert refusal_of(peer)["code"] == "timeout"
    until(lambda: door.ended == [("w", "cancelled")])


def test_half_a_frame_and_then_a_close_leaves_nothing(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        peer.send(b"\x00\x00\x10\x00half")
        until(lambda: any(c.cutter.partial for c in listener.connections))  # type: ignore[attr-defined]
    until(lambda: not listener.connections)
    still_serves(listener)


def test_an_idle_peer_is_kept_as_long_as_it_likes(tcp: Make, clock: TurnedClock) -> None:
    listener = tcp()
    with Messages(listener.address) as peer:
        peer.greet()
        before = listener.now
        clock.turn(86_400.0)
        until(lambda: listener.now > before + 86_000)
        peer.ask(1, "echo", {})
        assert peer.answer()["id"] == 1


def test_a_frame_in_single_bytes_is_put_together(tcp: Make) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in peer.frame(
            {"type": "capability_request", "id": 1, "capability_id": "echo", "payload": {}}
        ):
            peer.send(bytes([byte]))
        assert peer.answer()["id"] == 1


def test_a_slow_reader_gets_everything_and_is_not_read_from_meanwhile(tcp: Make, door: SmallDoor) -> None:
    listener = tcp()
    with Messages(listener.address, receive_buffer=4096) as peer:
        peer.greet()
        for number in range(300):
            peer.ask(number, "big", {"size": 100_000})
        until(lambda: any(c.stuck for c in listener.connections))  # type: ignore[attr-defined]
        ran = len(door.seen)
        assert ran < 300
        still_serves(listener)
        for number in range(300):
            answer = peer.answer()
            assert answer["id"] == number
            assert len(answer["payload"]) == 100_000


def test_a_peer_that_never_reads_is_bounded_and_closed(
    tcp: Make, door: SmallDoor, clock: TurnedClock
) -> None:
    listener = tcp()
    with Messages(listener.address, receive_buffer=4096) as peer:
        peer.greet()
        peer.ask("blocked", "wait", {"name": "w"})
        for number in range(300):
            peer.ask(number, "big", {"size": 100_000})
        until(lambda: any(c.stuck for c in listener.connections))  # type: ignore[attr-defined]
        (connection,) = listener.connections
        assert connection.size + len(connection._rest) < 1_000_000  # type: ignore[attr-defined]
        before = listener.now
        clock.turn(31.0)
        until(lambda: listener.now > before + 30)
        until(lambda: not listener.connections)
    until(lambda: door.ended == [("w", "cancelled")])
    still_serves(listener)


def test_more_connections_than_allowed_are_refused_with_a_word(tcp: Make) -> None:
    listener = tcp(connections=2)
    with Messages(listener.address) as first, Messages(listener.address) as second:
        first.greet()
        second.greet()
        with Messages(listener.address) as third:
            error = refusal_of(third)
            assert error["code"] == "overloaded"
            assert error["message"] == "2 connections are open, the limit"
        first.close()
        until(lambda: len(listener.connections) == 1)
        still_serves(listener)


def test_an_answer_that_no_message_can_hold_is_an_execution_failure(tcp: Make, door: SmallDoor) -> None:
    with Messages(tcp().address) as peer:
        peer.greet()
        for number, value in enumerate(
            [float("nan"), {"deep": [float("-inf")]}, object(), 1 << 70, "\ud800"]
        ):
            door.value = value
            peer.ask(number, "value")
            answer = peer.answer()
            assert (answer["id"], answer["payload"]["code"]) == (number, "execution_failed"), value
        door.value = "x" * (2 << 20)
        peer.ask(9, "value")
        assert peer.answer()["payload"]["code"] == "too_large"


def test_an_error_whose_details_can_not_be_sent_is_told_without_them(tcp: Make, door: SmallDoor) -> None:
    door.failure = Internal("odd", {"what": object()})
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "fail")
        assert peer.answer()["payload"] == {"code": "internal", "message": "odd"}


def test_a_door_that_raises_is_an_internal_error_for_that_request_alone(tcp: Make, door: SmallDoor) -> None:
    door.failure = RuntimeError("secret")
    with Messages(tcp().address) as peer:
        peer.greet()
        peer.ask(1, "fail")
        peer.ask(2, "echo", {})
        answer = peer.answer()
        assert answer["payload"]["code"] == "internal"
        assert "secret" not in str(answer)
        assert peer.answer()["id"] == 2


def test_every_typed_error_crosses_with_code_details_and_retry_after(tcp: Make, door: SmallDoor) -> None:
    from packetflow.wire.errors import BY_CODE

    with Messages(tcp().address) as peer:
        peer.greet()
        for number, kind in enumerate(BY_CODE.values()):
            error: RequestError = kind("why", {"a": 1}, 2.5)
            door.failure = error
            peer.ask(number, "fail")
            assert peer.answer()["payload"] == {
                "code": kind.code, "message": "why", "details": {"a": 1}, "retry_after": 2.5,
            }  # fmt: skip
