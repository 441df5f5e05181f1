"""Streams and progress over HTTP: JSON Lines or server-sent events, a status of its own for what fails before the first word."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import gevent
import pytest

from packetflow import Context, capability
from tests.node.passing import Passing
from tests.node.streaming import SYNC, did
from tests.node.test_streams import nothing_is_left
from tests.node.test_streams_over_tcp import big, odd, steps
from tests.node.wired import Lines, over_http
from tests.transports.peers import Http, until


@capability("work.fails")
def fails(context: Context, told: bool) -> int:
    """Fail, after a word or without one."""
    if told:
        context.progress(1, 2)
    raise ValueError("no further")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    did.clear()


@pytest.fixture
def passing() -> Iterator[Passing]:
    made = Passing([*SYNC, big, odd, steps, fails], door="http")
    yield made
    nothing_is_left(made.door)


@pytest.fixture
def caller(passing: Passing) -> Iterator[Lines]:
    with over_http(passing) as listener, Lines(listener.address) as made:
        yield made


def test_a_stream_is_json_lines_with_one_end(caller: Lines) -> None:
    headers = caller.begin("count.up", {"upto": 2})
    assert headers["content-type"] == "application/x-ndjson"
    assert headers["cache-control"] == "no-store"
    *items, end = caller.lines()
    assert items == [{"item": 0}, {"item": 1}]
    assert end["end"]["items"] == 2
    assert end["end"]["trace"] == headers["x-packetflow-trace"]
    assert end["end"]["execution_time"] > 0


def test_a_stream_is_server_sent_events_for_who_accepts_them(caller: Lines) -> None:
    headers = caller.begin("count.lines", {"upto": 1}, accept="text/event-stream")
    assert headers["content-type"] == "text/event-stream"
    chunks = list(iter(caller.chunk, b""))
    assert chunks[0] == b'data: {"number":0,"text":"line 0 of a@example.com"}\n\n'
    name, data, *rest = chunks[1].split(b"\n")
    assert (name, rest) == (b"event: end", [b"", b""])
    assert json.loads(data.removeprefix(b"data: "))["items"] == 1


def test_the_connection_goes_on_after_a_stream(caller: Lines) -> None:
    for _ in range(2):
        caller.begin("count.up", {"upto": 1})
        assert len(caller.lines()) == 2
    assert caller.call("count.one", {"number": 3}).data == 3


def test_the_next_request_waits_for_the_end_of_the_stream(caller: Lines) -> None:
    caller.request("POST", "/capabilities/count.up", b'{"upto": 2}')
    caller.request("POST", "/capabilities/count.one", b'{"number": 3}')
    caller.head()
    assert len(caller.lines()) == 3
    assert caller.answer().data == 3


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection(passing: Passing) -> None:
    with over_http(passing) as listener, Lines(listener.address) as old:
        body = b'{"upto": 2}'
        head = (
            b"POST /capabilities/count.up HTTP/1.0\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        )
        old.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
        head, _, lines = old.rest().partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert [*map(json.loads, lines.splitlines())][:2] == [{"item": 0}, {"item": 1}]


@pytest.mark.parametrize("accept", ["application/json", "application/msgpack", "application/json;q=1"])
def test_who_accepts_one_value_only_gets_no_stream(caller: Lines, accept: str) -> None:
    answer = caller.call("count.up", {"upto": 2}, accept=accept)
    assert answer.status == 400
    assert b"answers a stream" in answer.body
    assert did == []


@pytest.mark.parametrize("accept", ["*/*", "application/json, text/plain, */*", ""])
def test_who_accepts_anything_gets_json_lines(caller: Lines, accept: str) -> None:
    assert caller.begin("count.up", {"upto": 1}, accept=accept)["content-type"] == "application/x-ndjson"
    assert len(caller.lines()) == 2


@pytest.mark.parametrize("accept", ["", "text/event-stream", "application/x-ndjson", "application/jsonl"])
def test_what_fails_before_the_first_item_has_its_status(caller: Lines, accept: str) -> None:
    assert caller.call("count.up", {"upto": 9, "fail_at": 0}, accept=accept).status == 500
    assert caller.call("count.up", {"upto": "many"}, accept=accept).status == 400
    assert caller.call("count.down", {}, accept=accept).status == 404


def test_what_fails_after_items_is_in_the_end(caller: Lines) -> None:
    caller.begin("count.up", {"upto": 9, "fail_at": 1})
    *items, end = caller.lines()
    assert items == [{"item": 0}]
    assert end["end"]["error"]["code"] == "execution_failed"


def test_an_item_that_can_not_be_sent_ends_the_stream(caller: Lines) -> None:
    caller.begin("odd.items", {})
    *items, end = caller.lines()
    assert items == [{"item": 1}]
    assert (end["end"]["items"], end["end"]["error"]["code"]) == (1, "execution_failed")
    assert did == ["end"]


def test_a_caller_that_disconnects_ends_it_in_the_midst_of_a_wait(passing: Passing) -> None:
    with over_http(passing) as listener:
        caller = Lines(listener.address)
        caller.begin("count.slowly", {"seconds": 60})
        assert caller.line() == {"item": 0}
        caller.close()
        until(lambda: did == ["end"])


def test_a_caller_that_takes_nothing_holds_up_the_generator(passing: Passing) -> None:
    with over_http(passing) as listener:
        caller = Lines(listener.address, receive_buffer=4096)
        caller.begin("big.items", {"size": 50_000})
        until(lambda: any(connection.stuck for connection in listener.connections))
        made = len(did)
        gevent.sleep(0)
        assert len(did) == made < 40, "no more than TCP's window and one answer in the making"
        assert caller.line() == {"item": "x" * 50_000}
        caller.close()
        until(lambda: did[-1] == "end")


def test_the_timeout_header_holds_for_each_item(caller: Lines) -> None:
    caller.begin("count.slowly", {"seconds": 60}, x_packetflow_timeout="50")
    *items, end = caller.lines()
    assert (items, end["end"]["error"]["code"]) == ([{"item": 0}], "timeout")


def test_a_stream_takes_no_idempotency_key(caller: Lines) -> None:
    answer = caller.call("count.up", {"upto": 2}, idempotency_key="k")
    assert (answer.status, did) == (400, [])
    assert "no idempotency key" in answer.error["details"]["faults"][0]["message"]


# ---- progress ----------------------------------------------------------------------------------------------------------------


def test_progress_comes_before_the_answer_for_who_accepts_lines(caller: Lines) -> None:
    caller.begin("work.steps", {"count": 5, "pause": 0.001}, accept="application/x-ndjson")
    first, *_, item, end = caller.lines()
    assert first == {"progress": {"done": 0, "total": 5, "text": "working"}}
    assert (item, end["end"]["items"]) == ({"item": 5}, 1)


def test_progress_comes_as_events_too(caller: Lines) -> None:
    caller.begin("work.steps", {"count": 2}, accept="text/event-stream")
    chunks = list(iter(caller.chunk, b""))
    assert chunks[0] == b'event: progress\ndata: {"done":0,"total":2,"text":"working"}\n\n'
    assert chunks[-2] == b"data: 2\n\n"


def test_without_that_the_answer_is_plain(passing: Passing) -> None:
    with over_http(passing) as listener, Http(listener.address) as caller:
        assert caller.call("work.steps", {"count": 2}).data == 2
        assert caller.call("work.steps", {"count": 2}, accept="application/json").data == 2


def test_a_value_without_progress_is_a_stream_of_one_item_for_who_asks_for_lines(caller: Lines) -> None:
    caller.begin("count.one", {"number": 4}, accept="application/x-ndjson")
    item, end = caller.lines()
    assert (item, end["end"]["items"]) == ({"item": 4}, 1)


@pytest.mark.parametrize("told", [True, False])
def test_a_failure_has_its_status_as_long_as_nothing_was_said(caller: Lines, told: bool) -> None:
    if told:
        caller.begin("work.fails", {"told": True}, accept="text/event-stream")
        *_, end = iter(caller.chunk, b"")
        assert b'"code":"execution_failed"' in end
    else:
        assert caller.call("work.fails", {"told": False}, accept="text/event-stream").status == 500


def test_a_listed_origins_page_may_read_a_stream(passing: Passing) -> None:
    page = "https://desk.example.org"
    with over_http(passing, allowed_origins=[page]) as listener, Lines(listener.address) as caller:
        headers: dict[str, Any] = caller.begin("count.up", {"upto": 1}, origin=page)
        assert headers["access-control-allow-origin"] == page
        assert len(caller.lines()) == 2
