"""The HTTP door: what a well-behaved caller sees."""

from __future__ import annotations

import datetime
import email.utils
import json
import subprocess
from collections.abc import Callable

import gevent
import msgpack
import pydantic
import pytest

from packetflow.transports.errors import AddressInUse
from packetflow.transports.http import HttpListener
from packetflow.wire.errors import BY_CODE, STATUS, Overloaded, RateLimited
from tests.transports.conftest import CATALOGUE
from tests.transports.peers import Http, until
from tests.transports.small_door import TRACE_ID, SmallDoor

Make = Callable[..., HttpListener]


def test_a_call_is_answered_with_the_value_as_json(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        answer = caller.call("echo", {"text": "grüße"})
    assert answer.status == 200
    assert answer.data == {"text": "grüße"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-packetflow-trace"] == TRACE_ID
    assert answer.headers["x-packetflow-execution-time"] == "1.250"
    assert email.utils.parsedate_to_datetime(answer.headers["date"].replace("gmt", "GMT")).tzinfo is not None
    assert door.sessions[0].door == "http"


def test_a_version_and_percent_signs_in_the_path_are_understood(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        caller.call("echo%402?later=1", {})
        caller.call("echo@2", {})
    assert [seen[0] for seen in door.seen] == ["echo@2", "echo@2"]


def test_msgpack_is_answered_with_msgpack_unless_json_is_accepted(http: Make) -> None:
    body = msgpack.packb({"n": 1})
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/echo", body, content_type="application/msgpack")
        answer = caller.answer()
        assert answer.headers["content-type"] == "application/msgpack"
        assert msgpack.unpackb(answer.body) == {"n": 1}
        caller.request(
            "POST",
            "/capabilities/echo",
            body,
            content_type="application/x-msgpack",
            accept="application/json, */*",
        )
        assert caller.answer().data == {"n": 1}
        answer = caller.call("echo", {"n": 2}, accept="application/msgpack;q=1")
        assert msgpack.unpackb(answer.body) == {"n": 2}


def test_no_body_is_an_empty_payload(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/echo", content_length="0")
        assert caller.answer().data == {}
        caller.request("POST", "/capabilities/echo")
        assert caller.answer().data == {}


def test_headers_become_metadata(http: Make, door: SmallDoor) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with Http(http().address) as caller:
        caller.call(
            "echo", {}, **{"x-packetflow-timeout": "1500", "idempotency-key": "k", "traceparent": parent}
        )
        caller.call("echo", {}, traceparent="nonsense")
        answer = caller.call("echo", {}, **{"x-packetflow-timeout": "soon"})
    metadata = door.seen[0][3]
    assert (metadata.timeout, metadata.idempotency_key, metadata.traceparent) == (1.5, "k", parent)
    assert door.seen[1][3].traceparent is None
    assert (answer.status, answer.error["code"]) == (400, "protocol_error")


def test_every_typed_error_has_its_status_and_the_same_body(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        for kind in BY_CODE.values():
            door.failure = kind("why", {"a": 1})
            answer = caller.call("fail", {})
            assert answer.status == STATUS[kind.code]
            assert answer.data == {"error": {"code": kind.code, "message": "why", "details": {"a": 1}}}
            assert answer.headers["x-packetflow-trace"] == TRACE_ID


def test_retry_after_is_whole_seconds_in_the_header_and_exact_in_the_body(
    http: Make, door: SmallDoor
) -> None:
    with Http(http().address) as caller:
        door.failure = RateLimited("slow down", retry_after=1.25)
        answer = caller.call("fail", {})
        assert (answer.headers["retry-after"], answer.error["retry_after"]) == ("2", 1.25)
        door.failure = Overloaded("later", retry_after=0.1)
        assert caller.call("fail", {}).headers["retry-after"] == "1"


def test_whatever_pydantic_can_serialise_crosses(http: Make, door: SmallDoor) -> None:
    class Ticket(pydantic.BaseModel):
        opened: datetime.date

    door.value = [Ticket(opened=datetime.date(2026, 1, 2)), b"\xff\x00"]
    with Http(http().address) as caller:
        assert caller.call("value", {}).data == [{"opened": "2026-01-02"}, "_wA="]


def test_the_catalogue_and_one_capability_are_shown_for_the_callers_session(http: Make) -> None:
    with Http(http().address) as caller:
        answer = caller.get("/capabilities")
        assert answer.data == CATALOGUE
        assert answer.headers["cache-control"] == "no-store"
        assert caller.get("/capabilities/echo").data == {"id": "echo", "for": "http"}
        answer = caller.get("/capabilities/nope")
        assert (answer.status, answer.error["code"]) == (404, "not_found")


def test_head_is_get_without_the_body(http: Make) -> None:
    with Http(http().address) as caller:
        caller.request("HEAD", "/capabilities")
        answer = caller.answer(bodiless=True)
        assert int(answer.headers["content-length"]) == len(json.dumps(CATALOGUE, separators=(",", ":")))
        caller.request("HEAD", "/nowhere")
        assert caller.answer(bodiless=True).status == 404
        assert caller.get("/health/live").status == 200


def test_health_is_200_or_503_with_what_the_node_says(http: Make) -> None:
    listener = http(ready=lambda: (False, {"ready": False, "why": "starting"}))
    with Http(listener.address) as caller:
        assert caller.get("/health/live").data == {"live": True}
        answer = caller.get("/health/ready")
        assert (answer.status, answer.data) == (503, {"ready": False, "why": "starting"})


def test_a_connection_is_kept_and_pipelined_requests_are_answered_in_order(
    http: Make, door: SmallDoor
) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/wait", b'{"name": "w"}')
        for number in range(20):
            caller.request(
                "POST", "/capabilities/echo", b"[%d]" % number if number == 7 else b'{"n": %d}' % number
            )
        until(lambda: door.waiting)
        door.release("w")
        assert caller.answer().data == "w"
        for number in range(20):
            answer = caller.answer()
            assert answer.status == (400 if number == 7 else 200)
            assert number == 7 or answer.data == {"n": number}


def test_a_blocked_request_does_not_hold_up_other_connections(http: Make, door: SmallDoor) -> None:
    listener = http()
    with Http(listener.address) as blocked, Http(listener.address) as other:
        blocked.request("POST", "/capabilities/wait", b'{"name": "w"}')
        until(lambda: door.waiting)
        assert other.call("echo", {"x": 1}).data == {"x": 1}
        door.release("w")
        assert blocked.answer().data == "w"


def test_requests_that_do_not_block_share_one_greenlet(http: Make, door: SmallDoor) -> None:
    listener = http()
    with Http(listener.address) as one, Http(listener.address) as two:
        for _ in range(50):
            one.call("echo", {})
            two.call("echo", {})
    assert len(door.greenlets) == 1


def test_a_disconnect_cancels_the_request(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/wait", b'{"name": "w"}')
        until(lambda: door.waiting)
    until(lambda: door.ended == [("w", "cancelled")])


def test_connection_close_and_http_1_0_are_honoured(http: Make) -> None:
    address = http().address
    with Http(address) as caller:
        answer = caller.call("echo", {}, connection="close")
        assert answer.headers["connection"] == "close"
        assert caller.ended()
    with Http(address) as caller:
        caller.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert caller.answer().headers["connection"] == "close"
        assert caller.ended()
    with Http(address) as caller:
        caller.send(b"GET /health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert caller.answer().headers["connection"] == "keep-alive"
        caller.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert caller.answer().status == 200


def test_a_chunked_body_is_put_together(http: Make) -> None:
    with Http(http().address) as caller:
        caller.request(
            "POST", "/capabilities/echo", content_type="application/json", transfer_encoding="chunked"
        )
        for part in (b'{"te', b'xt": ', b'"hi"}'):
            caller.send(b"%x\r\n%b\r\n" % (len(part), part))
            gevent.sleep(0)
        caller.send(b"0\r\nx-trailer: nothing\r\n\r\n")
        assert caller.answer().data == {"text": "hi"}
        assert caller.call("echo", {"next": 1}).data == {"next": 1}


def test_expect_100_continue_is_answered_before_the_body(http: Make) -> None:
    with Http(http().address) as caller:
        headers = {"content_type": "application/json", "content_length": "7", "expect": "100-continue"}
        caller.request("POST", "/capabilities/echo", **headers)
        assert caller.answer().status == 100
        caller.send(b'{"a":1}')
        assert caller.answer().data == {"a": 1}


def test_expect_100_continue_waits_for_its_turn_in_a_pipeline(http: Make, door: SmallDoor) -> None:
    with Http(http().address) as caller:
        caller.request("POST", "/capabilities/wait", b'{"name": "w"}')
        headers = {"content_type": "application/json", "content_length": "7", "expect": "100-continue"}
        caller.request("POST", "/capabilities/echo", **headers)
        until(lambda: door.waiting)
        door.release("w")
        assert caller.answer().data == "w"
        assert caller.answer().status == 100
        caller.send(b'{"a":1}')
        assert caller.answer().data == {"a": 1}


def test_a_draining_door_finishes_the_request_and_ends_idle_connections(http: Make, door: SmallDoor) -> None:
    listener = http()
    with Http(listener.address) as busy, Http(listener.address) as idle:
        assert idle.get("/health/live").status == 200
        busy.request("POST", "/capabilities/wait", b'{"name": "w"}')
        until(lambda: door.waiting)
        drained = gevent.spawn(listener.drain, 30.0)
        assert idle.ended()
        door.release("w")
        answer = busy.answer()
        assert (answer.data, answer.headers["connection"]) == ("w", "close")
        assert busy.ended()
        assert drained.get(timeout=10) is True


def test_a_port_in_use_is_told(http: Make) -> None:
    port = int(http().address.rpartition(":")[2])
    with pytest.raises(
        AddressInUse, match=rf"http can't listen on 127\.0\.0\.1:{port}: another program listens there"
    ):
        http(port=port)


def test_curl_is_served(http: Make) -> None:
    listener = http()
    url = f"http://{listener.address}/capabilities/echo"
    command = ["curl", "-s", "--max-time", "10", "--json", '{"a": 1}', url, url]
    try:
        out = gevent.get_hub().threadpool.apply(subprocess.check_output, (command,))
    except FileNotFoundError:
        pytest.skip("no curl here")
    assert out == b'{"a":1}' * 2
