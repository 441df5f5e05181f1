"""Who runs next: the pool of workers, the queue of those who can go on, and the loop in which a worker handles messages.

The fast way of a call: the caller switches straight into a worker, the worker handles the message and switches straight
back; the hub is not involved. Whoever has nothing to do hands over to the next in the queue. After 256 hand-overs or
5 ms the hub has its turn, so that I/O and timers are never starved.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gevent
from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent, greenlet

from packetflow.otp import turn
from packetflow.otp.answers import ANSWERS
from packetflow.otp.errors import HubBlocked, WrongThread
from packetflow.otp.process import CAST, CONTINUE, DEAD, IDLE, PENDING, Call, Job, Process, Worker
from packetflow.otp.signals import die
from packetflow.otp.threads import door_of, get_ident
from packetflow.otp.timeouts import Timeouts
from packetflow.otp.timers import Timers

if TYPE_CHECKING:
    from packetflow.otp.system import System

BUDGET = 256
SLICE = 0.005
PARKED = 512
AGAIN = 1.0
HIRES = 4
DEEP = 48


class Scheduler:
    """What the processes of one system share. Belongs to one hub, and so to one thread."""

    __slots__ = (
        "_beginner",
        "budget",
        "count",
        "drawn",
        "dying",
        "flushing",
        "hub",
        "lingering",
        "monotonic",
        "names",
        "pool",
        "processes",
        "run_queue",
        "slice_end",
        "system",
        "thread",
        "timeouts",
        "timers",
        "trusted",
        "workers",
    )

    def __init__(self, system: System, monotonic: Callable[[], float]) -> None:
        self.system = system
        self.monotonic = monotonic
        self.hub: Any = get_hub()
        self.thread = get_ident()
        door_of(self.hub)  # other threads find it made
        self.timers = Timers(self.hub.loop, monotonic)
        self.timeouts = Timeouts(self)
        self.trusted: Any = None  # the greenlet that called last, and may
        self.pool: list[Worker] = []
        self.workers = 0
        self.count = 0
        self.run_queue: deque[Any] = deque()  # processes with a message, calls with an answer
        self.flushing = False
        self.budget = BUDGET
        self.slice_end = 0.0
        self.drawn = False  # a simulation draws who goes on after an answer
        self.processes: dict[int, Process] = {}
        self.names: dict[str, Process] = {}
        self.dying: deque[tuple[Process, object]] = deque()
        self.lingering: dict[Worker, Process] = {}
        self._beginner = greenlet(_begin_workers)
        self._beginner.switch()

    # ---- who may ----------------------------------------------------------------------------------------------------

    def check_thread(self) -> None:
        """Raises WrongThread unless this is the thread of the system's hub."""
        if get_ident() != self.thread:
            raise WrongThread(
                f"the system {self.system.name!r} belongs to another thread; from this one use "
                "System.from_thread(function, ...), which runs it there and waits for it"
            )

    def check_may_wait(self) -> None:
        """Raises WrongThread or HubBlocked unless this greenlet may wait for an actor of the system."""
        self.check_thread()
        if getcurrent() is self.hub:
            raise HubBlocked(
                "the hub's own greenlet (a loop callback) must not wait; spawn a greenlet, or cast"
            )

    # ---- making others run --------------------------------------------------------------------------------------------

    def enqueue(self, job: Process | Call) -> None:
        """Lets a process with a message, or one who has its answer, go on soon."""
        # What may raise (a caller at the end of its recursion) stands before what can't be taken back.
        if not self.flushing:
            self.flush_soon()
        self.run_queue.append(job)

    def flush_soon(self) -> None:
        """Has the hub let those in the queue go on."""
        self.hub.loop.run_callback(self._flush)
        self.flushing = True

    def deliver(self, process: Process, item: Any) -> None:
        """Puts a message into a mailbox, whatever its bound; a dead process gets nothing."""
        current = process.current
        if current is None:
            self.enqueue(process)
            process.current = item
        elif current is not DEAD:
            if process.mailbox is None:
                process.mailbox = deque()
            process.mailbox.append(item)

    def worker_for(self, process: Process) -> Worker:
        """A worker that will handle `process.current` when it is switched to."""
        worker: Worker = self.pool.pop() if self.pool else self.hire()
        worker.process = process
        process.worker = worker
        return worker

    def hire(self) -> Worker:
        """A new worker.

        A greenlet begins with the recursion depth and on the C stack of whoever switches to it first. So one that is
        hired by somebody deep, or by a worker that was hired by a worker, is begun by a greenlet that stands high up:
        else a long chain of calls would overflow, and a worker would have little recursion left for all its life.
        """
        me = getcurrent()
        hires = me.hires + 1 if me.__class__ is Worker else 0
        if hires >= HIRES or _is_deep():
            worker: Worker = self._beginner.switch(self, me)
            hires = 0
        else:
            worker = Worker(self.work, self.hub)
            worker.process = None
        worker.hires = hires
        self.workers += 1
        if self.workers == PARKED + 1:
            self.timers.after(AGAIN, self._dismiss)
        return worker

    def _dismiss(self, _: object) -> None:
        # A burst is over when its workers lie in the pool; those above the usual number end.
        while len(self.pool) > PARKED:
            self._end(self.pool.pop())
        if self.workers > PARKED:
            self.timers.after(AGAIN, self._dismiss)

    def close(self) -> None:
        """Ends the parked workers and drops the timers; only after the last process is dead."""
        self.timers.close()
        self.timeouts.close()
        self.trusted = None
        while self.pool:
            worker = self.pool.pop()
            self.hub.loop.run_callback(self._end, worker)

    def _end(self, worker: Worker) -> None:
        if worker:
            worker.throw(GreenletExit)
        else:
            self.workers -= 1  # hired for a start that came to nothing, and never begun

    def _flush(self) -> None:
        self.budget = BUDGET
        self.slice_end = self.monotonic() + SLICE
        queue = self.run_queue
        while queue:
            if self.budget <= 0:
                self.hub.loop.run_callback(self._flush)
                return
            self._switch_to_next(queue)
        self.flushing = False

    def _switch_to_next(self, queue: deque[Any]) -> bool:
        """Switches to the first that can go on. Returns whether there was one, after somebody switched back."""
        while queue:
            job = queue.popleft()
            if job.__class__ is Process:
                if job.current is not DEAD:
                    self.budget -= 1
                    self.worker_for(job).switch()
                    return True
            else:
                waiting = job.greenlet
                if waiting is not None:
                    self.budget -= 1
                    if waiting is not getcurrent():
                        waiting.switch()
                    return True
        return False

    def let_others_run(self) -> None:
        """What a greenlet does that waits for its answer: the next goes on, or the hub. Returns when it is switched to."""
        if self.budget <= 0 or not self._switch_to_next(self.run_queue):
            self.hub.switch()

    def mind_the_hub(self) -> None:
        """Lets the hub have its turn if it is due: the budget is spent, or the slice of time is over."""
        if self.budget <= 0 or self.monotonic() >= self.slice_end:
            self.pass_through_hub()

    def pass_through_hub(self) -> None:
        """The hub's turn: I/O and timers. The calling greenlet goes on afterwards."""
        self.check_may_wait()
        gevent.sleep(0)
        self.budget = BUDGET
        self.slice_end = self.monotonic() + SLICE

    # ---- ending a worker ----------------------------------------------------------------------------------------------

    def cut(self, process: Process, worker: Worker) -> None:
        """Has a worker of a dead process end, now and again each second until it has."""
        self.lingering[worker] = process
        self.hub.loop.run_callback(self._throw, worker)

    def _throw(self, worker: Worker) -> None:
        if worker in self.lingering:
            worker.throw(GreenletExit)
            if worker in self.lingering:
                self.timers.after(AGAIN, self._throw, worker)

    # ---- the loop of a worker -----------------------------------------------------------------------------------------

    def work(self) -> None:
        """The life of a worker: handle the message at hand, then the next that somebody has, else wait in the pool."""
        me: Worker = getcurrent()
        try:
            if me.process is None:  # begun by the greenlet for that: back to it, until there is a message
                self._beginner.switch(me)
            self._work(me)
        except GreenletExit:
            pass  # it was parked and is not needed any more
        except BaseException as error:  # noqa: BLE001 - a fault of the loop itself must not end the hub
            process = me.process
            if process is not None and process.worker is me:
                die(process, error)
            self.hub.handle_error(me, *sys.exc_info())
        finally:
            self.workers -= 1
            self.lingering.pop(me, None)
            if me in self.pool:
                self.pool.remove(me)
            me.process = None

    def _work(self, me: Worker) -> None:
        pool: list[Worker] = self.pool
        queue, hub = self.run_queue, self.hub
        process: Process = me.process
        while True:
            item = process.current
            kind = item.__class__
            waiting = None
            try:
                if kind is Call:
                    request: Call = item
                    me.gr_context = request.context
                    result = process.server.handle_call(request.message, request)
                    if process.current is not item:
                        return  # killed meanwhile
                    if result.__class__ in ANSWERS:
                        waiting = turn.obey(process, item, result)
                    elif request.value is PENDING:
                        request.value = result
                        waiting = request.greenlet
                elif kind is tuple:
                    me.gr_context = None
                    sort = item[0]
                    if sort == CAST:
                        result = process.server.handle_cast(item[1])
                    elif sort == CONTINUE:
                        result = process.server.handle_continue(item[1])
                    elif sort == IDLE:
                        result = process.server.handle_info("timeout")
                    else:
                        result = process.server.handle_info(item[1])
                    if process.current is not item:
                        return
                    if result is not None:
                        turn.obey(process, None, result)
                else:
                    me.gr_context = item.context
                    result = item.perform(process)
                    if process.current is not item and me in self.lingering:
                        return  # killed meanwhile; an `init` that ends its own process goes on here
                    if result is not None:
                        turn.obey(process, item, result)
                    elif item.value is not PENDING:
                        waiting = item.greenlet
            except BaseException as error:  # noqa: BLE001 - whatever user code raises is a crash of its actor
                if process.current is not item:
                    return
                turn.crash(process, item, error)
                if isinstance(item, Job) and item.value is not PENDING:
                    waiting = item.greenlet
                del error
            current = process.current
            if current is DEAD:
                if me in self.lingering:
                    return
            else:
                process.handled += 1
                if current is not item:  # it continues
                    more = True
                elif process.mailbox is None:
                    process.current = None
                    process.worker = None
                    more = False
                else:
                    more = turn.advance(process)
                if more:
                    if waiting is None:
                        budget = self.budget = self.budget - 1
                        if budget & 15 and budget > 0:
                            continue
                        if budget > 0 and self.monotonic() < self.slice_end:
                            continue
                        self.budget = 0
                    process.worker = None
                    self.enqueue(process)
            if self.drawn and waiting is not None:
                self.enqueue(item)
                waiting = None
            # A parked worker must not keep what it handled last.
            item = current = result = request = None  # type: ignore[assignment]

            # The one who waits goes on at once; else whoever is next; else the hub.
            me.process = None
            if waiting is not None:
                pool.append(me)
                waiting.switch()
            else:
                found = False
                while queue and self.budget > 0:
                    other = queue.popleft()
                    if other.__class__ is Process:
                        process = other
                        if process.current is DEAD:
                            continue
                        me.process = process
                        process.worker = me
                    elif other.greenlet is None:
                        continue
                    else:
                        waiting = other.greenlet
                    self.budget -= 1
                    found = True
                    break
                other = None
                if not found:
                    pool.append(me)
                    hub.switch()
                elif waiting is not None:
                    pool.append(me)
                    waiting.switch()
            process = me.process


def _begin_workers() -> None:
    # The life of the greenlet that begins workers; it holds nothing while it waits.
    back: Any = getcurrent().parent
    worker: Any = None
    while True:
        scheduler, back = back.switch(worker)
        worker = Worker(scheduler.work, scheduler.hub)
        worker.process = None
        scheduler = None
        worker.switch()


def _is_deep() -> bool:
    try:
        sys._getframe(DEEP)
    except ValueError:
        return False
    return True
