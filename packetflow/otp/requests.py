"""send_request and receive_response: a call in two halves, so that several can be under way (OTP's gen_server names)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic

import gevent
from greenlet import getcurrent

from packetflow.otp.calls import (
    check_cycle,
    is_full,
    let_in_next,
    push_out_oldest,
    raise_failed,
    wait,
    wait_for_room,
)
from packetflow.otp.errors import CallFailed, MailboxFull, NoProcess, NotAnActor
from packetflow.otp.process import DEAD, GONE, PENDING, Call, Failed
from packetflow.otp.ref import R, Ref
from packetflow.otp.signals import current_process
from packetflow.otp.turn import answer

if TYPE_CHECKING:
    from packetflow.otp.ref import M


class Request(Generic[R]):
    """A question that was sent and whose answer nobody has fetched yet."""

    __slots__ = ("_call", "_errand")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._errand: Any = None  # the greenlet that asks another node

    @property
    def ready(self) -> bool:
        """Whether `receive_response` would return, or raise, at once."""
        return self._call.value is not PENDING

    def __repr__(self) -> str:
        return f"<request to {self._call.target.ref}>"


def send_request(ref: Ref[M, R], message: M) -> Request[R]:
    """Sends a message to `handle_call` and goes on. `receive_response` waits for the answer.

    It does not fail: that nobody is there, or that a bounded mailbox refuses, is what `receive_response` raises. It waits
    only where the mailbox is full and its `mailbox_full` is "block". Raises WrongThread; where it had to wait, CallCycle
    and HubBlocked.
    """
    target = ref._process
    scheduler = target.scheduler
    scheduler.check_thread()
    context = getcurrent().gr_context
    caller = current_process()
    call = Call(None, target, message, caller, None if context is None else context.copy(), 0.0)
    request: Request[R] = Request(call)
    if target.current is DEAD:
        remote = scheduler.system.remote
        if remote is not None and remote.reaches(ref):
            request._errand = gevent.spawn(_ask_elsewhere, call, remote)
        else:
            call.value = Failed(lambda timeout: NoProcess(ref))
        return request
    limit = target.server.mailbox_limit
    if limit is not None and target.current is not None and is_full(target, limit):
        policy = target.server.mailbox_full
        if policy == "block":
            scheduler.check_may_wait()
            check_cycle(caller, target)
            wait_for_room(caller, target, None, None)
        elif policy == "drop_oldest":
            push_out_oldest(target, limit)
        else:
            target.bond().dropped += 1
            call.value = Failed(lambda timeout: MailboxFull(ref, limit))
            return request
    scheduler.deliver(target, call)
    if limit is not None:
        let_in_next(target, limit)
    return request


def receive_response(request: Request[R], timeout: float | None = 5.0) -> R:
    """Waits for the answer to a request. Asked again, it gives the same.

    timeout: seconds, None for no limit; when they are over the request is given up, as in OTP's `receive_response`: a
    late answer is dropped. Raises what `call` raises; NotAnActor where another than the sender asks.
    """
    call = request._call
    call.target.scheduler.check_may_wait()
    if call.value is PENDING:
        caller = current_process()
        if caller is not call.caller:
            raise NotAnActor("the response to a request comes to the actor that sent it")
        if call.greenlet is not None:
            raise NotAnActor("another greenlet waits for this response already")
        check_cycle(caller, call.target)
        call.greenlet = getcurrent()
        try:
            return wait(call, timeout)  # type: ignore[no-any-return]
        finally:
            if request._errand is not None:
                request._errand.kill(block=False)
    if call.value is GONE:
        raise CallFailed(f"{call.target.ref}: this request was given up", call.target.ref, "gone")
    if call.value.__class__ is Failed:
        raise_failed(call.value, timeout)
    return call.value  # type: ignore[no-any-return]


def _ask_elsewhere(call: Call, remote: Any) -> None:
    try:
        answer(call, remote.call(call.target.ref, call.message, None))
    except Exception as error:  # noqa: BLE001 - who fetches the response gets it
        fault = error
        answer(call, Failed(lambda timeout: fault))
