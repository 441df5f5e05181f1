"""Supervisors through whole lives: what OTP's and Elixir's own suites ask of them beyond the single rules."""

from __future__ import annotations

import itertools
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    AlreadyPresent,
    ChildRestarting,
    ChildSpec,
    GenServer,
    NameTaken,
    Ref,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    call,
    cast,
    get_status,
    kill,
    monitor,
    stop,
    unlink,
)
from tests.otp.actors import Puppet, crash, failure_of, until
from tests.otp.supervision.test_supervisor import Journal, fall, ids, journals, settle

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
RESTARTS = ("permanent", "transient", "temporary")


def names(tree: Ref) -> list[Any]:
    return [line.id for line in Supervisor.which_children(tree)]


# ---- starting ---------------------------------------------------------------------------------------------------------


class Moody(Supervisor):
    def children(self, mood: Any) -> Any:
        if isinstance(mood, BaseException):
            raise mood
        return mood


def test_a_supervisor_may_ignore_and_leaves_nothing(system: System) -> None:
    assert Moody.start(IGNORE, name="moody", system=system) is None
    assert system.processes() == []
    assert system.names() == []


def test_an_ignored_supervisor_keeps_its_spec_in_the_one_above(system: System) -> None:
    tree = Supervisor.start([Moody.child(IGNORE, id="moody")], system=system)
    assert ids(tree) == {"moody": "undefined"}
    assert Supervisor.count_children(tree) == (1, 0, 1, 0)


def test_children_that_are_no_specifications_fail_the_start(system: System) -> None:
    with pytest.raises(StartFailed) as failed:
        Moody.start("invalid", name="moody", system=system)
    assert isinstance(failed.value.reason, SpecError)
    assert (system.processes(), system.names()) == ([], [])


def test_children_that_raise_fail_the_start_with_that_reason(system: System) -> None:
    fault = OSError("no file")
    with pytest.raises(StartFailed) as failed:
        Moody.start(fault, system=system)
    assert failed.value.reason is fault
    assert system.processes() == []


def test_a_temporary_child_that_ignores_leaves_no_spec_at_the_start(system: System) -> None:
    specs = [
        ChildSpec(Puppet, lambda s: IGNORE, id="a", restart="temporary"),
        *journals([], "b", restart="temporary"),
    ]
    tree = Supervisor.start(specs, system=system)
    assert ids(tree) == {"b": "running"}
    assert Supervisor.count_children(tree) == (1, 1, 0, 1)


@pytest.mark.parametrize(
    "start",
    [
        crash(OSError("reason")),
        crash(SystemExit("reason")),
        lambda: "no ref",
        lambda: failure_of(crash(StartFailed("x", "y"))),
    ],
)
def test_a_callable_that_starts_nobody_is_the_askers_error_and_leaves_no_spec(
    system: System, start: Any
) -> None:
    tree = Supervisor.start([], system=system)
    assert isinstance(failure_of(Supervisor.start_child, tree, ChildSpec(start, id="a")), StartFailed)
    assert ids(tree) == {}


def test_a_restart_by_request_that_fails_keeps_the_spec_undefined(system: System) -> None:
    broken: list[bool] = []
    tree = Supervisor.start([ChildSpec(Puppet, lambda s: 1 / 0 if broken else None, id="a")], system=system)
    Supervisor.terminate_child(tree, "a")
    broken.append(True)
    assert isinstance(failure_of(Supervisor.restart_child, tree, "a").reason, ZeroDivisionError)
    assert ids(tree) == {"a": "undefined"}


def test_a_child_whose_name_somebody_else_holds_does_not_start(system: System) -> None:
    holder = Puppet.start(name="registered", system=system)
    tree = Supervisor.start([], system=system)
    error = failure_of(
        Supervisor.start_child, tree, ChildSpec(Puppet, name="registered", restart="transient")
    )
    assert isinstance(error.reason, NameTaken)
    assert error.reason.holder == holder
    assert system.find("registered") == holder
    assert ids(tree) == {}


# ---- stopping ---------------------------------------------------------------------------------------------------------


def test_a_worker_may_have_infinity_and_a_supervisor_a_time(system: System) -> None:
    log: list[Any] = []
    specs = [
        ChildSpec(Journal, "worker", log, id="worker", shutdown="infinity"),
        Supervisor.child(journals(log, "a"), id="inner", shutdown=1.0),
    ]
    tree = Supervisor.start(specs, system=system)
    watches = [monitor(line.ref) for line in Supervisor.which_children(tree)]
    stop(tree, "shutdown")
    assert [watch.wait(5).reason for watch in watches] == ["shutdown", "shutdown"]


def test_a_shutdown_goes_through_while_children_end_by_themselves(system: System) -> None:
    """Each ends for a reason of its own while the last child takes its time; none is restarted, the rest stops."""
    log: list[Any] = []
    gate = Event()

    class Slow(Puppet):
        def terminate(self, reason: object) -> None:
            gate.wait()

    specs = journals(log, "a", restart="temporary")
    reasons = list(itertools.product(RESTARTS, ("normal", "shutdown", ("shutdown", "x"), "odd")))
    for restart, reason in reasons:
        specs.append(ChildSpec(Puppet, id=(restart, reason), restart=restart))
    specs.append(ChildSpec(Slow, id="z", restart="temporary"))
    tree = Supervisor.start(specs, system=system)
    lines = {line.id: line.ref for line in Supervisor.which_children(tree)}
    watches = {id: monitor(ref) for id, ref in lines.items()}
    stopping = gevent.spawn(stop, tree, "shutdown")
    until(lambda: get_current(system, lines["z"]) == "shutdown")
    for id in reasons:
        cast(lines[id], lambda server, reason=id[1]: Stop(reason))
    until(lambda: all(watches[id].wait(0) for id in reasons))
    gate.set()
    stopping.get(timeout=5)
    assert {id: watches[id].wait(0).reason for id in reasons} == {id: id[1] for id in reasons}
    assert watches["z"].wait(0).reason == "shutdown"
    assert log == ["+a", "-a"]


def get_current(system: System, ref: Ref) -> Any:
    return getattr(ref._process.current, "message", None)


def test_a_child_that_is_linked_or_unlinked_from_its_supervisor_is_stopped_all_the_same(
    system: System,
) -> None:
    class Naughty(GenServer):
        def init(self, supervisor: list[Ref]) -> None:
            unlink(supervisor[0])

    tree = Supervisor.start([], system=system)
    Supervisor.start_child(tree, ChildSpec(Naughty, [tree], name="naughty"))
    system.send(tree, "foo")
    Supervisor.terminate_child(tree, "naughty")
    assert system.processes() == [tree]


def test_terminating_one_that_does_not_run_succeeds(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    Supervisor.terminate_child(tree, "a")
    Supervisor.terminate_child(tree, "a")
    assert ids(tree) == {"a": "undefined"}


def test_a_ref_is_no_id_of_a_supervisors_child(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    assert failure_of(Supervisor.terminate_child, tree, system.find("a")).reason == "not_found"
    assert ids(tree) == {"a": "running"}


# ---- restarting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", RESTARTS)
@pytest.mark.parametrize("reason", ["normal", "shutdown", ("shutdown", "info"), "odd", "killed"])
def test_what_is_counted_after_an_end(system: System, restart: Any, reason: Any) -> None:
    tree = Supervisor.start(journals([], "a", restart=restart), system=system)
    before = system.find("a")
    fall(system, "a", None if reason == "killed" else Stop(reason))
    back = restart == "permanent" or (restart == "transient" and reason in ("odd", "killed"))
    specs = 0 if restart == "temporary" else 1
    assert Supervisor.count_children(tree) == (specs, int(back), 0, specs)
    if back:
        assert system.find("a") != before


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_child_that_never_comes_back_ends_the_supervisor_whatever_its_strategy(
    system: System, strategy: Any
) -> None:
    log: list[Any] = []
    broken: list[bool] = []

    def begin(server: Any) -> None:
        if broken:
            raise OSError("broken")

    specs = [*journals(log, "a"), ChildSpec(Journal, "b", log, begin, id="b", name="b"), *journals(log, "c")]
    tree = Supervisor.start(specs, strategy=strategy, max_restarts=4, system=system)
    watch = monitor(tree)
    broken.append(True)
    kill(system.find("b"))
    assert watch.wait(5).reason == "shutdown"
    assert log.count("+b") == 1 + 4
    assert system.processes() == []


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_temporary_bystanders_are_stopped_and_forgotten(system: System, strategy: Any) -> None:
    specs = [*journals([], "a"), *journals([], "b", restart="temporary")]
    tree = Supervisor.start(specs, strategy=strategy, max_restarts=2, system=system)
    fall(system, "a", Stop("normal"))
    assert ids(tree) == {"a": "running"}
    assert system.whereis("b") is None


def test_one_for_all_stops_who_came_back_when_another_does_not(system: System) -> None:
    log: list[Any] = []
    fail = [False, True, False]
    specs = [
        *journals(log, "a"),
        ChildSpec(Journal, "b", log, lambda s: Stop("normal") if fail.pop(0) else None, id="b", name="b"),
    ]
    tree = Supervisor.start(specs, strategy="one_for_all", system=system)
    kill(system.find("a"))
    until(lambda: not fail)
    settle(system)
    assert log == ["+a", "+b", "-b", "+a", "+b", "-a", "+a", "+b"]
    assert ids(tree) == {"a": "running", "b": "running"}


def test_rest_for_one_leaves_who_came_back_when_a_later_one_does_not(system: System) -> None:
    log: list[Any] = []
    fail = [False, True, False]
    specs = [
        *journals(log, "a"),
        ChildSpec(Journal, "b", log, lambda s: Stop("normal") if fail.pop(0) else None, id="b", name="b"),
        *journals(log, "c"),
    ]
    tree = Supervisor.start(specs, strategy="rest_for_one", system=system)
    kill(system.find("a"))
    until(lambda: not fail)
    settle(system)
    assert log == ["+a", "+b", "+c", "-c", "-b", "+a", "+b", "+b", "+c"]
    assert set(ids(tree).values()) == {"running"}


def test_rest_for_one_stops_in_reverse_and_starts_in_order(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "73A25"), strategy="rest_for_one", system=system)
    log.clear()
    fall(system, "A")
    assert log == ["-5", "-2", "+A", "+2", "+5"]
    log.clear()
    stop(tree, "shutdown")
    assert log == ["-5", "-2", "-A", "-3", "-7"]


class Loop:
    """A child that can be made to fail at every start, slowly enough to look at the supervisor meanwhile."""

    def __init__(self) -> None:
        self.broken = False
        self.starts = 0

    def begin(self, server: Any) -> None:
        self.starts += 1
        if self.broken:
            gevent.sleep(0.005)
            raise OSError("broken")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_supervisor_can_be_asked_while_a_child_fails_to_come_back_again_and_again(
    system: System, strategy: Any
) -> None:
    loop = Loop()
    spec = ChildSpec(Puppet, loop.begin, id="b", name="b", shutdown="brutal_kill")
    specs = [*journals([], "a"), spec, *journals([], "c")]
    tree = Supervisor.start(specs, strategy=strategy, max_restarts=10_000, system=system)
    loop.broken = True
    kill(system.find("b"))
    until(lambda: loop.starts > 2)
    assert isinstance(failure_of(Supervisor.start_child, tree, spec), AlreadyPresent)
    assert isinstance(failure_of(Supervisor.restart_child, tree, "b"), ChildRestarting)
    assert isinstance(failure_of(Supervisor.delete_child, tree, "b"), ChildRestarting)
    others = {"one_for_one": ("running", "running"), "rest_for_one": ("running", "undefined")}
    first, last = others.get(strategy, ("running", "undefined"))
    assert ids(tree) == {"a": first, "b": "restarting", "c": last}
    assert Supervisor.count_children(tree).specs == 3
    Supervisor.terminate_child(tree, "b")
    assert Supervisor.which_child(tree, "b").status == "undefined"
    starts = loop.starts
    gevent.sleep(0.02)
    assert loop.starts == starts, "the loop is over"
    loop.broken = False
    assert Supervisor.restart_child(tree, "b") == system.find("b")
    loop.broken = True
    kill(system.find("b"))
    until(lambda: loop.starts > starts + 2)
    stop(tree, "shutdown")
    assert system.processes() == []


# ---- temporary children leave nothing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", ["kill", "normal", "odd", "supervisor"])
def test_only_the_specs_of_temporary_children_are_not_kept(system: System, strategy: Any, how: str) -> None:
    tree = Supervisor.start([], strategy=strategy, max_restarts=9, system=system)
    for restart in RESTARTS:
        spec = ChildSpec(Puppet, id=restart, name=restart, restart=restart)
        Supervisor.start_child(tree, spec)
        if how == "supervisor":
            Supervisor.terminate_child(tree, restart)
        else:
            fall(system, restart, None if how == "kill" else Stop(how))
        if restart == "temporary":
            assert Supervisor.start_child(tree, spec) is not None
            continue
        stays_down = how == "supervisor" or (how == "normal" and restart == "transient")
        refused = failure_of(Supervisor.start_child, tree, spec)
        assert refused.reason == ("already_present" if stays_down else "already_started")


def test_the_arguments_of_temporary_children_are_not_kept(system: System) -> None:
    tree = Supervisor.start([], system=system)
    log: list[Any] = []
    for restart in RESTARTS:
        Supervisor.start_child(tree, ChildSpec(Journal, "large", log, id=restart, restart=restart))
    kept = {restart: Supervisor.get_childspec(tree, restart).arguments for restart in RESTARTS}
    assert kept == {"permanent": ("large", log), "transient": ("large", log), "temporary": ()}
    assert log == ["+large"] * 3
    given = ChildSpec(Journal, "large", log, id="x", restart="temporary", shutdown=2, start_timeout=None)
    Supervisor.start_child(tree, given)
    read = Supervisor.get_childspec(tree, "x")
    assert given.arguments == ("large", log), "the one that was given is not changed"
    for field in ChildSpec.__slots__:
        if field not in ("arguments", "options"):
            assert getattr(read, field) == getattr(given, field)


# ---- trees ------------------------------------------------------------------------------------------------------------


def test_a_tree_restarts_its_subtrees_without_their_dynamic_children(system: System) -> None:
    broken: list[bool] = []

    def begin(server: Any) -> None:
        if broken:
            raise OSError("broken")

    specs = [
        Supervisor.child(journals([], "12"), id="sup1", max_restarts=4, max_seconds=3600),
        Supervisor.child([], id="sup2", max_restarts=4, max_seconds=3600),
        Supervisor.child([], id="sup3", max_restarts=4, max_seconds=3600, restart="transient"),
    ]
    top = Supervisor.start(specs, strategy="one_for_all", max_restarts=4, max_seconds=3600, system=system)
    Supervisor.terminate_child(top, "sup3")
    assert Supervisor.count_children(top) == (3, 2, 3, 0)
    first, second = (Supervisor.which_child(top, id).ref for id in ("sup1", "sup2"))
    Supervisor.start_child(second, ChildSpec(Puppet, begin, name="3"))
    Supervisor.start_child(second, ChildSpec(Puppet, name="4"))
    before = {name: system.find(name) for name in "1234"}
    fall(system, "4")
    assert {name for name in "1234" if system.find(name) != before[name]} == {"4"}
    broken.append(True)
    kill(system.find("3"))
    until(lambda: second not in system.processes() and Supervisor.count_children(top).active == 3)
    assert Supervisor.count_children(top) == (3, 3, 3, 0)
    again = {line.id: line.ref for line in Supervisor.which_children(top)}
    assert first not in system.processes()
    assert names(again["sup1"]) == ["1", "2"]
    assert names(again["sup2"]) == names(again["sup3"]) == []


@pytest.mark.parametrize(
    "how", ["kill the supervisor", "kill the worker", "stop the worker", "restart the worker"]
)
def test_names_below_are_held_again_whatever_ended(system: System, how: str) -> None:
    inner = Supervisor.child([ChildSpec(Puppet, name="server")], name="sup2", strategy="one_for_all")
    top = Supervisor.start([inner], strategy="one_for_all", system=system)
    supervisor, server = system.find("sup2"), system.find("server")
    match how:
        case "kill the supervisor":
            kill(supervisor)
        case "kill the worker":
            kill(server)
        case "stop the worker":
            stop(server)
        case _:
            Supervisor.terminate_child(supervisor, "server")
            Supervisor.restart_child(supervisor, "server")
    until(lambda: system.whereis("server") not in (None, server))
    assert (system.find("sup2") != supervisor) is (how == "kill the supervisor")
    kill(top)
    until(lambda: system.names() == [])


def test_the_status_of_a_supervisor_names_its_class(system: System) -> None:
    assert get_status(Moody.start([], system=system)).server == "Moody"


def test_many_children_come_and_go(system: System) -> None:
    tree = Supervisor.start([], system=system)
    for number in range(3000):
        Supervisor.start_child(tree, ChildSpec(Puppet, id=number))
    assert Supervisor.count_children(tree) == (3000, 3000, 0, 3000)
    for number in range(3000):
        Supervisor.terminate_child(tree, number)
    assert Supervisor.count_children(tree) == (3000, 0, 0, 3000)


# ---- Elixir's walk through a life -------------------------------------------------------------------------------------


def test_the_life_of_a_child(system: System) -> None:
    tree = Supervisor.start([], system=system)
    assert Supervisor.which_children(tree) == []
    assert Supervisor.count_children(tree) == (0, 0, 0, 0)
    ref = Supervisor.start_child(tree, ChildSpec(Puppet, id="stack"))
    assert call(ref, "hello") == "hello"
    assert Supervisor.which_children(tree) == [("stack", ref, "worker", "running")]
    assert Supervisor.count_children(tree) == (1, 1, 0, 1)
    assert failure_of(Supervisor.delete_child, tree, "stack").reason == "running"
    Supervisor.terminate_child(tree, "stack")
    again = Supervisor.restart_child(tree, "stack")
    assert call(again, "hello") == "hello"
    Supervisor.terminate_child(tree, "stack")
    Supervisor.delete_child(tree, "stack")
    assert Supervisor.count_children(tree) == (0, 0, 0, 0)
    stop(tree)


def test_a_child_by_name_is_there_again_after_it_stopped(system: System) -> None:
    tree = Supervisor.start([ChildSpec(Puppet, name="stack")], name="my_sup", system=system)
    assert Supervisor.which_children(system.find("my_sup")) == [
        ("stack", system.find("stack"), "worker", "running")
    ]
    before = system.find("stack")
    assert system.call("stack", lambda server, caller: Stop("normal", reply="bye")) == "bye"
    until(lambda: system.whereis("stack") not in (None, before))
    assert system.call("stack", "hello") == "hello"
    stop(tree)


def test_a_class_makes_the_spec_of_a_child(system: System) -> None:
    made = Moody.child([], id="id", restart="temporary", shutdown=3)
    assert (made.id, made.restart, made.shutdown, made.type) == ("id", "temporary", 3, "supervisor")
    plain = ChildSpec(Puppet, "argument")
    assert (plain.id, plain.start, plain.arguments, plain.type) == ("Puppet", Puppet, ("argument",), "worker")
