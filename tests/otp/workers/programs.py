"""What the worker processes of the tests run."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import gevent
from gevent.pool import Pool
from gevent.server import StreamServer

from packetflow.otp import GenServer, WorkerContext, listen_shared


class Puppet(GenServer):
    """Does what it is told, by name."""

    def init(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.seen: list[Any] = []

    def handle_call(self, request: Any, caller: Any) -> Any:
        name, *arguments = request
        return getattr(self, name)(*arguments)

    def handle_cast(self, message: Any) -> None:
        self.seen.append(("cast", message))

    def handle_info(self, message: Any) -> None:
        self.seen.append(("send", message))

    def pid(self) -> int:
        return os.getpid()

    def given(self) -> tuple[Any, ...]:
        return self.arguments

    def told(self) -> list[Any]:
        return self.seen

    def echo(self, value: Any) -> Any:
        return value

    def sleep(self, seconds: float) -> str:
        gevent.sleep(seconds)
        return "slept"

    def note_slowly(self, seconds: float, word: str) -> str:
        gevent.sleep(seconds)
        self.seen.append(word)
        return word

    def block(self, seconds: float) -> str:
        time.sleep(seconds)
        return "blocked"

    def crash(self) -> None:
        raise ValueError("no oil")

    def leave(self, status: int) -> None:
        os._exit(status)

    def unpicklable(self) -> Any:
        return lambda: None

    def modules(self) -> list[str]:
        return sorted(sys.modules)

    def files(self) -> list[str]:
        found = []
        for number in os.listdir("/proc/self/fd"):
            try:
                found.append(os.readlink(f"/proc/self/fd/{number}"))
            except FileNotFoundError:
                pass
        return found


def serve(worker: WorkerContext, *arguments: Any) -> None:
    worker.serve(Puppet, *arguments)


def raises(worker: WorkerContext) -> None:
    raise LookupError("nothing there")


def raises_later(worker: WorkerContext) -> None:
    worker.ready()
    raise LookupError("nothing there any more")


def leaves(worker: WorkerContext, status: int) -> None:
    sys.exit(status)


def leaves_when_told(worker: WorkerContext) -> None:
    """Ends with the status that it is told."""
    told = gevent.event.AsyncResult()
    worker.on_cast = told.set
    worker.ready()
    gevent.wait([told, worker.draining], count=1)
    sys.exit(told.get() if told.ready() else 0)


def never_ready(worker: WorkerContext) -> None:
    gevent.sleep(600)


def deaf(worker: WorkerContext) -> None:
    """Does not listen when it is asked to end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker.on_call = lambda request: os.getpid()
    worker.ready()
    while True:
        gevent.sleep(600)


def meets(worker: WorkerContext, folder: str, others: list[str]) -> None:
    """Is ready when the others have begun, and ends when the others have been asked to end."""
    meet(folder, "begun", worker.id, others)
    worker.ready()
    worker.draining.wait()
    meet(folder, "ends", worker.id, others)


def asks_before_it_is_ready(worker: WorkerContext) -> None:
    worker.call("join")
    worker.ready()
    worker.draining.wait()


def meet(folder: str, what: str, me: str, others: list[str]) -> None:
    (Path(folder) / f"{what}-{me}").touch()
    while not all((Path(folder) / f"{what}-{other}").exists() for other in others):
        gevent.sleep(0.005)


def asks(worker: WorkerContext) -> None:
    """Passes on to its parent what it is called with."""

    def ask(request: Any) -> Any:
        timeout, question = request
        return worker.call(question, timeout)

    worker.on_call = ask
    worker.on_cast = worker.cast
    worker.ready()
    worker.draining.wait()


def logs(worker: WorkerContext) -> None:
    log = logging.getLogger("shop.till")
    log.info("opened %s", object)
    log.debug("not of interest")
    try:
        raise ValueError("no change")
    except ValueError:
        log.exception("stuck")
    thread = threading.Thread(target=log.warning, args=("from a thread",))
    thread.start()
    thread.join()
    worker.ready()
    worker.draining.wait()


def floods(worker: WorkerContext, records: int, done: str) -> None:
    worker.on_cast = lambda message: None
    worker.ready()
    for number in range(records):
        logging.getLogger("flood").info("record %d", number)
    Path(done).touch()
    worker.draining.wait()
    logging.getLogger("flood").info("the end")


def counts(worker: WorkerContext, served: int, peak: int) -> None:
    worker.metrics = lambda: {"served": served, "peak": peak}
    worker.on_call = time.sleep
    worker.ready()
    worker.draining.wait()


def drains(worker: WorkerContext) -> None:
    """Tells its parent what it was given for its drain."""
    worker.ready()
    worker.draining.wait()
    worker.cast(worker.drain_request)


def listens(worker: WorkerContext, port: int) -> None:
    """Says its pid to who connects, waits for a line, and says it again."""

    def talk(sock: socket.socket, address: object) -> None:
        sock.sendall(b"%d\n" % os.getpid())
        sock.makefile("rb").readline()
        sock.sendall(b"%d\n" % os.getpid())

    server = StreamServer(gevent_socket(listen_shared("127.0.0.1", port)), talk, spawn=Pool())
    server.start()
    worker.ready()
    worker.draining.wait()
    server.stop(timeout=10)  # takes no more connections, and waits for those that are there


def gevent_socket(sock: socket.socket) -> Any:
    return gevent.socket.socket(fileno=sock.detach())
