"""The HTTP door: what bad, broken, foreign and greedy callers see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from packetflow.transports.http import HttpListener
from packetflow.wire.limits import Limits
from tests.transports.peers import Http, TurnedClock, until
from tests.transports.small_door import SmallDoor
from tests.transports.test_tcp_faults import clock_until_told

Make = Callable[..., HttpListener]


def still_serves(listener: HttpListener) -> None:
    with Http(listener.address) as caller:
        assert caller.call("echo", {"ok": 1}).data == {"ok": 1}


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00\x00\x00\x10\x81\xa4type",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"hello there\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nbroken header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: localhost\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    ],
)
def test_garbage_is_a_400_and_the_end(http: Make, door: SmallDoor, garbage: bytes) -> None:
    listener = http()
    with Http(listener.address) as caller:
        caller.send(garbage)
        answer = caller.answer()
        assert (answer.status, answer.error["code"]) == (400, "protocol_error")
        assert answer.headers["connection"] == "close"
        assert caller.ended()
    assert not door.seen
    still_serves(listener)


def test_garbage_after_a_request_does_not_cost_its_answer(http: Make) -> None:
    with Http(http().address) as caller:
        caller.send(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n\x00\x01garbage\r\n")
        assert caller.answer().status == 200
        assert caller.answer().status == 400


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:7421", 200),
        ("127.0.0.1:80", 200),
        ("127.8.8.8", 200),
        ("[::1]:7421", 200),
        ("desk.example.org", 200),
        ("desk.example.org:443", 200),
        ("evil.example.org", 421),
        ("127.0.0.1.evil.example.org", 421),
        ("localhost.evil.example.org", 421),
        ("192.168.1.1", 421),
        ("@", 421),
    ],
)
def test_only_loopback_and_listed_hosts_are_answered(http: Make, host: str, status: int) -> None:
    with Http(http(allowed_hosts=["desk.example.org"]).address) as caller:
        for _ in range(2):
            answer = caller.get("/health/live", host=host)
            assert answer.status == status
        if status != 200:
            assert answer.error["code"] == "forbidden"


def test_a_request_has_exactly_one_host(http: Make) -> None:
    address = http().address
    with Http(address) as caller:
        caller.send(b"GET /health/live HTTP/1.1\r\n\r\n")
        assert caller.answer().status == 400
    with Http(address) as caller:
        caller.send(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\nhost: evil\r\n\r\n")
        assert caller.answer().status == 400


def test_pages_of_origins_that_are_not_listed_are_refused(http: Make, door: SmallDoor) -> None:
    with Http(http(allowed_origins=["https://desk.example.org"]).address) as caller:
        for origin in (
            "https://evil.example.org",
            "null",
            "http://localhost:7421",
            "http://desk.example.org",
        ):
            answer = caller.call("echo", {}, origin=origin)
            assert (answer.status, answer.error["code"]) == (403, "forbidden")
            assert "access-control-allow-origin" not in answer.headers
        assert not door.seen
        answer = caller.call("echo", {}, origin="https://desk.example.org")
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://desk.example.org"
        caller.request("OPTIONS", "/capabilities/echo", origin="https://desk.example.org")
        answer = caller.answer()
        assert answer.status == 204
        assert "content-type" in answer.headers["access-control-allow-headers"]
        caller.request("OPTIONS", "/capabilities/echo", origin="https://evil.example.org")
        assert caller.answer().status == 403


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; b=x",
        "application/json; charset=utf-16",
        "",
    ],
)
def test_other_bodies_than_json_and_msgpack_are_415(http: Make, door: SmallDoor, content_type: str) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/echo", b"{}", content_type=content_type)
        assert caller.answer().status == 415
        assert caller.call("echo", {}).status == 200
    assert len(door.seen) == 1


def test_a_compressed_body_is_415(http: Make) -> None:
    with Http(http().address) as caller:
        assert caller.call("echo", {}, content_encoding="gzip").status == 415
        assert caller.call("echo", {}, content_encoding="identity").status == 200


def test_a_body_without_a_length_is_411(http: Make) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/echo", content_type="application/json")
        assert caller.answer().status == 411


def test_unknown_paths_and_methods_are_404_and_405(http: Make) -> None:
    with Http(http().address) as caller:
        for path in ("/", "/nowhere", "/capabilities/", "/capabilities/a/b", "/capabilities/%ff", "/health"):
            answer = caller.get(path)
            assert (answer.status, answer.error["code"]) == (404, "not_found")
        caller.request("POST", "/capabilities/", b"{}")
        assert caller.answer().status == 404
        for method, path, allowed in (
            ("DELETE", "/capabilities/echo", "get, head, post"),
            ("POST", "/capabilities", "get, head"),
            ("PUT", "/health/live", "get, head"),
        ):
            caller.request(method, path, b"{}")
            answer = caller.answer()
            assert (answer.status, answer.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "protocol_error"),
        (b"{} x", "protocol_error"),
        (b'{"a": NaN}', "protocol_error"),
        (b'{"a": "\xff"}', "protocol_error"),
        (b'{"a": "\\ud800"}', "protocol_error"),
        (b"[1]", "validation_failed"),
        (b'"text"', "validation_failed"),
        (b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}", "too_large"),
        (b'{"a": ' + b"[" * 4000 + b"]" * 4000 + b"}", "too_large"),
        (b'{"a": "' + b"x" * 300_000 + b'"}', "too_large"),
        (b'{"a": [' + b"1," * 10_000 + b"1]}", "too_large"),
        (b'{"a": ' + b"9" * 100_000 + b"}", "protocol_error"),
    ],
)
def test_a_bad_body_is_refused_and_the_connection_goes_on(
    http: Make, door: SmallDoor, body: bytes, code: str
) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/echo", body)
        assert caller.answer().error["code"] == code
        assert not door.seen
        assert caller.call("echo", {}).status == 200


def test_an_announced_100_megabytes_are_413_at_the_headers_and_never_kept(
    http: Make, door: SmallDoor
) -> None:
    listener = http()
    with Http(listener.address) as caller:
        caller.request(
            "POST", "/capabilities/echo", content_type="application/json", content_length=str(100 << 20)
        )
        for _ in range(100):
            caller.send(bytes(1 << 20))
            for connection in listener.connections:
                assert not connection.reader._parts  # type: ignore[attr-defined]
        answer = caller.answer()
        assert (answer.status, answer.error["code"]) == (413, "too_large")
        assert answer.headers["connection"] == "close"
        assert caller.ended()
    assert not door.seen
    still_serves(listener)


def test_with_expect_a_body_that_is_too_large_is_refused_before_it_is_sent(http: Make) -> None:
    with Http(http().address) as caller:
        caller.request(
            "POST",
            "/capabilities/echo",
            content_type="application/json",
            content_length="2000000",
            expect="100-continue",
        )
        assert caller.answer().status == 413
        assert caller.ended()


def test_a_chunked_body_is_413_when_it_passes_the_limit(http: Make, door: SmallDoor) -> None:
    with Http(http(Limits(payload=100_000)).address) as caller:
        caller.request(
            "POST", "/capabilities/echo", content_type="application/json", transfer_encoding="chunked"
        )
        for _ in range(20):
            caller.send(b"2710\r\n" + b" " * 10_000 + b"\r\n")
        assert caller.answer().status == 413
    assert not door.seen


def test_a_body_of_endless_tiny_chunks_is_413(http: Make) -> None:
    with Http(http(Limits(payload=10_000)).address) as caller:
        caller.request(
            "POST", "/capabilities/echo", content_type="application/json", transfer_encoding="chunked"
        )
        caller.send(b"1;x=" + b"y" * 100 + b"\r\n \r\n")
        for _ in range(20):
            caller.send((b"1;x=" + b"y" * 500 + b"\r\n \r\n") * 100)
        assert caller.answer().status == 413


def test_endless_headers_are_431_and_endless_paths_414(http: Make) -> None:
    address = http().address
    with Http(address) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ")
        for _ in range(20):
            caller.send(b"y" * 5000)
        assert caller.answer().status == 431
    with Http(address) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n" + b"x: y\r\n" * 200 + b"\r\n")
        assert caller.answer().status == 431
    with Http(address) as caller:
        caller.send(b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert caller.answer().status == 414


def test_an_upgrade_or_an_odd_expectation_is_refused(http: Make) -> None:
    address = http().address
    for lines, status in (
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\nhost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: localhost\r\nexpect: cake\r\n\r\n", 417),
    ):
        with Http(address) as caller:
            caller.send(lines)
            assert caller.answer().status == status
            assert caller.ended()


def test_headers_that_never_end_are_408(http: Make, clock: TurnedClock) -> None:
    listener = http()
    with Http(listener.address) as caller:
        caller.send(b"GET / HTTP/1.1\r\nhost: loc")
        until(lambda: any(c.reader.begun for c in listener.connections))  # type: ignore[attr-defined]
        clock.turn(11.0)
        caller.send(b"alhost\r\n")  # a byte now and then does not help
        clock_until_told(listener, clock)
        answer = caller.answer()
        assert (answer.status, answer.error["code"]) == (408, "timeout")
        assert caller.ended()


def test_a_body_that_never_ends_is_408(http: Make, clock: TurnedClock) -> None:
    listener = http()
    with Http(listener.address) as caller:
        caller.request("POST", "/capabilities/echo", content_type="application/json", content_length="10")
        until(lambda: any(c.reader.in_body for c in listener.connections))  # type: ignore[attr-defined]
        clock.turn(31.0)
        caller.send(b"{")
        clock_until_told(listener, clock)
        assert caller.answer().status == 408


def test_an_idle_connection_ends_without_a_word(http: Make, clock: TurnedClock) -> None:
    listener = http()
    with Http(listener.address) as silent, Http(listener.address) as idle:
        assert idle.get("/health/live").status == 200
        until(lambda: len(listener.connections) == 2)
        clock.turn(61.0)
        clock_until_told(listener, clock)
        assert idle.ended()
        assert silent.ended()


def test_a_long_request_outlives_every_deadline(http: Make, door: SmallDoor, clock: TurnedClock) -> None:
    listener = http()
    with Http(listener.address) as caller:
        caller.request("POST", "/capabilities/wait", b'{"name": "w"}')
        until(lambda: door.waiting)
        clock.turn(1000.0)
        clock_until_told(listener, clock)
        door.release("w")
        assert caller.answer().data == "w"
        assert caller.call("echo", {}).status == 200


def test_a_pipeliner_that_sends_more_than_it_lets_us_answer_has_to_wait(http: Make, door: SmallDoor) -> None:
    listener = http(Limits(payload=100_000))
    with Http(listener.address) as caller:
        caller.request("POST", "/capabilities/wait", b'{"name": "w"}')
        until(lambda: door.waiting)
        caller.sock.settimeout(0.05)
        sent = 1
        body = b'{"s": "' + b"x" * 50_000 + b'"}'
        with contextlib.suppress(TimeoutError):  # the last one is sent in part
            while sent < 2000:
                caller.request("POST", "/capabilities/echo", body)
                sent += 1
        assert sent < 2000
        (connection,) = listener.connections
        assert connection.reader.queued < 400_000  # type: ignore[attr-defined]
        caller.sock.settimeout(10)
        door.release("w")
        assert caller.answer().data == "w"
        for _ in range(sent - 1):
            assert caller.answer().status == 200


def test_a_reader_that_is_slow_gets_its_large_answer_also_with_connection_close(
    http: Make, clock: TurnedClock
) -> None:
    listener = http(Limits(frame=16 << 20))
    with Http(listener.address, receive_buffer=4096) as caller:
        caller.request("POST", "/capabilities/big", b'{"size": 8000000}', connection="close")
        until(lambda: any(c.stuck for c in listener.connections))  # type: ignore[attr-defined]
        clock.turn(10.0)
        answer = caller.answer()
        assert len(answer.body) == 8_000_002
        assert caller.ended()


def test_a_caller_that_never_reads_is_closed(http: Make, clock: TurnedClock) -> None:
    listener = http(Limits(frame=16 << 20))
    with Http(listener.address, receive_buffer=4096) as caller:
        caller.request("POST", "/capabilities/big", b'{"size": 8000000}')
        until(lambda: any(c.stuck for c in listener.connections))  # type: ignore[attr-defined]
        before = listener.now
        clock.turn(31.0)
        until(lambda: listener.now > before + 30)
        until(lambda: not listener.connections)


def test_more_connections_than_allowed_are_503(http: Make) -> None:
    listener = http(connections=1)
    with Http(listener.address) as first:
        assert first.get("/health/live").status == 200
        with Http(listener.address) as second:
            answer = second.answer()
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert second.ended()


def test_an_answer_that_can_not_be_sent_is_an_error(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        for value in (float("nan"), object(), "\ud800"):
            door.value = value
            answer = caller.call("value", {})
            assert (answer.status, answer.error["code"]) == (500, "execution_failed")
        door.value = "x" * (2 << 20)
        assert caller.call("value", {}).status == 413
        door.value = "NaN Infinity"
        assert caller.call("value", {}).data == "NaN Infinity"


def test_a_door_or_a_look_that_raises_is_500_without_its_text(http: Make, door: SmallDoor) -> None:
    def broken() -> tuple[bool, dict[str, object]]:
        raise RuntimeError("secret")

    door.failure = RuntimeError("secret")
    with Http(http(live=broken).address) as caller:
        for answer in (caller.call("fail", {}), caller.get("/health/live")):
            assert (answer.status, answer.error["code"]) == (500, "internal")
            assert b"secret" not in answer.body
        assert caller.call("echo", {}).status == 200
