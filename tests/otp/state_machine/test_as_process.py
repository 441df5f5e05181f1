"""otp.md, "State machine": it is started, named, linked, stopped, supervised and looked into as any server is."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    BadReturn,
    Call,
    CallCycle,
    CallTimeout,
    ChildSpec,
    Down,
    DynamicSupervisor,
    Exit,
    GenericTimeout,
    GenServer,
    KeepState,
    KeepStateAndData,
    MailboxFull,
    NameTaken,
    NextState,
    NoProcess,
    Postpone,
    ReplyTo,
    ServerExited,
    SpecError,
    StartFailed,
    StateMachine,
    StateTimeout,
    Stop,
    StopAndReply,
    Supervisor,
    System,
    call,
    cast,
    change_code,
    exit_signal,
    get_state,
    kill,
    monitor,
    replace_state,
    send,
    statistics,
    stop,
    tree,
)
from tests.otp.actors import Puppet, Trapper, failure_of, seen, until
from tests.otp.state_machine.machines import EnterRecorder, Line, LineByEvents, Named, Recorder, Table

LINES = pytest.mark.parametrize("kind", [Line, LineByEvents])


def use(line: Any, caller: Any) -> None:
    """Goes through the states of a line and back, as a sign that it works."""
    assert [caller(line, request) for request in ("connect", "confirm", ("message", 1), "disconnect")] == [
        "accept",
        "yes",
        ("ack", 1),
        "yes",
    ]


# ---- start ---------------------------------------------------------------------------------------------------------------


@LINES
def test_start_and_start_link_without_a_name(system: System, kind: type[Line]) -> None:
    use(kind.start(system=system), call)
    parent = Puppet.start(system=system)
    linked = call(parent, lambda server, caller: kind.start_link())
    use(linked, call)
    assert statistics(linked).links == 1
    kill(linked)
    assert parent not in system.processes()


@LINES
def test_a_machine_with_a_name_is_used_by_it_and_a_second_is_refused(
    system: System, kind: type[Line]
) -> None:
    line = kind.start(name="line", system=system)
    parent = Puppet.start(system=system)
    for start in (
        lambda: kind.start(name="line", system=system),
        lambda: (
            call(parent, lambda server, caller: failure_of(kind.start_link, name="line"))
            and kind.start(name="line", system=system)
        ),
    ):
        with pytest.raises(NameTaken) as taken:
            start()
        assert taken.value.holder == line
    use("line", system.call)
    use(line, call)
    assert system.call("line", "stop") == "stopped"
    until(lambda: system.whereis("line") is None)
    use(kind.start(name="line", system=system), call)


@LINES
def test_a_start_within_its_time_works_and_one_that_overruns_leaves_nothing(
    system: System, kind: type[Line]
) -> None:
    never = Event()

    class Slow(kind):  # type: ignore[valid-type, misc]
        def init(self, waits: bool) -> Any:
            if waits:
                never.wait()
            return super().init()

    use(Slow.start(False, system=system, timeout=5.0), call)
    with pytest.raises(StartFailed) as failed:
        Slow.start(True, name="slow", system=system, timeout=0.01)
    assert failed.value.reason == "timeout"
    assert system.names() == []
    assert len(system.processes()) == 1


@pytest.mark.parametrize("linked", [False, True])
@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (lambda: Stop("stopped"), "stopped"),
        (lambda: Stop("shutdown"), "shutdown"),
        (lambda: Stop(("error", "foobar")), ("error", "foobar")),
        (lambda: 1 / 0, ZeroDivisionError),
        (lambda: 4711, BadReturn),
        (lambda: IGNORE, None),
    ],
)
def test_a_start_that_fails_tells_its_reason_again_and_again(
    system: System, outcome: Any, reason: Any, linked: bool
) -> None:
    class Short(StateMachine):
        def init(self) -> Any:
            return outcome()

    def attempt() -> Any:
        try:
            return Short.start_link(name="short") if linked else Short.start(name="short", system=system)
        except StartFailed as error:
            return error.reason

    parent = Trapper.start(system=system)
    for _ in range(5):
        got = call(parent, lambda server, caller: attempt())
        assert isinstance(got, reason) if isinstance(reason, type) else got == reason
        assert system.processes() == [parent]
        assert system.names() == []
    assert call(parent, seen) == []


# ---- stop ----------------------------------------------------------------------------------------------------------------


@LINES
@pytest.mark.parametrize("reason", ["normal", "other reason", ("shutdown", 1)])
def test_stop_ends_it_with_the_reason_and_then_nobody_is_there(
    system: System, kind: type[Line], reason: Any
) -> None:
    line = kind.start(name="line", system=system)
    down = monitor(line)
    system.stop_process("line", reason)
    assert down.wait(5).reason == reason
    for again in (lambda: stop(line), lambda: system.stop_process("line"), lambda: call(line, "alive?")):
        assert isinstance(failure_of(again), NoProcess)


@LINES
def test_a_stop_with_a_timeout_that_is_none_leaves_it_running(system: System, kind: type[Line]) -> None:
    line = kind.start(system=system)
    with pytest.raises(SpecError, match="timeout: given 'invalid timeout'"):
        stop(line, "other reason", "invalid timeout")  # type: ignore[arg-type]
    assert call(line, "alive?") == "yes"


def test_a_machine_without_terminate_stops_too(system: System) -> None:
    for reason in ("normal", ("error", "test")):
        line = Line.start(system=system)
        down = monitor(line)
        stop(line, reason)
        assert down.wait(5).reason == reason


def test_the_parents_exit_stops_a_machine_that_traps_with_terminate(system: System) -> None:
    ended: list[Any] = []

    class Trapping(Line):
        trap_exits = True

        def terminate(self, reason: object, state: Any, data: Any) -> None:
            ended.append((reason, state))

    parent = Puppet.start(lambda server: Trapping.start_link() and None, system=system)
    exit_signal(parent, "shutdown")
    until(lambda: ended)
    assert ended == [("shutdown", "idle")]


# ---- calls ---------------------------------------------------------------------------------------------------------------


def test_a_call_that_times_out_leaves_the_machine_and_its_late_reply_is_never_seen(system: System) -> None:
    class Late(StateMachine):
        def init(self) -> NextState:
            return NextState("on", None)

        def on(self, kind: Any, content: Any, data: Any) -> Any:
            if kind == ("timeout", "late"):
                return KeepStateAndData(ReplyTo(content, "late"))
            if isinstance(content, float):
                return KeepStateAndData(GenericTimeout("late", content, kind))
            return KeepStateAndData(ReplyTo(kind, content))

    late = Late.start(system=system)
    assert call(late, 0.001) == "late"
    with pytest.raises(CallTimeout):
        call(late, 0.02, timeout=0.001)
    until(lambda: not late._process.server._timers)  # type: ignore[attr-defined]
    assert call(late, "own") == "own"


def test_an_answer_may_be_given_by_hand_and_from_outside(system: System) -> None:
    kept: list[Call] = []
    machine = Table.start({"a": lambda kind, *_: kept.append(kind) or KeepStateAndData()}, "a", system=system)
    asked = gevent.spawn(call, machine, "wait")
    until(lambda: kept)
    machine._process.server.reply(kept[0], "by hand")
    assert asked.get(timeout=5) == "by hand"
    assert not machine._process.bonds.owed


def test_a_machine_that_calls_itself_is_told_so(system: System) -> None:
    def behave(kind: Any, content: Any, data: Any) -> Any:
        with pytest.raises(CallCycle, match="calls itself"):
            call(machine, "self", None)
        return KeepState(data, ReplyTo(kind, "lives"))

    machine = Table.start({"a": behave}, "a", system=system)
    assert call(machine, "go") == "lives"


def test_a_mailbox_may_be_bounded_and_timeouts_and_postponed_events_do_not_count(system: System) -> None:
    class Small(Recorder):
        mailbox_limit = 1

    gate = Event()
    machine = Small.start(system=system)
    for message in (
        *(Named("later", lambda *_: KeepStateAndData(Postpone())) for _ in range(3)),
        Named("arm", lambda *_: KeepStateAndData(StateTimeout(0.02, "t"))),
        Named("block", lambda *_: gate.wait() and KeepStateAndData()),
    ):
        cast(machine, message)
        until(lambda: statistics(machine).mailbox == 0)
    until(lambda: statistics(machine).mailbox == 1)  # the timeout
    cast(machine, "fills it")
    assert isinstance(failure_of(call, machine, "one too many"), MailboxFull)
    gate.set()
    until(lambda: statistics(machine).status == "idle")
    contents = [event[1] for event in call(machine, "seen")]
    assert contents == ["later"] * 3 + ["arm", "block", "t", "fills it"]


# ---- monitors, links, supervisors ------------------------------------------------------------------------------------------


def test_down_and_exit_come_as_infos(system: System) -> None:
    class Trapping(Recorder):
        trap_exits = True

    machine = Trapping.start(system=system)
    one, other = Puppet.start(system=system), Puppet.start(system=system)

    def bind(kind: Any, data: Any) -> Any:
        server = machine._process.server
        server.monitor(one)
        server.link(other)
        return KeepStateAndData(ReplyTo(kind, None))

    call(machine, Named("bind", bind))
    kill(one)
    kill(other)
    down, exited = (event for event in call(machine, "seen") if event[0] == "info")
    assert isinstance(down[1], Down)
    assert (down[1].ref, down[1].reason) == (one, "killed")
    assert exited[1] == Exit(other, "killed")


def test_a_machine_under_a_supervisor_begins_anew_in_its_first_state(system: System) -> None:
    Supervisor.start([ChildSpec(Line, name="line")], system=system)
    first = system.find("line")
    system.call("line", "connect")
    asked = failure_of(system.call, "line", "bad return")
    assert isinstance(asked, ServerExited)
    until(lambda: system.whereis("line") not in (None, first))
    assert system.call("line", "state") == ("idle", [])
    use("line", system.call)


def test_machines_under_a_dynamic_supervisor_stop_in_order_with_it(system: System) -> None:
    ended: list[Any] = []

    class Ending(Line):
        def terminate(self, reason: object, state: Any, data: Any) -> None:
            ended.append((reason, state))

    pool = DynamicSupervisor.start(system=system)
    lines = [DynamicSupervisor.start_child(pool, ChildSpec(Ending, restart="temporary")) for _ in range(3)]
    call(lines[0], "connect")
    stop(pool, "shutdown")
    assert sorted(ended) == [("shutdown", "idle"), ("shutdown", "idle"), ("shutdown", "ringing")]


def test_a_machine_is_seen_in_the_tree(system: System) -> None:
    top = Supervisor.start([ChildSpec(Line, name="line")], system=system)
    cast(system.find("line"), ("ping", 1))
    call(system.find("line"), "alive?")
    (branch,) = tree(top).children
    assert (branch.name, branch.kind, branch.status, branch.handled) == ("line", "worker", "running", 3)


# ---- looking inside, and new code ------------------------------------------------------------------------------------------


@LINES
def test_get_state_gives_state_and_data(system: System, kind: type[Line]) -> None:
    told: list[Any] = []
    line = kind.start(told, name="line", system=system)
    assert get_state(line) == ("idle", told)
    assert get_state(system.find("line"), 5.0) == ("idle", told)
    cast(line, "connect")
    state, data = get_state(line)
    assert (state if kind is Line else state[0], data) == ("ringing", ["accept"])


def test_replace_state_puts_another_state_and_data_in_place(system: System) -> None:
    line = Line.start(system=system)
    assert replace_state(line, lambda pair: (pair[0], "replaced")) == ("idle", "replaced")
    assert get_state(line) == ("idle", "replaced")
    assert replace_state(line, lambda pair: ("connected", "again"), 5.0) == ("connected", "again")
    assert call(line, ("message", 1)) == ("ack", 1)


def test_replace_state_whose_function_fails_changes_nothing(system: System) -> None:
    line = Line.start(system=system)
    with pytest.raises(ZeroDivisionError):
        replace_state(line, lambda pair: 1 / 0)
    with pytest.raises(BadReturn, match=r"replace_state's function returned 'idle'; accepted is the tuple"):
        replace_state(line, lambda pair: pair[0])
    with pytest.raises(BadReturn, match="'nowhere' is no state of Line"):
        replace_state(line, lambda pair: ("nowhere", None))
    assert get_state(line) == ("idle", [])
    assert call(line, "alive?") == "yes"


def test_replace_state_is_no_transition(system: System) -> None:
    machine = EnterRecorder.start("first", StateTimeout(90), system=system)
    cast(machine, Named("later", lambda *_: KeepStateAndData(Postpone())))
    replace_state(machine, lambda pair: ("second", pair[1]))
    assert [event[:2] for event in call(machine, "seen")] == [("enter", "first"), ("cast", "later")]
    assert list(machine._process.server._timers) == ["state_timeout"]  # type: ignore[attr-defined]


def test_replace_state_of_a_plain_server(system: System) -> None:
    ref = Puppet.start(system=system)
    assert replace_state(ref, lambda state: {"seen": [*state["seen"], "put in"]}) == {"seen": ["put in"]}
    assert call(ref, seen) == ["put in"]
    with pytest.raises(SpecError, match="accepted is a dictionary of attributes"):
        replace_state(ref, lambda state: None)
    assert call(ref, seen) == ["put in"]


def test_a_change_of_code_goes_by_code_change_and_keeps_what_waits(system: System) -> None:
    class Old(Recorder):
        version = 1

    class New(EnterRecorder):
        def code_change(self, old_version: object, state: Any, data: Any) -> tuple[Any, Any]:
            return (state, old_version), [("changed", old_version, state)]

    machine = Old.start("first", GenericTimeout("n", 0.01, "kept"), name="one", system=system)
    server: Any = machine._process.server
    server.note = "an attribute"
    asked = gevent.spawn(
        call,
        machine,
        Named("later", lambda kind, data: KeepStateAndData(Postpone() if data[-1][2] == "first" else
                                                           ReplyTo(kind, "came"))),
    )  # fmt: skip
    until(lambda: get_state(machine)[1])
    change_code(machine, New)
    assert get_state(machine) == (("first", 1), [("changed", 1, "first")])
    assert system.whereis("one") == machine
    assert machine._process.server.note == "an attribute"  # type: ignore[attr-defined]
    cast(machine, Named("go", lambda kind, data: NextState("second", data)))
    assert asked.get(timeout=5) == "came"
    until(lambda: (("timeout", "n"), "kept", "second") in get_state(machine)[1])
    assert ("enter", ("first", 1), "second") in get_state(machine)[1]


def test_a_change_of_code_may_change_the_callback_mode(system: System) -> None:
    line = Line.start(system=system)
    assert call(line, "mode") is True
    change_code(line, LineByEvents)
    assert call(line, "mode") is False
    use(line, call)


def test_a_change_of_code_that_fails_leaves_the_old_class_and_its_timeouts(system: System) -> None:
    class Broken(Line):
        def code_change(self, old_version: object, state: Any, data: Any) -> Any:
            raise ValueError("no way")

    class Odd(Line):
        def code_change(self, old_version: object, state: Any, data: Any) -> Any:
            return "odd"

    class Lost(Line):
        def code_change(self, old_version: object, state: Any, data: Any) -> Any:
            return "nowhere", data

    line = Line.start(system=system)
    with pytest.raises(ValueError, match="no way"):
        change_code(line, Broken)
    with pytest.raises(BadReturn, match=r"Odd.code_change returned 'odd'; accepted is the tuple"):
        change_code(line, Odd)
    with pytest.raises(BadReturn, match="'nowhere' is no state of Lost"):
        change_code(line, Lost)
    assert type(line._process.server) is Line
    use(line, call)


def test_a_machine_and_a_plain_server_can_not_take_each_others_place(system: System) -> None:
    line, puppet = Line.start(system=system), Puppet.start(system=system)
    with pytest.raises(SpecError, match="a StateMachine class, as the one before"):
        change_code(line, GenServer)
    with pytest.raises(SpecError, match="a GenServer class that is no StateMachine"):
        change_code(puppet, Line)
    assert call(line, "alive?") == "yes"
    assert call(puppet, seen) == []


def test_infos_from_send_and_send_after_come_as_infos(system: System) -> None:
    machine = Recorder.start(system=system)
    send(machine, "now")
    system.send_after(0.001, machine, "later")
    until(lambda: len(get_state(machine)[1]) == 2)
    assert call(machine, "seen") == [("info", "now", "first"), ("info", "later", "first")]


def test_a_machine_can_be_stopped_while_it_waits_for_nothing_but_itself(system: System) -> None:
    machine = Table.start(
        {"a": lambda kind, *_: StopAndReply("normal", ReplyTo(kind, 1))}, "a", system=system
    )
    assert call(machine, "go") == 1
    until(lambda: machine not in system.processes())
