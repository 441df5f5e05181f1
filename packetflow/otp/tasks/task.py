"""Task: a function that runs in a process of its own, and whose result one owner awaits. Elixir's Task.

How it runs, waits and ends is here and in waiting.py; streams of tasks are in stream.py, supervised ones in
supervisor.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from greenlet import GreenletExit, getcurrent

from packetflow.otp.answers import UNSET, Exited, Ok, Stop, is_orderly
from packetflow.otp.errors import AlreadyAwaited, AwaitTimeout, NotTheOwner
from packetflow.otp.ordered import OrderedSet
from packetflow.otp.process import DEAD, GONE, PENDING, Failed, Job, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.signals import actor, current_process, die, kill, log, signal
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart
from packetflow.otp.tasks.start import check_function, launch, name_of, needs_system
from packetflow.otp.tasks.waiting import (
    USUAL,
    Gathering,
    await_many,
    exited,
    raise_exited,
    reason_of,
    wait_for,
    yield_many,
)
from packetflow.otp.turn import brief

if TYPE_CHECKING:
    from packetflow.otp.ordered import OrderedSet
    from packetflow.otp.system import System

T = TypeVar("T")
V = TypeVar("V")


class Task(Job, Generic[T]):
    """A task as its owner sees it. Made by `Task.async_` and its like, never by hand.

    `async` and `await` are Python's own words, so they are `async_` and `await_` here, as PEP 8 has it; the rest is
    named as in Elixir. `Task.await_(task)` and `task.await_()` are the same.

    The owner is the actor (or task) whose code started it, else the greenlet. Only the owner may await, yield, shut down
    and ignore. A task ends with its owner, however that ends; ignored ones live on. An actor's task is linked with it:
    what the task dies of, the actor dies of, unless it traps exits. A plain greenlet has no links: it sees the failure
    when it awaits. The function runs in a copy of the starter's context variables.

    Where this departs from Elixir: an await that times out raises in the owner and leaves the task running, and it can
    be awaited again or shut down; a task ends also with an owner that ends normally.
    """

    __slots__ = ("arguments", "family", "gathering", "linked", "owner", "stopping")

    # What the runtime asks of whatever a process serves; a task is no server, and the runtime never sends it a message.
    is_task = True
    supervises = False
    trap_exits = False
    mailbox_limit: int | None = None

    arguments: tuple[Any, ...]
    owner: Any  # a Process, a greenlet, or None: nobody
    linked: bool  # whether its end is an exit signal to its owner
    family: OrderedSet[Process] | None  # where its owner keeps it, to end it when it ends itself
    gathering: Gathering | None  # who waits for it together with others
    stopping: object  # the reason for which it was told to stop; only set where it was

    # ---- starting ------------------------------------------------------------------------------------------------------

    @staticmethod
    def async_(function: Callable[..., V], *arguments: Any, system: System | None = None) -> Task[V]:
        """Starts `function(*arguments)` in a process of its own, linked with the calling actor. Await it.

        system: where it lives; inside an actor it is the actor's own by default. Raises NotAnActor if there is none,
        SpecError for what can't be called, WrongThread.
        """
        me = getcurrent()
        if me.__class__ is Worker:
            owner: Any = me.process
            scheduler = owner.scheduler if system is None else system.scheduler
            linked = True
        else:
            if system is None:
                needs_system("async_")
            owner = me
            scheduler = system.scheduler
            linked = False
        task = make(function, arguments, owner, linked, me.gr_context)
        launch(task, scheduler, None)
        return task

    @staticmethod
    def start(function: Callable[..., Any], *arguments: Any, system: System | None = None) -> Ref:
        """Starts a task that nobody awaits and that lives on its own. Returns its ref. Raises as `async_` does."""
        process = current_process()
        if process is not None and process.current is DEAD:
            raise GreenletExit  # killed, and its greenlet has not heard of it yet
        if system is not None:
            scheduler = system.scheduler
        elif process is not None:
            scheduler = process.scheduler
        else:
            needs_system("start")
        return launch(make(function, arguments, None, False, getcurrent().gr_context), scheduler, None).ref

    @staticmethod
    def start_link(function: Callable[..., Any], *arguments: Any) -> Ref:
        """The same, linked with the calling actor. Raises NotAnActor outside of one."""
        me = actor("start_link")
        task = make(function, arguments, None, False, getcurrent().gr_context)
        process = launch(task, me.scheduler, None)
        process.bond().links.add(me)
        me.bond().links.add(process)
        return process.ref

    @staticmethod
    def child(
        function: Callable[..., Any],
        *arguments: Any,
        id: Hashable = None,
        restart: Restart = "temporary",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        significant: bool = False,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a task below a supervisor. id: the function's name by default. Raises SpecError."""
        check_function(function)
        return ChildSpec(
            start_supervised,
            function,
            arguments,
            None,
            id=name_of(function) if id is None else id,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            start_timeout=None,
            backoff=backoff,
        )

    @staticmethod
    def completed(value: V) -> Task[V]:
        """A task that is over and has this value, without a process. The caller owns it."""
        me = getcurrent()
        task = make(_completed, (), me.process if me.__class__ is Worker else me, False, None)
        task.value = value
        return task

    @staticmethod
    def async_stream(
        items: Iterable[Any],
        function: Callable[..., V],
        *arguments: Any,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = USUAL,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
        system: System | None = None,
    ) -> Generator[Ok[V] | Exited, None, None]:
        """Runs `function(item, *arguments)` in a task for each item, and gives an Ok or Exited for each. Lazy.

        See `stream.stream` for the options.
        """
        from packetflow.otp.tasks.stream import here, stream

        return stream(
            here(system),
            items,
            function,
            arguments,
            linked=True,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )

    # ---- what its owner does -------------------------------------------------------------------------------------------

    def await_(self, timeout: float | None = USUAL) -> T:
        """Waits for the result, once.

        timeout: seconds (rounded up as for calls), None for no limit. Raises TaskExited, with what the task died of as
        reason and cause; AwaitTimeout, and then it runs on and may be awaited again; NotTheOwner; AlreadyAwaited;
        CallCycle if the task waits for the caller.
        """
        me = getcurrent()
        caller = me.process if me.__class__ is Worker else None
        if self.owner is not (me if caller is None else caller):
            raise NotTheOwner(self)
        if self.value is PENDING and not wait_for(self, me, caller, timeout):
            raise AwaitTimeout(self.ref, timeout)
        value = self.value
        self.value = GONE
        if value.__class__ is Failed:
            raise_exited(self.ref, reason_of(value))
        if value is GONE:
            raise AlreadyAwaited(self)
        return value  # type: ignore[no-any-return]

    def yield_(self, timeout: float | None = USUAL) -> Ok[T] | Exited | None:
        """Waits for the end: Ok(value) or Exited(reason); None if it did not come in time, and then the task runs on.

        Raises NotTheOwner, AlreadyAwaited, CallCycle.
        """
        me, caller = self._asked_by_owner()
        if self.value is PENDING:
            wait_for(self, me, caller, timeout)
        if self.value is GONE:
            raise AlreadyAwaited(self)
        return self.take()

    def shutdown(self, timeout: float | Literal["brutal_kill"] | None = USUAL) -> Ok[T] | Exited | None:
        """Stops the task and waits until it is dead. None: it was stopped. Ok or Exited: it had ended before, or otherwise.

        The function sees GreenletExit where it waits, so `finally` runs; what does not end within `timeout` seconds is
        killed: Exited("killed"). None: waits for ever. "brutal_kill": at once. The task is unlinked first. One that was
        awaited or shut down before gives Exited("noproc"). Raises NotTheOwner, CallCycle, SpecError.
        """
        me, caller = self._asked_by_owner()
        brutal = timeout == "brutal_kill"
        if self.value is GONE:
            return Exited("noproc")
        if self.value is PENDING:
            self._leave_owner()
            process = self.target
            if brutal:
                kill(process.ref)
            elif self.interrupt(process, "shutdown"):
                assert timeout != "brutal_kill"
                try:
                    if not wait_for(self, me, caller, timeout):
                        die(process, "killed")
                except BaseException:
                    die(process, "killed")  # the owner is being ended itself, or may not wait
                    raise
        outcome = self.take()
        if isinstance(outcome, Exited) and outcome.reason == ("killed" if brutal else "shutdown"):
            return None
        return outcome

    def ignore(self) -> Ok[T] | Exited | None:
        """Lets the task run on its own, unlinked, and drops its result. Ok or Exited if it has ended; else None.

        Raises NotTheOwner. It can't be awaited, yielded or shut down afterwards.
        """
        self._asked_by_owner()
        if self.value is GONE:
            return None
        if self.value is PENDING:
            self._leave_owner()
            self.value = GONE
            return None
        return self.take()

    @staticmethod
    def await_many(tasks: Iterable[Task[V]], timeout: float | None = USUAL) -> list[V]:
        """Waits for all, and gives their results in the order of the tasks.

        Raises TaskExited as soon as one fails, AwaitTimeout if not all have ended in time; tasks that still run go on.
        NotTheOwner, AlreadyAwaited, CallCycle before it waits.
        """
        return await_many(list(tasks), timeout)

    @staticmethod
    def yield_many(
        tasks: Iterable[Task[V]],
        timeout: float | None = USUAL,
        limit: int | None = None,
        on_timeout: Literal["nothing", "ignore", "kill_task"] = "nothing",
    ) -> list[tuple[Task[V], Ok[V] | Exited | None]]:
        """Waits until all have ended, or `limit` of them, or the time is over: each task with its Ok, Exited or None.

        on_timeout: what becomes of those that have not ended: they run on, are ignored, or are killed.
        """
        return yield_many(list(tasks), timeout, limit, on_timeout)

    # ---- looking at it -------------------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref | None:
        """The address of its process. None for one made by `completed`."""
        return None if self.target is None else self.target.ref

    @property
    def done(self) -> bool:
        """Whether it has ended, or nobody awaits it any more."""
        return self.value is not PENDING

    def label(self) -> str:
        """The function's name."""
        return name_of(self.message)

    def get_state(self) -> dict[str, Any]:
        """What it runs, and for whom; for people."""
        owner = self.owner.ref if isinstance(self.owner, Process) else self.owner
        return {"function": self.label(), "arguments": brief(self.arguments), "owner": brief(owner)}

    def __repr__(self) -> str:
        return f"<Task {self.label() if self.ref is None else self.ref}>"

    # ---- its run: the runtime's ----------------------------------------------------------------------------------------

    def perform(self, process: Process) -> Any:
        """Runs the function and ends the process."""
        value = self.message(*self.arguments)
        if process.current is not self:
            return None  # killed meanwhile
        reason: object = "normal"
        if value.__class__ is Stop:
            reason, value = value.reason, value.reply
            if value is UNSET:
                value = exited(reason)
            if not is_orderly(reason):
                log.error("%s stopped: %r", process.ref, reason)
        gathering = None
        if self.value is PENDING:
            self.value = value
            if self.gathering is not None:
                gathering = self._tell_gathering()
        owner = self.owner
        if (
            process.bonds is None
            and process.mailbox is None
            and process.parent is None
            and process.name is None
            and reason == "normal"
            and not (self.linked and owner.current is not DEAD and owner.server.trap_exits)
        ):
            # What `die` does, for one that nobody else knows.
            if self.family is not None:
                self.family.pop(process, None)
            process.current = DEAD
            del process.scheduler.processes[process.number]
            process.name = name_of(self.message)
            process.server = None  # type: ignore[assignment]
        else:
            die(process, reason)
        if gathering is not None:
            self.greenlet = gathering.greenlet
        return None

    def failed(self, process: Process, error: BaseException) -> bool:
        """The function raised: that is what the process dies of."""
        reason: object = error
        if isinstance(error, GreenletExit) and hasattr(self, "stopping"):
            reason = self.stopping
        elif log.isEnabledFor(logging.ERROR):
            log.error("the task %s crashed", process.ref, exc_info=error)
        gathering = None
        if self.value is PENDING:
            self.value = exited(reason)
            if self.gathering is not None:
                gathering = self._tell_gathering()
        die(process, reason)
        if gathering is not None:
            self.greenlet = gathering.greenlet
        return True

    def _tell_gathering(self) -> Gathering | None:
        gathering, self.gathering = self.gathering, None
        if gathering is not None:
            gathering.ended.append(self)
        return gathering

    def ended(self, process: Process, reason: object) -> None:
        """Its process is dead, whoever killed it: tells those who wait, and its owner if they are linked."""
        gathering = self._tell_gathering()
        if gathering is not None and gathering.greenlet is not None:
            process.scheduler.enqueue(gathering)
        family, self.family = self.family, None
        if family is not None and process in family:
            family.pop(process, None)
            owner = self.owner
            if self.linked:
                if process.bonds is not None:
                    process.bonds.links.discard(owner)
                signal(owner, process.ref, reason, process)

    def interrupt(self, process: Process, reason: object) -> bool:
        """Tells the function to stop, by GreenletExit where it waits. Returns False if it is dead when this returns."""
        worker = process.worker
        if worker is None:
            die(process, reason)  # not begun
            return False
        if not hasattr(self, "stopping"):
            self.stopping = reason
            process.scheduler.hub.loop.run_callback(self._throw, process, worker)
        return True

    def _throw(self, process: Process, worker: Worker) -> None:
        if process.current is self and process.worker is worker:
            worker.throw(GreenletExit)

    def has_default_terminate(self) -> bool:
        """There is nothing to do at the end but what `finally` does."""
        return True

    # ---- its owner -----------------------------------------------------------------------------------------------------

    def take(self) -> Ok[T] | Exited | None:
        """The outcome, for the one who may have it, once. None if there is none yet."""
        value = self.value
        if value is PENDING:
            return None
        self.value = GONE
        return Exited(reason_of(value)) if value.__class__ is Failed else Ok(value)

    def _asked_by_owner(self) -> tuple[Any, Process | None]:
        me = getcurrent()
        caller = me.process if me.__class__ is Worker else None
        if self.owner is not (me if caller is None else caller):
            raise NotTheOwner(self)
        return me, caller

    def _leave_owner(self) -> None:
        family, self.family = self.family, None
        if family is not None:
            family.pop(self.target, None)
        if self.linked:
            self.linked = False
            bonds = self.target.bonds
            if bonds is not None:
                bonds.links.discard(self.owner)


def make(
    function: Callable[..., Any], arguments: tuple[Any, ...], owner: Any, linked: bool, context: Any
) -> Task[Any]:
    """A task without a process yet. owner: a Process, a greenlet, or None for one that nobody awaits."""
    check_function(function)
    task: Task[Any] = Task.__new__(Task)
    task.greenlet = None
    task.target = None  # type: ignore[assignment]
    task.message = function
    task.context = None if context is None else context.copy()
    task.value = GONE if owner is None else PENDING
    task.arguments = arguments
    task.owner = owner
    task.linked = linked
    task.family = task.gathering = None
    return task


def start_supervised(function: Callable[..., Any], arguments: tuple[Any, ...], context: Any) -> Ref:
    """Starts a task in the system of the calling supervisor, which becomes its parent. context: the starter's, or none."""
    return launch(
        make(function, arguments, None, False, context), actor("start_supervised").scheduler, None
    ).ref


def _completed() -> None:
    """What a task made by `completed` would run."""
