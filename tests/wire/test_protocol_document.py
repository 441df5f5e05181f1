"""docs/protocol.md says what is true: its vectors byte for byte, its tables against the code."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from packetflow.transports.tcp import FEATURES
from packetflow.wire.envelope import (
    TYPES,
    JsonEnvelope,
    MsgpackEnvelope,
    credit,
    goodbye,
    hello,
    progress,
    read_credit,
    read_hello,
    read_request,
    wants_progress,
    welcome,
)
from packetflow.wire.errors import STATUS, Cancelled, RateLimited, Unavailable
from packetflow.wire.limits import Limits
from packetflow.wire.stream import Progress, progress_from_dict

TEXT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
VECTORS: dict[str, tuple[dict[str, Any], bytes, bytes]] = {
    name: (json.loads(message), bytes.fromhex(packed), bytes.fromhex(text))
    for name, message, packed, text in re.findall(
        r"\*\*([^*]+)\*\*\n\n```vector\nmessage (.*)\nmsgpack ([0-9a-f]+)\njson    ([0-9a-f]+)\n```", TEXT
    )
}
TRACE = "4f2a9c1e4f2a9c1e4f2a9c1e4f2a9c1e"
MSGPACK, JSON = MsgpackEnvelope(Limits()), JsonEnvelope(Limits())


def test_every_type_has_a_vector() -> None:
    assert {message["type"] for message, _, _ in VECTORS.values()} == set(TYPES)


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_is_what_is_written_and_read(name: str) -> None:
    message, packed, text = VECTORS[name]
    assert MSGPACK.encode(message) == packed
    assert JSON.encode(message) == text
    assert MSGPACK.decode(packed[4:]) == message
    assert JSON.decode(text[4:]) == message
    assert int.from_bytes(packed[:4], "big") == len(packed) - 4


def test_the_quick_ways_write_the_same_bytes() -> None:
    message, packed, text = VECTORS["a response"]
    for envelope, frame in ((MSGPACK, packed), (JSON, text)):
        assert envelope.response(1, message["payload"], TRACE, 0.00125) == frame
    error = RateLimited("slow down", {"module": "rate_limit"}, 0.5)
    _, packed, text = VECTORS["an error"]
    assert MSGPACK.error("b-2", error, TRACE, 0.00025) == packed
    assert JSON.error("b-2", error, TRACE, 0.00025) == text


def test_the_builders_make_the_documented_messages() -> None:
    assert hello(["cancel", "heartbeat"], "example/1.0") == VECTORS["hello"][0]
    limits = {**Limits().as_dict(), "in_flight": 64}
    assert welcome(1, ["cancel", "heartbeat"], "packetflow", limits) == VECTORS["welcome"][0]
    assert goodbye() == VECTORS["goodbye"][0]
    stopping = Unavailable("the node is stopping", retry_after=1.0)
    assert goodbye(stopping) == VECTORS["goodbye with a reason"][0]


def test_the_readers_understand_them() -> None:
    greeting = read_hello(VECTORS["hello"][0])
    assert greeting == (1, frozenset({"cancel", "heartbeat"}), "example/1.0")
    capability, payload, metadata, intent = read_request(VECTORS["a request"][0])
    assert (capability, intent) == ("ticket.open@2", None)
    assert payload == {"customer_id": "C-1001", "text": "grüße"}
    assert (metadata.timeout, metadata.idempotency_key) == (1.5, "a-1")


def test_the_table_of_errors_is_the_codes_table() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", TEXT, re.MULTILINE))
    assert {code: int(status) for code, status in rows.items()} == STATUS


def test_streams_are_written_and_read_as_documented() -> None:
    item, end = VECTORS["an item"], VECTORS["the end of a stream"]
    error = Cancelled("cancelled by the caller")
    for envelope, place in ((MSGPACK, 1), (JSON, 2)):
        assert envelope.item(3, item[0]["payload"]) == item[place]
        assert envelope.end(3, 2, None, TRACE, 0.00125) == end[place]
        assert envelope.end(3, 1, error, TRACE, 0.00125) == VECTORS["an end by an error"][place]
    assert credit(3, 16) == VECTORS["credit"][0]
    assert read_credit(VECTORS["credit"][0]) == 16
    assert progress(3, Progress(1, 2, "tickets")) == VECTORS["progress"][0]
    assert progress_from_dict(VECTORS["progress"][0]["payload"]) == Progress(1, 2, "tickets")
    _, _, metadata, _ = read_request(VECTORS["a request for a stream"][0])
    assert metadata.credit == 2
    assert wants_progress(VECTORS["a request for a stream"][0])


def test_the_offered_features_are_the_documented_ones() -> None:
    (listed,) = re.findall(r"Now there are (.*?)\(the node", TEXT, re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == [*FEATURES, "idempotency"]
