"""Requests that are not waited for at once: exactly one response, and the death of the server is one."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    CallCycle,
    CallTimeout,
    GenServer,
    MailboxFull,
    NoProcess,
    NoReply,
    NotAnActor,
    Ref,
    RequestIds,
    RequestResult,
    ServerExited,
    SpecError,
    Stop,
    System,
    call,
    cast,
    check_response,
    get_state,
    kill,
    multi_call,
    receive_response,
    reply,
    send_request,
    statistics,
    stop,
    wait_response,
)
from tests.otp.actors import Puppet, crash, failure_of, seen, until


def after(gate: Event) -> Any:
    """A request that is answered with "delayed" when the gate opens."""
    return lambda server, caller: gate.wait() and "delayed"


def three(system: System) -> list[Ref]:
    return [Puppet.start(name=f"server{number}", system=system) for number in (1, 2, 3)]


# ---- one request ------------------------------------------------------------------------------------------------------


def test_a_request_is_sent_at_once_and_its_answer_is_there_later(system: System) -> None:
    ref = Puppet.start(system=system)
    request = send_request(ref, "question")
    assert not request.done
    assert check_response(request) is None
    assert wait_response(request) == "question"
    assert request.done
    assert check_response(request).result() == "question"


def test_two_requests_to_one_server_are_answered_in_order(system: System) -> None:
    ref = Puppet.start(system=system)
    first = send_request(ref, lambda server, caller: server.seen.append(1) or 1)
    second = send_request(ref, lambda server, caller: server.seen.append(2) or list(server.seen))
    assert wait_response(second) == [1, 2]
    assert wait_response(first) == 1


def test_requests_keep_their_place_among_calls_and_casts(system: System) -> None:
    ref = Puppet.start(system=system)
    cast(ref, 1)
    request = send_request(ref, lambda server, caller: server.seen.append(2))
    cast(ref, 3)
    assert call(ref, seen) == [1, 2, 3]
    assert wait_response(request) is None


def test_waiting_may_time_out_and_go_on(system: System) -> None:
    gate = Event()
    request = send_request(Puppet.start(system=system), after(gate))
    timed_out = failure_of(wait_response, request, 0)
    assert isinstance(timed_out, CallTimeout)
    assert isinstance(failure_of(wait_response, request, 0.01), CallTimeout)
    gate.set()
    assert wait_response(request, 5) == "delayed"


def test_receiving_that_times_out_abandons_the_request(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    blocked, queued = (
        send_request(ref, after(gate)),
        send_request(ref, lambda server, caller: server.seen.append("ran")),
    )
    for request in (blocked, queued):
        assert isinstance(failure_of(receive_response, request, 0.01), CallTimeout)
    gate.set()
    assert call(ref, seen) == [], "what was abandoned in the mailbox is not begun"
    assert isinstance(failure_of(wait_response, blocked, 5), CallTimeout), "its late answer is dropped"


def test_the_death_of_the_server_is_the_response(system: System) -> None:
    ref = Puppet.start(system=system)
    fault = ValueError("boom")
    crashed, queued = send_request(ref, crash(fault)), send_request(ref, "too late")
    for request in (crashed, queued):
        error = failure_of(wait_response, request, 5)
        assert isinstance(error, ServerExited)
        assert error.reason is fault


def test_a_kill_is_the_response_of_a_request_that_is_answered_later(system: System) -> None:
    ref = Puppet.start(system=system)
    request = send_request(ref, lambda server, caller: NoReply())
    until(lambda: statistics(ref).status == "idle" and not request.done)
    kill(ref)
    assert failure_of(wait_response, request, 5).reason == "killed"


def test_a_request_to_the_dead_or_to_an_unknown_name_fails_by_its_response(system: System) -> None:
    ref = Puppet.start(system=system)
    stop(ref)
    for request in (send_request(ref, "x"), system.send_request("nobody", "x")):
        assert isinstance(failure_of(wait_response, request), NoProcess)
        assert isinstance(check_response(request).error, NoProcess)


def test_a_request_by_name_goes_to_its_holder(system: System) -> None:
    ref = Puppet.start(name="held", system=system)
    request = system.send_request("held", "question")
    assert request.ref == ref
    assert wait_response(request) == "question"


def test_an_answer_may_come_by_reply(system: System) -> None:
    ref = Puppet.start(system=system)
    callers: list[Any] = []
    request = send_request(ref, lambda server, caller: callers.append(caller) or NoReply())
    until(lambda: callers)
    reply(callers[0], "later")
    reply(callers[0], "too late")
    assert wait_response(request) == "later"


def test_a_stop_with_a_reply_is_the_response(system: System) -> None:
    request = send_request(Puppet.start(system=system), lambda server, caller: Stop("normal", reply="bye"))
    assert wait_response(request, 5) == "bye"


def test_a_full_mailbox_fails_the_request_whatever_its_policy(system: System) -> None:
    class Bounded(Puppet):
        mailbox_limit = 1
        mailbox_full = "block"

    gate = Event()
    ref = Bounded.start(system=system)
    first = send_request(ref, after(gate))
    until(lambda: statistics(ref).status == "busy")
    second, third = send_request(ref, "waits"), send_request(ref, "refused")
    assert isinstance(failure_of(wait_response, third), MailboxFull)
    gate.set()
    assert [wait_response(request) for request in (first, second)] == ["delayed", "waits"]


def test_a_server_may_ask_several_at_once(system: System) -> None:
    servers = three(system)
    asker = Puppet.start(system=system)

    def ask(server: Any, caller: Any) -> list[Any]:
        requests = [send_request(ref, ref.id) for ref in servers]
        return [wait_response(request) for request in requests]

    assert call(asker, ask) == [ref.id for ref in servers]


def test_waiting_for_oneself_is_a_cycle(system: System) -> None:
    ref = Puppet.start(system=system)

    def ask_itself(server: Any, caller: Any) -> Any:
        request = send_request(server.ref, "hello")
        error = failure_of(wait_response, request)
        server.request = request
        return error

    assert isinstance(call(ref, ask_itself), CallCycle)
    # Not waited for, it is answered like any other.
    assert call(ref, lambda server, caller: check_response(server.request).result()) == "hello"


def test_waiting_for_whom_waits_for_me_is_a_cycle(system: System) -> None:
    first, second = Puppet.start(system=system), Puppet.start(system=system)

    def ask_back(server: Any, caller: Any) -> Any:
        return failure_of(receive_response, send_request(first, "hello"))

    error = call(first, lambda server, caller: wait_response(send_request(second, ask_back)))
    assert isinstance(error, CallCycle)


def test_a_call_to_whom_waits_for_a_response_of_mine_is_a_cycle(system: System) -> None:
    first, second = Puppet.start(system=system), Puppet.start(system=system)
    error = call(
        first,
        lambda server, caller: wait_response(
            send_request(second, lambda s, c: failure_of(call, first, "hello", None))
        ),
    )
    assert isinstance(error, CallCycle)


def test_a_waiter_that_is_ended_leaves_everybody_sound(system: System) -> None:
    gate = Event()
    ref = Puppet.start(system=system)
    request = send_request(ref, after(gate))
    waiter = gevent.spawn(wait_response, request)
    gevent.sleep(0)
    waiter.kill()
    gate.set()
    assert wait_response(request, 5) == "delayed"


def test_an_actor_killed_while_it_waits_does_not_go_on(system: System) -> None:
    gates = [Event(), Event()]
    servers = three(system)
    went_on: list[Any] = []

    def wait_for_any(server: Any, caller: Any) -> None:
        requests = RequestIds()
        for gate, ref in zip(gates, servers, strict=False):
            requests.send(ref, after(gate))
        went_on.append(requests.wait_response())

    asker = Puppet.start(system=system)
    asked = gevent.spawn(failure_of, call, asker, wait_for_any, None)
    until(lambda: statistics(servers[1]).status == "busy")
    kill(asker)
    gates[0].set()
    gates[1].set()
    assert asked.get(timeout=5).reason == "killed"
    until(lambda: not system.scheduler.lingering)
    assert went_on == []
    assert call(servers[0], "alive") == "alive"


def test_a_request_of_an_actor_that_is_gone_is_dropped_if_it_still_waits(system: System) -> None:
    gate = Event()
    ref, asker = Puppet.start(system=system), Puppet.start(system=system)
    blocking = send_request(ref, after(gate))
    call(asker, lambda server, caller: send_request(ref, lambda s, c: s.seen.append("ran")) and None)
    kill(asker)
    gate.set()
    wait_response(blocking, 5)
    assert call(ref, seen) == []


def test_a_request_carries_the_senders_context(system: System) -> None:
    from contextvars import ContextVar

    trace_id: ContextVar[str] = ContextVar("trace_id", default="none")
    trace_id.set("of the sender")
    request = send_request(Puppet.start(system=system), lambda server, caller: trace_id.get())
    trace_id.set("changed since")
    assert wait_response(request) == "of the sender"


def test_a_request_to_another_node_goes_through_the_one_hook(system: System) -> None:
    class Far:
        def reaches(self, ref: Ref) -> bool:
            return ref.node == "far"

        def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
            return 1 / 0 if message == "fail" else ("far", message)

        def tell(self, ref: Ref, kind: str, message: Any) -> None:
            raise AssertionError

    system.remote = Far()
    ref = system.ref_from(("far", 1, 7))
    good, bad = send_request(ref, "hello"), send_request(ref, "fail")
    assert wait_response(good, 5) == ("far", "hello")
    with pytest.raises(ZeroDivisionError):
        wait_response(bad, 5)


# ---- a response as a message -------------------------------------------------------------------------------------------


def test_an_actor_may_have_the_response_as_a_message(system: System) -> None:
    gate = Event()
    slow, asker = Puppet.start(system=system), Puppet.start(system=system)
    requests: list[Any] = []
    call(asker, lambda server, caller: requests.append(send_request(slow, after(gate), as_message=True)))
    assert call(asker, "goes on") == "goes on"
    gate.set()
    until(lambda: get_state(asker)["seen"])
    (message,) = call(asker, seen)
    assert isinstance(message, RequestResult)
    assert message.request is requests[0]
    assert message.result() == "delayed"


def test_the_death_of_the_server_comes_as_such_a_message_too(system: System) -> None:
    slow, asker = Puppet.start(system=system), Puppet.start(system=system)
    call(asker, lambda server, caller: send_request(slow, lambda s, c: NoReply(), as_message=True) and None)
    until(lambda: statistics(slow).handled == 2)
    kill(slow)
    until(lambda: get_state(asker)["seen"])
    assert call(asker, seen)[0].error.reason == "killed"


def test_who_waits_for_it_gets_no_message_besides(system: System) -> None:
    slow, asker = Puppet.start(system=system), Puppet.start(system=system)

    def ask(server: Any, caller: Any) -> Any:
        return wait_response(send_request(slow, "answer", as_message=True))

    assert call(asker, ask) == "answer"
    assert call(asker, seen) == []


def test_an_asker_that_is_dead_gets_no_message(system: System) -> None:
    gate = Event()
    slow, asker = Puppet.start(system=system), Puppet.start(system=system)
    call(asker, lambda server, caller: send_request(slow, after(gate), as_message=True) and None)
    stop(asker)
    gate.set()
    assert call(slow, "alive") == "alive"


def test_only_an_actor_has_messages(system: System) -> None:
    with pytest.raises(NotAnActor, match="as_message"):
        send_request(Puppet.start(system=system), "x", as_message=True)


# ---- collections ------------------------------------------------------------------------------------------------------


def test_a_collection_gives_the_responses_in_the_order_in_which_they_come(system: System) -> None:
    first, second, third = three(system)
    gates = {label: Event() for label in ("req1", "req3")}
    requests = RequestIds()
    assert requests.wait_response() is None, "nothing to wait for"
    requests.add(send_request(first, after(gates["req1"])), "req1")
    requests.send(second, "delayed", "req2")
    requests.send(third, after(gates["req3"]), "req3")
    assert len(requests) == 3
    order = []
    for gate in (None, gates["req3"], gates["req1"]):
        if gate is not None:
            gate.set()
        response = requests.receive_response(5)
        assert response is not None
        order.append((response.label, response.result(), len(requests)))
    assert order == [("req2", "delayed", 2), ("req3", "delayed", 1), ("req1", "delayed", 0)]
    assert requests.receive_response(5) is None


def test_a_wait_for_a_collection_that_times_out_may_go_on(system: System) -> None:
    first, second, _ = three(system)
    gate = Event()
    requests = RequestIds()
    slow = requests.send(first, after(gate), "slow")
    requests.send(second, "quick", "quick")
    assert requests.wait_response(5).label == "quick"
    assert isinstance(failure_of(requests.wait_response, 0.01), CallTimeout)
    assert list(requests) == [(slow, "slow")]
    gate.set()
    assert requests.wait_response(5).result() == "delayed"


def test_a_receive_of_a_collection_that_times_out_abandons_them_all(system: System) -> None:
    first, second, _ = three(system)
    gate = Event()
    requests = RequestIds()
    requests.send(first, after(gate), "one")
    requests.send(second, after(gate), "two")
    assert isinstance(failure_of(requests.receive_response, 0.01), CallTimeout)
    assert {label for _, label in requests} == {"one", "two"}
    gate.set()
    assert [call(ref, "alive") for ref in (first, second)] == ["alive", "alive"]
    for _ in range(2):
        assert isinstance(requests.wait_response(5).error, CallTimeout)


def test_an_error_is_a_response_of_a_collection(system: System) -> None:
    first, second, _ = three(system)
    requests = RequestIds()
    requests.send(first, lambda server, caller: Stop("shutdown"), "stopped")
    requests.send(second, "fine", "fine")
    results = {}
    while (response := requests.receive_response(5)) is not None:
        results[response.label] = response
    assert results["stopped"].error.reason == "shutdown"
    assert results["fine"].result() == "fine"


def test_a_request_may_stay_in_its_collection(system: System) -> None:
    requests = RequestIds()
    for ref in three(system):
        requests.send(ref, ref.id, ref.id)
    given = [requests.wait_response(5, delete=False).label for _ in range(3)]
    assert sorted(given) == sorted(label for _, label in requests)
    assert requests.wait_response(5, delete=False) is None, "each response is given once"


def test_a_request_is_in_a_collection_once(system: System) -> None:
    requests = RequestIds()
    request = requests.send(Puppet.start(system=system), "x", "first")
    with pytest.raises(SpecError, match="not in the collection yet"):
        requests.add(request, "second")
    assert wait_response(request) == "x"


def test_a_collection_can_be_checked_without_waiting(system: System) -> None:
    first, second, _ = three(system)
    gate = Event()
    requests = RequestIds()
    assert requests.check_response() is None
    requests.send(first, after(gate), "slow")
    requests.send(second, "quick", "quick")
    response = until(requests.check_response)
    assert (response.label, response.result()) == ("quick", "quick")
    assert requests.check_response() is None
    gate.set()
    assert until(lambda: requests.check_response(delete=False)).label == "slow"
    assert len(requests) == 1
    assert requests.check_response() is None, "each response is given once"


def test_a_collection_may_be_waited_for_inside_an_actor(system: System) -> None:
    servers = three(system)
    asker = Puppet.start(system=system)

    def gather(server: Any, caller: Any) -> set[Any]:
        requests = RequestIds()
        for ref in servers:
            requests.send(ref, ref.id)
        results = set()
        while (response := requests.receive_response(5)) is not None:
            results.add(response.result())
        return results

    assert call(asker, gather) == {ref.id for ref in servers}


# ---- many at once -----------------------------------------------------------------------------------------------------


def test_multi_call_tells_who_answered_and_who_did_not(system: System) -> None:
    gate = Event()

    class Named(GenServer):
        def init(self, slow: bool) -> None:
            self.slow = slow

        def handle_call(self, request: Any, caller: Any) -> Any:
            return gate.wait() if self.slow else (self.ref.id, request)

    quick, slow = (
        Named.start(way, name=name, system=system) for way, name in ((False, "quick"), (True, "slow"))
    )
    replies, bad = system.multi_call(["quick", "nobody", "slow"], "hello", 0.05)
    assert replies == {"quick": (quick.id, "hello")}
    assert bad == ["nobody", "slow"]
    gate.set()
    dead = Named.start(False, system=system)
    kill(dead)
    answers, failures = multi_call([quick, dead, slow], "again", 5)
    assert answers == {quick: (quick.id, "again"), slow: True}
    assert isinstance(failures[dead], NoProcess)


def test_multi_call_of_nobody_is_empty(system: System) -> None:
    assert system.multi_call([], "x") == ({}, [])
    assert multi_call([], "x") == ({}, {})


def test_abcast_reaches_whoever_holds_one_of_the_names(system: System) -> None:
    servers = three(system)
    system.abcast(["server1", "nobody", "server3"], "news")
    assert [call(ref, seen) for ref in servers] == [["news"], [], ["news"]]
