"""ProcessPool: work that needs a processor of its own, or must be killable, in fresh interpreters.

Processes are spawned (posix_spawn), never forked: a fork would copy the hub and every greenlet with it.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import socket as native_socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gevent
from gevent.socket import socket
from greenlet import getcurrent

from packetflow.otp.errors import OffloadFailed, PoolClosed, ProcessDied, SpecError
from packetflow.otp.pools.child import CHANNEL, LIFELINE, address, do, receive, send
from packetflow.otp.pools.pool import Pool, Task, check_count, name_of
from packetflow.otp.pools.reaping import Reaper
from packetflow.otp.turn import brief

_GRACE = 2.0  # for an idle process to end after its channel was closed
_HOME = str(Path(__file__).resolve().parents[3])
_BEGIN = f"import sys; sys.path.insert(0, {_HOME!r}); from packetflow.otp.pools.child import main; main()"


class RemoteTraceback(Exception):
    """The cause of an error that was raised in another process: the traceback there, as text."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'


class ProcessPool(Pool):
    """Processes for work that computes: each does one piece of work at a time, and is killed if its caller gives up.

    The function is named by its module and name, so it has to stand in a module; it, its arguments and its result are
    pickled. size: how many run at once; by default one for each processor. spare: how many more are kept warm, so that
    nobody waits for an interpreter to start. max_tasks: a process ends after so much work; None for never. Processes come
    when needed and end when idle, when the pool is closed, and (by the kernel) when this process is gone. See Pool.
    """

    kind = "processes"

    def __init__(
        self,
        size: int | None = None,
        *,
        queue: int = 256,
        full: Literal["wait", "fail"] = "wait",
        idle: float = 60.0,
        spare: int = 1,
        max_tasks: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            (os.cpu_count() or 1) if size is None else size, queue=queue, full=full, idle=idle, name=name
        )
        check_count("spare", spare, 0)
        if max_tasks is not None:
            check_count("max_tasks", max_tasks, 1)
        self.spare = spare
        self.max_tasks = max_tasks
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._burials: set[gevent.Greenlet] = set()

    def processes(self) -> list[int]:
        """The ids of its living processes, those at work first."""
        return [child.pid for child in (*self._busy, *self._idle)]

    def _run(self, task: Task) -> Any:
        request = _pack(task.function, task.arguments)
        work = name_of(task.function)
        task.arguments = None
        try:
            self._wait(task)
        except BaseException:
            self._give_up(task)
            raise
        if task.error is not None:
            raise task.error
        try:
            answer = self._ask(request, work)
        finally:
            self._leave()
        return _unpack(answer, work)

    def _ask(self, request: bytes, work: str) -> bytearray:
        if self._simulated:
            return self._do_in_turn(request, work)
        child = self._check_out(work)
        try:
            answer = child.exchange(request)
        except BaseException:
            self._discard(child)  # the caller gave up, or is ended: the work with it
            raise
        if answer is None:
            closed = self._closed
            burial = self._discard(child)
            burial.join()
            if closed:
                raise PoolClosed(work, self.name)
            raise ProcessDied(work, child.status)
        self._check_in(child)
        return answer

    def _do_in_turn(self, request: bytes, work: str) -> bytearray:
        doing = gevent.spawn(do, bytearray(request))
        try:
            doing.join()
        finally:
            doing.kill(block=False)  # the caller gave up, or is ended: the work with it
        if not isinstance(doing.value, bytes):
            raise ProcessDied(work, None)
        return bytearray(doing.value)

    # ---- slots -----------------------------------------------------------------------------------------------------------

    def _begin(self, task: Task) -> None:
        if task.greenlet is getcurrent():
            task.settled = True
        else:
            self._settle(task)

    def _give_up(self, task: Task) -> None:
        task.greenlet = None
        if task.owner is not None:
            task.owner.waiting = None
        if task.begun:
            self._leave()
        elif task in self._line:
            self._line.remove(task)

    # ---- processes -------------------------------------------------------------------------------------------------------

    def _check_out(self, work: str) -> _Child:
        child: _Child | None = None
        while self._idle and child is None:
            child = self._idle.pop()
            if child.look():
                self._discard(child)
                child = None
        if child is None:
            child = self._hire(work)
        child.unwatch()
        self._busy.add(child)
        if not self._closed and len(self._idle) < self.spare:
            try:
                self._rest(self._hire(work))
            except OffloadFailed:
                pass  # a luxury; who needs a process and can't have one is told
        return child

    def _hire(self, work: str) -> _Child:
        try:
            return _Child()
        except OSError as error:
            raise OffloadFailed(work, f"no process can be started: {error}") from error

    def _rest(self, child: _Child) -> None:
        self._idle.append(child)
        child.watch(self._hub, self._lost)

    def _check_in(self, child: _Child) -> None:
        self._busy.discard(child)
        child.done += 1
        if self._closed or (self.max_tasks is not None and child.done >= self.max_tasks):
            self._retire(child)
        else:
            self._rest(child)

    def _lost(self, child: _Child) -> None:
        # An idle one said something or ended, and it has nothing to say.
        self._idle.remove(child)
        self._discard(child)

    def _discard(self, child: _Child) -> gevent.Greenlet:
        self._busy.discard(child)
        child.kill()
        child.close()
        return self._bury(child, 0.0)

    def _retire(self, child: _Child) -> None:
        child.close()
        self._bury(child, _GRACE)

    def _bury(self, child: _Child, patience: float) -> gevent.Greenlet:
        burial = gevent.spawn(child.bury, patience)
        self._burials.add(burial)
        burial.link(self._burials.discard)
        return burial

    def _workers(self) -> int:
        return len(self._idle) + len(self._busy)

    def _shrink(self) -> None:
        while self._idle:
            self._retire(self._idle.pop())

    def _end(self) -> None:
        for child in list(self._busy):
            child.kill()  # its caller sees it, and is told that the pool is closed
        while self._running:
            gevent.sleep(0)
            for burial in list(self._burials):
                burial.join()
        for burial in list(self._burials):
            burial.join()


class _Child:
    """One process: its id, the channel to it, and the end of a pipe that tells it that we live."""

    __slots__ = ("_lifeline", "_reaper", "_socket", "_watcher", "done", "pid")

    def __init__(self) -> None:
        ours, theirs = native_socket.socketpair()
        listens, lifeline = os.pipe()
        ends: list[int] = []
        try:
            # Out of the way of the numbers that they get in the child.
            ends.append(fcntl.fcntl(theirs.fileno(), fcntl.F_DUPFD_CLOEXEC, 10))
            ends.append(fcntl.fcntl(listens, fcntl.F_DUPFD_CLOEXEC, 10))
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, *subprocess._args_from_interpreter_flags(), "-P", "-c", _BEGIN],  # type: ignore[attr-defined]
                dict(os.environ),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_DUP2, ends[0], CHANNEL),
                    (os.POSIX_SPAWN_DUP2, ends[1], LIFELINE),
                ],
                setpgroup=0,  # Ctrl-C at the terminal is for the parent, which then ends it
                setsigmask=[],
            )
        except BaseException:
            ours.close()
            os.close(lifeline)
            raise
        finally:
            theirs.close()
            os.close(listens)
            for number in ends:
                os.close(number)
        self._socket = socket(ours.family, ours.type, fileno=ours.detach())
        self._lifeline: int | None = lifeline
        self._watcher: Any = None
        self.done = 0
        self._reaper = Reaper(self.pid, lambda: None)
        try:
            send(self._socket, pickle.dumps([entry or os.getcwd() for entry in sys.path]))
        except OSError:
            pass  # it died at once; the first request will tell

    def exchange(self, request: bytes) -> bytearray | None:
        """Sends a request and waits for the answer. None: it died."""
        try:
            send(self._socket, request)
        except OSError:
            return None
        return receive(self._socket)

    def watch(self, hub: Any, lost: Callable[[_Child], None]) -> None:
        """While it is idle: calls lost(self) if it ends."""
        self._watcher = hub.loop.io(self._socket.fileno(), 1, ref=False)
        self._watcher.start(lost, self)

    def unwatch(self) -> None:
        """It is at work, or ends."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def close(self) -> None:
        """Closes the channel: an idle process ends by that."""
        self.unwatch()
        self._socket.close()
        if self._lifeline is not None:
            lifeline, self._lifeline = self._lifeline, None
            os.close(lifeline)

    def look(self) -> bool:
        """Whether it is gone, and then with which status."""
        return self._reaper.look()

    @property
    def status(self) -> int | None:
        """Its exit code, or a signal's number below zero; None while it runs, and where somebody else keeps it."""
        return self._reaper.status

    def kill(self) -> None:
        """Ends it, and whatever it started, at once."""
        # As long as `look` says that it is there, its number is nobody else's.
        if not self.look():
            try:
                os.killpg(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                os.kill(self.pid, signal.SIGKILL)  # it left its group

    def bury(self, patience: float) -> None:
        """Waits until it is gone; kills it after `patience` seconds."""
        pause, waited = 0.0005, 0.0
        while not self.look():
            if waited >= patience:
                self.kill()
            gevent.sleep(pause)
            waited += pause
            pause = min(pause * 2, 0.02)


def _pack(function: Callable[..., Any], arguments: tuple[Any, ...]) -> bytes:
    found = address(function)
    if isinstance(found, str):
        raise SpecError("function", name_of(function), f"a function of a module; {found}")
    module, name, first, keywords = found
    try:
        return pickle.dumps((module, name, (*first, *arguments), keywords), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        raise SpecError("arguments", brief(arguments), f"what can be pickled; {error}") from error


def _unpack(answer: bytearray, work: str) -> Any:
    try:
        read = pickle.loads(answer)
    except Exception as error:
        raise OffloadFailed(work, f"its result can't be read here: {error}") from error
    if read[0]:
        return read[1]
    _, kept, text, told = read
    trace = RemoteTraceback(told)
    if kept is not None:
        try:
            raised = pickle.loads(kept)
        except Exception:  # noqa: BLE001 - it can be read there and not here; its text has to do
            raised = None
        if isinstance(raised, Exception):
            raise raised from trace
    raise OffloadFailed(work, text) from trace
