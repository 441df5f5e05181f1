"""Asking and telling: call, reply, cast, send, and how a greenlet waits for its answer."""

from __future__ import annotations

from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, NoReturn

from greenlet import getcurrent

from packetflow.otp import turn
from packetflow.otp.answers import Stop
from packetflow.otp.errors import CallCycle, MailboxFull, NoProcess, ServerExited
from packetflow.otp.process import (
    CAST,
    CONTINUE,
    DEAD,
    GONE,
    IDLE,
    INFO,
    PENDING,
    SIGNAL,
    Call,
    Failed,
    Job,
    Process,
    Worker,
)
from packetflow.otp.signals import die
from packetflow.otp.threads import WORK, door_of, get_ident, run_in_thread_of
from packetflow.otp.timeouts import expire

if TYPE_CHECKING:
    from packetflow.otp.clock import Seconds
    from packetflow.otp.ref import M, R, Ref
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.threads import Work
    from packetflow.otp.timeouts import Timeouts
    from packetflow.otp.timers import Timer

_FREE = (SIGNAL, CONTINUE, IDLE)
_USUAL: Final = 5.0


def call(
    ref: Ref[M, R], message: M, timeout: Seconds | None = _USUAL, *, deadline: Seconds | None = None
) -> R:
    """Sends a message to a server and waits for its answer.

    timeout: seconds (rounded up to 1, 2, 5, 10 ... ms), None for no limit. deadline: monotonic seconds, exact, besides.
    Raises NoProcess at once if nobody is there; ServerExited as soon as the server dies; CallTimeout, and then a late
    answer is dropped; CallCycle if the server (or whom it waits for) waits for the caller; MailboxFull; HubBlocked in the
    hub's own greenlet. From any thread: from another one the calling thread waits, and raises ThreadGone if the system's
    thread has ended. (`deadline` is for the system's own thread.)
    """
    try:
        target: Process = ref._process
    except AttributeError:
        raise TypeError(
            f"call takes a Ref, not {ref!r}; names live in a system: System.call(name, ...)"
        ) from None
    scheduler: Scheduler = target.scheduler
    me = getcurrent()
    if me is not scheduler.trusted:
        if get_ident() != scheduler.thread:
            return _from_another_thread(scheduler, ref, message, timeout)  # type: ignore[no-any-return]
        if me is scheduler.hub:
            scheduler.check_may_wait()
        scheduler.trusted = me  # a greenlet never changes its thread
    budget = scheduler.budget = scheduler.budget - 1
    if budget <= 0 or not budget & 15:
        scheduler.mind_the_hub()
    context = me.gr_context
    worker: Worker
    # What Call's constructor does, without the cost of calling it.
    request: Call = Call.__new__(Call)
    request.greenlet = me
    request.target = target
    request.message = message
    caller: Process | None = None
    if me.__class__ is Worker:
        worker = me
        caller = worker.process
    request.caller = caller
    request.context = None if context is None else context.copy()
    request.value = PENDING
    if target.current is not None or deadline is not None:
        return _call_busy(request, timeout, deadline)  # type: ignore[no-any-return]
    timeouts: Timeouts = scheduler.timeouts
    if timeout is not None:
        if timeout is not _USUAL:
            timeouts.find(timeout)  # raises if it is none
        request.timeout = timeout
        before = request.before = timeouts.last
        if before is None and not timeouts.dating:
            timeouts.date_soon()
    pool = scheduler.pool
    worker = pool.pop() if pool else scheduler.hire()
    # All that may raise (a caller at the end of its recursion) is done: from here on the target waits for its worker.
    if timeout is not None:
        timeouts.last = request
    target.current = request
    worker.process = target
    target.worker = worker
    if caller is not None:
        caller.waiting = request
    try:
        worker.switch()
        while request.value is PENDING:
            scheduler.let_others_run()
    except BaseException:
        request.value = GONE
        request.greenlet = None
        forget_owed(request)
        raise
    finally:
        if caller is not None:
            caller.waiting = None
        if timeout is not None:
            if timeouts.last is request:
                timeouts.last = before
            else:
                timeouts.leave(request)
    value = request.value
    if value.__class__ is Failed:
        forget_owed(request)
        raise_failed(value, timeout)
    return value  # type: ignore[no-any-return]


def forget_owed(request: Call) -> None:
    """Whoever gave up is owed nothing: a server that never answers must not keep what it was asked."""
    target = request.target
    if target.bonds is not None and request in target.bonds.owed:
        target.bonds.owed.discard(request)
        gone = getattr(target.server, "_caller_gone", None)
        if gone is not None:
            gone(request)  # it has passed the request on, and passes this on too


def raise_failed(failed: Failed, timeout: Seconds | None) -> NoReturn:
    """Raises what a wait failed of; an exit reason that is an exception is the cause."""
    error = failed.error(timeout)
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException) and reason is not error:
        raise error from reason
    raise error


def _from_another_thread(scheduler: Scheduler, ref: Any, message: Any, timeout: Seconds | None) -> Any:
    work = WORK.get()
    if work is None:
        return run_in_thread_of(scheduler, call, (ref, message, timeout))
    return run_in_thread_of(scheduler, _call_for, (work, ref, message, timeout))


def _call_for(work: Work, ref: Any, message: Any, timeout: Seconds | None) -> Any:
    """A call by a thread that works for an actor, which waits for it: so that actor waits for the target."""
    owner = work.awaited_by()
    target: Process = ref._process
    if owner is None or owner.scheduler.thread != target.scheduler.thread:
        return call(ref, message, timeout)
    request = Call(getcurrent(), target, message, owner, copy_context())
    return _call_busy(request, timeout, None)


def _call_busy(request: Call, timeout: Seconds | None, deadline: Seconds | None) -> Any:
    target = request.target
    if target.current is None:
        target.scheduler.deliver(target, request)
        return wait(request, timeout, deadline)
    if target.current is DEAD:
        remote = target.scheduler.system.remote
        if remote is not None and remote.reaches(request.target.ref):
            return remote.call(target.ref, request.message, timeout)
        raise NoProcess(target.ref)
    check_cycle(request.caller, target)
    limit = target.limit
    if limit is not None and is_full(target, limit):
        if target.server.mailbox_full != "block":
            target.bond().dropped += 1
            raise MailboxFull(target.ref, limit)
        if timeout is not None:  # it holds for both waits together
            until = target.scheduler.monotonic() + timeout
            deadline = until if deadline is None else min(deadline, until)
        wait_for_room(request.caller, target, timeout, deadline)
        try:
            check_cycle(request.caller, target)  # while this one waited, the target may have called it
        except CallCycle:
            let_in_next(target, limit)
            raise
    target.scheduler.deliver(target, request)
    if limit is not None:
        let_in_next(target, limit)
    return wait(request, timeout, deadline)


def wait(request: Call, timeout: Seconds | None, deadline: Seconds | None = None) -> Any:
    """Waits until a delivered call, or what is like it, has its value. Raises what it failed of."""
    scheduler = request.target.scheduler
    caller = request.caller
    timeouts = scheduler.timeouts
    alarm: Timer | None = None
    entered = False
    try:
        if timeout is not None:
            timeouts.enter(request, timeout)
            entered = True
        if deadline is not None:
            alarm = scheduler.timers.at(deadline, expire, request)
        if caller is not None:
            caller.waiting = request
        while request.value is PENDING:
            scheduler.let_others_run()
    except BaseException:
        request.value = GONE
        forget_owed(request)
        raise
    finally:
        request.greenlet = None
        if caller is not None and caller.waiting is request:
            caller.waiting = None
        if entered:
            timeouts.leave(request)
        if alarm is not None:
            alarm.cancel()
    value = request.value
    if value.__class__ is Failed:
        forget_owed(request)
        raise_failed(value, timeout)
    return value


def check_cycle(caller: Process | None, target: Process) -> None:
    """Raises CallCycle if the target, or whom it waits for, waits for the caller."""
    if caller is not None:
        chain = chain_to(caller, target)
        if chain is not None:
            raise CallCycle((caller.ref, *(each.ref for each in chain)))


def chain_to(caller: Process, target: Process) -> list[Process] | None:
    """Who waits for whom from the target to the caller; None if that way does not lead there."""
    chain = [target]
    at = target
    seen = {target}
    while at is not caller:
        waiting = at.waiting
        if waiting is None or waiting.value is not PENDING:
            return None
        towards = waiting.towards(caller)
        if towards is None:
            return None
        at = towards
        if at.bonds is not None and waiting in at.bonds.owed:
            return None  # taken, and to be answered later: nobody's handler holds it
        if at in seen:
            return None  # others wait for one another, as a supervisor for the child that it stops and that calls it
        seen.add(at)
        chain.append(at)
    return chain


# ---- bounded mailboxes ------------------------------------------------------------------------------------------------


def is_full(target: Process, limit: int) -> bool:
    """Whether a bounded mailbox takes no more. What the runtime itself sends does not count.

    One that drops its oldest is never full: room is made here.
    """
    mailbox = target.mailbox
    if mailbox is None or len(mailbox) < limit:
        return False
    counted = [
        place
        for place, item in enumerate(mailbox)
        if not (isinstance(item, Job) or (item.__class__ is tuple and item[0] in _FREE))
    ]
    if len(counted) < limit:
        return False
    if target.server.mailbox_full != "drop_oldest":
        return True
    oldest = mailbox[counted[0]]
    del mailbox[counted[0]]
    target.bond().dropped += 1
    if isinstance(oldest, Call):
        error = MailboxFull(target.ref, limit)
        turn.answer(oldest, Failed(lambda timeout: error))
    return False


def wait_for_room(
    caller: Process | None, target: Process, timeout: Seconds | None, deadline: Seconds | None
) -> None:
    """Waits until a bounded mailbox takes another message. Raises CallCycle too where it has to wait once more."""
    limit = target.limit
    while limit is not None and target.current is not DEAD and is_full(target, limit):
        check_cycle(caller, target)
        turnstile = Call(getcurrent(), target, None, caller, None)
        target.bond().senders.append(turnstile)
        try:
            wait(turnstile, timeout, deadline)
        except BaseException:
            bonds = target.bonds
            if bonds is not None:
                if turnstile in bonds.senders:
                    bonds.senders.remove(turnstile)
                else:
                    let_in_next(target, limit)  # its turn had come, and it can't take it
            raise
    if target.current is DEAD:
        raise NoProcess(target.ref)


def let_in_next(target: Process, limit: int) -> None:
    """One came in; if there is room still, the next that waits for it may go on: the server may never make room again."""
    if target.bonds is not None and target.bonds.senders and not is_full(target, limit):
        turn.make_room(target)


# ---- telling ----------------------------------------------------------------------------------------------------------


def cast(ref: Ref[M, Any], message: M) -> None:
    """Sends a message to `handle_cast`. Never waits, never fails: the dead get nothing. From any thread."""
    target = ref._process
    scheduler = target.scheduler
    if get_ident() != scheduler.thread:
        door_of(scheduler.hub).post(_tell, target, CAST, message)
    elif target.current is None:
        scheduler.enqueue(target)
        target.current = (CAST, message)
    elif target.mailbox is not None and target.limit is None:
        target.mailbox.append((CAST, message))
    else:
        _tell(target, CAST, message)


def send(ref: Ref[M, Any], message: M, block: bool = False) -> None:
    """Sends a message to `handle_info`. From any thread. The dead get nothing.

    block: where the mailbox is bounded and full, its `mailbox_full` counts ("block" waits, "fail" raises MailboxFull);
    otherwise a message is dropped and counted: this one, or the oldest if `mailbox_full` is "drop_oldest".
    """
    target = ref._process
    scheduler = target.scheduler
    if get_ident() != scheduler.thread:
        if block:
            scheduler.check_thread()
        door_of(scheduler.hub).post(_tell, target, INFO, message)
        return
    if block and target.current is not None and target.current is not DEAD:
        limit = target.limit
        if limit is not None and is_full(target, limit):
            policy = target.server.mailbox_full
            if policy == "fail":
                raise MailboxFull(ref, limit)
            if policy == "block":
                me = getcurrent()
                caller = me.process if me.__class__ is Worker else None
                scheduler.check_may_wait()
                check_cycle(caller, target)
                wait_for_room(caller, target, None, None)
        _tell(target, INFO, message)
        if limit is not None:
            let_in_next(target, limit)
        return
    _tell(target, INFO, message)


def _tell(target: Process, kind: int, message: Any) -> None:
    current = target.current
    if current is DEAD:
        remote = target.scheduler.system.remote
        if remote is not None and remote.reaches(target.ref):
            remote.tell(target.ref, "cast" if kind == CAST else "send", message)
        return
    if current is not None:
        limit = target.limit
        if limit is not None and is_full(target, limit):
            target.bond().dropped += 1
            return
        if target.mailbox is None:
            target.mailbox = deque()
        target.mailbox.append((kind, message))
        return
    target.scheduler.deliver(target, (kind, message))


def reply(caller: Call, value: Any) -> None:
    """Answers a call whose handler returned NoReply (or has not returned yet). Only the first answer counts."""
    if caller.value is PENDING:
        bonds = caller.target.bonds
        if bonds is not None:
            bonds.owed.discard(caller)
            if bonds.trace is not None:
                bonds.trace.replied(caller, value)
        turn.answer(caller, value)


# ---- ending -----------------------------------------------------------------------------------------------------------


class StopRequest(Job):
    """Asks a server to stop in order. message is the reason."""

    __slots__ = ()
    outlives_its_caller = True

    def perform(self, process: Process) -> Any:
        """Stops; the one who asked is let go when it is dead."""
        return Stop(self.message, reply=None)


def waiting_for(target: Process, kind: type[Job], message: Any) -> Job:
    """A job in the name of the running greenlet, which may wait; with its context and its actor."""
    me = getcurrent()
    context = me.gr_context
    return kind(
        me,
        target,
        message,
        me.process if me.__class__ is Worker else None,
        None if context is None else context.copy(),
    )


def _interrupt(target: Process, reason: object) -> None:
    task: Any = target.server
    task.interrupt(target, reason)


def stop(ref: Ref, reason: object = "normal", timeout: Seconds | None = None) -> None:
    """Stops a server in order: after the messages before, `terminate(reason)`. Returns when it is dead.

    Raises NoProcess if nobody is there, ServerExited if it died of something else, CallTimeout if it takes longer than
    `timeout` seconds (it still stops), CallCycle if it waits for the caller.
    """
    target = ref._process
    target.scheduler.check_may_wait()
    if target.current is DEAD:
        raise NoProcess(ref)
    if timeout is not None:
        target.scheduler.timeouts.find(timeout)  # a wrong one is told before anything is stopped
    request = waiting_for(target, StopRequest, reason)
    check_cycle(request.caller, target)
    target.scheduler.deliver(target, request)
    if target.server.is_task:
        _interrupt(target, reason)
    try:
        wait(request, timeout)
    except ServerExited as error:
        if error.reason != reason:
            raise


def stop_or_kill(target: Process, reason: object, seconds: Seconds | None) -> None:
    """A supervisor's way to end a child: in order, ahead of what waits in its mailbox unless it traps exits; killed after
    `seconds` (None: never). When this returns the child is dead."""
    if target.current is DEAD:
        return
    request = post_stop(target, reason)
    await_stop(target, request, seconds)


def post_stop(target: Process, reason: object) -> Call | None:
    """Begins it. Returns None where it is done already."""
    if target.current is DEAD:
        return None
    server = target.server
    if target.current is None and server.has_default_terminate():
        die(target, reason)  # nothing is under way and nothing to clean up
        return None
    request = waiting_for(target, StopRequest, reason)
    if target.current is not None and target.mailbox is not None and not server.trap_exits:
        target.mailbox.appendleft(request)
    else:
        target.scheduler.deliver(target, request)
    if server.is_task:
        _interrupt(target, reason)
    return request


def await_stop(target: Process, request: Call | None, seconds: Seconds | None) -> None:
    """Waits for the end of what `post_stop` began."""
    if request is None:
        return
    deadline = None if seconds is None else target.scheduler.monotonic() + seconds
    try:
        wait(request, None, deadline)
    except ServerExited:
        return  # it died of something else meanwhile: dead is what was asked for
    except BaseException:
        die(target, "killed")  # its time is over, or the one who waits is ended itself
        if request.value.__class__ is not Failed:
            raise
