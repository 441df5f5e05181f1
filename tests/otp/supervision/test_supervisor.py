"""otp.md, "Supervisor": start, stop, strategies, intensity, shutdown, significance."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    Backoff,
    CallFailed,
    ChildSpec,
    Clock,
    GenServer,
    Ref,
    StartFailed,
    Stop,
    Supervisor,
    System,
    call,
    cast,
    exit_signal,
    kill,
    monitor,
    stop,
)
from tests.otp.actors import Puppet, crash, until


class Journal(Puppet):
    """Writes its start and its end into a list."""

    def init(self, name: str, log: list[Any], begin: Any = None) -> Any:
        self.seen = []
        self.name, self.log = name, log
        log.append(f"+{name}")
        return begin(self) if begin is not None else None

    def terminate(self, reason: object) -> None:
        self.log.append(f"-{self.name}")


def journals(log: list[Any], names: str = "abc", **options: Any) -> list[ChildSpec]:
    return [ChildSpec(Journal, name, log, id=name, name=name, **options) for name in names]


def fall(system: System, name: str, how: Any = None) -> None:
    """Ends a child, and waits until its supervisor has judged that."""
    ref = system.find(name)
    if how is None:
        kill(ref)
    else:
        cast(ref, lambda server: how)
    until(lambda: ref not in system.processes())
    settle(system)


def settle(system: System) -> None:
    until(lambda: all(process.current is None for process in system.scheduler.processes.values()))


def ids(tree: Ref) -> dict[Any, str]:
    return {line.id: line.status for line in Supervisor.which_children(tree)}


# ---- start and stop --------------------------------------------------------------------------------------------------


def test_children_start_in_order_and_stop_in_reverse(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log), system=system)
    assert log == ["+a", "+b", "+c"]
    stop(tree, "shutdown")
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]


def test_if_one_fails_to_start_those_before_stop_in_reverse_and_the_supervisor_fails_with_its_reason(
    system: System,
) -> None:
    log: list[Any] = []
    fault = OSError("port in use")
    specs = [*journals(log, "ab"), ChildSpec(Journal, "c", log, crash(fault), id="c"), *journals(log, "d")]
    with pytest.raises(StartFailed, match=r"c.*port in use") as failed:
        Supervisor.start(specs, system=system)
    assert failed.value.reason is fault
    assert failed.value.path == ("c",)
    assert log == ["+a", "+b", "+c", "-b", "-a"]
    assert system.processes() == []


def test_a_child_deep_down_that_fails_is_named_by_its_path(system: System) -> None:
    fault = OSError("deep")
    inner = Supervisor.child([ChildSpec(Puppet, crash(fault), id="leaf")], id="inner")
    with pytest.raises(StartFailed) as failed:
        Supervisor.start([Supervisor.child([inner], id="middle")], system=system)
    assert failed.value.path == ("middle", "inner", "leaf")
    assert failed.value.reason is fault


def test_a_supervisor_is_a_child_of_another(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start([Supervisor.child(journals(log), id="inner"), *journals(log, "d")], system=system)
    (inner, _) = Supervisor.which_children(tree)
    assert inner.type == "supervisor"
    assert set(ids(inner.ref)) == {"a", "b", "c"}
    stop(tree)
    assert log[4:] == ["-d", "-c", "-b", "-a"]


def test_a_supervisor_class_defines_its_children_and_options(system: System) -> None:
    class Tree(Supervisor):
        strategy = "rest_for_one"

        def children(self, log: list[Any]) -> list[ChildSpec]:
            return journals(log, "ab")

    log: list[Any] = []
    Supervisor.start([ChildSpec(Tree, log)], system=system)
    fall(system, "a")
    assert log == ["+a", "+b", "-b", "+a", "+b"]


def test_a_callable_starts_a_child_itself(system: System) -> None:
    tree = Supervisor.start([ChildSpec(lambda: Puppet.start_link(name="own"), id="own")], system=system)
    first = system.find("own")
    fall(system, "own")
    assert system.find("own") != first
    stop(tree)
    assert system.processes() == []


def test_terminate_runs_on_a_supervisors_shutdown_whether_or_not_the_child_traps_exits(
    system: System,
) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "a"), system=system)
    stop(tree, "shutdown")
    assert log == ["+a", "-a"]


# ---- restart types ---------------------------------------------------------------------------------------------------

ENDS = {
    "normal": Stop("normal"),
    "shutdown": Stop("shutdown"),
    "shutdown with detail": Stop(("shutdown", "x")),
    "abnormal": Stop("odd"),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_who_comes_back(system: System, restart: Any, end: str) -> None:
    tree = Supervisor.start(journals([], "a", restart=restart), system=system)
    fall(system, "a", ENDS[end])
    comes_back = restart == "permanent" or (restart == "transient" and end == "abnormal")
    assert (system.whereis("a") is not None) is comes_back
    assert (
        ids(tree) == {}
        if restart == "temporary"
        else ids(tree) == {"a": "running" if comes_back else "undefined"}
    )


# ---- strategies ------------------------------------------------------------------------------------------------------


def test_one_for_one_restarts_only_the_one(system: System) -> None:
    log: list[Any] = []
    Supervisor.start(journals(log), strategy="one_for_one", system=system)
    fall(system, "b")
    assert log[3:] == ["+b"]


def test_one_for_all_stops_the_others_in_reverse_and_starts_all_in_order(system: System) -> None:
    log: list[Any] = []
    Supervisor.start(journals(log), strategy="one_for_all", system=system)
    fall(system, "b")
    assert log[3:] == ["-c", "-a", "+a", "+b", "+c"]


def test_rest_for_one_restarts_only_later_children(system: System) -> None:
    log: list[Any] = []
    Supervisor.start(journals(log), strategy="rest_for_one", system=system)
    fall(system, "b")
    assert log[3:] == ["-c", "+b", "+c"]


def test_one_for_all_starts_finished_and_terminated_children_anew_too(system: System) -> None:
    log: list[Any] = []
    specs = [*journals(log, "ab", restart="transient"), *journals(log, "c")]
    tree = Supervisor.start(specs, strategy="one_for_all", system=system)
    fall(system, "a", Stop("normal"))
    Supervisor.terminate_child(tree, "b")
    fall(system, "c")
    assert set(ids(tree).values()) == {"running"}


def test_one_for_all_does_not_start_temporary_children_anew_and_forgets_them(system: System) -> None:
    log: list[Any] = []
    specs = [*journals(log, "a", restart="temporary"), *journals(log, "b")]
    tree = Supervisor.start(specs, strategy="one_for_all", system=system)
    fall(system, "b")
    assert ids(tree) == {"b": "running"}


def test_two_that_die_at_once_both_come_back(system: System) -> None:
    for strategy in ("one_for_one", "rest_for_one", "one_for_all"):
        tree = Supervisor.start(journals([]), strategy=strategy, system=system)
        kill(system.find("a"))
        kill(system.find("c"))
        until(lambda: system.whereis("a") and system.whereis("c"))
        settle(system)
        assert set(ids(tree).values()) == {"running"}
        stop(tree)


# ---- a child that does not come back ---------------------------------------------------------------------------------


def test_a_child_that_fails_to_come_back_is_tried_again_and_the_supervisor_answers_meanwhile(
    system: System,
) -> None:
    starts: list[int] = []
    answered: list[Any] = []
    tree_ref: list[Ref] = []

    def begin(server: Any) -> None:
        starts.append(len(starts))
        if 1 <= len(starts) - 1 < 4:
            if len(starts) == 2:
                gevent.spawn(
                    lambda: answered.append((len(starts), Supervisor.count_children(tree_ref[0]).specs))
                )
                gevent.idle()
            raise OSError("not yet")

    specs = [ChildSpec(Puppet, begin, name="late")]
    tree_ref.append(Supervisor.start(specs, max_restarts=10, system=system))
    kill(system.find("late"))
    until(lambda: len(starts) == 5)
    assert system.whereis("late") is not None
    until(lambda: answered)
    assert answered == [(2, 1)]


def test_a_child_that_never_comes_back_ends_the_supervisor_by_intensity(system: System) -> None:
    starts: list[int] = []

    def begin(server: Any) -> None:
        starts.append(1)
        if len(starts) > 1:
            raise OSError("never")

    tree = Supervisor.start([ChildSpec(Puppet, begin, name="late")], max_restarts=3, system=system)
    watch = monitor(tree)
    kill(system.find("late"))
    assert watch.wait(5).reason == "shutdown"
    assert len(starts) == 1 + 3


def test_a_supervisor_is_not_blocked_longer_than_a_childs_start_timeout(system: System) -> None:
    never = Event()
    tree = Supervisor.start([], system=system)
    with pytest.raises(StartFailed) as failed:
        Supervisor.start_child(tree, ChildSpec(Puppet, lambda s: never.wait() and None, start_timeout=0.01))
    assert failed.value.reason == "timeout"
    with pytest.raises(StartFailed) as failed:
        Supervisor.start_child(tree, ChildSpec(never.wait, id="callable", start_timeout=0.01))
    assert failed.value.reason == "timeout"
    assert ids(tree) == {}


# ---- intensity -------------------------------------------------------------------------------------------------------


def test_more_than_max_restarts_within_max_seconds_stops_the_supervisor_with_shutdown() -> None:
    now = [100.0]
    system = System("turned", Clock(monotonic=lambda: now[0]))
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "ab"), max_restarts=2, max_seconds=5.0, system=system)
    watch = monitor(tree)
    fall(system, "a")
    fall(system, "b")
    assert watch.wait(0) is None
    kill(system.find("a"))
    assert watch.wait(5).reason == "shutdown"
    assert system.processes() == []
    assert log[-1] == "-b"


def test_old_restarts_leave_the_window() -> None:
    now = [100.0]
    system = System("turned", Clock(monotonic=lambda: now[0]))
    tree = Supervisor.start(journals([], "a"), max_restarts=1, max_seconds=5.0, system=system)
    for _ in range(5):
        fall(system, "a")
        now[0] += 5.1
    assert ids(tree) == {"a": "running"}
    system.shutdown()


def test_intensity_escalates_to_the_supervisor_above(system: System) -> None:
    log: list[Any] = []
    inner = Supervisor.child(journals(log, "a"), id="inner", max_restarts=0)
    tree = Supervisor.start([inner, *journals(log, "b")], max_restarts=3, system=system)
    before = Supervisor.which_children(tree)[0].ref
    kill(system.find("a"))
    until(lambda: before not in system.processes() and system.whereis("a"))
    settle(system)
    assert Supervisor.which_children(tree)[0].ref != before
    assert log == ["+a", "+b", "+a"]


def test_a_transient_supervisor_that_gave_up_stays_down(system: System) -> None:
    inner = Supervisor.child(journals([], "a"), id="inner", max_restarts=0, restart="transient")
    tree = Supervisor.start([inner], system=system)
    kill(system.find("a"))
    until(lambda: ids(tree) == {"inner": "undefined"})


# ---- shutdown --------------------------------------------------------------------------------------------------------


def test_brutal_kill_runs_no_terminate(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "a", shutdown="brutal_kill"), system=system)
    stop(tree)
    assert log == ["+a"]


def test_a_child_that_takes_longer_than_its_shutdown_is_killed(system: System) -> None:
    never = Event()
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "ab", shutdown=0.01), system=system)
    cast(system.find("b"), lambda server: never.wait() and None)
    watch = monitor(system.find("b"))
    stop(tree)
    assert watch.wait(5).reason == "killed"
    assert log == ["+a", "+b", "-a"]


def test_a_child_with_infinity_is_waited_for(system: System) -> None:
    gate = Event()
    log: list[Any] = []
    tree = Supervisor.start(journals(log, "a", shutdown="infinity"), system=system)
    cast(system.find("a"), lambda server: gate.wait() and None)
    stopping = gevent.spawn(stop, tree)
    gevent.idle()
    assert not stopping.ready()
    gate.set()
    stopping.get(timeout=5)
    assert log == ["+a", "-a"]


def test_a_child_that_dies_while_it_is_being_stopped_is_not_restarted(system: System) -> None:
    log: list[Any] = []

    class Clumsy(Journal):
        def terminate(self, reason: object) -> None:
            raise OSError("at the end")

    tree = Supervisor.start([ChildSpec(Clumsy, "a", log, id="a")], system=system)
    Supervisor.terminate_child(tree, "a")
    settle(system)
    assert log == ["+a"]
    assert ids(tree) == {"a": "undefined"}


def test_a_killed_supervisor_takes_its_children_along(system: System) -> None:
    inner = Supervisor.child(journals([], "ab"), id="inner")
    tree = Supervisor.start([inner, *journals([], "c")], system=system)
    kill(tree)
    until(lambda: system.processes() == [])


def test_a_supervisor_stops_its_children_when_its_own_supervisor_shuts_it_down(system: System) -> None:
    log: list[Any] = []
    tree = Supervisor.start([Supervisor.child(journals(log), id="inner")], system=system)
    Supervisor.terminate_child(tree, "inner")
    assert log[3:] == ["-c", "-b", "-a"]


def test_supervisors_ignore_exit_signals_from_strangers(system: System) -> None:
    tree = Supervisor.start(journals([]), system=system)
    exit_signal(tree, "go away")
    settle(system)
    assert len(ids(tree)) == 3


# ---- significant children --------------------------------------------------------------------------------------------


def test_any_significant_child_that_ends_shuts_the_supervisor_down(system: System) -> None:
    log: list[Any] = []
    specs = [*journals(log, "a"), *journals(log, "bc", restart="transient", significant=True)]
    tree = Supervisor.start(specs, auto_shutdown="any_significant", system=system)
    watch = monitor(tree)
    cast(system.find("b"), lambda server: Stop("normal"))
    assert watch.wait(5).reason == "shutdown"
    assert log[-2:] == ["-c", "-a"]


def test_all_significant_children_have_to_end(system: System) -> None:
    specs = journals([], "ab", restart="transient", significant=True)
    tree = Supervisor.start([*specs, *journals([], "c")], auto_shutdown="all_significant", system=system)
    watch = monitor(tree)
    fall(system, "a", Stop("normal"))
    assert watch.wait(0) is None
    cast(system.find("b"), lambda server: Stop("normal"))
    assert watch.wait(5).reason == "shutdown"


def test_a_significant_child_that_is_restarted_shuts_nothing_down(system: System) -> None:
    specs = journals([], "a", restart="transient", significant=True)
    tree = Supervisor.start(specs, auto_shutdown="any_significant", system=system)
    fall(system, "a", Stop("odd"))
    assert ids(tree) == {"a": "running"}


def test_ordered_termination_of_a_significant_child_triggers_no_auto_shutdown(system: System) -> None:
    specs = journals([], "a", restart="transient", significant=True)
    tree = Supervisor.start(specs, auto_shutdown="any_significant", system=system)
    Supervisor.terminate_child(tree, "a")
    settle(system)
    assert ids(tree) == {"a": "undefined"}


# ---- backoff ---------------------------------------------------------------------------------------------------------


def test_a_restart_with_backoff_waits_and_shows_it(system: System) -> None:
    backoff = Backoff(0.02, jitter=0.0)
    tree = Supervisor.start(journals([], "a", backoff=backoff), system=system)
    fall(system, "a")
    assert ids(tree) == {"a": "backoff"}
    until(lambda: ids(tree) == {"a": "running"})


def test_terminate_cancels_a_backoff(system: System) -> None:
    tree = Supervisor.start(journals([], "a", backoff=Backoff(60.0)), system=system)
    fall(system, "a")
    alarm = tree._process.server.list_children()[0].alarm
    Supervisor.terminate_child(tree, "a")
    assert ids(tree) == {"a": "undefined"}
    assert not alarm.waiting
    assert Supervisor.restart_child(tree, "a") == system.find("a")


def test_a_backoff_grows_to_its_maximum_and_jitters_downwards() -> None:
    steady = Backoff(0.1, factor=2.0, maximum=0.5, jitter=0.0)
    assert [steady.wait(n) for n in (0, 1, 2, 3, 1000)] == [0.1, 0.2, 0.4, 0.5, 0.5]
    drawn = [Backoff(1.0, jitter=0.5).wait(0) for _ in range(50)]
    assert all(0.5 <= wait <= 1.0 for wait in drawn)


def test_a_backoff_begins_anew_after_a_time_of_health() -> None:
    now = [100.0]
    system = System("turned", Clock(monotonic=lambda: now[0]))
    backoff = Backoff(0.0, jitter=0.0, reset_after=10.0)
    tree = Supervisor.start(journals([], "a", backoff=backoff), max_restarts=9, system=system)
    child = tree._process.server.list_children()[0]
    for failures in (1, 2, 3):
        fall(system, "a")
        until(lambda: system.whereis("a"))
        assert child.failures == failures
    now[0] += 11.0
    fall(system, "a")
    until(lambda: system.whereis("a"))
    assert child.failures == 1
    system.shutdown()


# ---- requests --------------------------------------------------------------------------------------------------------


def test_a_child_that_calls_its_supervisor_from_init_is_told_of_the_cycle(system: System) -> None:
    def begin(server: Any) -> None:
        Supervisor.which_children(system.find("top"))

    with pytest.raises(StartFailed) as failed:
        Supervisor.start([ChildSpec(Puppet, begin)], name="top", system=system)
    assert isinstance(failed.value.reason, CallFailed)
    assert "itself" in str(failed.value.reason)


def test_ignored_children_are_kept_and_can_be_restarted(system: System) -> None:
    ready: list[int] = []

    class Shy(GenServer):
        def init(self) -> Any:
            return None if ready else IGNORE

    tree = Supervisor.start([ChildSpec(Shy)], system=system)
    ready.append(1)
    assert Supervisor.restart_child(tree, "Shy") in system.processes()
    assert call(tree, ("count_children",)).active == 1
