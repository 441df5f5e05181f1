"""Anything may come in: the door answers in its protocol or closes, and goes on serving others. Bounded in examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packetflow.transports.http import HttpListener
from packetflow.transports.tcp import TcpListener
from tests.transports.peers import Http, Messages, until
from tests.transports.small_door import SmallDoor

few = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats()
    | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
fields = ["version", "type", "id", "capability_id", "intent", "payload", "context", "metadata"]
kinds = st.sampled_from(["hello", "capability_request", "cancel", "heartbeat", "welcome", "stream_item"])
messages = st.fixed_dictionaries(
    {}, optional={**dict.fromkeys(fields, anything), "type": kinds | anything, "id": st.integers(0, 3) | anything}
)  # fmt: skip


def served_connection(listener: TcpListener) -> None:
    with Messages(listener.address) as peer:
        peer.greet()
        peer.ask(1, "echo", {"x": 1})
        assert peer.answer()["payload"] == {"x": 1}


@given(st.lists(messages, max_size=8), st.binary(max_size=30), st.booleans())
@few
def test_any_messages_and_bytes_at_the_tcp_door(
    tcp: Callable[..., TcpListener], shared: dict[str, Any], said: list[Any], tail: bytes, greets: bool
) -> None:
    listener = shared.setdefault("listener", None) or shared.update(listener=tcp()) or shared["listener"]
    with Messages(listener.address) as peer:
        if greets:
            peer.greet()
        peer.send(b"".join(peer.frame(one) for one in said) + tail)
        peer.say(type="goodbye")
        heard = []
        while (message := peer.hear()) is not None:
            heard.append(message["type"])
    assert set(heard) <= {"welcome", "capability_response", "capability_error", "heartbeat", "goodbye"}
    until(lambda: not listener.connections)
    served_connection(listener)


parts = st.sampled_from(
    [b"GET ", b"POST ", b"HEAD ", b"/capabilities/echo", b"/health/live", b"/", b" HTTP/1.1\r\n", b" HTTP/1.0\r\n",
     b"\r\n", b"host: localhost\r\n", b"host: x\r\n", b"content-type: application/json\r\n", b"content-length: 2\r\n",
     b"content-length: 0\r\n", b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"origin: x\r\n",
     b"expect: 100-continue\r\n", b"upgrade: h2c\r\nconnection: upgrade\r\n", b"2\r\n{}\r\n", b"0\r\n\r\n", b"{}",
     b"\r\n\r\n"]
)  # fmt: skip


@given(st.lists(parts | st.binary(max_size=6), max_size=14))
@few
def test_any_pieces_of_requests_at_the_http_door(
    http: Callable[..., HttpListener], shared: dict[str, Any], pieces: list[bytes]
) -> None:
    listener = shared.setdefault("listener", None) or shared.update(listener=http()) or shared["listener"]
    with Http(listener.address) as caller:
        caller.send(b"".join(pieces))
        caller.sock.shutdown(1)
        heard = caller.rest()
    assert heard == b"" or heard.startswith(b"HTTP/1.1 ")
    until(lambda: not listener.connections)
    with Http(listener.address) as caller:
        assert caller.call("echo", {"x": 1}).data == {"x": 1}


@given(st.lists(st.sampled_from(["ask", "cancel", "release", "beat"]), max_size=40), st.integers(1, 4))
@few
def test_every_request_is_answered_exactly_once_whatever_is_cancelled_when(
    tcp: Callable[..., TcpListener], shared: dict[str, Any], door: SmallDoor, steps: list[str], burst: int
) -> None:
    listener = shared.setdefault("listener", None) or shared.update(listener=tcp()) or shared["listener"]
    door.gates.clear()
    with Messages(listener.address) as peer:
        peer.greet()
        asked, buffer = 0, b""
        for turn, step in enumerate(steps):
            if step == "ask":
                name = {"name": str(asked)}
                kind = "echo" if asked % 3 == 0 else "wait"
                request = {"type": "capability_request", "id": asked, "capability_id": kind, "payload": name}
                buffer += peer.frame(request)
                asked += 1
            elif step == "cancel" and asked:
                buffer += peer.frame({"type": "cancel", "id": turn % asked})
            elif step == "release" and asked:
                door.release(str(turn % asked))
            else:
                buffer += peer.frame({"type": "heartbeat"})
            if turn % burst == 0:
                peer.send(buffer)
                buffer = b""
        for number in range(asked):
            door.release(str(number))
        peer.send(buffer + peer.frame({"type": "goodbye"}))
        answers = []
        while (message := peer.hear()) is not None:
            if message["type"] != "heartbeat":
                answers.append(message["id"])
    assert sorted(answers) == list(range(asked))
