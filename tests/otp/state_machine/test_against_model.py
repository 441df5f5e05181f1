"""Random machines and messages, run by StateMachine and by the reference model: they have to agree on every event."""

from __future__ import annotations

import logging
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.otp import (
    Call,
    Clock,
    EventTimeout,
    GenericTimeout,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    RepeatState,
    RepeatStateAndData,
    ReplyTo,
    StateMachine,
    StateTimeout,
    System,
    call,
    cast,
    get_state,
    send,
)
from tests.otp.state_machine.model import LIMIT, PROGRAM, QUIET, choose, choose_enter, run


class Real(StateMachine):
    """The program's machine as a StateMachine with one handle_event."""

    def init(self, responses: list[Any], enters: list[Any]) -> NextState:
        self.responses, self.enters = responses, enters
        self.log: list[Any] = []
        self.left = LIMIT
        self.unanswered: list[Any] = []
        self.seen: list[Any] = []
        return NextState(self.name_of(0), 0)

    def name_of(self, number: int) -> Any:
        return number

    def handle_event(self, kind: Any, content: Any, state: Any, data: int) -> Any:
        return self.answer(kind, content, state, data)

    def answer(self, kind: Any, content: Any, state: int, data: int) -> Any:
        self.left -= 1
        quiet = self.left < 0
        if kind == "enter":
            old = self.number_of(content)
            self.log.append(("enter", old, state, data))
            how, actions = QUIET if quiet else choose_enter(self.enters, state, old)
        else:
            word = kind
            if isinstance(kind, Call):
                word = "call"
                if kind not in self.seen:
                    self.seen.append(kind)
                    self.unanswered.append(kind)
            self.log.append((word, content, state, data))
            how, actions = QUIET if quiet else choose(self.responses, state, word, content)
        changes = how in ("keep_state", "repeat_state") or how[0] == "next_state"
        done = [self.action(what, data + changes) for what in actions]
        done = [action for action in done if action is not None]
        match how:
            case "keep_state":
                return KeepState(data + 1, *done)
            case "keep_state_and_data":
                return KeepStateAndData(*done)
            case "repeat_state":
                return RepeatState(data + 1, *done)
            case "repeat_state_and_data":
                return RepeatStateAndData(*done)
            case "next_state", to:
                return NextState(self.name_of(to), data + 1, *done)
        raise AssertionError(how)

    def number_of(self, state: Any) -> int:
        return state

    def action(self, what: Any, data: int) -> Any:
        match what:
            case "postpone", yes:
                return Postpone(yes)
            case "next_event", kind, content:
                return NextEvent(kind, content)
            case ("reply",):
                return ReplyTo(self.unanswered.pop(0), data) if self.unanswered else None
            case "timeout", kind, when, content:
                make = {"timeout": EventTimeout, "state_timeout": StateTimeout}.get(kind, GenericTimeout)
                name = (kind[1],) if make is GenericTimeout else ()
                if when == "cancel":
                    return make.cancel(*name)
                if when == "update":
                    return make.update(*name, content)
                return make(*name, when, content)
        raise AssertionError(what)


class RealWithEnters(Real):
    state_enter = True


class ByFunctions(Real):
    """The same with a method for each state."""

    # Real's handle_event would win over the states.
    handle_event = StateMachine.handle_event

    def name_of(self, number: int) -> Any:
        return f"state{number}"

    def number_of(self, state: Any) -> int:
        return int(state[-1])

    def state0(self, kind: Any, content: Any, data: int) -> Any:
        return self.answer(kind, content, 0, data)

    def state1(self, kind: Any, content: Any, data: int) -> Any:
        return self.answer(kind, content, 1, data)

    def state2(self, kind: Any, content: Any, data: int) -> Any:
        return self.answer(kind, content, 2, data)


class ByFunctionsWithEnters(ByFunctions):
    state_enter = True


MACHINES = {
    (False, False): Real,
    (False, True): RealWithEnters,
    (True, False): ByFunctions,
    (True, True): ByFunctionsWithEnters,
}


@settings(max_examples=300, deadline=None)
@given(PROGRAM, st.booleans())
def test_random_machines_do_what_the_model_does(program: Any, by_functions: bool) -> None:
    compare(program, by_functions)


@pytest.mark.slow
@pytest.mark.timeout(900)
@settings(max_examples=10_000, deadline=None)
@given(PROGRAM, st.booleans())
def test_many_random_machines_do_what_the_model_does(program: Any, by_functions: bool) -> None:
    compare(program, by_functions)


def compare(program: Any, by_functions: bool) -> None:
    """Runs a program by both."""
    logging.getLogger("packetflow.otp").setLevel(logging.CRITICAL)
    responses, enters, steps = program
    now = [0.0]
    system = System("world", clock=Clock(monotonic=lambda: now[0]))
    machine: Any = MACHINES[by_functions, bool(enters)].start(responses, enters, system=system)
    server = machine._process.server
    answers: dict[int, Any] = {}
    clients = []

    def ask(client: int, content: int) -> None:
        try:
            answers[client] = call(machine, content, None)
        except gevent.GreenletExit:
            pass  # it waited to the end of the program

    for client, (kind, number) in enumerate(steps):
        server.left = LIMIT
        if kind == "call":
            clients.append(gevent.spawn(ask, client, number))
        elif kind == "cast":
            cast(machine, number)
        elif kind == "info":
            send(machine, number)
        else:
            now[0] += number
            system.scheduler.timers._fire()
        settle(system)
    model = run(program)
    assert server.log == model.log
    assert answers == model.answers
    assert server.number_of(get_state(machine)[0]) == model.state
    assert get_state(machine)[1] == model.data
    timers = server._timers or {}
    assert {kind: (expiry.timer.due, expiry.message) for kind, expiry in timers.items()} == {
        kind: (due, content) for kind, due, content in model.timers
    }
    assert len(server._postponed or ()) == len(model.postponed)
    gevent.killall(clients)
    system.shutdown()
    assert len(system.scheduler.timers) == 0


def settle(system: System) -> None:
    """Until nobody can go on."""
    gevent.idle()
    while system.scheduler.run_queue:
        gevent.idle()
