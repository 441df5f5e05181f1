"""How an owner waits for its tasks: for one, for all of several, or for whichever of them ends next."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

from greenlet import GreenletExit, getcurrent

from packetflow.otp.answers import Exited, Ok
from packetflow.otp.calls import check_cycle
from packetflow.otp.errors import AlreadyAwaited, AwaitTimeout, NotTheOwner, SpecError, TaskExited
from packetflow.otp.process import DEAD, GONE, PENDING, Call, Failed, Process, Worker

if TYPE_CHECKING:
    from packetflow.otp.clock import Seconds
    from packetflow.otp.ref import Ref
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.tasks.task import Task
    from packetflow.otp.timeouts import Timeouts

USUAL: Final = 5.0


def wait_for(task: Task[Any], me: Any, caller: Process | None, timeout: Seconds | None) -> bool:
    """Waits until a task has ended. Returns whether it has, in time. Raises CallCycle, HubBlocked, SpecError."""
    process: Process = task.target
    scheduler: Scheduler = process.scheduler
    if me is not scheduler.trusted:
        scheduler.check_may_wait()
        scheduler.trusted = me
    if timeout == 0:
        scheduler.pass_through_hub()  # so that one who asks again and again does not keep the task from running
        return task.value is not PENDING
    budget = scheduler.budget = scheduler.budget - 1
    if budget <= 0 or not budget & 15:
        scheduler.mind_the_hub()
        if task.value is not PENDING:
            return True
    if caller is not None and process.waiting is not None:
        check_cycle(caller, process)
    waiter: Any = None
    timeouts: Timeouts = scheduler.timeouts
    if timeout is not None:
        if timeout is not USUAL:
            timeouts.find(timeout)  # raises if it is none
        waiter = Call.__new__(Call)
        waiter.greenlet = me
        waiter.target = process
        waiter.value = PENDING
        waiter.timeout = timeout
        before = waiter.before = timeouts.last
        timeouts.last = waiter
        if before is None and not timeouts.dating:
            timeouts.date_soon()
    task.greenlet = me
    if caller is not None:
        caller.waiting = task
    try:
        if process.worker is None:
            queue = scheduler.run_queue
            if queue and queue[-1] is process and scheduler.pool:
                queue.pop()  # what `begin` does, for the usual case
                process.worker = worker = scheduler.pool.pop()
                worker.process = process
                worker.switch()
            else:
                begin(process, scheduler)
        if waiter is None:
            while task.value is PENDING:
                scheduler.let_others_run()
        else:
            while task.value is PENDING and waiter.value is PENDING:
                scheduler.let_others_run()
    finally:
        task.greenlet = None
        if caller is not None:
            caller.waiting = None
        if waiter is not None:
            waiter.greenlet = None
            waiter.value = GONE
            if timeouts.last is waiter:
                timeouts.last = before
            else:
                timeouts.leave(waiter)
    return task.value is not PENDING


def begin(process: Process, scheduler: Scheduler) -> None:
    """Switches straight into a task that has not begun, if it stands at an end of the queue; else its turn comes."""
    queue = scheduler.run_queue
    if queue:
        if queue[-1] is process:
            queue.pop()
        elif queue[0] is process:
            queue.popleft()
        else:
            return
        scheduler.worker_for(process).switch()


class Gathering(Call):
    """One who waits for several tasks: those that have ended, and the greenlet to wake.

    `target` is one of them, for the edge from the waiting actor; `value` is PENDING until the time is over.
    """

    __slots__ = ("bounded", "ended", "open")

    def __init__(self, caller: Process | None) -> None:
        self.greenlet = None
        self.caller = caller
        self.message = self.context = None
        self.value = PENDING
        self.bounded = False  # whether it has a timeout
        self.ended: deque[Task[Any]] = deque()
        self.open: dict[Task[Any], None] = {}  # those that have not ended, in their order

    def enter(self, task: Task[Any]) -> None:
        """Waits for one more."""
        self.open[task] = None
        task.gathering = self
        self.target = task.target

    def next(self) -> Task[Any] | None:
        """Waits for the next that ends. None if the time is over first."""
        scheduler = self.target.scheduler
        ended = self.ended
        if not ended:
            self._wait(scheduler)
        if not ended:
            return None
        task = ended.popleft()
        self.open.pop(task, None)
        return task

    def forget_ended(self) -> None:
        """Passes over those that have ended."""
        while self.ended:
            self.open.pop(self.ended.popleft(), None)

    def towards(self, caller: Process) -> Process:
        """Whom the waiting actor waits for: this one, if it is among them."""
        return caller if any(task.target is caller for task in self.open) else self.target

    def leave(self) -> None:
        """Waits for none of them any more."""
        for task in self.open:
            task.gathering = None
        for task in self.ended:
            task.gathering = None
        self.open.clear()
        self.ended.clear()
        self.value = GONE

    def _wait(self, scheduler: Scheduler) -> None:
        me = getcurrent()
        scheduler.check_may_wait()
        budget = scheduler.budget = scheduler.budget - 1
        if budget <= 0 or not budget & 15:
            scheduler.mind_the_hub()
        caller = self.caller
        if caller is not None:
            caller.waiting = self
        self.greenlet = me
        try:
            if not self.ended:
                first = next(iter(self.open))
                self.target = first.target
                if self.target.worker is None:
                    begin(self.target, scheduler)
            while not self.ended and self.value is PENDING:
                scheduler.let_others_run()
            if caller is not None and caller.current is DEAD:
                raise GreenletExit  # it was killed, and only has not heard of it yet
        finally:
            self.greenlet = None
            if caller is not None:
                caller.waiting = None


def await_many(tasks: list[Task[Any]], timeout: Seconds | None) -> list[Any]:
    """See `Task.await_many`."""
    caller = _check(tasks)
    for task in tasks:
        _raise_if_failed(task)
    gathering = _gather(tasks, caller, timeout)
    try:
        while gathering.open:
            ended = gathering.next()
            if ended is None:
                assert timeout is not None
                raise AwaitTimeout(next(iter(gathering.open)).target.ref, timeout)
            _raise_if_failed(ended)
    finally:
        _give_up(gathering, timeout)
    values = [task.value for task in tasks]
    for task in tasks:
        task.value = GONE
    return values


def yield_many(
    tasks: list[Task[Any]],
    timeout: Seconds | None,
    limit: int | None,
    on_timeout: Literal["nothing", "ignore", "kill_task"],
) -> list[tuple[Task[Any], Ok[Any] | Exited | None]]:
    """See `Task.yield_many`."""
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
        raise SpecError("limit", limit, "a whole number from 1, or None for all")
    if on_timeout not in ("nothing", "ignore", "kill_task"):
        raise SpecError("on_timeout", on_timeout, '"nothing", "ignore" or "kill_task"')
    caller = _check(tasks)
    wanted = len(tasks) if limit is None else min(limit, len(tasks))
    there = sum(1 for task in tasks if task.value is not PENDING)
    if there < wanted:
        gathering = _gather(tasks, caller, timeout)
        try:
            while there < wanted and gathering.next() is not None:
                there += 1
        finally:
            _give_up(gathering, timeout)
    outcomes: list[tuple[Task[Any], Ok[Any] | Exited | None]] = []
    for task in tasks:
        if task.value is not PENDING or on_timeout == "nothing":
            outcomes.append((task, task.take()))
        elif on_timeout == "ignore":
            outcomes.append((task, task.ignore()))
        else:
            outcomes.append((task, task.shutdown("brutal_kill")))
    return outcomes


def _check(tasks: list[Task[Any]]) -> Process | None:
    me = getcurrent()
    caller = me.process if me.__class__ is Worker else None
    seen = set()
    for task in tasks:
        if task.owner is not (me if caller is None else caller):
            raise NotTheOwner(task)
        if task.value is GONE or task in seen:
            raise AlreadyAwaited(task)
        seen.add(task)
    return caller


def _gather(tasks: list[Task[Any]], caller: Process | None, timeout: Seconds | None) -> Gathering:
    gathering = Gathering(caller)
    waited_for = [task for task in tasks if task.value is PENDING]
    if not waited_for:
        return gathering
    scheduler = waited_for[0].target.scheduler
    scheduler.check_may_wait()
    if timeout is not None:
        scheduler.timeouts.find(timeout)
    for task in waited_for:
        check_cycle(caller, task.target)
    for task in waited_for:
        gathering.enter(task)
    if timeout is not None:
        scheduler.timeouts.enter(gathering, timeout)
        gathering.bounded = True
    return gathering


def _give_up(gathering: Gathering, timeout: Seconds | None) -> None:
    gathering.leave()
    if gathering.bounded:
        gathering.target.scheduler.timeouts.leave(gathering)


def _raise_if_failed(task: Task[Any]) -> None:
    value = task.value
    if value.__class__ is Failed:
        task.value = GONE
        raise_exited(task.ref, reason_of(value))


def exited(reason: object) -> Failed:
    """The value of a task that died of this."""
    return Failed(lambda timeout: TaskExited(None, reason))


def reason_of(failed: Failed) -> object:
    """What it died of."""
    return failed.error(None).reason  # type: ignore[attr-defined]


def raise_exited(ref: Ref | None, reason: object) -> NoReturn:
    """Raises TaskExited; an exception is its cause."""
    error = TaskExited(ref, reason)
    if isinstance(reason, BaseException):
        raise error from reason
    raise error
