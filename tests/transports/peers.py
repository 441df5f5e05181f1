"""Peers for the transports' tests that know nothing of ours: a socket, msgpack, and patience with a deadline."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket
import msgpack

from packetflow.otp.clock import Clock


def until(condition: Callable[[], Any], within: float = 10.0) -> None:
    """Waits for a condition; fails if it does not come."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        gevent.sleep(0.001)


class TurnedClock(Clock):
    """A clock that a test can turn."""

    def __init__(self) -> None:
        self.ahead = 0.0
        super().__init__(monotonic=lambda: time.monotonic() + self.ahead)

    __slots__ = ("ahead",)

    def turn(self, seconds: float) -> None:
        self.ahead += seconds


class Wire:
    """A connected socket."""

    def __init__(self, address: str, receive_buffer: int | None = None) -> None:
        if address.startswith("/"):
            self.sock = gevent.socket.socket(gevent.socket.AF_UNIX, gevent.socket.SOCK_STREAM)
            self.sock.connect(address)
        else:
            host, _, port = address.rpartition(":")
            self.sock = gevent.socket.socket()
            if receive_buffer is not None:
                self.sock.setsockopt(gevent.socket.SOL_SOCKET, gevent.socket.SO_RCVBUF, receive_buffer)
            try:
                self.sock.connect((host, int(port)))
            except OSError:
                self.sock.close()
                raise
        self.sock.settimeout(10)
        self.buffer = b""

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def more(self) -> bool:
        """Reads once; False at the end."""
        try:
            data = self.sock.recv(65536)
        except ConnectionResetError:
            return False
        self.buffer += data
        return bool(data)

    def rest(self) -> bytes:
        """Everything until the peer closes."""
        while self.more():
            pass
        return self.buffer

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Messages(Wire):
    """Speaks the protocol's frames."""

    encode = staticmethod(msgpack.packb)
    decode = staticmethod(msgpack.unpackb)

    def say(self, **message: Any) -> None:
        self.send(self.frame(message))

    def frame(self, message: Any) -> bytes:
        body = self.encode(message)
        return struct.pack(">I", len(body)) + body

    def hear(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        while True:
            if len(self.buffer) >= 4:
                size = struct.unpack(">I", self.buffer[:4])[0]
                if len(self.buffer) >= 4 + size:
                    body, self.buffer = self.buffer[4 : 4 + size], self.buffer[4 + size :]
                    return self.decode(body)  # type: ignore[no-any-return]
            if not self.more():
                return None

    def greet(self, *features: str) -> dict[str, Any]:
        self.say(version=1, type="hello", payload={"versions": [1], "features": list(features)})
        welcome = self.hear()
        assert welcome is not None
        assert welcome["type"] == "welcome"
        return welcome

    def ask(self, id: Any, capability: str, payload: Any = None, **more: Any) -> None:
        self.say(type="capability_request", id=id, capability_id=capability, payload=payload, **more)

    def answer(self) -> dict[str, Any]:
        heard = self.hear()
        assert heard is not None
        return heard


class JsonMessages(Messages):
    """The same in JSON."""

    encode = staticmethod(lambda message: json.dumps(message).encode())
    decode = staticmethod(json.loads)


class Answer:
    """An HTTP answer."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def data(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        return self.data["error"]  # type: ignore[no-any-return]


class Http(Wire):
    """Speaks HTTP/1.1, as literally as the test says."""

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> None:
        lines = [f"{method} {path} HTTP/1.1"]
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("host", "localhost")
        if body is not None:
            named.setdefault("content-type", "application/json")
            named.setdefault("content-length", str(len(body)))
        lines += [f"{name}: {value}" for name, value in named.items() if value]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b""))

    def call(self, capability: str, payload: Any, **headers: str) -> Answer:
        self.request("POST", f"/capabilities/{capability}", json.dumps(payload).encode(), **headers)
        return self.answer()

    def get(self, path: str, **headers: str) -> Answer:
        self.request("GET", path, **headers)
        return self.answer()

    def answer(self, bodiless: bool = False) -> Answer:
        while b"\r\n\r\n" not in self.buffer:
            assert self.more(), f"no answer, only {self.buffer!r}"
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        status = int(first.split()[1])
        size = 0 if bodiless or status in (100, 204) else int(headers["content-length"])
        while len(self.buffer) < size:
            assert self.more(), "half an answer"
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        return Answer(status, headers, body)

    def ended(self) -> bool:
        """Whether the peer has closed, without a further word."""
        return self.rest() == b""
