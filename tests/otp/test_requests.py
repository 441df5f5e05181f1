"""A call in two halves: send_request and receive_response, as OTP's gen_server has them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    CallFailed,
    CallTimeout,
    HubBlocked,
    MailboxFull,
    NoProcess,
    NotAnActor,
    Ref,
    Request,
    ServerExited,
    System,
    WrongThread,
    call,
    kill,
    receive_response,
    send_request,
    statistics,
)
from tests.otp.actors import Puppet, crash, failure_of, seen, until


class Small(Puppet):
    mailbox_limit = 1


class SmallBlocking(Small):
    mailbox_full = "block"


def wait_at(gate: Event, value: Any = None) -> Any:
    def handler(server: Any, caller: Any) -> Any:
        gate.wait()
        return value

    return handler


@pytest.fixture
def ref(system: System) -> Ref:
    started = Puppet.start(system=system)
    assert started is not None
    return started


def test_several_requests_are_under_way_at_once_and_answered_in_any_order(system: System) -> None:
    gates = [Event() for _ in range(3)]
    refs = [Puppet.start(system=system) for _ in range(3)]
    requests = [
        send_request(ref, wait_at(gate, number))
        for number, (ref, gate) in enumerate(zip(refs, gates, strict=True))
    ]
    assert [request.ready for request in requests] == [False] * 3
    gates[2].set()
    assert receive_response(requests[2]) == 2
    assert [request.ready for request in requests] == [False, False, True]
    for gate in gates:
        gate.set()
    assert [receive_response(request) for request in requests] == [0, 1, 2]


def test_a_response_can_be_had_again(ref: Ref) -> None:
    request = send_request(ref, "hello")
    assert [receive_response(request) for _ in range(2)] == ["hello"] * 2


def test_requests_keep_their_order_among_calls_and_casts(system: System, ref: Ref) -> None:
    order: list[int] = []

    def note(number: int) -> Any:
        return lambda *_: order.append(number)

    first, second = send_request(ref, note(1)), None
    system.cast(ref, note(2))
    second = send_request(ref, note(3))
    call(ref, note(4))
    assert order == [1, 2, 3, 4]
    assert first.ready
    assert second.ready


def test_nobody_there_is_told_by_the_response_as_in_otp(ref: Ref) -> None:
    kill(ref)
    request = send_request(ref, "anybody?")
    assert request.ready
    for _ in range(2):
        with pytest.raises(NoProcess):
            receive_response(request)


def test_the_servers_death_is_told_with_its_reason(ref: Ref) -> None:
    fault = ValueError("bad")
    request = send_request(ref, crash(fault))
    with pytest.raises(ServerExited) as failed:
        receive_response(request)
    assert failed.value.reason is fault
    assert failed.value.__cause__ is fault


def test_a_timeout_gives_the_request_up_and_its_late_answer_is_dropped(ref: Ref) -> None:
    gate = Event()
    request = send_request(ref, wait_at(gate, "late"))
    with pytest.raises(CallTimeout):
        receive_response(request, timeout=0.005)
    gate.set()
    assert call(ref, "next") == "next"
    with pytest.raises(CallTimeout):
        receive_response(request)


def test_one_that_waits_and_is_killed_gives_the_request_up(ref: Ref) -> None:
    gate = Event()
    request = send_request(ref, wait_at(gate))
    waiter = gevent.spawn(receive_response, request)
    until(lambda: request._call.greenlet is not None)
    waiter.kill()
    with pytest.raises(CallFailed, match="given up"):
        receive_response(request)
    gate.set()
    assert call(ref, "next") == "next"


def test_a_request_nobody_fetches_leaves_nothing(system: System, ref: Ref) -> None:
    send_request(ref, "and never mind")
    assert call(ref, "next", None) == "next"
    assert len(system.scheduler.timers) == 0
    assert statistics(ref).mailbox == 0
    assert ref._process.bonds is None


def test_only_who_sent_it_receives_the_response(system: System, ref: Ref) -> None:
    sent: list[Request[Any]] = []
    gate = Event()
    asker = Puppet.start(system=system)
    call(asker, lambda server, caller: sent.append(send_request(ref, wait_at(gate, 1))))
    with pytest.raises(NotAnActor, match="comes to the actor that sent it"):
        receive_response(sent[0])
    gate.set()
    assert call(asker, lambda server, caller: receive_response(sent[0])) == 1


def test_two_greenlets_cant_wait_for_one_response(ref: Ref) -> None:
    gate = Event()
    request = send_request(ref, wait_at(gate, 1))
    first = gevent.spawn(receive_response, request)
    until(lambda: request._call.greenlet is not None)
    with pytest.raises(NotAnActor, match="another greenlet waits"):
        receive_response(request)
    gate.set()
    assert first.get(timeout=5) == 1


def test_a_circle_is_found_when_the_second_one_waits(system: System) -> None:
    one, other = (Puppet.start(name=name, system=system) for name in ("one", "other"))
    found: list[Any] = []

    def ask_other(server: Any, caller: Any) -> Any:
        request = send_request(other, ask_one)
        gevent.sleep(0)  # the other's handler begins, and its call waits for this one
        found.append(failure_of(receive_response, request))
        return "done"

    def ask_one(server: Any, caller: Any) -> Any:
        return call(one, "back")

    assert call(one, ask_other) == "done"
    assert isinstance(found[0], CallCycle | ServerExited)
    assert "would wait for itself" in str(found[0])


def test_a_request_to_oneself_may_be_sent_and_not_waited_for(ref: Ref) -> None:
    def ask_myself(server: Any, caller: Any) -> Any:
        request = send_request(ref, lambda server, caller: server.seen.append("later"))
        return failure_of(receive_response, request)

    assert isinstance(call(ref, ask_myself), CallCycle)
    assert call(ref, seen) == ["later"]


def test_a_full_mailbox_refuses_by_the_response(system: System) -> None:
    gate = Event()
    small = Small.start(system=system)
    running, waiting = send_request(small, wait_at(gate, 1)), send_request(small, "waits")
    refused = send_request(small, "too much")
    assert (waiting.ready, refused.ready) == (False, True)
    with pytest.raises(MailboxFull):
        receive_response(refused)
    assert statistics(small).dropped == 1
    gate.set()
    assert [receive_response(one) for one in (running, waiting)] == [1, "waits"]


def test_a_full_mailbox_that_blocks_makes_the_sender_wait(system: System) -> None:
    gate = Event()
    small = SmallBlocking.start(system=system)
    first, second = send_request(small, wait_at(gate, 1)), send_request(small, 2)
    third = gevent.spawn(lambda: receive_response(send_request(small, 3)))
    gevent.idle()
    assert not third.ready()
    gate.set()
    assert [receive_response(first), receive_response(second), third.get(timeout=5)] == [1, 2, 3]


def test_the_senders_context_goes_along(ref: Ref) -> None:
    word: ContextVar[str] = ContextVar("word", default="none")
    word.set("mine")
    request = send_request(ref, lambda server, caller: word.get())
    word.set("later")
    assert receive_response(request) == "mine"


def test_a_request_to_another_node_goes_through_the_hook(system: System) -> None:
    asked: list[Any] = []
    gate = Event()

    class Hook:
        def reaches(self, ref: Ref) -> bool:
            return ref.node == "far"

        def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
            asked.append((ref.key(), message))
            gate.wait()
            if message == "fail":
                raise NoProcess(ref)
            return "from afar"

        def tell(self, ref: Ref, kind: str, message: Any) -> None: ...

    system.remote = Hook()
    far = system.ref_from(("far", 1, 1))
    good, bad, dropped = (send_request(far, word) for word in ("hello", "fail", "slow"))
    with pytest.raises(CallTimeout):
        receive_response(dropped, 0.001)
    gate.set()
    assert receive_response(good) == "from afar"
    with pytest.raises(NoProcess):
        receive_response(bad)
    assert [message for _, message in asked] == ["hello", "fail", "slow"]
    until(lambda: dropped._errand.dead)


def test_from_the_hub_or_another_thread_it_is_refused(system: System, ref: Ref) -> None:
    caught: list[BaseException] = []
    request = send_request(ref, "x")

    def misuse(action: Any, *arguments: Any) -> None:
        try:
            action(*arguments)
        except (HubBlocked, WrongThread) as error:
            caught.append(error)

    gevent.get_hub().loop.run_callback(misuse, receive_response, request)
    until(lambda: caught)
    gevent.get_hub().threadpool.spawn(misuse, send_request, ref, "x").get(timeout=5)
    assert [type(error) for error in caught] == [HubBlocked, WrongThread]
    assert receive_response(request) == "x"
