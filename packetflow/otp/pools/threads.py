"""ThreadPool: native threads for work that blocks."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import copy_context
from typing import Any, Literal

import gevent
from gevent.monkey import get_original

from packetflow.otp.errors import OffloadFailed, PoolClosed
from packetflow.otp.pools.pool import Pool, Task, name_of
from packetflow.otp.threads import WORK, destroy_own_hub, get_ident

_SimpleQueue: Callable[[], Any] = get_original("queue", "SimpleQueue")
_start_new_thread: Callable[..., int] = get_original("_thread", "start_new_thread")


class ThreadPool(Pool):
    """Native threads for work that blocks: files, libraries that know nothing of greenlets, C code without the GIL.

    Threads come when needed and end when idle. The work sees a copy of the caller's context variables. See Pool.
    """

    kind = "threads"

    def __init__(
        self,
        size: int = 8,
        *,
        queue: int = 256,
        full: Literal["wait", "fail"] = "wait",
        idle: float = 30.0,
        name: str | None = None,
    ) -> None:
        super().__init__(size, queue=queue, full=full, idle=idle, name=name)
        self._tasks: Any = _SimpleQueue()
        self._threads = 0
        self._busy: set[Task] = set()
        self._lingering: set[Task] = set()
        self._finished: deque[Task] = deque()
        self._wake: Any = None  # how threads wake the hub
        self._awake = False  # whether it keeps the loop alive: while something runs

    def lingering(self) -> list[tuple[str, str]]:
        """What runs on although nobody waits for it: (its name, the line where it is)."""
        frames = sys._current_frames()
        found = []
        for task in self._lingering:
            frame = frames.get(task.thread)
            line = "not begun" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
            found.append((name_of(task.function), line))
        return found

    def _run(self, task: Task) -> Any:
        task.context = copy_context()
        if task.owner is not None:
            task.context.run(WORK.set, task)
        try:
            self._wait(task)
        except BaseException:
            self._give_up(task)
            raise
        error = task.error
        if error is None:
            return task.value
        task.error = None
        try:
            if isinstance(error, Exception):
                raise error
            # SystemExit and the like end who raises them, not who asked for the work.
            raise OffloadFailed(name_of(task.function), f"it raised {error!r}") from error
        finally:
            del error, task  # no cycle by way of the traceback

    def _give_up(self, task: Task) -> None:
        task.greenlet = None
        task.abandoned = True
        if task.owner is not None:
            task.owner.waiting = None
        if task in self._busy:
            self._lingering.add(task)
        elif not task.settled and task in self._line:
            self._line.remove(task)

    def _holders(self) -> Iterable[Task]:
        return self._busy

    def _begin(self, task: Task) -> None:
        if self._simulated:
            self._busy.add(task)
            gevent.spawn(self._do_in_turn, task)
            return
        if self._wake is None:
            self._wake = self._hub.loop.async_()
            self._wake.start(self._collect)
            self._awake = True
        if self._running > self._threads:
            try:
                _start_new_thread(self._serve, (self._tasks, self._finished, self._wake.send))
            except RuntimeError as error:
                if not self._threads:
                    raise OffloadFailed(
                        name_of(task.function), f"no thread can be started: {error}"
                    ) from error
                # One of those that live does it when it is free.
            else:
                self._threads += 1
        if not self._awake:
            self._keep_awake(True)
        self._busy.add(task)
        self._tasks.put(task)

    def _do_in_turn(self, task: Task) -> None:
        if not task.abandoned:
            _do(task)
        self._finished.append(task)
        # In the hub, as by a thread's bell: who goes on comes back there, not to this greenlet.
        self._hub.loop.run_callback(self._collect)

    def _serve(self, tasks: Any, finished: deque[Task], wake: Callable[[], None]) -> None:
        # A native thread: it touches nothing of the pool, and tells the hub.
        get = tasks.get
        while (task := get()) is not None:
            if not task.abandoned:
                task.thread = get_ident()
                _do(task)
            finished.append(task)
            del task
            try:
                wake()
            except Exception:  # noqa: BLE001 - the hub is gone, and with it everybody who could be told
                break
        destroy_own_hub()  # the work may have used gevent here

    def _collect(self) -> None:
        finished = self._finished
        while finished:
            task = finished.popleft()
            self._busy.discard(task)
            self._lingering.discard(task)
            task.settled = True
            self._leave()
            self._go_on(task)
            # Only now: the one who got the result may have come back with more work at once.
            if not self._running:
                self._rest()

    def _keep_awake(self, awake: bool) -> None:
        self._wake.ref = self._awake = awake

    def _rest(self) -> None:
        if self._wake is None:
            return
        self._keep_awake(False)
        if self._closed:
            self._wake.stop()
            self._wake.close()
            self._wake = None

    def _workers(self) -> int:
        return self._threads

    def _lingering_count(self) -> int:
        return len(self._lingering)

    def _shrink(self) -> None:
        # Each thread that has no task takes one None and ends.
        while self._threads > self._running:
            self._threads -= 1
            self._tasks.put(None)

    def _end(self) -> None:
        for task in list(self._busy):
            if task.greenlet is not None:
                task.abandoned = True
                self._lingering.add(task)
                task.error = PoolClosed(name_of(task.function), self.name)
                self._settle(task)
        while self._threads:
            self._threads -= 1
            self._tasks.put(None)
        if not self._running:
            self._rest()
        elif self._wake is not None:
            self._keep_awake(False)  # what lingers is nothing to wait for


def _do(task: Task) -> None:
    assert task.context is not None
    try:
        task.value = task.context.run(task.function, *task.arguments)
    except BaseException as error:  # noqa: BLE001 - the caller gets it
        # The first frame is this function's.
        task.error = error.with_traceback(error.__traceback__ and error.__traceback__.tb_next)
    task.arguments = task.context = None
