"""otp.md, "State machine": callback modes, transitions, actions and the order of events, as gen_statem has them."""

from __future__ import annotations

import inspect
import re
import textwrap
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from gevent.event import Event

import packetflow.otp
from packetflow.otp import (
    BadReturn,
    Call,
    KeepState,
    KeepStateAndData,
    NextEvent,
    NextState,
    Postpone,
    ReplyTo,
    ServerExited,
    SpecError,
    StartFailed,
    StateMachine,
    StateTimeout,
    Stop,
    System,
    call,
    cast,
    get_state,
    kill,
    send,
    statistics,
)
from packetflow.otp.answers import IGNORE
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.state_machine.machines import Line, LineByEvents, Named, Recorder, Table
from tests.otp.state_machine.test_postponed import go

LINES = pytest.mark.parametrize("kind", [Line, LineByEvents])


def keep(kind: Any, content: Any, data: Any) -> KeepStateAndData:
    return KeepStateAndData()


# ---- the example --------------------------------------------------------------------------------------------------------


def test_the_door_of_the_docstring_works(system: System) -> None:
    text = re.search(r"\n( +class Door.*?)\n\n {4}\S", inspect.getsource(StateMachine), re.S)
    assert text is not None
    names: dict[str, Any] = {name: getattr(packetflow.otp, name) for name in packetflow.otp.__all__}
    source = textwrap.dedent(text[1]).replace("StateTimeout(10.0)", "StateTimeout(0.01)")
    assert len(source.splitlines()) <= 16
    exec(compile(source, "<docstring>", "exec"), names)
    door = names["Door"].start("1234", system=system)
    assert call(door, ("unlock", "1111")) == "wrong code"
    assert get_state(door) == ("locked", "1234")
    assert call(door, ("unlock", "1234")) == "come in"
    again = gevent.spawn(call, door, ("unlock", "1234"))  # postponed until the door has fallen shut
    until(lambda: get_state(door)[0] == "open")
    assert again.get(timeout=5) == "come in"


# ---- callback modes ------------------------------------------------------------------------------------------------------


@LINES
def test_a_line_is_connected_and_used_by_casts(system: System, kind: type[Line]) -> None:
    told: list[Any] = []
    line = kind.start(told, system=system)
    assert call(line, "state") == ("idle", told)
    cast(line, "connect")
    assert call(line, "state") == ("ringing", ["accept"])
    cast(line, ("ping", 1))
    assert call(line, "state") == ("ringing", ["accept"])
    cast(line, "confirm")
    assert call(line, "state") == ("connected", ["accept", ("ping", 1)])
    cast(line, ("message", 2))
    cast(line, "disconnect")
    assert call(line, "state") == ("idle", ["accept", ("ping", 1), ("message", 2)])


@LINES
def test_a_line_is_connected_and_used_by_calls(system: System, kind: type[Line]) -> None:
    line = kind.start(system=system)
    assert call(line, "connect") == "accept"
    assert call(line, "connect") == "eh?"
    assert call(line, "confirm") == "yes"
    assert [call(line, ("message", n)) for n in range(3)] == [("ack", 0), ("ack", 1), ("ack", 2)]
    assert call(line, "disconnect") == "yes"
    assert call(line, "alive?") == "yes"
    assert call(line, "state")[0] == "idle"


def test_in_handle_event_a_state_may_be_any_hashable_value(system: System) -> None:
    states: list[Any] = ["text", 1, ("tuple", frozenset({2})), None, 3.5]
    machine = Recorder.start(states[0], system=system)
    for state in states[1:]:
        call(
            machine, Named("go", lambda kind, data, state=state: NextState(state, data, ReplyTo(kind, None)))
        )
        assert get_state(machine)[0] == state


def test_an_unhashable_state_is_a_crash_that_says_what_is_accepted(system: System) -> None:
    machine = Recorder.start(system=system)
    with pytest.raises(ServerExited, match=r"\[1\] is no state of Recorder; accepted is a hashable value"):
        call(machine, lambda kind, data: NextState([1], data), None)


def test_a_state_without_a_method_is_a_crash_that_names_the_states(system: System) -> None:
    class Lamp(StateMachine):
        def init(self) -> NextState:
            return NextState("off", None)

        def off(self, kind: Any, content: Any, data: Any) -> NextState:
            return NextState(content, None)

        def on(self, kind: Any, content: Any, data: Any) -> NextState:
            return NextState("off", None)

        def _hidden(self, kind: Any, content: Any, data: Any) -> NextState:
            return NextState("off", None)

    for wrong in ("broken", "_hidden", "terminate", "call", 7, ["on"]):
        lamp = Lamp.start(system=system)
        until_dead = gevent.spawn(lambda lamp=lamp, wrong=wrong: failure_of(call, lamp, wrong, None))
        reason = until_dead.get(timeout=5).reason
        assert isinstance(reason, BadReturn), wrong
        assert f"{wrong!r} is no state of Lamp; accepted is the name of one of its methods" in str(reason)
        assert "(off, on)" in str(reason)


def test_states_are_inherited_and_overridden(system: System) -> None:
    class Loud(Line):
        def ringing(self, kind: Any, content: Any, data: Any) -> Any:
            if content == "confirm":
                return NextState("shouting", data)
            return super().ringing(kind, content, data)

        def shouting(self, kind: Any, content: Any, data: Any) -> Any:
            return KeepStateAndData(ReplyTo(kind, "AYE"))

    line = Loud.start(system=system)
    call(line, "connect")
    cast(line, "confirm")
    assert call(line, "?") == "AYE"


def test_what_a_server_defines_a_state_machine_may_not() -> None:
    for name in ("handle_call", "handle_cast", "handle_info", "handle_continue"):
        with pytest.raises(SpecError, match=f"Wrong.{name}.*a state machine's events go to its states"):
            type("Wrong", (StateMachine,), {name: lambda *_: None})


# ---- init ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [None, "idle", ("idle", None), KeepState(1), 4711])
def test_an_init_that_returns_something_else_fails_and_says_what_is_accepted(
    system: System, wrong: Any
) -> None:
    class Wrong(Line):
        def init(self) -> Any:
            return wrong

    with pytest.raises(StartFailed, match=r"Wrong.init returned .*accepted is NextState") as failed:
        Wrong.start(name="wrong", system=system)
    assert failed.value.reason.reason == "bad_return_from_init"
    assert system.processes() == [] == system.names()


def test_an_init_that_names_a_state_that_is_none_fails(system: System) -> None:
    class Wrong(Line):
        def init(self) -> Any:
            return NextState("nowhere", None)

    with pytest.raises(StartFailed, match="'nowhere' is no state of Wrong"):
        Wrong.start(system=system)


def test_init_may_ignore_or_stop(system: System) -> None:
    class Shy(Line):
        def init(self, answer: Any) -> Any:
            return answer

    assert Shy.start(IGNORE, name="shy", system=system) is None
    with pytest.raises(StartFailed) as failed:
        Shy.start(Stop("no room"), name="shy", system=system)
    assert failed.value.reason == "no room"
    assert system.processes() == [] == system.names()


def test_a_machine_without_init_says_so(system: System) -> None:
    with pytest.raises(StartFailed, match="Nothing defines no init"):
        type("Nothing", (StateMachine,), {}).start(system=system)  # type: ignore[attr-defined]


def test_the_actions_of_init_are_done_before_any_message(system: System) -> None:
    class Early(Recorder):
        def init(self) -> NextState:
            cast(self.ref, "cast")
            return NextState("first", [], NextEvent("internal", 1), NextEvent("internal", 2), Postpone())

    machine = Early.start(system=system)
    assert call(machine, "seen") == [
        ("internal", 1, "first"),
        ("internal", 2, "first"),
        ("cast", "cast", "first"),
    ]
    cast(machine, go("second"))
    assert len(call(machine, "seen")) == 4  # there was no event to postpone


# ---- the order of events -------------------------------------------------------------------------------------------------


def test_casts_infos_and_calls_come_in_their_order(system: System) -> None:
    machine = Recorder.start(system=system)
    for number in range(0, 100, 2):
        cast(machine, number)
        send(machine, number + 1)
    assert [content for _, content, _ in call(machine, "seen")] == list(range(100))
    assert {kind for kind, _, _ in call(machine, "seen")} == {"cast", "info"}


@LINES
def test_inserted_events_come_in_their_order(system: System, kind: type[Line]) -> None:
    line = kind.start(system=system)
    cast(line, "next events")
    assert call(line, "state") == ("counting", [])


def test_inserted_events_come_before_postponed_ones_and_these_before_messages(system: System) -> None:
    log: list[Any] = []
    gate = Event()

    def start(kind: Any, content: Any, data: Any) -> Any:
        if kind == "cast":
            return KeepStateAndData(Postpone())
        gate.wait()
        return NextState(
            "on", None, ReplyTo(kind, "ok"), NextEvent("internal", "i1"), NextEvent("internal", "i2")
        )

    def on(kind: Any, content: Any, data: Any) -> Any:
        log.append(content)
        return KeepStateAndData()

    machine = Table.start({"start": start, "on": on}, "start", system=system)
    cast(machine, "p1")
    cast(machine, "p2")
    asked = gevent.spawn(call, machine, "go")
    until(lambda: statistics(machine).status == "busy")
    cast(machine, "late")
    gate.set()
    assert asked.get(timeout=5) == "ok"
    until(lambda: "late" in log)
    assert log == ["i1", "i2", "p1", "p2", "late"]


def test_an_inserted_event_that_inserts_comes_before_those_inserted_earlier(system: System) -> None:
    machine = Recorder.start(system=system)
    more = Named("more", lambda kind, data: KeepStateAndData(NextEvent("internal", "inner")))
    cast(
        machine,
        lambda kind, data: KeepStateAndData(NextEvent("internal", more), NextEvent("internal", "outer")),
    )
    assert [content for kind, content, _ in call(machine, "seen") if kind == "internal"] == [
        "more",
        "inner",
        "outer",
    ]


def test_every_kind_of_event_can_be_inserted(system: System) -> None:
    machine = Recorder.start(system=system)

    def insert(kind: Any, data: Any) -> Any:
        kinds = ("internal", "state_timeout", "timeout", "info", "cast", ("timeout", 6))
        return KeepStateAndData(
            *(NextEvent(one, n) for n, one in enumerate(kinds)), NextEvent(kind, "as a call")
        )

    assert call(machine, Named("insert", insert)) == "as a call"
    assert [event[:2] for event in call(machine, "seen")] == [
        ("call", "insert"),
        ("internal", 0),
        ("state_timeout", 1),
        ("timeout", 2),
        ("info", 3),
        ("cast", 4),
        (("timeout", 6), 5),
        ("call", "as a call"),
    ]


@pytest.mark.parametrize("kind", ["enter", "cal", None, ("timeout",), ("state", 1)])
def test_other_kinds_can_not_be_inserted(kind: Any) -> None:
    with pytest.raises(SpecError, match=r"NextEvent.kind: given .*accepted is cast, info, internal"):
        NextEvent(kind, 1)


def test_a_machine_that_inserts_events_for_ever_starves_nobody(system: System) -> None:
    class Endless(StateMachine):
        def init(self) -> NextState:
            return NextState("on", 0)

        def on(self, kind: Any, content: Any, data: int) -> Any:
            return KeepState(data + 1, NextEvent("internal"))

    machine = Endless.start(system=system)
    other = Puppet.start(system=system)
    cast(machine, "go")
    turns: list[int] = []
    system.scheduler.timers.after(0.001, lambda _: turns.append(1))
    until(lambda: turns)
    assert call(other, "alive") == "alive"
    assert statistics(machine).status == "busy"
    kill(machine)


# ---- context variables -----------------------------------------------------------------------------------------------------

WHO: ContextVar[str] = ContextVar("who", default="nobody")


def test_an_event_that_comes_again_or_was_inserted_has_its_own_context(system: System) -> None:
    log: list[tuple[str, str]] = []

    def first(kind: Any, content: Any, data: Any) -> Any:
        if content == "go":
            return NextState("second", data, NextEvent("internal", "inserted"), ReplyTo(kind, None))
        return KeepStateAndData(Postpone())

    def second(kind: Any, content: Any, data: Any) -> Any:
        log.append((content, WHO.get()))
        if content == "inserted":
            return KeepStateAndData(StateTimeout(0, "zero"))
        return KeepStateAndData(ReplyTo(kind, None)) if isinstance(kind, Call) else KeepStateAndData()

    machine = Table.start({"first": first, "second": second}, "first", system=system)

    def client(name: str, request: str) -> None:
        WHO.set(name)
        call(machine, request)

    asked = gevent.spawn(client, "early", "call")
    until(lambda: statistics(machine).handled == 2)
    WHO.set("the test")
    cast(machine, "cast")
    gevent.spawn(client, "late", "go").get(timeout=5)
    asked.get(timeout=5)
    assert log == [("inserted", "late"), ("call", "early"), ("cast", "nobody"), ("zero", "late")]
