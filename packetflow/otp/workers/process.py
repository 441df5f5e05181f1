"""The worker's own side of a worker process: what its main function is given, its heartbeat, its log.

The parent's side is supervisor.py. The main thread's hub runs the program; a native thread beats, so that a hub
that is blocked can be told from a process that is dead. When the parent is gone, the process ends at once.
"""

from __future__ import annotations

import fcntl
import logging
import os
import pickle
import signal
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import gevent
from gevent.event import AsyncResult, Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from packetflow.otp import calls
from packetflow.otp.answers import is_orderly
from packetflow.otp.clock import Clock
from packetflow.otp.errors import CallTimeout, ServerExited
from packetflow.otp.server import GenServer
from packetflow.otp.signals import log
from packetflow.otp.system import System
from packetflow.otp.threads import door_of, get_ident
from packetflow.otp.workers.channel import HIGH_WATER, Channel, PlainSocket, failed_of

#: What the two sides say on the channel, besides what the program's own functions make of it: (one of these, more).
ARGUMENTS: Final = "arguments"
CALL: Final = "call"
CAST: Final = "cast"
DRAIN: Final = "drain"
FAILED: Final = "failed"
LEAVING: Final = "leaving"
METRICS: Final = "metrics"
LOG: Final = "log"
READY: Final = "ready"
SEND: Final = "send"

BEAT: Final = struct.Struct("=d")  # seconds for which the hub has had no turn
ORPHANED: Final = 70  # the exit status of a worker whose parent is gone
LAST_WORDS: Final = 1.0  # seconds in which the last words may still be sent
MOST_RECORDS: Final = 1000  # log records that wait to be sent; more are counted and dropped

_allocate_lock = get_original("_thread", "allocate_lock")
_start_thread = get_original("_thread", "start_new_thread")


class WorkerContext:
    """What the main function of a worker process is given: `def main(worker, ...)`.

    The simplest one serves an actor: `worker.serve(Counter)`. Others set `on_call`, say `ready()`, and return when
    `draining` is set and what is in flight has been finished. When main returns, the process ends with status 0; what it
    raises goes to the parent's log, and it ends with 1.

    id: as the parent's specification says. draining: set when the parent, or SIGTERM, asks for the end. drain_request: what
    the parent sent with that. on_call, on_cast, on_send: the program's own functions for what the parent calls, casts and
    sends to this worker; each call runs in a greenlet of its own. metrics: gives the numbers that the parent merges.
    """

    def __init__(self, id: str, channel_socket: Any) -> None:
        self.id = id
        self.clock = Clock()
        self.draining = Event()
        self.drain_request: Any = None
        self.on_call: Callable[[Any], Any] = _nobody
        self.on_cast: Callable[[Any], Any] = _nobody
        self.on_send: Callable[[Any], Any] = _nobody
        self.metrics: Callable[[], Mapping[str, float]] = dict
        self._door = door_of(get_hub())
        self._thread = get_ident()
        self._system: System | None = None
        self._arguments: AsyncResult[bytes] = AsyncResult()
        self._records = 0  # log records on their way to the channel
        self._dropped = 0
        self._channel = Channel(channel_socket, self._answer, self._hear, _orphaned)

    # ---- what a program uses -----------------------------------------------------------------------------------------

    @property
    def system(self) -> System:
        """The system of this process's actors, made when it is first asked for."""
        if self._system is None:
            self._system = System(self.id, self.clock)
        return self._system

    def ready(self) -> None:
        """Tells the parent that this worker has started: its `start` returns with this."""
        self._channel.tell((READY,))

    def serve(self, cls: type[GenServer], *arguments: Any, **keywords: Any) -> None:
        """Starts an actor, says ready, and lets it answer the parent's calls, casts and sends until the worker drains.

        Then what was received is finished, the actor is stopped in order, and this returns. Raises StartFailed, and
        ServerExited if the actor dies of something that is no orderly end.
        """
        ref = cls.start(*arguments, system=self.system, name=cls.__name__, **keywords)
        if ref is None:
            self.ready()
            return  # it ignored its start: there is nothing to serve
        self.on_call = lambda request: calls.call(ref, request, None)
        self.on_cast = lambda message: calls.cast(ref, message)
        self.on_send = lambda message: calls.send(ref, message)
        watch = self.system.monitor(ref)
        ended = gevent.spawn(watch.wait)
        self.ready()
        gevent.wait([self.draining, ended], count=1)
        if not ended.ready():
            self.finish()
            calls.stop(ref, "shutdown")
        down = ended.get()
        if not is_orderly(down.reason):
            raise ServerExited(cls.__name__, down.reason)

    def finish(self, seconds: float | None = None) -> bool:
        """For the end of a drain: takes in what the parent has sent, and waits until all its calls are answered.

        Returns whether that came within `seconds`.
        """
        self._channel.read()
        return self._channel.wait_quiet(seconds)

    def call(self, request: Any, timeout: float | None = 5.0) -> Any:
        """Asks the parent: the `answers` of this worker's specification. Raises what that raises, and CallTimeout."""
        outcome: AsyncResult[Any] = AsyncResult()

        def settle(worked: bool, value: Any) -> None:
            if worked:
                outcome.set(value)
            else:
                outcome.set_exception(value)

        late = gevent.Timeout.start_new(timeout)
        try:
            self._channel.wait_for_room()
            self._channel.ask((CALL, request), settle)
            return outcome.get()
        except gevent.Timeout as over:
            if over is not late or timeout is None:
                raise
            raise CallTimeout("the parent", timeout) from None
        finally:
            late.close()
            self._channel.forget(settle)

    def cast(self, message: Any) -> None:
        """Tells the parent: its `answers` is called with it; what that returns is dropped, what it raises is logged there."""
        self._channel.wait_for_room()
        self._channel.tell((CAST, message))

    # ---- what the parent says ------------------------------------------------------------------------------------------

    def drain(self, request: Any = None) -> None:
        """The end is asked for. Once is enough."""
        if not self.draining.is_set():
            self.drain_request = request
            self.draining.set()

    def told_to_end(self, number: int, frame: object) -> None:
        """A signal asks for the end. What the parent has said before it is heard first."""
        self._door.post(self._drain_late)

    def _drain_late(self) -> None:
        self._channel.read()
        self.drain()

    def _answer(self, message: Any) -> Any:
        match message:
            case (str(kind), request) if kind == CALL:
                return self.on_call(request)
            case (str(kind),) if kind == METRICS:
                return dict(self.metrics())
        raise ValueError(f"a worker can't answer {message!r}")

    def _hear(self, message: Any) -> None:
        kind, value = message
        if kind == ARGUMENTS:
            self._arguments.set(value)
        elif kind == DRAIN:
            self.drain(value)
        else:
            gevent.spawn(self._take, self.on_cast if kind == CAST else self.on_send, value)

    def _take(self, function: Callable[[Any], Any], message: Any) -> None:
        try:
            function(message)
        except Exception as error:  # noqa: BLE001 - nobody waits for it: the log is where it is told
            log.error("worker %s: what the parent told it failed here", self.id, exc_info=error)

    # ---- its life ------------------------------------------------------------------------------------------------------

    def live(self, function: Callable[..., Any] | None, error: BaseException | None) -> int:
        """Runs the main function and returns the process's exit status."""
        try:
            if function is None:
                assert error is not None
                raise error
            function(self, *pickle.loads(self._arguments.get()))
            status = 0
        except SystemExit as leaving:
            code = leaving.code
            status = code if isinstance(code, int) else 0 if code is None else 1
        except BaseException as failure:  # noqa: BLE001 - whatever it is, the parent learns of it
            self._channel.tell((FAILED, failed_of(failure)))
            status = 1
        if self._system is not None:
            self._system.shutdown()
        self._channel.tell((LEAVING, status))
        gevent.sleep(0)  # what threads and loggers have left to the hub
        self._channel.flush(LAST_WORDS)
        if self._dropped:
            self._channel.tell((LOG, {"dropped": self._dropped}))
            self._channel.flush(LAST_WORDS)
        return status

    def send_record(self, record: dict[str, Any]) -> None:
        """One log record to the parent, from any thread. Where the parent takes no more, records are counted and dropped."""
        if self._records >= MOST_RECORDS:
            self._dropped += 1
            return
        self._records += 1
        if get_ident() == self._thread:
            self._pass_record(record)
        else:
            self._door.post(self._pass_record, record)

    def _pass_record(self, record: dict[str, Any]) -> None:
        self._records -= 1
        if self._channel.backlog > HIGH_WATER:
            self._dropped += 1
            return
        dropped, self._dropped = self._dropped, 0
        self._channel.tell((LOG, {**record, "dropped": dropped}))


def _nobody(message: Any) -> Any:
    raise NotImplementedError(
        "this worker has no function for what the parent asks: set on_call, on_cast or on_send"
    )


def _orphaned() -> NoReturn:
    os._exit(ORPHANED)


def run(
    channel: int,
    heartbeat: int,
    hello: Mapping[str, Any],
    function: Callable[..., Any] | None,
    error: BaseException | None,
) -> NoReturn:
    """Runs a worker in this process, and ends it. function: what its target names; error: why there is none."""
    worker = WorkerContext(hello["id"], PlainSocket(fileno=channel))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.told_to_end)
    # The terminal is the parent's business: neither its end, nor a line written while another program has it, ends a worker.
    for number in (signal.SIGHUP, signal.SIGTTOU):
        signal.signal(number, signal.SIG_IGN)
    ticking = _begin_to_beat(heartbeat, hello["heartbeat"], worker.clock.monotonic)
    if hello["log"] is not None:
        root = logging.getLogger()
        root.setLevel(hello["log"])
        root.addHandler(_Forwarding(worker))
    status = worker.live(function, error)
    ticking.stop()
    sys.exit(status)


# ---- the heartbeat ------------------------------------------------------------------------------------------------------


def _begin_to_beat(descriptor: int, every: float, monotonic: Callable[[], float]) -> Any:
    """A native thread tells the parent again and again for how long the hub has had no turn. Returns the hub's own timer."""
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    turn = [monotonic()]

    def turned() -> None:
        turn[0] = monotonic()

    ticking = get_hub().loop.timer(every / 2, every / 2, ref=False)
    ticking.start(turned)
    never = _allocate_lock()
    never.acquire()

    def beat() -> None:
        while True:
            try:
                os.write(descriptor, BEAT.pack(monotonic() - turn[0]))
            except BlockingIOError:
                pass  # the parent's own hub is busy; what it missed is old news
            except OSError:
                os._exit(ORPHANED)  # also where the hub is blocked and can't see the channel's end
            never.acquire(True, every)

    _start_thread(beat, ())
    return ticking


# ---- the log ------------------------------------------------------------------------------------------------------------


class _Forwarding(logging.Handler):
    """Sends records to the parent, whose logging writes them. A record is text by then: arguments need not be picklable."""

    def __init__(self, worker: WorkerContext) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = logging.Formatter().formatException(record.exc_info)
            self._worker.send_record(
                {
                    "name": record.name,
                    "levelno": record.levelno,
                    "levelname": record.levelname,
                    "msg": text,
                    "pathname": record.pathname,
                    "lineno": record.lineno,
                    "funcName": record.funcName,
                    "created": record.created,
                    "msecs": record.msecs,
                    "threadName": record.threadName,
                    "exc_text": record.exc_text,
                    "stack_info": record.stack_info,
                }
            )
        except Exception:  # noqa: BLE001 - logging's own way with a record that can't be written
            self.handleError(record)
