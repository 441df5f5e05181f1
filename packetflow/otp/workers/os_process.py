"""One operating-system process as the hub sees it: launched, watched by its pidfd, its channel and its heartbeat; ended.

It owns no greenlet. What it is under supervision is supervisor.py.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from _socket import socketpair  # the plain one: `socket`'s makes gevent's sockets where that is patched
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from packetflow.otp.errors import WorkerFailed
from packetflow.otp.pools.reaping import Reaper
from packetflow.otp.ref import Ref
from packetflow.otp.signals import log
from packetflow.otp.workers.boot import PROGRAM
from packetflow.otp.workers.channel import READ, Channel, PlainSocket
from packetflow.otp.workers.process import ARGUMENTS, BEAT, CALL, CAST, DRAIN, FAILED, LEAVING, LOG, READY

if TYPE_CHECKING:
    from packetflow.otp.system import System
    from packetflow.otp.workers.supervisor import WorkerSpec

HOME = str(Path(__file__).resolve().parents[3])
FLUSH = 1.0  # seconds in which a worker should take in what it was sent before it is asked to end
GRACE = 1.0  # seconds in which a process that has closed its channel should end
MISSED = 2.0  # heartbeats that may be missed before a worker counts as blocked or silent
Status = Literal["starting", "running", "blocked", "silent", "draining"]

_waitpid = get_original("os", "waitpid")


class OSProcess:
    """A worker's process from its launch to its end. Raises OSError if it can't be launched.

    A fresh interpreter, never a fork of this one; of this process's descriptors it gets standard output and error, and its
    two ends of the channel and the heartbeat. It is in a process group of its own, so that a terminal's Ctrl-C reaches the
    parent alone. on_exit(reason) is told its end.
    """

    def __init__(self, spec: WorkerSpec, system: System) -> None:
        self._spec = spec
        self._system = system
        self._monotonic = monotonic = system.clock.monotonic
        self.on_exit: Callable[[object], None] = _ignore
        self.reason: object = None
        self.exited = False
        self._ready = False
        self._draining = False
        self._told: WorkerFailed | None = None
        self._leaves_with: int | None = None  # the exit status that it announced
        self._killed_for: object = None
        self._changed = Event()  # ready, or exited
        self._over = Event()
        self._began = monotonic()
        self._beat: float | None = None  # until it is ready its start is the supervisor's to judge
        self._lag = 0.0
        self._warned = False
        self.pid = 0
        ours, theirs = (PlainSocket(fileno=one.detach()) for one in socketpair())
        beat_in, beat_out = os.pipe()
        try:
            self.pid = _launch(spec, theirs.fileno(), beat_out)
            self._pidfd = os.pidfd_open(self.pid)
        except BaseException:
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
                _waitpid(self.pid, 0)
            ours.close()
            os.close(beat_in)
            raise
        finally:
            theirs.close()
            os.close(beat_out)
        self._heartbeat = beat_in
        os.set_blocking(beat_in, False)
        self._reaper = Reaper(self.pid, self._ended)
        loop = get_hub().loop
        self._end_watcher = loop.io(self._pidfd, READ)
        self._end_watcher.start(self._ended)
        self._beat_watcher = loop.io(beat_in, READ)
        self._beat_watcher.start(self._hear_beat)
        self._look_watcher = loop.timer(spec.heartbeat, spec.heartbeat, ref=False)
        self._look_watcher.start(self._look)
        self._grace_watcher = loop.timer(GRACE)
        hello = {
            "target": spec.target,
            "id": spec.id,
            "path": [str(folder) for folder in sys.path],
            "heartbeat": spec.heartbeat,
            "log": spec.log_level,
        }
        with contextlib.suppress(OSError):  # it ended at once: its pidfd tells
            ours.sendall(json.dumps(hello).encode() + b"\n")
        self.channel = Channel(
            PlainSocket(fileno=ours.detach()), self._answer, self._hear, self._closed, spec.cancel
        )
        self.channel.tell((ARGUMENTS, spec.pickled))

    # ---- its beginning and its end ------------------------------------------------------------------------------------

    def wait_ready(self) -> object:
        """Waits until it says ready, and returns None; or what it ended of before."""
        self._changed.wait()
        if self._ready:
            return None
        return ("exit_status", 0) if self.reason == "normal" else self.reason

    def drain(self, request: Any) -> None:
        """Asks it to finish and end: by the channel, and by SIGTERM, which also reaches a program that does not listen."""
        self._draining = True
        self.channel.tell((DRAIN, request))
        self.channel.flush(FLUSH)
        self._send(signal.SIGTERM)

    def wait_exit(self) -> None:
        """Waits until it is gone."""
        self._over.wait()

    def _closed(self) -> None:
        """It has closed its channel: it is ending, or no use any more."""
        if not self.exited:
            self._grace_watcher.start(self._grace_is_over)

    def _grace_is_over(self) -> None:
        if not self.exited:
            self._killed_for = self._killed_for or "closed its channel"
            self.kill()

    def kill(self) -> None:
        """Ends it at once, if it still is there. It is reaped as soon as the kernel lets it go."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.exited:
            return  # its descriptor may be another's by now
        with contextlib.suppress(ProcessLookupError):  # gone, and not yet noticed
            signal.pidfd_send_signal(self._pidfd, number)

    def _ended(self) -> None:
        """The kernel says that it has ended."""
        if self.exited or not self._reaper.look():
            return
        for _ in range(1000):  # what it said last
            if not self.channel.open:
                break
            before = self.channel.received
            self.channel.read()
            if self.channel.received == before:
                break
        self.exited = True
        self.reason = self._reason(self._reaper.status)
        for watcher in (self._end_watcher, self._beat_watcher, self._look_watcher, self._grace_watcher):
            watcher.stop()
            watcher.close()
        os.close(self._pidfd)
        os.close(self._heartbeat)
        self.channel.close()
        self._changed.set()
        self._over.set()
        self.on_exit(self.reason)

    def _reason(self, code: int | None) -> object:
        if self._killed_for is not None:
            return self._killed_for
        if self._told is not None:
            return self._told
        if code is None:
            code = (
                self._leaves_with
            )  # the kernel's answer went elsewhere; what is left is what it said itself
        if code is None:
            return ("exit_status", "unknown: another part of this program reaped it")
        if code == 0:
            return "normal"
        if code < 0:
            try:
                return ("signal", signal.Signals(-code).name)
            except ValueError:
                return ("signal", -code)
        return ("exit_status", code)

    # ---- what it says ---------------------------------------------------------------------------------------------------

    def _answer(self, message: Any) -> Any:
        """What it calls; in a greenlet of its own."""
        kind, request = message
        if kind != CALL:
            raise ValueError(f"a worker's parent can't answer {message!r}")
        return self._pass_on(self._system.call, request, None)

    def _pass_on(self, to_actor: Callable[..., Any], request: Any, *more: Any) -> Any:
        answers = self._spec.answers
        if answers is None:
            raise NotImplementedError(f"nobody answers worker {self._spec.id}: its WorkerSpec has no answers")
        if isinstance(answers, Ref | str):
            return to_actor(answers, request, *more)
        return answers(self._spec.id, request)

    def _pass_cast_on(self, message: Any) -> None:
        try:
            self._pass_on(self._system.cast, message)
        except Exception as error:  # noqa: BLE001 - nobody waits for it: the log is where it is told
            log.error("worker %s: what it cast failed here", self._spec.id, exc_info=error)

    def _hear(self, message: Any) -> None:
        match message:
            case (str(kind),) if kind == READY:
                self._ready = True
                if self._beat is None:
                    self._beat = self._monotonic()
                self._changed.set()
            case (str(kind), WorkerFailed() as failed) if kind == FAILED:
                self._told = failed
                log.error(
                    "worker %s (pid %d) failed:\n%s", self._spec.id, self.pid, failed.traceback.rstrip()
                )
            case (str(kind), int(status)) if kind == LEAVING:
                self._leaves_with = status
            case (str(kind), dict() as record) if kind == LOG:
                self._write(record)
            case (str(kind), told) if kind == CAST:
                gevent.spawn(self._pass_cast_on, told)
            case _:
                log.error("worker %s says what nobody understands: %r", self._spec.id, message)

    def _write(self, record: dict[str, Any]) -> None:
        """A log record of the worker, in this process's logging, with its id and pid."""
        dropped = record.pop("dropped")
        if dropped:
            log.warning("%d log records of worker %s were dropped", dropped, self._spec.id)
        if not record:
            return
        made = logging.makeLogRecord({**record, "worker": self._spec.id, "process": self.pid})
        logger = logging.getLogger(made.name)
        if logger.isEnabledFor(made.levelno):
            logger.handle(made)

    # ---- how it is doing --------------------------------------------------------------------------------------------------

    def _hear_beat(self) -> None:
        if self.exited:
            return
        try:
            data = os.read(self._heartbeat, 4096)
        except BlockingIOError:
            return
        if not data:
            self._beat_watcher.stop()  # it is ending, or has closed every descriptor
            return
        whole = len(data) - len(data) % BEAT.size
        if whole:
            (self._lag,) = BEAT.unpack(data[whole - BEAT.size : whole])
            self._beat = self._monotonic()

    def _look(self) -> None:
        """Tells of a worker that blocks, once; ends it if it is one that must not."""
        if not self._ready:
            return
        blocked, silent = self._stalled()
        stalled = max(blocked, silent)
        if stalled and not self._warned:
            self._warned = True
            what = "has given its hub no turn" if blocked else "has given no sign of life"
            log.warning("worker %s (pid %d) %s for %.1f s", self._spec.id, self.pid, what, stalled)
        elif not stalled and self._warned:
            self._warned = False
            log.warning("worker %s (pid %d) goes on", self._spec.id, self.pid)
        limit = self._spec.unresponsive_after
        if limit is not None and stalled >= limit and self._killed_for is None and not self.exited:
            self._killed_for = ("unresponsive", round(stalled, 3))
            log.error(
                "worker %s (pid %d) is killed: unresponsive for %.1f s", self._spec.id, self.pid, stalled
            )
            self.kill()

    def _stalled(self) -> tuple[float, float]:
        """The seconds for which it has been blocked, and silent; 0 where it is neither."""
        self._hear_beat()  # where this process's own hub was the one that was blocked, beats lie there unread
        if self._beat is None:
            return 0.0, 0.0
        patience = MISSED * self._spec.heartbeat
        since = self._monotonic() - self._beat
        silent = since if since > patience else 0.0
        lag = self._lag + min(since, self._spec.heartbeat) if self._lag > patience else 0.0
        return (0.0, silent) if silent else (lag, 0.0)

    def health(self) -> tuple[int, Status, float, float, float]:
        """pid, status, seconds blocked, seconds silent, age."""
        blocked, silent = self._stalled()
        status: Status = "running"
        if self._draining:
            status = "draining"
        elif silent:
            status = "silent"
        elif blocked:
            status = "blocked"
        elif not self._ready:
            status = "starting"
        return self.pid, status, blocked, silent, self._monotonic() - self._began


def _launch(spec: WorkerSpec, channel: int, heartbeat: int) -> int:
    """Starts a fresh interpreter and returns its pid. Not by `subprocess`: gevent replaces its Popen by one that forks."""
    actions: list[tuple[Any, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # the listing's own is closed by now
            if descriptor > 2 and os.get_inheritable(descriptor):
                actions.append((os.POSIX_SPAWN_CLOSE, descriptor))
    # Onto itself: it stays open in the new process alone.
    actions += [(os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in (channel, heartbeat)]
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-c", PROGRAM, str(channel), str(heartbeat), HOME, spec.target],
        {**os.environ, **spec.environment},
        file_actions=actions,
        setpgroup=0,
        setsigmask=[],
        setsigdef=[signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
    )


def _ignore(reason: object) -> None:
    pass
