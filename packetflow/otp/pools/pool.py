"""offload: work that would hold the hub is done by a pool, of native threads (threads.py) or processes (processes.py).

What pools have in common lives here: a number of slots, a line of those who wait for one, and how they end. A slot is
taken until its work has ended, also when the caller has been released long ago.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import Context
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from packetflow.otp.errors import (
    HubBlocked,
    NotAnActor,
    OffloadTimeout,
    PoolClosed,
    PoolFull,
    SpecError,
    WrongThread,
)
from packetflow.otp.pools.slot_wait import SlotWait
from packetflow.otp.process import Process
from packetflow.otp.ref import Ref
from packetflow.otp.signals import current_process
from packetflow.otp.threads import get_ident


def offload(
    function: Callable[..., Any],
    *arguments: Any,
    pool: Pool | Ref | str | None = None,
    timeout: float | None = None,
) -> Any:
    """Has a function done by a pool and waits for its result; other greenlets run meanwhile.

    pool: a ThreadPool or ProcessPool, or the ref or name of a PoolServer; by default, inside an actor, the threads of its
    system (`System.threads`). timeout: seconds, with the wait for a slot. For keywords give a `functools.partial`.
    Raises what the function raises, and: NotAnActor where no pool is given outside of an actor; PoolFull; PoolClosed;
    OffloadTimeout; OffloadFailed; ProcessDied; NoProcess; WrongThread and HubBlocked where waiting is not possible.

    Who is ended or loses patience while waiting is released at once: a thread goes on (`lingering`) and its result is
    dropped; a process is killed. Threads see the caller's context variables, processes do not.
    """
    if isinstance(pool, Pool):
        return pool.run(function, *arguments, timeout=timeout)
    process = current_process()
    if process is None and not isinstance(pool, Ref):
        raise NotAnActor("outside of an actor, offload needs to know where: offload(function, pool=...)")
    if pool is None:
        assert process is not None
        return process.scheduler.system.threads.run(function, *arguments, timeout=timeout)
    from packetflow.otp.pools.server import pool_of

    return pool_of(pool, process).run(function, *arguments, timeout=timeout)


class PoolStatistics(NamedTuple):
    """A pool's figures. running: slots that are taken, also by those that linger. waiting: who waits for a slot.
    lingering: work that nobody waits for any more. workers: living threads or processes. done: work that ended."""

    size: int
    running: int
    waiting: int
    lingering: int
    workers: int
    done: int


class Task:
    """One piece of work and the greenlet that waits for it. owner: the actor whose greenlet that is, if it is one's."""

    __slots__ = (
        "abandoned", "arguments", "begun", "context", "error", "function", "greenlet", "owner", "settled", "thread",
        "value",
    )  # fmt: skip

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], waiting: greenlet) -> None:
        self.function: Any = function
        self.arguments: Any = arguments
        self.greenlet: greenlet | None = waiting
        self.owner = current_process()
        self.context: Context | None = None
        self.begun = False  # it has a slot
        self.settled = False  # it has a value or an error, or (in a pool of processes) may go on
        self.abandoned = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.thread = 0

    def awaited_by(self) -> Process | None:
        """The actor that waits for it, if one does and still does."""
        return None if self.greenlet is None or self.abandoned else self.owner


class Pool:
    """What pools have in common; use ThreadPool or ProcessPool.

    Belongs to the hub of the thread that makes it. size: how many run at once. queue: how many may wait for a slot before
    more are refused; full: "wait" (everybody waits, in order) or "fail" (PoolFull). idle: seconds without work after which
    the workers end (they come again when needed). name: for people.
    """

    kind: ClassVar[str] = "pool"

    def __init__(
        self,
        size: int,
        *,
        queue: int = 256,
        full: Literal["wait", "fail"] = "wait",
        idle: float = 30.0,
        name: str | None = None,
    ) -> None:
        check_count("size", size, 1)
        check_count("queue", queue, 0)
        if full not in ("wait", "fail"):
            raise SpecError("full", full, '"wait" or "fail"')
        if isinstance(idle, bool) or not isinstance(idle, int | float) or not idle > 0:
            raise SpecError("idle", idle, "seconds, more than 0")
        self.size = size
        self.queue = queue
        self.full = full
        self.idle = idle
        self.name = name or f"a pool of {size} {self.kind}"
        self._hub: Any = get_hub()
        self._thread = get_ident()
        self._simulated = getattr(
            self._hub.loop, "simulated", False
        )  # then its work runs in turns of this thread
        self._running = 0
        self._done = 0
        self._line: deque[Task] = deque()
        self._closed = False
        self._quiet: Event | None = None  # set when nothing runs; made by close
        self._idle_timer: Any = None
        self._seen = -1

    # ---- for people ------------------------------------------------------------------------------------------------------

    def run(self, function: Callable[..., Any], *arguments: Any, timeout: float | None = None) -> Any:
        """See `offload`."""
        me = getcurrent()
        self._check_thread()
        if me is self._hub:
            raise HubBlocked(
                "the hub's own greenlet (a loop callback) must not wait; spawn a greenlet to offload"
            )
        if self._closed:
            raise PoolClosed(name_of(function), self.name)
        if timeout is None:
            return self._run(Task(function, arguments, me))
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not timeout >= 0:
            raise SpecError("timeout", timeout, "seconds from 0, or None")
        alarm = gevent.Timeout.start_new(timeout, OffloadTimeout(name_of(function), timeout))
        try:
            return self._run(Task(function, arguments, me))
        finally:
            alarm.close()

    def statistics(self) -> PoolStatistics:
        """Its figures."""
        lingering = self._lingering_count()
        return PoolStatistics(
            self.size, self._running, len(self._line), lingering, self._workers(), self._done
        )

    @property
    def closed(self) -> bool:
        """Whether it takes no more work."""
        return self._closed

    def close(self, timeout: float = 5.0) -> None:
        """Takes no more work; who waits for a slot gets PoolClosed; what runs may end within `timeout` seconds. Then
        processes are killed, and who waits for a thread gets PoolClosed while the thread lingers. A second time it only
        waits."""
        self._check_thread()
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.stop()
            self._idle_timer.close()
            self._idle_timer = None
        while self._line:
            task = self._line.popleft()
            task.error = PoolClosed(name_of(task.function), self.name)
            self._settle(task)
        self._shrink()
        if self._running:
            if self._quiet is None:
                self._quiet = Event()
            self._quiet.wait(timeout)
        self._end()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self._running} of {self.size} slots>"

    def _check_thread(self) -> None:
        if get_ident() != self._thread:
            raise WrongThread(f"{self.name} belongs to another thread; from this one use System.from_thread")

    # ---- slots -----------------------------------------------------------------------------------------------------------

    def _run(self, task: Task) -> Any:
        raise NotImplementedError

    def _begin(self, task: Task) -> None:
        """A slot was given to this task."""
        raise NotImplementedError

    def _wait(self, task: Task) -> None:
        """Takes a slot, or the place in the line, and waits until the task is settled."""
        if self._running < self.size and not self._line:
            self._take(task)
        elif self.full == "fail" and len(self._line) >= self.queue:
            raise PoolFull(name_of(task.function), self.name, len(self._line))
        else:
            self._stand_in_line(task)
        hub = self._hub
        while not task.settled:
            hub.switch()

    def _stand_in_line(self, task: Task) -> None:
        if task.owner is not None:
            wait = SlotWait(task.owner, self._holders)
            wait.check()
            task.owner.waiting = wait
        self._line.append(task)

    def _holders(self) -> Iterable[Task]:
        """The tasks that have a slot, as far as their work may wait for an actor."""
        return ()

    def _take(self, task: Task) -> None:
        self._running += 1
        task.begun = True
        if task.owner is not None:
            task.owner.waiting = None
        if self._idle_timer is None and not self._closed:
            self._idle_timer = self._hub.loop.timer(self.idle, self.idle, ref=False)
            self._idle_timer.start(self._look_for_idle)
        try:
            self._begin(task)
        except BaseException:
            task.begun = False
            self._running -= 1
            raise

    def _leave(self) -> None:
        """A slot is free: the next of the line gets it."""
        self._running -= 1
        self._done += 1
        while self._line and self._running < self.size:
            task = self._line.popleft()
            try:
                self._take(task)
            except Exception as error:  # noqa: BLE001 - the one who waits for it gets it
                task.error = error
                self._settle(task)
        if not self._running and self._quiet is not None:
            self._quiet.set()

    def _settle(self, task: Task) -> None:
        """Lets the one who waits go on soon."""
        task.settled = True
        if task.greenlet is not None:
            self._hub.loop.run_callback(self._go_on, task)

    def _go_on(self, task: Task) -> None:
        # Once only: a second switch would reach the greenlet where it waits for something else.
        waiting, task.greenlet = task.greenlet, None
        if waiting is not None:
            try:
                waiting.switch()
            except BaseException:  # noqa: BLE001 - of a greenlet whose parent is the hub; the others must not suffer
                self._hub.handle_error(waiting, *sys.exc_info())

    # ---- workers ---------------------------------------------------------------------------------------------------------

    def _look_for_idle(self) -> None:
        if self._running == 0 and self._seen == self._done:
            self._shrink()
            self._idle_timer.stop()
            self._idle_timer.close()
            self._idle_timer = None
        self._seen = self._done

    def _workers(self) -> int:
        raise NotImplementedError

    def _lingering_count(self) -> int:
        return 0

    def _shrink(self) -> None:
        """Ends the workers that have nothing to do."""
        raise NotImplementedError

    def _end(self) -> None:
        """The time for an orderly end is over."""


def name_of(function: Any) -> str:
    """A function's name for people."""
    while isinstance(function, partial):
        function = function.func
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    return f"{module}:{name}" if module and name else repr(function)


def check_count(field: str, given: object, least: int) -> None:
    """Raises SpecError unless it is a whole number from `least`."""
    if isinstance(given, bool) or not isinstance(given, int) or given < least:
        raise SpecError(field, given, f"a whole number from {least}")
