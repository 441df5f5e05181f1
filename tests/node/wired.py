"""A door of the test's own behind real listeners, and peers that read what comes bit by bit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from packetflow.otp.clock import Clock
from packetflow.transports.http import HttpListener
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.node.passing import Passing
from tests.transports.peers import Http, Messages


@contextmanager
def over_tcp(passing: Passing, limits: Limits | None = None, **options: Any) -> Iterator[TcpListener]:
    """A tcp listener before the door."""
    listener = TcpListener(passing.door, Clock(), limits or Limits(), port=0, sweep=0.02, **options)
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


@contextmanager
def over_http(passing: Passing, limits: Limits | None = None, **options: Any) -> Iterator[HttpListener]:
    """An HTTP listener before the door."""
    listener = HttpListener(
        passing.door,
        Clock(),
        limits or Limits(),
        port=0,
        sweep=0.02,
        live=lambda: (True, {}),
        ready=lambda: (True, {}),
        catalogue=lambda session: {},
        describe=lambda session, id: None,
        **options,
    )
    listener.start()
    try:
        yield listener
    finally:
        listener.close()


class Caller(Messages):
    """Speaks the frames of streams."""

    def stream(
        self, id: Any, capability: str, payload: Any = None, credit: int | None = 1000, **more: Any
    ) -> None:
        metadata = {**({} if credit is None else {"credit": credit}), **more}
        self.ask(id, capability, payload, metadata=metadata)

    def credit(self, id: Any, items: Any) -> None:
        self.say(type="credit", id=id, payload={"items": items})

    def items(self, count: int) -> list[Any]:
        """The payloads of the next messages, which have to be items."""
        return [self.item() for _ in range(count)]

    def item(self) -> Any:
        answer = self.answer()
        assert answer["type"] == "stream_item", answer
        return answer["payload"]

    def to_the_end(self) -> tuple[list[Any], dict[str, Any]]:
        """All further items, and the message that ends them."""
        items = []
        while (answer := self.answer())["type"] == "stream_item":
            items.append(answer["payload"])
        return items, answer


class Lines(Http):
    """Reads answers that come bit by bit, in chunks."""

    def begin(self, capability: str, payload: Any, **headers: str) -> dict[str, str]:
        """Ask, and give the headers of the answer."""
        self.request("POST", f"/capabilities/{capability}", json.dumps(payload).encode(), **headers)
        return self.head()

    def head(self) -> dict[str, str]:
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"no answer, only {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        assert first.split()[1] == "200", (first, self.buffer)
        return dict(line.lower().split(": ", 1) for line in lines)

    def chunk(self) -> bytes:
        """The next chunk; empty for the last one."""
        while b"\r\n" not in self.buffer:
            assert self.more(), "the answer was cut off"
        head, _, self.buffer = self.buffer.partition(b"\r\n")
        size = int(head, 16)
        while len(self.buffer) < size + 2:
            assert self.more(), "the answer was cut off"
        data, rest = self.buffer[:size], self.buffer[size:]
        assert rest[:2] == b"\r\n"
        self.buffer = rest[2:]
        return data

    def line(self) -> Any:
        return json.loads(self.chunk())

    def lines(self) -> list[Any]:
        """All further lines of an answer in JSON Lines."""
        return [json.loads(data) for data in iter(self.chunk, b"")]
