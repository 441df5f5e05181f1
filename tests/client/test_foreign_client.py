"""A client written from docs/protocol.md alone: a socket, msgpack, and nothing of ours."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from packetflow.otp.clock import Clock
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.node.passing import Passing
from tests.node.streaming import up
from tests.transports.small_door import ServedThread


class ForeignClient:
    """The protocol in forty lines."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self.sock = socket.create_connection((host, int(port)), timeout=10)
        self.last_id = 0
        self.answers: dict[int, dict[str, Any]] = {}
        payload = {"versions": [1], "features": ["cancel", "heartbeat"], "software": "foreign/0"}
        self.write({"version": 1, "type": "hello", "payload": payload})
        self.welcome = self.read()
        if self.welcome["type"] != "welcome":
            raise ConnectionError(self.welcome["payload"]["message"])

    def write(self, message: dict[str, Any]) -> None:
        body = msgpack.packb(message)
        self.sock.sendall(struct.pack(">I", len(body)) + body)

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self.sock.recv(size - len(data))
            if not part:
                raise ConnectionError("closed")
            data += part
        return data

    def read(self) -> dict[str, Any]:
        (size,) = struct.unpack(">I", self.exactly(4))
        return msgpack.unpackb(self.exactly(size))  # type: ignore[no-any-return]

    def begin(self, capability: str, payload: dict[str, Any], **metadata: Any) -> int:
        self.last_id += 1
        message = {
            "type": "capability_request",
            "id": self.last_id,
            "capability_id": capability,
            "payload": payload,
        }
        self.write({**message, "metadata": metadata})
        return self.last_id

    def end(self, id: int) -> dict[str, Any]:
        while id not in self.answers:
            message = self.read()
            if message["type"] == "goodbye":
                raise ConnectionError(message.get("payload", {}).get("message", "goodbye"))
            self.answers[message["id"]] = message
        return self.answers.pop(id)

    def call(self, capability: str, payload: dict[str, Any], **metadata: Any) -> Any:
        answer = self.end(self.begin(capability, payload, **metadata))
        if answer["type"] == "capability_error":
            raise LookupError(answer["payload"]["code"])
        return answer["payload"]

    def close(self) -> None:
        self.write({"type": "goodbye"})
        assert self.sock.recv(1) == b""
        self.sock.close()


@pytest.fixture
def client(node: ServedThread) -> Iterator[ForeignClient]:
    client = ForeignClient(node.address)
    yield client
    client.close()


def test_it_shakes_hands_calls_and_gets_errors(client: ForeignClient) -> None:
    assert client.welcome["payload"]["features"] == ["cancel", "heartbeat"]
    assert client.call("echo", {"text": "hi"}, timeout=1500) == {"text": "hi"}
    with pytest.raises(LookupError, match="not_found"):
        client.call("nope", {})


def test_it_gets_answers_in_any_order(client: ForeignClient, node: ServedThread) -> None:
    slow, quick = client.begin("wait", {"name": "w"}), client.begin("echo", {"n": 1})
    assert client.end(quick)["payload"] == {"n": 1}
    node.do(lambda: node.door.release("w"))
    assert client.end(slow)["payload"] == "w"


def test_it_reads_a_stream_as_it_lets_the_items_come() -> None:
    def make(_: Any) -> TcpListener:
        return TcpListener(Passing([up], door="tcp").door, Clock(), Limits(), port=0, sweep=0.02)

    with ServedThread(make) as served:
        client = ForeignClient(served.address)
        id = client.begin("count.up", {"upto": 3}, credit=1)
        items = []
        while (message := client.read())["type"] == "stream_item":
            assert message["id"] == id
            items.append(message["payload"])
            client.write({"type": "credit", "id": id, "payload": {"items": 1}})
        assert items == [0, 1, 2]
        assert (message["type"], message["payload"]) == ("stream_end", {"items": 3})
        id = client.begin("count.up", {"upto": 3}, credit=1)
        assert client.read()["payload"] == 0
        client.write({"type": "cancel", "id": id})
        assert client.read()["payload"]["error"]["code"] == "cancelled"
        client.close()


def test_it_cancels_and_beats(client: ForeignClient) -> None:
    slow = client.begin("wait", {"name": "w"})
    client.write({"type": "cancel", "id": slow})
    assert client.end(slow)["payload"]["code"] == "cancelled"
    client.write({"type": "heartbeat", "id": 99})
    assert client.end(99)["type"] == "heartbeat"
