"""otp.md, "Supervisor": children at run time, their errors, checked specifications; dynamic supervisors."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    AlreadyPresent,
    AlreadyStarted,
    Backoff,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    DynamicSupervisor,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    TooManyChildren,
    call,
    cast,
    kill,
    monitor,
    stop,
)
from tests.otp.actors import Puppet, crash, until
from tests.otp.supervision.test_supervisor import Journal, fall, ids, journals, settle

# ---- requests to a supervisor ------------------------------------------------------------------------------------------


def test_start_child_adds_one(system: System) -> None:
    tree = Supervisor.start([], system=system)
    ref = Supervisor.start_child(tree, ChildSpec(Puppet, name="new"))
    assert system.whereis("new") == ref
    fall(system, "new")
    assert system.whereis("new") not in (None, ref)


def test_start_child_of_a_running_id_is_already_started(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    with pytest.raises(AlreadyStarted) as refused:
        Supervisor.start_child(tree, ChildSpec(Puppet, id="a"))
    assert refused.value.ref == system.find("a")


def test_start_child_of_a_stopped_id_is_already_present(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    Supervisor.terminate_child(tree, "a")
    with pytest.raises(AlreadyPresent):
        Supervisor.start_child(tree, ChildSpec(Puppet, id="a"))


def test_start_child_that_fails_keeps_no_spec(system: System) -> None:
    tree = Supervisor.start([], system=system)
    with pytest.raises(StartFailed):
        Supervisor.start_child(tree, ChildSpec(Puppet, crash(OSError("no")), id="a"))
    assert ids(tree) == {}


def test_start_child_that_ignores_keeps_its_spec_unless_temporary(system: System) -> None:
    tree = Supervisor.start([], system=system)
    assert Supervisor.start_child(tree, ChildSpec(Puppet, lambda s: IGNORE, id="kept")) is None
    spec = ChildSpec(Puppet, lambda s: IGNORE, id="gone", restart="temporary")
    assert Supervisor.start_child(tree, spec) is None
    assert ids(tree) == {"kept": "undefined"}


def test_terminate_child_keeps_the_spec_and_is_not_restarted(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "ab"), system=system)
    Supervisor.terminate_child(tree, "a")
    settle(system)
    assert log == ["+a", "+b", "-a"]
    assert ids(tree) == {"a": "undefined", "b": "running"}
    Supervisor.terminate_child(tree, "a")


def test_terminate_child_of_a_temporary_one_drops_its_spec(system: System) -> None:
    tree = Supervisor.start(journals([], "a", restart="temporary"), system=system)
    Supervisor.terminate_child(tree, "a")
    assert ids(tree) == {}


def test_restart_child_starts_a_stopped_one(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    Supervisor.terminate_child(tree, "a")
    assert Supervisor.restart_child(tree, "a") == system.find("a")


def test_restart_child_of_a_running_one_is_refused(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    with pytest.raises(ChildRunning):
        Supervisor.restart_child(tree, "a")


def test_restart_and_delete_of_one_being_restarted_are_refused(system: System) -> None:
    tree = Supervisor.start(journals([], "a", backoff=Backoff(60)), system=system)
    fall(system, "a")
    with pytest.raises(ChildRestarting):
        Supervisor.restart_child(tree, "a")
    with pytest.raises(ChildRestarting):
        Supervisor.delete_child(tree, "a")


def test_delete_child_drops_the_spec_of_a_stopped_one_only(system: System) -> None:
    tree = Supervisor.start(journals([], "a"), system=system)
    with pytest.raises(ChildRunning):
        Supervisor.delete_child(tree, "a")
    Supervisor.terminate_child(tree, "a")
    Supervisor.delete_child(tree, "a")
    assert ids(tree) == {}


@pytest.mark.parametrize("request_of", ["terminate_child", "restart_child", "delete_child"])
def test_an_unknown_child_is_not_found(system: System, request_of: str) -> None:
    tree = Supervisor.start([], system=system)
    with pytest.raises(ChildNotFound) as refused:
        getattr(Supervisor, request_of)(tree, "nobody")
    assert refused.value.reason == "not_found"


def test_which_and_count_children(system: System) -> None:
    inner = Supervisor.child([], id="inner")
    tree = Supervisor.start([*journals([], "ab"), inner], system=system)
    Supervisor.terminate_child(tree, "b")
    assert [(line.id, line.type, line.status) for line in Supervisor.which_children(tree)] == [
        ("a", "worker", "running"),
        ("b", "worker", "undefined"),
        ("inner", "supervisor", "running"),
    ]
    assert Supervisor.count_children(tree) == (3, 2, 1, 2)


# ---- specifications --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "make"),
    [
        ("start", lambda: ChildSpec("Puppet")),
        ("start", lambda: ChildSpec(int)),
        ("restart", lambda: ChildSpec(Puppet, restart="always")),
        ("shutdown", lambda: ChildSpec(Puppet, shutdown="soon")),
        ("shutdown", lambda: ChildSpec(Puppet, shutdown=-1)),
        ("significant", lambda: ChildSpec(Puppet, significant="yes")),
        ("significant", lambda: ChildSpec(Puppet, significant=True)),
        ("start_timeout", lambda: ChildSpec(Puppet, start_timeout=0)),
        ("name", lambda: ChildSpec(Puppet, name="")),
        ("id", lambda: ChildSpec(Puppet, id=[])),
        ("backoff", lambda: ChildSpec(Puppet, backoff=1.0)),
        ("backoff.factor", lambda: Backoff(factor=0.5)),
        ("strategy", lambda: Supervisor.child([], strategy="one_for_two")),
        ("max_restarts", lambda: Supervisor.child([], max_restarts=-1)),
        ("max_seconds", lambda: Supervisor.child([], max_seconds=0)),
        ("auto_shutdown", lambda: Supervisor.child([], auto_shutdown="always")),
        ("child", lambda: Supervisor.child([Puppet])),
        ("children", lambda: Supervisor.child(None)),
        ("id", lambda: Supervisor.child([ChildSpec(Puppet), ChildSpec(Puppet)])),
        ("significant", lambda: Supervisor.child([ChildSpec(Puppet, restart="transient", significant=True)])),
        ("max_children", lambda: DynamicSupervisor.child(max_children=-1)),
    ],
)
def test_a_wrong_specification_names_the_field_before_anything_starts(field: str, make: Any) -> None:
    with pytest.raises(SpecError) as wrong:
        make()
    assert wrong.value.field == field
    assert f"{field}: given " in str(wrong.value)
    assert "accepted is" in str(wrong.value)


def test_nothing_is_started_when_one_specification_is_wrong(system: System) -> None:
    log: list[Any] = []
    with pytest.raises(SpecError):
        Supervisor.start([*journals(log, "a"), "b"], system=system)
    assert log == []


def test_a_wrong_spec_at_run_time_is_the_askers_error(system: System) -> None:
    tree = Supervisor.start([], system=system)
    with pytest.raises(SpecError):
        Supervisor.start_child(tree, "no spec")
    assert ids(tree) == {}


# ---- dynamic ---------------------------------------------------------------------------------------------------------


def test_a_dynamic_supervisor_starts_children_with_a_spec_each(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    first = DynamicSupervisor.start_child(tree, ChildSpec(Puppet))
    second = DynamicSupervisor.start_child(tree, ChildSpec(Puppet))
    assert [line.ref for line in DynamicSupervisor.which_children(tree)] == [first, second]
    assert DynamicSupervisor.count_children(tree) == (2, 2, 0, 2)


def test_a_dynamic_supervisor_has_at_most_max_children(system: System) -> None:
    tree = DynamicSupervisor.start(max_children=1, system=system)
    first = DynamicSupervisor.start_child(tree, ChildSpec(Puppet))
    with pytest.raises(TooManyChildren):
        DynamicSupervisor.start_child(tree, ChildSpec(Puppet))
    DynamicSupervisor.terminate_child(tree, first)
    assert DynamicSupervisor.start_child(tree, ChildSpec(Puppet)) is not None


def test_extra_arguments_come_before_a_childs_own(system: System) -> None:
    log: list[Any] = []
    tree = DynamicSupervisor.start(extra_arguments=("extra",), system=system)
    DynamicSupervisor.start_child(tree, ChildSpec(Journal, log))
    assert log == ["+extra"]


def test_a_restart_changes_the_ref_and_the_old_one_reaches_nobody(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    old = DynamicSupervisor.start_child(tree, ChildSpec(Puppet, name="one"))
    kill(old)
    until(lambda: system.whereis("one") and system.whereis("one") != old)
    (line,) = DynamicSupervisor.which_children(tree)
    assert line.ref == system.find("one")
    with pytest.raises(ChildNotFound):
        DynamicSupervisor.terminate_child(tree, old)


@pytest.mark.parametrize(
    ("restart", "end"), [("temporary", "odd"), ("transient", "normal"), ("transient", "shutdown")]
)
def test_a_dynamic_supervisor_forgets_finished_children(system: System, restart: Any, end: str) -> None:
    tree = DynamicSupervisor.start(system=system)
    ref = DynamicSupervisor.start_child(tree, ChildSpec(Puppet, restart=restart))
    cast(ref, lambda server: Stop(end))
    until(lambda: DynamicSupervisor.count_children(tree).specs == 0)


def test_a_dynamic_supervisor_forgets_who_ignored_or_failed(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    assert DynamicSupervisor.start_child(tree, ChildSpec(Puppet, lambda s: IGNORE)) is None
    with pytest.raises(StartFailed):
        DynamicSupervisor.start_child(tree, ChildSpec(Puppet, crash(OSError("no"))))
    assert DynamicSupervisor.count_children(tree).specs == 0


def test_a_dynamic_supervisor_refuses_significant(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    with pytest.raises(SpecError, match="significant"):
        DynamicSupervisor.start_child(tree, ChildSpec(Puppet, restart="transient", significant=True))


def test_a_dynamic_supervisor_gives_up_past_its_intensity(system: System) -> None:
    tree = DynamicSupervisor.start(max_restarts=1, system=system)
    watch = monitor(tree)
    for _ in range(2):
        DynamicSupervisor.start_child(tree, ChildSpec(Puppet))
    for line in DynamicSupervisor.which_children(tree):
        kill(line.ref)
    assert watch.wait(5).reason == "shutdown"
    assert system.processes() == []


def test_a_dynamic_child_that_fails_to_come_back_is_tried_again(system: System) -> None:
    starts: list[int] = []

    def begin(server: Any) -> None:
        starts.append(1)
        if len(starts) in (2, 3):
            raise OSError("not yet")

    tree = DynamicSupervisor.start(max_restarts=9, system=system)
    ref = DynamicSupervisor.start_child(tree, ChildSpec(Puppet, begin, name="late"))
    kill(ref)
    until(lambda: system.whereis("late"))
    assert len(starts) == 4


def test_a_dynamic_backoff_is_shown_and_cancelled_by_terminate(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    ref = DynamicSupervisor.start_child(tree, ChildSpec(Puppet, backoff=Backoff(60)))
    kill(ref)
    settle(system)
    (line,) = DynamicSupervisor.which_children(tree)
    assert (line.ref, line.status) == (None, "backoff")
    alarm = tree._process.server.list_children()[0].alarm
    DynamicSupervisor.terminate_child(tree, ref)
    assert DynamicSupervisor.count_children(tree).specs == 0
    assert not alarm.waiting


def test_a_dynamic_supervisor_stops_all_children_at_once(system: System) -> None:
    gate = Event()
    tree = DynamicSupervisor.start(system=system)
    ending: list[int] = []

    class Slow(Puppet):
        def terminate(self, reason: object) -> None:
            ending.append(1)
            gate.wait()

    for _ in range(5):
        DynamicSupervisor.start_child(tree, ChildSpec(Slow, shutdown="infinity"))
    stopping = gevent.spawn(stop, tree)
    until(lambda: len(ending) == 5)
    gate.set()
    stopping.get(timeout=5)
    assert system.processes() == []


def test_a_dynamic_child_may_be_a_supervisor(system: System) -> None:
    tree = DynamicSupervisor.start(system=system)
    inner = Supervisor.child(journals([], "ab"), id="inner", restart="temporary", max_restarts=0)
    ref = DynamicSupervisor.start_child(tree, inner)
    watch = monitor(ref)
    kill(system.find("a"))
    assert watch.wait(5).reason == "shutdown"
    until(lambda: DynamicSupervisor.count_children(tree).specs == 0)
    assert system.processes() == [tree]


def test_a_dynamic_supervisor_is_a_child(system: System) -> None:
    Supervisor.start([DynamicSupervisor.child(name="pool", max_children=2)], system=system)
    ref = DynamicSupervisor.start_child(system.find("pool"), ChildSpec(Puppet))
    assert call(ref, "alive") == "alive"
    fall(system, "pool")
    assert DynamicSupervisor.count_children(system.find("pool")).specs == 0
    assert ref not in system.processes()
