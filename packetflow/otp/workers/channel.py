"""The channel between a worker process and its parent: numbered requests, answers and words over a socket pair.

Both sides use it. It belongs to the hub: it owns no greenlet, reads and writes when the socket can, and never waits there.
What is sent is pickled: the two sides are one program of one user, and nobody else has the socket.
"""

from __future__ import annotations

import pickle
import socket
import struct
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original
from greenlet import getcurrent

from packetflow.otp.errors import WorkerFailed
from packetflow.otp.signals import log
from packetflow.otp.threads import door_of, get_ident

PlainSocket: type[socket.socket] = get_original("socket", "socket")

REQUEST: Final = 1  # wants an answer
ANSWER: Final = 2
REFUSAL: Final = 3  # an answer that is an error
WORD: Final = 4  # wants none
GIVEN_UP: Final = 5  # nobody waits for the answer to this number any more

HEAD: Final = struct.Struct(">IBQ")  # bytes of the body, kind, number
RECEIVE: Final = 256 * 1024
ROUNDS: Final = 16  # times that in one turn of the hub
HIGH_WATER: Final = 1024 * 1024  # bytes that wait to be sent, above which a sender waits
READ: Final = 1
WRITE: Final = 2

Settle = Callable[[bool, Any], None]


def frame(kind: int, number: int, body: Any) -> bytes:
    """A message as bytes. Raises what pickling raises."""
    data = pickle.dumps(body, pickle.HIGHEST_PROTOCOL)
    return HEAD.pack(len(data), kind, number) + data


def as_failure(error: BaseException) -> BaseException:
    """An exception that can be sent: itself if it comes out of pickling as it went in, else a WorkerFailed that says the same."""
    try:
        again = pickle.loads(pickle.dumps(error))
        if type(again) is type(error) and str(again) == str(error):
            return error
    except Exception:  # noqa: BLE001 - whatever an exception's own pickling raises
        pass
    return failed_of(error)


def failed_of(error: BaseException) -> WorkerFailed:
    """What an exception says, as text: where it came from is no object that another process could have."""
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    return WorkerFailed(type(error).__name__, str(error), "".join(lines))


def _kill(answering: gevent.Greenlet[..., Any]) -> None:
    answering.kill(block=False)


class ChannelClosed(ConnectionError):
    """The other process is gone."""


class Channel:
    """One end. request(message) answers the other side's requests, each in a greenlet of its own; word(message) takes its
    words, in the hub; closed() is called once, when the other side is gone. end(greenlet) ends the greenlet that answers a
    request which the other side has given up.
    """

    def __init__(
        self,
        sock: socket.socket,
        request: Callable[[Any], Any],
        word: Callable[[Any], None],
        closed: Callable[[], None],
        end: Callable[[gevent.Greenlet[..., Any]], object] | None = None,
    ) -> None:
        sock.setblocking(False)
        self._socket = sock
        self._request = request
        self._word = word
        self._closed = closed
        self._end = end or _kill
        self._thread = get_ident()
        self._hub: Any = get_hub()
        self._door = door_of(self._hub)
        self._number = 0
        self._waiting: dict[int, Settle] = {}
        self._in = bytearray()
        self._out: deque[bytes] = deque()
        self.backlog = 0  # bytes that wait to be sent
        self._room = Event()
        self._room.set()
        self._quiet = Event()  # nothing of the other side's is being answered
        self._quiet.set()
        self._answering: dict[int, gevent.Greenlet[..., Any]] = {}
        self.received = 0  # bytes
        self.open = True
        self._reader = self._hub.loop.io(sock.fileno(), READ)
        self._writer = self._hub.loop.io(sock.fileno(), WRITE)
        self._reader.start(self.read)

    # ---- out ---------------------------------------------------------------------------------------------------------

    def ask(self, message: Any, settle: Settle) -> None:
        """Sends a request; settle(worked, value) is called when it is answered, or with ChannelClosed. Never waits.

        Raises what pickling raises, and ChannelClosed.
        """
        data = frame(REQUEST, self._number + 1, message)
        if not self.open:
            raise ChannelClosed("the other process is gone")
        self._number += 1
        self._waiting[self._number] = settle
        self._send(data)

    @property
    def answering(self) -> int:
        """How many of the other side's requests are under way."""
        return len(self._answering)

    def forget(self, settle: Settle) -> None:
        """Nobody waits for this answer any more: the other side is told, and ends what it does for it."""
        for number, waiting in self._waiting.items():
            if waiting is settle:
                del self._waiting[number]
                self._send(frame(GIVEN_UP, number, None))
                return

    def tell(self, message: Any) -> None:
        """Sends a word. From any thread; never waits. Nobody is there: nothing happens. Raises what pickling raises."""
        data = frame(WORD, 0, message)
        if get_ident() == self._thread:
            self._send(data)
        else:
            self._door.post(self._send, data)

    def wait_for_room(self) -> None:
        """Waits while more is to be sent than the other side takes. Returns at once in the hub."""
        if not self._room.is_set() and getcurrent() is not self._hub:
            self._room.wait()

    def flush(self, seconds: float) -> None:
        """Waits until all is sent, at most so long."""
        with gevent.Timeout(seconds, False):
            while self._out and self.open:
                self._room.clear()
                self._room.wait()

    def wait_quiet(self, seconds: float | None = None) -> bool:
        """Waits until every request of the other side is answered. Returns whether that came."""
        return bool(self._quiet.wait(seconds))

    def _send(self, data: bytes) -> None:
        if not self.open:
            return
        self._out.append(data)
        self.backlog += len(data)
        if len(self._out) == 1:
            self._write()
        if self.backlog > HIGH_WATER:
            self._room.clear()

    def _write(self) -> None:
        out = self._out
        while out:
            data = out[0]
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError:
                self._writer.stop()
                return  # the other side is gone; what it said last is still to be read
            self.backlog -= sent
            if sent < len(data):
                out[0] = data[sent:]
                if not self._writer.active:
                    self._writer.start(self._write)
                return
            out.popleft()
        self._writer.stop()
        if not self._room.is_set():
            self._room.set()

    # ---- in ----------------------------------------------------------------------------------------------------------

    def read(self) -> None:
        """Takes in what the other side has sent so far."""
        for _ in range(ROUNDS):
            if not self.open:
                return
            try:
                data = self._socket.recv(RECEIVE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                data = b""
            if not data:
                self.close()
                return
            self.received += len(data)
            self._in += data
            self._cut()
            if len(data) < RECEIVE:
                return

    def _cut(self) -> None:
        buffer = self._in
        at = 0
        while len(buffer) - at >= HEAD.size:
            size, kind, number = HEAD.unpack_from(buffer, at)
            end = at + HEAD.size + size
            if len(buffer) < end:
                break
            body = bytes(buffer[at + HEAD.size : end])
            at = end
            self._take(kind, number, body)
        del buffer[:at]

    def _take(self, kind: int, number: int, body: bytes) -> None:
        try:
            message = pickle.loads(body)
        except Exception as error:  # noqa: BLE001 - a class that only the other side has
            if kind == REQUEST:
                self._send(frame(REFUSAL, number, failed_of(error)))
                return
            if kind == WORD:
                log.error("a word of the other process can't be read", exc_info=error)
                return
            kind, message = REFUSAL, error
        if kind == REQUEST:
            self._quiet.clear()
            self._answering[number] = gevent.spawn(self._answer, number, message)
        elif kind == WORD:
            self._word(message)
        elif kind == GIVEN_UP:
            # In a turn of its own: the greenlet must have begun, and the hub must not wait for its cleanup.
            self._hub.loop.run_callback(self._give_up, number)
        else:
            settle = self._waiting.pop(number, None)
            if settle is not None:
                settle(kind == ANSWER, message)

    def _answer(self, number: int, message: Any) -> None:
        try:
            try:
                data = frame(ANSWER, number, self._request(message))
            except Exception as error:  # noqa: BLE001 - the one who asked gets it
                data = frame(REFUSAL, number, as_failure(error))
            self._send(data)
        finally:
            del self._answering[number]
            if not self._answering:
                self._quiet.set()

    def _give_up(self, number: int) -> None:
        answering = self._answering.get(number)
        if answering is not None:
            self._end(answering)

    # ---- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends it: who waits for an answer gets ChannelClosed, and what is done for the other side is ended."""
        if not self.open:
            return
        self.open = False
        for watcher in (self._reader, self._writer):
            watcher.stop()
            watcher.close()
        self._socket.close()
        self._out.clear()
        self._room.set()
        for number in self._answering:
            self._hub.loop.run_callback(self._give_up, number)
        waiting, self._waiting = self._waiting, {}
        for settle in waiting.values():
            settle(False, ChannelClosed("the other process is gone"))
        self._closed()
