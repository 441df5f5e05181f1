"""A door for the transports' tests: a few capabilities, honest cancellation, and a record of what came."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from packetflow.security.access import Grants, Session
from packetflow.wire.errors import ExecutionFailed, NotFound, RequestError
from packetflow.wire.values import NO_METADATA, Metadata, Response

TRACE_ID = "0123456789abcdef0123456789abcdef"
TRACE = SimpleNamespace(id=TRACE_ID, duration=0.00125, deprecated=None)


class Ended(BaseException):
    """Thrown into a request that is cancelled."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(str(error))
        self.error = error


class SmallDoor:
    """`wait` blocks until the test says `release(name)`; `echo` gives its payload back; `fail` raises `failure`."""

    def __init__(self) -> None:
        self.capabilities: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "echo": lambda payload: payload,
            "wait": self._wait,
            "fail": self._fail,
            "value": lambda payload: self.value,
            "big": lambda payload: "x" * payload["size"],
        }
        self.value: Any = None
        self.failure: Exception = ExecutionFailed("it broke")
        self.seen: list[tuple[str, Any, Session, Metadata, str | None]] = []
        self.sessions: list[Session] = []
        self.ended: list[tuple[str, str]] = []  # name of the wait, and the code that it ended with
        self.gates: dict[str, Event] = {}
        self.waiting: set[str] = set()
        self.in_flight: dict[greenlet, object] = {}
        self.greenlets: set[greenlet] = set()
        self.trace: Any = TRACE

    def gate(self, name: str) -> Event:
        return self.gates.setdefault(name, Event())

    def release(self, name: str) -> None:
        self.gate(name).set()

    def _wait(self, payload: Mapping[str, Any]) -> Any:
        name = str(payload.get("name", ""))
        self.waiting.add(name)
        try:
            self.gate(name).wait()
        except Ended as end:
            self.ended.append((name, end.error.code))
            raise
        finally:
            self.waiting.discard(name)
        return name

    def _fail(self, payload: Mapping[str, Any]) -> Any:
        raise self.failure

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any] | None,
        session: Session,
        metadata: Metadata = NO_METADATA,
        intent: str | None = None,
    ) -> Response:
        self.seen.append((capability, payload, session, metadata, intent))
        run = self.capabilities.get(capability)
        if run is None:
            return Response(None, NotFound(f"no capability {capability!r}"), self.trace)
        me = getcurrent()
        self.greenlets.add(me)
        self.in_flight[me] = object()
        try:
            return Response(run(payload or {}), None, self.trace)
        except RequestError as error:
            return Response(None, error, self.trace)
        except Ended as end:
            return Response(None, end.error, self.trace)
        finally:
            del self.in_flight[me]

    def cancel(self, waiting: greenlet, reason: RequestError) -> bool:
        token = self.in_flight.get(waiting)
        if token is None:
            return False

        def throw() -> None:
            if self.in_flight.get(waiting) is token:
                waiting.throw(Ended(reason))

        get_hub().loop.run_callback(throw)
        return True

    def open_session(self, door: str, peer: str, operator: bool = False) -> Session:
        session = Session("test", Grants(["*"], operator=operator), door=door, peer=peer)
        self.sessions.append(session)
        return session


class ServedThread:
    """A listener in a thread of its own, with a hub of its own: for clients that block their thread."""

    def __init__(self, make: Callable[[SmallDoor], Any]) -> None:
        self.door = SmallDoor()
        self._make = make
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.address = ""

    def _serve(self) -> None:
        hub = get_hub()
        self.listener = self._make(self.door)
        self.listener.start()
        self.address = self.listener.address
        self._stop = Event()
        self._wake = hub.loop.async_()
        self._calls: list[Callable[[], Any]] = []
        self._wake.start(self._run)
        self._started.set()
        self._stop.wait()
        self.listener.close()
        hub.destroy(destroy_loop=True)

    def _run(self) -> None:
        while self._calls:
            self._calls.pop(0)()

    def do(self, call: Callable[[], Any]) -> None:
        """Run something in the listener's hub, soon."""
        self._calls.append(call)
        self._wake.send()

    def __enter__(self) -> ServedThread:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.do(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()
