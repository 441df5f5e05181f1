"""otp.md, "Agent": a state behind functions."""

from __future__ import annotations

import operator
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    Agent,
    CallCycle,
    CallTimeout,
    ChildSpec,
    NameTaken,
    NoProcess,
    NotAnActor,
    ServerExited,
    StartFailed,
    Stop,
    Supervisor,
    System,
    call,
    change_code,
    get_state,
    kill,
    monitor,
    send,
    statistics,
)
from tests.otp.actors import crash, failure_of, until
from tests.otp.registries import do, puppet


def same(state: Any) -> Any:
    return state


def agent_of(system: System, *initial: Any, **options: Any) -> Any:
    return Agent.start(*initial, system=system, **options)


# ---- the ways of use ---------------------------------------------------------------------------------------------------


def test_a_state_is_read_changed_and_both_at_once(system: System) -> None:
    agent = agent_of(system, dict)
    assert Agent.update(agent, lambda state: {**state, "hello": "world"}) is None
    assert Agent.get(agent, lambda state: state["hello"], timeout=3.0) == "world"
    assert Agent.get_and_update(agent, lambda state: (state["hello"], {}), timeout=3.0) == "world"
    assert Agent.get(agent, same) == {}
    assert Agent.stop(agent) is None
    assert agent not in system.processes()


def test_it_is_used_by_name_with_functions_that_take_more_than_the_state(system: System) -> None:
    agent = agent_of(system, dict, [("a", 1)], name="agent")
    actor = puppet(system)
    assert system.whereis("agent") == agent
    do(actor, Agent.cast, "agent", operator.or_, {"hello": "world"})
    assert do(actor, Agent.get, "agent", dict.get, "hello") == "world"
    assert do(actor, Agent.get, "agent", dict.get, "nothing", "default") == "default"
    assert do(actor, Agent.get_and_update, "agent", lambda state, key: (state[key], {}), "a") == 1
    assert do(actor, Agent.get, "agent", same) == {}
    do(actor, Agent.update, "agent", lambda state, *more: more, 1, 2)
    assert Agent.get(system.find("agent"), same) == (1, 2)
    do(actor, Agent.stop, "agent")
    assert system.whereis("agent") is None


def test_outside_of_an_actor_a_name_needs_a_system(system: System) -> None:
    agent_of(system, 0, name="agent")
    for action in (Agent.get, Agent.update, Agent.get_and_update, Agent.cast):
        with pytest.raises(NotAnActor, match=r"system\.find\('agent'\)"):
            action("agent", same)


def test_changes_happen_one_at_a_time_in_their_order(system: System) -> None:
    agent = agent_of(system, ())

    def slowly(state: Any, number: int) -> Any:
        gevent.sleep(0)
        return (*state, number)

    callers = [gevent.spawn(Agent.update, agent, slowly, number) for number in range(20)]
    gevent.joinall(callers, raise_error=True)
    assert sorted(Agent.get(agent, same)) == list(range(20))
    Agent.update(agent, lambda state: ())
    for number in range(5):
        Agent.cast(agent, slowly, number)
    assert Agent.get(agent, same) == (0, 1, 2, 3, 4)


def test_functions_run_in_the_agent_with_the_callers_context(system: System) -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    agent = agent_of(system, 0)
    trace.set("mine")
    assert Agent.get(agent, lambda state: trace.get()) == "mine"
    assert isinstance(failure_of(Agent.get, agent, lambda state: Agent.get(agent, same)), ServerExited)


def test_an_agent_that_asks_itself_is_told_so(system: System) -> None:
    agent = agent_of(system, 0)
    error = failure_of(Agent.get, agent, lambda state: Agent.get(agent, same))
    assert isinstance(error.reason, CallCycle)  # type: ignore[attr-defined]


@pytest.mark.parametrize("odd", [Stop("bad"), None, (1, 2), int])
def test_a_state_may_be_anything(system: System, odd: Any) -> None:
    agent = agent_of(system, lambda: odd)
    assert Agent.get(agent, same) is odd
    Agent.update(agent, lambda state: (state,))
    assert Agent.get_and_update(agent, lambda state: (state[0], state)) is odd
    assert Agent.get(agent, same) == (odd,)


# ---- starting ----------------------------------------------------------------------------------------------------------


def test_it_begins_with_a_value_or_with_what_a_function_gives(system: System) -> None:
    assert Agent.get(agent_of(system, 42), same) == 42
    assert Agent.get(agent_of(system, None), same) is None
    assert Agent.get(agent_of(system, lambda: 42), same) == 42
    assert Agent.get(agent_of(system, int, "2a", base=16), same) == 42


def test_what_it_can_not_begin_with_is_said(system: System) -> None:
    for initial in ((), (1, 2)):
        error = failure_of(agent_of, system, *initial, name="agent")
        assert isinstance(error, StartFailed)
        assert isinstance(error.reason, TypeError)
    assert system.processes() == []
    assert system.names() == []


def test_start_waits_for_the_function_and_fails_as_it_does(system: System) -> None:
    fault = ValueError("oops")
    error = failure_of(agent_of, system, crash(fault))
    assert isinstance(error, StartFailed)
    assert error.reason is fault
    error = failure_of(agent_of, system, gevent.sleep, 5, timeout=0.001)
    assert isinstance(error, StartFailed)
    assert error.reason == "timeout"
    assert system.processes() == []


def test_a_name_has_one_agent(system: System) -> None:
    first = agent_of(system, 0, name="agent")
    error = failure_of(agent_of, system, 0, name="agent")
    assert isinstance(error, NameTaken)
    assert error.holder == first


def test_started_with_a_link_it_ends_with_its_parent(system: System) -> None:
    actor = puppet(system)
    agent = do(actor, Agent.start_link, 0)
    assert statistics(agent).links == 1
    kill(actor)
    assert agent not in system.processes()


def test_it_is_supervised_directly_and_begins_anew_after_a_crash(system: System) -> None:
    top = Supervisor.start(
        [ChildSpec(Agent, lambda: 0, name="a"), ChildSpec(Agent, list, "xy", id="b", restart="temporary")],
        system=system,
    )
    a, b = (line.ref for line in Supervisor.which_children(top))
    assert [line.id for line in Supervisor.which_children(top)] == ["a", "b"]
    Agent.update(a, lambda state: state + 1)
    assert Agent.get(b, same) == ["x", "y"]
    failure_of(Agent.update, a, crash(ValueError("bad")))
    until(lambda: system.whereis("a") not in (None, a))
    assert Agent.get(system.find("a"), same) == 0


def test_a_subclass_gives_an_agent_a_face(system: System) -> None:
    class Counter(Agent):
        @staticmethod
        def increment(counter: Any) -> int:
            return Agent.get_and_update(counter, lambda state: (state + 1, state + 1))

    top = Supervisor.start([ChildSpec(Counter, 5, shutdown="infinity", restart="transient")], system=system)
    (line,) = Supervisor.which_children(top)
    assert line.id == "Counter"
    assert [Counter.increment(line.ref), Counter.increment(line.ref)] == [6, 7]


# ---- what goes wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", [Agent.get, Agent.update, Agent.get_and_update])
def test_what_a_function_raises_ends_the_agent_and_comes_to_its_caller(system: System, action: Any) -> None:
    agent = agent_of(system, 0)
    fault = ValueError("bad")
    error = failure_of(action, agent, crash(fault))
    assert isinstance(error, ServerExited)
    assert error.reason is fault
    assert error.__cause__ is fault
    assert agent not in system.processes()
    assert isinstance(failure_of(action, agent, same), NoProcess)


def test_what_a_cast_function_raises_ends_the_agent(system: System) -> None:
    agent = agent_of(system, 0)
    fault = ValueError("bad")
    watch = monitor(agent)
    Agent.cast(agent, crash(fault))
    down = watch.wait(5)
    assert down is not None
    assert down.reason is fault


@pytest.mark.parametrize("wrong", [5, (1,), (1, 2, 3), [1, 2], None])
def test_get_and_update_wants_a_pair(system: System, wrong: Any) -> None:
    agent = agent_of(system, 0)
    error = failure_of(Agent.get_and_update, agent, lambda state: wrong)
    assert isinstance(error, ServerExited)
    assert "(value, new state)" in str(error.reason)


def test_what_is_no_function_is_refused_and_the_agent_lives_on(system: System) -> None:
    agent = agent_of(system, 0)
    for action in (Agent.get, Agent.update, Agent.get_and_update, Agent.cast):
        with pytest.raises(TypeError, match="not 5"):
            action(agent, 5)
    assert Agent.get(agent, same) == 0


def test_a_timeout_leaves_the_agent_at_work(system: System) -> None:
    agent, gate = agent_of(system, 0), Event()

    def waits(state: int) -> int:
        gate.wait()
        return state + 1

    assert isinstance(failure_of(Agent.update, agent, waits, timeout=0.001), CallTimeout)
    assert isinstance(failure_of(Agent.get, agent, same, timeout=0.001), CallTimeout)
    gate.set()
    assert Agent.get(agent, same, timeout=None) == 1


def test_a_cast_to_nobody_is_nothing(system: System) -> None:
    agent = agent_of(system, 0)
    Agent.stop(agent)
    Agent.cast(agent, same)
    do(puppet(system), Agent.cast, "nobody", same)
    assert isinstance(failure_of(Agent.stop, agent), NoProcess)


def test_stop_has_a_reason_and_a_timeout(system: System) -> None:
    agent = agent_of(system, 0)
    watch = monitor(agent)
    Agent.stop(agent, "shutdown", timeout=1.0)
    down = watch.wait(1)
    assert down is not None
    assert down.reason == "shutdown"
    busy, gate = agent_of(system, 0), Event()
    Agent.cast(busy, lambda state: gate.wait())
    assert isinstance(failure_of(Agent.stop, busy, "shutdown", 0.001), CallTimeout)
    gate.set()
    Agent.stop(busy, "shutdown", timeout=5.0)
    assert busy not in system.processes()


def test_a_stray_message_does_no_harm(system: System) -> None:
    agent = agent_of(system, 0)
    send(agent, "what is this?")
    assert Agent.get(agent, same) == 0


# ---- looking inside, and new code --------------------------------------------------------------------------------------


def test_its_state_is_shown(system: System) -> None:
    assert get_state(agent_of(system, 5)) == {"state": 5}


def test_new_code_takes_the_state_over(system: System) -> None:
    class Newer(Agent):
        def code_change(self, old_version: object, state: dict[str, Any]) -> None:
            self.state = {**state["state"], "hello": "world"}

    agent = agent_of(system, dict)
    change_code(agent, Newer)
    assert Agent.get(agent, lambda state: state["hello"]) == "world"
    Agent.stop(agent)


def test_new_code_that_can_not_leaves_the_old(system: System) -> None:
    class Worse(Agent):
        def code_change(self, old_version: object, state: dict[str, Any]) -> None:
            raise ValueError("bad")

    agent = agent_of(system, dict)
    with pytest.raises(ValueError, match="bad"):
        change_code(agent, Worse)
    assert Agent.get(agent, same) == {}
    Agent.stop(agent)


def test_a_call_that_is_no_agents_ends_it(system: System) -> None:
    agent = agent_of(system, 0)
    assert isinstance(failure_of(call, agent, "hello"), ServerExited)
