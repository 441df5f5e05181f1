"""Streams of tasks: a function for each of many items, so many at a time, as their consumer asks for the results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from greenlet import GreenletExit, getcurrent

from packetflow.otp.answers import Exited, Ok
from packetflow.otp.errors import AwaitTimeout, NotTheOwner, SpecError
from packetflow.otp.process import DEAD, GONE, PENDING, Process, Worker
from packetflow.otp.signals import die
from packetflow.otp.tasks.start import check_function, launch, needs_system
from packetflow.otp.tasks.task import Task, make
from packetflow.otp.tasks.waiting import Gathering
from packetflow.otp.threads import door_of, get_ident

if TYPE_CHECKING:
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.system import System
    from packetflow.otp.timers import Timer

# Elixir takes the number of its schedulers, which is one here; what waits for I/O wants more than that.
USUAL_CONCURRENCY = 8


def here(system: System | None) -> Callable[[Task[Any]], None]:
    """How a stream starts its tasks in a system: by default in that of the actor that consumes it."""
    scheduler: Scheduler | None = None if system is None else system.scheduler

    def start(task: Task[Any]) -> None:
        where = scheduler
        if where is None:
            owner = task.owner
            if not isinstance(owner, Process):
                needs_system("async_stream")
            where = owner.scheduler
        launch(task, where, None)

    return start


def stream(
    start: Callable[[Task[Any]], None],
    items: Iterable[Any],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    *,
    linked: bool,
    max_concurrency: int | None,
    ordered: bool,
    timeout: float | None,
    on_timeout: Literal["exit", "kill_task"],
    zip_input_on_exit: bool,
) -> Generator[Ok[Any] | Exited, None, None]:
    """The outcomes of `function(item, *arguments)` for each item: Ok(value) or Exited(reason).

    Nothing runs before the first outcome is asked for; whoever asks first owns the tasks and must ask for all. At most
    `max_concurrency` items (8 by default) are taken and not yet given out, so a slow consumer holds the items back, and
    with `ordered` a slow item those after it. When the stream is closed, dropped, or raises, what still runs is stopped.

    ordered: in the order of the items, else as they end. timeout: seconds for each task, None for no limit; then
    on_timeout: "exit" raises AwaitTimeout in the consumer, "kill_task" kills that task and gives Exited("timeout").
    zip_input_on_exit: Exited((item, reason)). linked: a task that dies takes the consuming actor with it unless that
    traps exits; otherwise, and for a plain greenlet, its end is an outcome. What `items` raises, the stream raises.
    """
    check_function(function)
    if not isinstance(items, Iterable):
        raise SpecError("items", items, "something to iterate over")
    if max_concurrency is None:
        max_concurrency = USUAL_CONCURRENCY
    elif isinstance(max_concurrency, bool) or not isinstance(max_concurrency, int) or max_concurrency < 1:
        raise SpecError("max_concurrency", max_concurrency, "a whole number from 1")
    if timeout is not None and (
        isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < float("inf")
    ):
        raise SpecError("timeout", timeout, "a number of seconds from 0, or None for no limit")
    if on_timeout not in ("exit", "kill_task"):
        raise SpecError("on_timeout", on_timeout, '"exit" or "kill_task"')
    flow = _Flow(start, function, arguments, linked, timeout, on_timeout == "kill_task")
    return _results(flow, items, max_concurrency, ordered, zip_input_on_exit)


def _results(
    flow: _Flow, items: Iterable[Any], max_concurrency: int, ordered: bool, zip_input_on_exit: bool
) -> Generator[Ok[Any] | Exited, None, None]:
    flow.begin()
    iterator: Iterator[Any] | None = iter(items)
    waiting: deque[Task[Any]] = deque()  # in the order of the items
    try:
        while True:
            while iterator is not None and len(flow.running) < max_concurrency:
                try:
                    item = next(iterator)
                except StopIteration:
                    iterator = None
                    break
                task = flow.add(item)
                if ordered:
                    waiting.append(task)
            if not flow.running:
                return
            ended = flow.next(waiting.popleft() if ordered else None)
            item = flow.forget(ended)
            outcome = ended.take()
            assert outcome is not None
            if zip_input_on_exit and isinstance(outcome, Exited):
                outcome = Exited((item, outcome.reason))
            yield outcome
            del item, ended, outcome
            flow.check_consumer()
    finally:
        flow.close()


class _Flow:
    """The tasks of one stream under way."""

    __slots__ = (
        "_arguments",
        "_caller",
        "_consumer",
        "_function",
        "_gathering",
        "_kills",
        "_linked",
        "_overran",
        "_start",
        "_timeout",
        "running",
    )

    def __init__(
        self,
        start: Callable[[Task[Any]], None],
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        linked: bool,
        timeout: float | None,
        kills: bool,
    ) -> None:
        self._start = start
        self._function = function
        self._arguments = arguments
        self._linked = linked
        self._timeout = timeout
        self._kills = kills
        self._overran: Task[Any] | None = None
        self.running: dict[
            Task[Any], tuple[Any, Timer | None]
        ] = {}  # taken and not given out: the item and its alarm

    def begin(self) -> None:
        """Somebody asks for the first: the consumer."""
        me = getcurrent()
        self._caller: Process | None = me.process if me.__class__ is Worker else None
        if self._caller is not None and self._caller.current is DEAD:
            raise GreenletExit  # killed, and its greenlet has not heard of it yet
        self._consumer = me if self._caller is None else self._caller
        self._linked = self._linked and self._caller is not None and not self._caller.server.trap_exits
        self._gathering = Gathering(self._caller)

    def check_consumer(self) -> None:
        """Raises NotTheOwner if it is not the consumer who asks for the next."""
        me = getcurrent()
        if self._consumer is not (me.process if me.__class__ is Worker else me):
            raise NotTheOwner("", "this stream of tasks")

    def add(self, item: Any) -> Task[Any]:
        """Starts the task of an item."""
        context = getcurrent().gr_context
        task = make(self._function, (item, *self._arguments), self._consumer, self._linked, context)
        self._start(task)
        alarm: Timer | None = None
        if self._timeout is not None:
            alarm = task.target.scheduler.timers.after(self._timeout, self._overrun, task)
        self.running[task] = (item, alarm)
        if task.value is PENDING:
            self._gathering.enter(task)
        else:
            self._gathering.ended.append(task)
        return task

    def next(self, wanted: Task[Any] | None) -> Task[Any]:
        """Waits for this task, or whichever ends next. Raises AwaitTimeout if a task overran and that ends the stream."""
        gathering = self._gathering
        while True:
            if self._overran is not None:
                self._raise_overrun(self._overran)
            if wanted is not None and wanted.value is not PENDING:
                gathering.forget_ended()
                return wanted
            ended = gathering.next()
            if wanted is None and ended is not None:
                return ended

    def forget(self, task: Task[Any]) -> Any:
        """Its outcome is given out. Returns its item."""
        item, alarm = self.running.pop(task)
        if alarm is not None:
            alarm.cancel()
        return item

    def close(self) -> None:
        """Stops what still runs. Never waits: the stream may be closed where nobody may."""
        for task in self.running:
            scheduler = task.target.scheduler
            me = getcurrent()
            if get_ident() != scheduler.thread:
                door_of(scheduler.hub).post(self._stop)
            elif self._consumer is not (me.process if me.__class__ is Worker else me):
                # It was dropped, and garbage collection found it wherever it ran: perhaps in one of these tasks.
                scheduler.hub.loop.run_callback(self._stop)
            else:
                self._stop()
            return

    def _stop(self) -> None:
        self._gathering.leave()
        for task, (_, alarm) in list(self.running.items()):
            if alarm is not None:
                alarm.cancel()
            if task.value is PENDING:
                task.value = GONE
            task.linked = False
            die(task.target, "shutdown")
        self.running.clear()

    def _overrun(self, task: Task[Any]) -> None:
        if task.value is not PENDING:
            return
        if self._kills:
            task.linked = False  # its end is an outcome, and nothing to die of
            die(task.target, "timeout")
        elif self._overran is None:
            self._overran = task
            gathering = self._gathering
            if gathering.value is PENDING:
                gathering.value = GONE
                if gathering.greenlet is not None:
                    task.target.scheduler.enqueue(gathering)

    def _raise_overrun(self, task: Task[Any]) -> NoReturn:
        raise AwaitTimeout(task.ref, self._timeout)
