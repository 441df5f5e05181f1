"""An actor from a function; what a handler is told besides its message; envelopes."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    TRACE,
    ActorContext,
    ChildSpec,
    Clock,
    Continue,
    Down,
    Envelope,
    NameTaken,
    NoReply,
    NotAnActor,
    Ref,
    Reply,
    ServerExited,
    SpecError,
    Stop,
    Supervisor,
    System,
    actor_context,
    call,
    cast,
    link,
    monitor,
    receive_response,
    send,
    send_request,
    start_actor,
    stop,
)
from tests.otp.actors import Puppet, until


def echo(context: ActorContext, message: str) -> str:
    return f"{message}, {message}"


def perform(context: ActorContext, message: Any) -> Any:
    """Does what the message says: a function of the context."""
    return message(context)


# ---- start_actor ------------------------------------------------------------------------------------------------------------


def test_one_function_makes_an_actor_of_a_behaviour(system: System) -> None:
    ref = start_actor(echo, name="echo", system=system)
    assert isinstance(ref, Ref)
    assert call(ref, "hello") == "hello, hello"
    assert system.call("echo", "hi") == "hi, hi"
    with pytest.raises(NameTaken):
        start_actor(echo, name="echo", system=system)


def test_calls_casts_infos_and_downs_all_come_to_the_behaviour(system: System) -> None:
    seen: list[Any] = []

    def keep(context: ActorContext, message: Any) -> int:
        if message == "watch":
            monitor(other)
        else:
            seen.append(message)
        return len(seen)

    other = start_actor(echo, system=system)
    ref = start_actor(keep, system=system)
    cast(ref, "cast")
    send(ref, "info")
    assert call(ref, "call") == 3
    call(ref, "watch")
    stop(other)
    until(lambda: len(seen) == 4)
    assert seen[:3] == ["cast", "info", "call"]
    assert isinstance(seen[3], Down)
    assert ref in system.processes()  # what it returned for a cast was no answer to obey


def test_a_behaviour_may_answer_as_a_servers_handlers_do(system: System) -> None:
    log: list[Any] = []

    def behave(context: ActorContext, message: Any) -> Any:
        log.append(message)
        return {"stop": Stop("normal", reply="bye"), "later": NoReply(), "next": Continue("more", reply="yes"),
                "reply": Reply("replied")}.get(message)  # fmt: skip

    ref = start_actor(behave, system=system)
    assert [call(ref, "reply"), call(ref, "next"), call(ref, "x")] == ["replied", "yes", None]
    later = send_request(ref, "later")
    assert call(ref, "stop") == "bye"
    with pytest.raises(ServerExited):
        receive_response(later)
    assert log == ["reply", "next", "more", "x", "later", "stop"]


def test_what_it_raises_ends_the_actor_and_a_supervisor_starts_it_anew(system: System) -> None:
    spec = ChildSpec(start_actor, perform, id="performer", options={"name": "performer"})
    Supervisor.start([spec], system=system)
    before = system.find("performer")
    with pytest.raises(ServerExited):
        call(before, lambda context: 1 / 0)
    until(lambda: system.whereis("performer") not in (None, before))
    assert system.call("performer", lambda context: context.ref) == system.find("performer")


def test_inside_an_actor_it_lives_where_the_actor_does_and_may_be_linked(system: System) -> None:
    parent = Puppet.start(system=system)
    free = call(parent, lambda server, caller: start_actor(echo))
    bound = call(parent, lambda server, caller: start_actor(echo, link=True))
    stop(parent, "shutdown")
    until(lambda: bound not in system.processes())
    assert free in system.processes()


def test_people_see_the_behaviours_name(system: System) -> None:
    assert repr(start_actor(echo, system=system)).startswith("<echo test/")
    assert repr(start_actor(lambda context, message: None, system=system)).startswith("<<lambda> test/")


def test_what_is_no_function_is_refused_and_outside_a_system_is_needed() -> None:
    with pytest.raises(SpecError, match="behaviour: given 5"):
        start_actor(5)  # type: ignore[arg-type]
    with pytest.raises(NotAnActor, match="system=system"):
        start_actor(echo)


# ---- ActorContext -------------------------------------------------------------------------------------------------------------


def test_a_handler_knows_itself_and_the_sender(system: System) -> None:
    ref = start_actor(perform, system=system)
    asker = Puppet.start(system=system)
    assert call(ref, lambda context: (context.ref, context.system, context.sender)) == (ref, system, None)
    ask = lambda server, caller: call(ref, lambda context: context.sender)  # noqa: E731
    assert call(asker, ask) == asker


def test_a_handler_knows_until_when_its_caller_waits() -> None:
    now = [50.0]
    system = System(clock=Clock(monotonic=lambda: now[0]))
    ref = start_actor(perform, system=system)

    def times(context: ActorContext) -> Any:
        return context.deadline, context.remaining

    def late(context: ActorContext) -> Any:
        gevent.sleep(0)  # the hub has its turn, and the caller's time runs from here
        left = [context.remaining]
        for _ in range(2):
            now[0] += 15
            left.append(context.remaining)
        return left

    assert call(ref, times, 5.0) == (55.0, 5.0)
    assert call(ref, times, None) == (None, None)
    assert call(ref, late, 20.0) == [20.0, 5.0, 0.0]
    told: list[Any] = []
    cast(ref, lambda context: told.append(times(context)))
    request = send_request(ref, times)
    assert receive_response(request, 10.0) == (None, None)  # nobody knows yet how long it will be waited for
    assert told == [(None, None)]
    system.shutdown()


def test_a_handler_knows_the_trace(system: System) -> None:
    ref = start_actor(perform, system=system)
    told: list[Any] = []
    token = TRACE.set("t-1")
    try:
        assert call(ref, lambda context: context.trace) == "t-1"
        cast(ref, lambda context: told.append(context.trace))
    finally:
        TRACE.reset(token)
    assert call(ref, lambda context: context.trace) is None
    assert told == [None]


@pytest.fixture
def other(system: System) -> Ref:
    return start_actor(perform, system=system)


def test_the_trace_goes_on_from_actor_to_actor(system: System, other: Ref) -> None:
    ref = start_actor(perform, system=system)
    token = TRACE.set("t-2")
    try:
        assert call(ref, lambda context: call(other, lambda inner: (inner.trace, inner.sender))) == (
            "t-2",
            ref,
        )
    finally:
        TRACE.reset(token)


def test_a_handlers_log_lines_name_it_and_its_trace(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="packetflow.otp.actor")
    ref = start_actor(perform, name="100%", system=system)
    token = TRACE.set("t-3")
    try:
        call(ref, lambda context: context.log.info("took %d", 5, extra={"more": 1}))
    finally:
        TRACE.reset(token)
    (record,) = [one for one in caplog.records if one.name == "packetflow.otp.actor"]
    assert record.getMessage() == f"{ref}: took 5"
    assert (record.actor, record.trace, record.more) == (repr(ref), "t-3", 1)  # type: ignore[attr-defined]


def test_any_server_has_a_context_and_outside_of_one_there_is_none(system: System) -> None:
    ref = Puppet.start(system=system)
    assert call(ref, lambda server, caller: actor_context().ref) == ref
    with pytest.raises(NotAnActor):
        actor_context()


# ---- Envelope -----------------------------------------------------------------------------------------------------------------


def clock_at(*times: datetime) -> Clock:
    left = iter(times)
    return Clock(utc=lambda: next(left))


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def test_an_envelope_carries_its_history() -> None:
    clock = clock_at(NOON, NOON + timedelta(seconds=1), NOON + timedelta(seconds=2))
    first = Envelope.first("order.placed", {"id": 7}, clock=clock, trace="t-1")
    second = first.follow("order.paid", {"id": 7}, clock=clock)
    third = second.follow("order.sent", {"id": 7}, clock=clock)
    assert len({first.id, second.id, third.id}) == 3
    assert {first.correlation, second.correlation, third.correlation} == {first.id}
    assert [one.causation for one in (first, second, third)] == [None, first.id, second.id]
    assert {one.trace for one in (first, second, third)} == {"t-1"}
    assert [one.timestamp.second for one in (first, second, third)] == [0, 1, 2]
    assert len(first.id) == 32


def test_it_is_an_immutable_value_and_plain_data_on_demand(system: System) -> None:
    ref = start_actor(echo, system=system)
    first = Envelope.first("a", [1], clock=clock_at(NOON), reply_to=ref)
    with pytest.raises(AttributeError):
        first.payload = 2  # type: ignore[misc]
    data = json.loads(json.dumps(first.as_dict()))
    assert data == {"id": first.id, "type": "a", "payload": [1], "correlation": first.id, "causation": None,
                    "trace": None, "timestamp": "2026-03-01T12:00:00+00:00", "reply_to": list(ref.key())}  # fmt: skip
    assert system.ref_from(tuple(data["reply_to"])) == ref  # type: ignore[arg-type]


def test_actors_reply_to_an_envelope_and_the_context_reads_it(system: System) -> None:
    answers: list[Envelope[Any]] = []
    done = Event()

    def shop(context: ActorContext, order: Envelope[str]) -> None:
        assert order.reply_to is not None
        assert context.sender == order.reply_to
        answer = order.follow("done", f"{order.payload} for {context.trace}", clock=context.system.clock)
        cast(order.reply_to, answer)

    def customer(context: ActorContext, answer: Envelope[str]) -> None:
        answers.append(answer)
        done.set()

    shop_ref, customer_ref = start_actor(shop, system=system), start_actor(customer, system=system)
    order = Envelope.first("order", "tea", clock=system.clock, reply_to=customer_ref, trace="t-9")
    cast(shop_ref, order)
    assert done.wait(5)
    (answer,) = answers
    assert (answer.payload, answer.causation, answer.correlation) == ("tea for t-9", order.id, order.id)


def test_a_link_by_a_behaviour_is_its_actors(system: System) -> None:
    one, other = (start_actor(perform, system=system) for _ in range(2))
    call(one, lambda context: link(other))
    with pytest.raises(ServerExited):
        call(other, lambda context: {}["none"])
    gevent.idle()
    assert one not in system.processes()
