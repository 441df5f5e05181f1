"""Calls that are not waited for at once: send a request, do something else, and get its response, or the next of many.

As `gen_server:send_request` and its kin. A request has exactly one response, as a call has: the answer, or the death of
the server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import gevent
from greenlet import GreenletExit, getcurrent, greenlet

from packetflow.otp.calls import check_cycle, forget_owed, is_full, raise_failed
from packetflow.otp.errors import CallTimeout, MailboxFull, NoProcess, NotAnActor, SpecError
from packetflow.otp.process import DEAD, GONE, PENDING, SIGNAL, Call, Failed, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.timeouts import expire
from packetflow.otp.turn import answer
from packetflow.otp.via import Target


class RequestResult(NamedTuple):
    """What came of a request. error: what `call` would have raised, or None; value: the answer otherwise. label: what the
    request was given in its collection."""

    request: RequestId
    value: Any
    error: BaseException | None
    label: Any = None

    def result(self) -> Any:
        """The answer. Raises the error, if there is one."""
        if self.error is not None:
            raise self.error
        return self.value


class RequestId:
    """A call under way: what `send_request` gives. `ref` is whom it went to (a name, if nobody held it)."""

    __slots__ = ("_call", "_taken", "_teller", "ref")

    def __init__(self, ref: Target, call: Call) -> None:
        self.ref = ref
        self._call = call
        self._taken = False  # its response was given to somebody
        self._teller: greenlet | None = None

    @property
    def done(self) -> bool:
        """Whether there is a response."""
        return self._call.value is not PENDING

    def _response(self, timeout: float | None = None, label: Any = None) -> RequestResult:
        value = self._call.value
        if value is GONE:
            return RequestResult(self, None, CallTimeout(self.ref, timeout or 0.0), label)
        if value.__class__ is not Failed:
            return RequestResult(self, value, None, label)
        try:
            raise_failed(value, timeout)
        except Exception as error:  # noqa: BLE001 - kept for who asks
            return RequestResult(self, None, error.with_traceback(None), label)

    def _abandon(self) -> None:
        if self._call.value is PENDING:
            self._call.value = GONE
            self._call.greenlet = None
            forget_owed(self._call)

    def __repr__(self) -> str:
        return f"<request to {self.ref}{'' if self.done else ', pending'}>"


def send_request(ref: Ref, message: Any, *, as_message: bool = False) -> RequestId:
    """Sends a call to a server and does not wait. Never fails: what `call` would raise, the response tells.

    as_message: only inside an actor; its `handle_info` gets the RequestResult, unless it is waited for before that. Raises
    WrongThread, NotAnActor.
    """
    target = ref._process
    scheduler = target.scheduler
    scheduler.check_thread()
    me = getcurrent()
    caller = me.process if me.__class__ is Worker else None
    if as_message and caller is None:
        raise NotAnActor(
            "as_message is for an actor; this greenlet is none's: wait_response, or check_response"
        )
    context = me.gr_context
    call = Call(None, target, message, caller, None if context is None else context.copy())
    request = RequestId(ref, call)
    if as_message:
        # Not begun, it costs no stack; whoever has the answer switches to it, as to anybody who waits.
        request._teller = call.greenlet = greenlet(lambda: _tell(caller, request), scheduler.hub)
    _post(target, call)
    return request


def request_failed(target: Target, error: BaseException, nobody: Process) -> RequestId:
    """A request that could not be sent."""
    call = Call(None, nobody, None, None, None)
    call.value = Failed(lambda timeout: error)
    return RequestId(target, call)


def _post(target: Process, call: Call) -> None:
    ref = target.ref
    if target.current is DEAD:
        remote = target.scheduler.system.remote
        if remote is not None and remote.reaches(ref):
            gevent.spawn(_ask_far, remote, call)
        else:
            answer(call, Failed(lambda timeout: NoProcess(ref)))
        return
    limit = target.limit
    if limit is not None and target.current is not None and is_full(target, limit):
        full = MailboxFull(ref, limit)
        answer(call, Failed(lambda timeout: full))
        return
    target.scheduler.deliver(target, call)


def _ask_far(remote: Any, call: Call) -> None:
    try:
        value = remote.call(call.target.ref, call.message, None)
    except Exception as error:  # noqa: BLE001 - it is the response
        failure = error
        value = Failed(lambda timeout: failure)
    answer(call, value)


def _tell(owner: Process | None, request: RequestId) -> None:
    if owner is not None and not request._taken:
        request._taken = True
        owner.scheduler.deliver(owner, (SIGNAL, request._response()))


# ---- one response ----------------------------------------------------------------------------------------------------


def wait_response(request: RequestId, timeout: float | None = None) -> Any:
    """Waits for the answer; `timeout` seconds at most, and then it may be waited for again. Raises what `call` raises."""
    response = _first([(request, None)], timeout)
    if response is None:
        raise CallTimeout(request.ref, timeout or 0.0)
    return response.result()


def receive_response(request: RequestId, timeout: float | None = None) -> Any:
    """The same, but a request whose time is over is abandoned: its answer will be dropped. Raises what `call` raises."""
    try:
        return wait_response(request, timeout)
    finally:
        request._abandon()


def check_response(request: RequestId) -> RequestResult | None:
    """The response if there is one; does not wait."""
    if not request.done:
        return None
    request._taken = True
    return request._response()


# ---- the first of many -----------------------------------------------------------------------------------------------


class RequestIds:
    """Requests under way, each with a label, whose responses are taken in the order in which they come."""

    __slots__ = ("_labels",)

    def __init__(self) -> None:
        self._labels: dict[RequestId, Any] = {}

    def add(self, request: RequestId, label: Any = None) -> None:
        """Puts one in. Raises SpecError if it is in already."""
        if request in self._labels:
            raise SpecError("request", request, "one that is not in the collection yet")
        self._labels[request] = label

    def send(self, ref: Ref, message: Any, label: Any = None) -> RequestId:
        """`send_request`, and `add`."""
        request = send_request(ref, message)
        self.add(request, label)
        return request

    def __len__(self) -> int:
        return len(self._labels)

    def __iter__(self) -> Iterator[tuple[RequestId, Any]]:
        """Each with its label."""
        return iter(list(self._labels.items()))

    def wait_response(self, timeout: float | None = None, delete: bool = True) -> RequestResult | None:
        """The next response; None if there is no request whose response was not given yet.

        delete: its request leaves the collection. Raises CallTimeout if none comes within `timeout` seconds; they may be
        waited for again.
        """
        waiting = [(request, label) for request, label in self._labels.items() if not request._taken]
        if not waiting:
            return None
        response = _first(waiting, timeout)
        if response is None:
            raise CallTimeout(f"any of {len(waiting)} requests", timeout or 0.0)
        if delete:
            del self._labels[response.request]
        return response

    def receive_response(self, timeout: float | None = None, delete: bool = True) -> RequestResult | None:
        """The same, but if none comes in time, all requests in it are abandoned: their answers will be dropped."""
        try:
            return self.wait_response(timeout, delete)
        except BaseException:
            for request in self._labels:
                request._abandon()
            raise

    def check_response(self, delete: bool = True) -> RequestResult | None:
        """The next response that is there; None if there is none. Does not wait."""
        for request, label in self._labels.items():
            if request.done and not request._taken:
                request._taken = True
                if delete:
                    del self._labels[request]
                return request._response(label=label)
        return None


def multi_call(
    refs: Iterable[Ref], message: Any, timeout: float | None = 5.0
) -> tuple[dict[Ref, Any], dict[Ref, BaseException]]:
    """Calls several servers at once. Returns the answers, and why the others gave none within `timeout` seconds."""
    requests = RequestIds()
    answers: dict[Ref, Any] = {}
    failures: dict[Ref, BaseException] = {}
    due = None
    for ref in dict.fromkeys(refs):
        if timeout is not None and due is None:
            due = ref._process.scheduler.monotonic() + timeout
        requests.send(ref, message, ref)
    while len(requests):
        left = None
        if due is not None:
            first = next(iter(requests))[1]
            left = max(0.0, due - first._process.scheduler.monotonic())
        try:
            response = requests.receive_response(left)
        except CallTimeout:
            failures.update((ref, CallTimeout(ref, timeout or 0.0)) for _, ref in requests)
            break
        if response is None:
            break
        if response.error is None:
            answers[response.label] = response.value
        else:
            failures[response.label] = response.error
    return answers, failures


def _first(waiting: list[tuple[RequestId, Any]], timeout: float | None) -> RequestResult | None:
    """The first of these that has a response, which counts as given then; None after `timeout` seconds."""
    for request, label in waiting:
        if request.done:
            request._taken = True
            return request._response(timeout, label)
    scheduler = waiting[0][0]._call.target.scheduler
    scheduler.check_may_wait()
    if timeout is not None:
        scheduler.timeouts.find(timeout)  # a wrong one is told
    me = getcurrent()
    caller = me.process if me.__class__ is Worker else None
    if len(waiting) == 1 and caller is not None:
        check_cycle(caller, waiting[0][0]._call.target)
        caller.waiting = waiting[0][0]._call
    # The alarm is a wait of its own: its time is over when this one's is, and the requests go on.
    bell = Call(me, waiting[0][0]._call.target, None, caller, None)
    alarm = None if timeout is None else scheduler.timers.at(scheduler.monotonic() + timeout, expire, bell)
    for request, _ in waiting:
        request._call.greenlet = me
    try:
        while bell.value is PENDING:
            for request, label in waiting:
                if request.done:
                    request._taken = True
                    return request._response(timeout, label)
            scheduler.let_others_run()
            if caller is not None and caller.current is DEAD:
                raise GreenletExit  # killed meanwhile: it must not go on with an answer
        return None
    finally:
        bell.greenlet = None
        if alarm is not None:
            alarm.cancel()
        if caller is not None:
            caller.waiting = None
        for request, _ in waiting:
            request._call.greenlet = None if request.done else request._teller
