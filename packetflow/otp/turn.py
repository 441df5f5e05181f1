"""The end of a turn: what becomes of a server by what its handler returned or raised."""

from __future__ import annotations

import logging
from typing import Any

from greenlet import greenlet

from packetflow.otp.answers import UNSET, Continue, NoReply, Reply, Stop, is_orderly
from packetflow.otp.process import CONTINUE, DEAD, IDLE, PENDING, Call, Job, Process
from packetflow.otp.signals import die, fail, log


def answer(call: Call, value: Any) -> None:
    """Gives a caller its answer; who has one already, or has given up, gets none."""
    if call.value is PENDING:
        if call.greenlet is not None:
            call.target.scheduler.enqueue(call)
        call.value = value


def obey(process: Process, item: Call | None, result: Any) -> greenlet | None:
    """Does what a handler's Answer says. Returns who gets its answer by it, to be switched to."""
    kind = result.__class__
    if kind is Reply:
        if not isinstance(item, Call):
            raise TypeError("Reply is an answer of handle_call only")
        if result.timeout is not None:
            start_idling(process, result.timeout)
        if item.value is PENDING:
            item.value = result.value
            return item.greenlet
        return None
    if kind is NoReply:
        if item is not None and item.value is PENDING and item.__class__ is Call:
            process.bond().owed.add(item)
        if result.timeout is not None:
            start_idling(process, result.timeout)
        return None
    if kind is Continue:
        if item is not None and result.reply is not UNSET:
            answer(item, result.reply)
        elif item is not None and item.__class__ is Call:
            process.bond().owed.add(item)
        if isinstance(item, Job) and item.value is not PENDING and item.greenlet is not None:
            process.scheduler.enqueue(item)
        process.current = (CONTINUE, result.argument)
        return None
    if kind is Stop:
        finish(process, item, result.reason, result.reply)
        return None
    raise TypeError(f"a handler returned {result!r}; it may return None, NoReply, Continue or Stop")


def crash(process: Process, item: Any, error: BaseException) -> None:
    """A handler raised: log it, run `terminate`, and die of it."""
    # The first frame is the worker's own loop, which is nobody's business and would be kept alive.
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    if isinstance(item, Job) and item.failed(process, error):
        return
    if log.isEnabledFor(logging.ERROR):
        shown = item.message if isinstance(item, Call) else item[1]
        log.error("%s crashed while it handled %s", process.ref, brief(shown), exc_info=error)
    finish(process, None, error, UNSET)


def finish(process: Process, item: Call | None, reason: object, reply: Any) -> None:
    """The orderly way out: `terminate`, the last reply, death."""
    try:
        process.server.end(reason)
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is a crash of its actor
        if process.current is DEAD:
            return
        log.error("%s crashed in terminate", process.ref, exc_info=error)
        reason = error
        if isinstance(item, Job):
            reply = UNSET  # who asked it to stop has to learn that it did not stop in order
    if process.current is DEAD:
        return
    if not is_orderly(reason) and not isinstance(reason, BaseException):
        log.error("%s stopped: %s", process.ref, brief(reason))
    if item is not None and item.value is PENDING:
        if reply is not UNSET:
            answer(item, reply)
        elif process.current is not item:
            fail(item, reason)
    die(process, reason)


def advance(process: Process) -> bool:
    """Takes the next message from the mailbox. Returns False, and leaves the process idle, if there is none."""
    mailbox = process.mailbox
    while mailbox:
        item = mailbox.popleft()
        if process.bonds is not None and process.bonds.senders:
            make_room(process)
        if isinstance(item, Call) and is_vain(item):
            continue
        process.current = item
        if not mailbox:
            process.mailbox = None
        return True
    process.mailbox = None
    process.current = None
    process.worker = None
    return False


def is_vain(item: Call) -> bool:
    """Whether nobody waits for the answer any more, and it is not to be done all the same."""
    caller = item.caller
    gone = item.value is not PENDING or (caller is not None and caller.current is DEAD)
    return gone and not item.outlives_its_caller


def make_room(process: Process) -> None:
    """Lets the first go on that waits for room in a bounded mailbox."""
    senders = process.bond().senders
    while senders:
        sender = senders.popleft()
        if sender.value is PENDING:
            answer(sender, None)
            return


def start_idling(process: Process, timeout: float) -> None:
    """Has "timeout" come to the server if no message does within `timeout` seconds from now."""
    bonds = process.bond()
    timers = process.scheduler.timers
    bonds.idle_due = timers.monotonic() + timeout
    bonds.idle_mark = process.handled + 1
    # One timer at most: a later due time waits for the earlier timer, which looks again.
    if bonds.idle_timer is not None and bonds.idle_timer.waiting:
        if bonds.idle_timer.due <= bonds.idle_due:
            return
        bonds.idle_timer.cancel()
    bonds.idle_timer = timers.at(bonds.idle_due, _idle, process)


def _idle(process: Process) -> None:
    bonds = process.bonds
    if bonds is None or process.current is not None or process.handled != bonds.idle_mark:
        return  # dead, at work, or there was a message since
    timers = process.scheduler.timers
    if timers.monotonic() < bonds.idle_due:
        bonds.idle_timer = timers.at(bonds.idle_due, _idle, process)
    else:
        process.scheduler.deliver(process, (IDLE, None))


def brief(message: object) -> str:
    """A message for a log line or a view: cut at 200 characters; a repr that raises is told as such."""
    try:
        text = repr(message)
    except Exception as error:  # noqa: BLE001 - a view must not fail of what it shows
        return f"<{type(message).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= 200 else f"{text[:199]}…"
