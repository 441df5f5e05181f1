"""Dynamic supervisors through whole lives: what Elixir's suite, and OTP's of simple_one_for_one, ask of them."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    IGNORE,
    AlreadyStarted,
    ChildNotFound,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    NoProcess,
    Ref,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    TooManyChildren,
    call,
    cast,
    exit_signal,
    kill,
    monitor,
    stop,
)
from tests.otp.actors import Puppet, Trapper, crash, failure_of, until
from tests.otp.supervision.test_supervisor import settle


def pool_of(system: System, **options: Any) -> Ref:
    return DynamicSupervisor.start(system=system, **options)


def add(pool: Ref, *arguments: Any, cls: Any = Puppet, **options: Any) -> Ref:
    ref = DynamicSupervisor.start_child(pool, ChildSpec(cls, *arguments, **options))
    assert ref is not None
    return ref


def end(system: System, ref: Ref, reason: object) -> None:
    """Ends one by an exit signal, and waits until that is judged."""
    exit_signal(ref, reason)
    until(lambda: ref not in system.processes())
    settle(system)


def lines(pool: Ref) -> list[tuple[Any, str]]:
    return [(line.id, line.status) for line in DynamicSupervisor.which_children(pool)]


# ---- starting ---------------------------------------------------------------------------------------------------------


def test_several_can_be_supervised_each_under_its_name(system: System) -> None:
    tree = Supervisor.start([DynamicSupervisor.child(name=name) for name in ("one", "two")], system=system)
    nameless = Supervisor.start_child(tree, DynamicSupervisor.child())
    for pool in (system.find("one"), system.find("two"), nameless):
        assert DynamicSupervisor.which_children(pool) == []
    again = failure_of(Supervisor.start_child, tree, DynamicSupervisor.child())
    assert isinstance(again, AlreadyStarted)
    assert again.ref == nameless


def test_a_spec_of_one_has_a_supervisors_defaults() -> None:
    plain = DynamicSupervisor.child()
    assert (plain.id, plain.type, plain.restart, plain.shutdown) == (
        "DynamicSupervisor",
        "supervisor",
        "permanent",
        "infinity",
    )
    assert plain.options == {
        "max_children": None,
        "max_restarts": 3,
        "max_seconds": 5.0,
        "extra_arguments": (),
    }
    own = DynamicSupervisor.child(id="id", restart="temporary", shutdown="infinity")
    assert (own.id, own.restart, own.shutdown) == ("id", "temporary", "infinity")


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("max_restarts", {"max_restarts": -1}),
        ("max_seconds", {"max_seconds": 0}),
        ("max_children", {"max_children": -1}),
        ("extra_arguments", {"extra_arguments": -1}),
    ],
)
def test_a_wrong_option_is_named_and_nothing_starts(
    system: System, field: str, options: dict[str, Any]
) -> None:
    with pytest.raises(SpecError) as refused:
        pool_of(system, **options)
    assert refused.value.field == field
    assert system.processes() == []


def test_a_registered_one_is_found_and_stopped_by_its_name(system: System) -> None:
    pool = pool_of(system, name="pool")
    assert system.find("pool") == pool
    system.stop_process("pool")
    assert system.names() == []


def test_a_child_that_does_not_start_is_the_askers_error(system: System) -> None:
    pool = pool_of(system)
    for start in (crash(OSError("found")), crash(SystemExit("oops")), lambda: "unknown"):
        assert isinstance(failure_of(DynamicSupervisor.start_child, pool, ChildSpec(start)), StartFailed)
    assert DynamicSupervisor.start_child(pool, ChildSpec(lambda: None)) is None
    ref = add(pool, cls=lambda: Puppet.start(system=system))
    assert lines(pool) == [("<lambda>", "running")]
    assert call(ref, "alive") == "alive"


def test_a_wrong_spec_is_the_askers_error(system: System) -> None:
    pool = pool_of(system)
    for wrong in ({}, ("a", "b"), Puppet, None):
        with pytest.raises(SpecError):
            DynamicSupervisor.start_child(pool, wrong)  # type: ignore[arg-type]
    assert lines(pool) == []


def test_max_children_of_none_at_all(system: System) -> None:
    refused = failure_of(DynamicSupervisor.start_child, pool_of(system, max_children=0), ChildSpec(Puppet))
    assert isinstance(refused, TooManyChildren)


# ---- restarting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "reason", "active"),
    [
        ("temporary", "shutdown", 0),
        ("temporary", "whatever", 0),
        ("transient", "shutdown", 0),
        ("transient", ("shutdown", "signal"), 0),
        ("transient", "whatever", 1),
        ("permanent", "shutdown", 1),
        ("permanent", ("shutdown", "signal"), 1),
        ("permanent", "whatever", 1),
    ],
)
def test_who_comes_back_and_who_is_forgotten(
    system: System, restart: Any, reason: object, active: int
) -> None:
    pool = pool_of(system)
    end(system, add(pool, restart=restart), reason)
    assert DynamicSupervisor.count_children(pool) == (active, active, 0, active)


def test_only_the_one_that_ended_is_started_again(system: System) -> None:
    pool = pool_of(system, max_restarts=2)
    first, second = add(pool, id="first"), add(pool, id="second")
    end(system, first, "odd")
    refs = [line.ref for line in DynamicSupervisor.which_children(pool)]
    assert second in refs
    assert first not in refs
    assert DynamicSupervisor.count_children(pool) == (2, 2, 0, 2)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
def test_one_that_ignores_when_it_is_started_again_is_forgotten(system: System, restart: Any) -> None:
    begins = [None, None, IGNORE]
    pool = pool_of(system, max_restarts=10)
    add(pool, lambda server: begins.pop(0), id="a", restart=restart)
    for left in (1, 0):
        (line,) = DynamicSupervisor.which_children(pool)
        end(system, line.ref, "kill")
        until(lambda: len(begins) == left)  # noqa: B023
    assert lines(pool) == []
    stop(pool, "shutdown")


def test_one_that_fails_to_come_back_counts_and_is_tried_again(system: System) -> None:
    fails = [False, True, False]
    told: list[bool] = []

    def begin(server: Any) -> None:
        failing = fails.pop(0)
        told.append(not failing)
        if failing:
            raise OSError("try again")

    pool = pool_of(system, max_restarts=2)
    ref = add(pool, begin, id="a")
    kill(ref)
    until(lambda: told == [True, False, True])
    settle(system)
    assert DynamicSupervisor.count_children(pool) == (1, 1, 0, 1)


@pytest.mark.parametrize("max_restarts", [1, 10])
def test_one_that_never_comes_back_ends_the_supervisor(system: System, max_restarts: int) -> None:
    starts: list[int] = []

    def begin(server: Any) -> None:
        starts.append(1)
        if len(starts) > 1:
            raise OSError("never")

    pool = pool_of(system, max_restarts=max_restarts)
    other = add(pool)
    ref = add(pool, begin)
    watch = monitor(pool)
    kill(ref)
    assert watch.wait(5).reason == "shutdown"
    assert len(starts) == 1 + max_restarts
    assert other not in system.processes()


class Slowly:
    """Starts once, and then fails, slowly enough to look at the supervisor meanwhile."""

    def __init__(self) -> None:
        self.broken = False
        self.starts = 0

    def __call__(self, server: Any) -> None:
        self.starts += 1
        if self.broken:
            gevent.sleep(0.003)
            raise OSError("broken")


def test_one_that_is_being_restarted_counts_for_max_children(system: System) -> None:
    slowly = Slowly()
    pool = pool_of(system, max_children=1, max_restarts=100_000)
    ref = add(pool, slowly, id="a")
    slowly.broken = True
    kill(ref)
    until(lambda: slowly.starts > 2)
    assert DynamicSupervisor.count_children(pool) == (1, 0, 0, 1)
    assert lines(pool) == [("a", "restarting")]
    assert isinstance(failure_of(DynamicSupervisor.start_child, pool, ChildSpec(Puppet)), TooManyChildren)
    slowly.broken = False
    until(lambda: lines(pool) == [("a", "running")])
    assert isinstance(failure_of(DynamicSupervisor.start_child, pool, ChildSpec(Puppet)), TooManyChildren)


def test_one_that_is_being_restarted_is_terminated_by_the_ref_it_had(system: System) -> None:
    slowly = Slowly()
    pool = pool_of(system, max_restarts=100_000)
    ref = add(pool, slowly)
    slowly.broken = True
    kill(ref)
    until(lambda: slowly.starts > 2)
    DynamicSupervisor.terminate_child(pool, ref)
    starts = slowly.starts
    assert isinstance(failure_of(DynamicSupervisor.terminate_child, pool, ref), ChildNotFound)
    assert lines(pool) == []
    gevent.sleep(0.01)
    assert slowly.starts == starts


def test_a_supervisor_whose_children_hang_in_restarts_can_be_stopped(system: System) -> None:
    slowly = Slowly()
    pool = pool_of(system, max_restarts=100_000)
    refs = [add(pool, slowly) for _ in range(3)]
    slowly.broken = True
    for ref in refs:
        kill(ref)
    until(lambda: slowly.starts > 6)
    assert DynamicSupervisor.count_children(pool) == (3, 0, 0, 3)
    stop(pool, "shutdown")
    assert system.processes() == []


def test_some_of_many_are_counted_while_they_are_restarted(system: System) -> None:
    slowly = Slowly()
    pool = pool_of(system, max_restarts=100_000)
    refs = [add(pool, slowly) for _ in range(3)]
    slowly.broken = True
    for ref in refs[:2]:
        kill(ref)
    until(lambda: slowly.starts > 5)
    assert DynamicSupervisor.count_children(pool) == (3, 1, 0, 3)
    slowly.broken = False
    until(lambda: DynamicSupervisor.count_children(pool) == (3, 3, 0, 3))
    for left in (2, 1, 0):
        DynamicSupervisor.terminate_child(pool, DynamicSupervisor.which_children(pool)[0].ref)
        assert DynamicSupervisor.count_children(pool) == (left, left, 0, left)


def test_extra_arguments_are_there_at_a_restart_too(system: System) -> None:
    begun: list[str] = []
    pool = pool_of(system, extra_arguments=(lambda server: begun.append("begun"),))
    ref = add(pool, restart="transient")
    end(system, ref, "oops")
    assert begun == ["begun", "begun"]
    assert DynamicSupervisor.count_children(pool).active == 1


def test_the_arguments_of_temporary_children_are_not_kept(system: System) -> None:
    pool = pool_of(system)
    end(system, add(pool, None, ["small"], restart="temporary"), "odd")
    refs = {restart: add(pool, None, ["large"], restart=restart) for restart in ("permanent", "temporary")}
    kept = {restart: DynamicSupervisor.get_childspec(pool, ref).arguments for restart, ref in refs.items()}
    assert kept == {"permanent": (None, ["large"]), "temporary": ()}


# ---- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("supervisors", [False, True])
def test_many_are_counted_by_their_type(system: System, supervisors: bool) -> None:
    pool = pool_of(system)
    spec = (
        Supervisor.child([], restart="temporary") if supervisors else ChildSpec(Puppet, restart="temporary")
    )
    for count in (200, 400):
        for _ in range(200):
            DynamicSupervisor.start_child(pool, spec)
        expected = (count, count, count, 0) if supervisors else (count, count, 0, count)
        assert DynamicSupervisor.count_children(pool) == expected
        assert len(DynamicSupervisor.which_children(pool)) == count
    for line in DynamicSupervisor.which_children(pool):
        kill(line.ref)
    until(lambda: DynamicSupervisor.count_children(pool) == (0, 0, 0, 0))


def test_many_temporary_children_are_terminated_one_by_one(system: System) -> None:
    pool = pool_of(system)
    refs = [add(pool, restart="temporary") for _ in range(2000)]
    for ref in refs:
        DynamicSupervisor.terminate_child(pool, ref)
    assert system.processes() == [pool]


# ---- stopping ---------------------------------------------------------------------------------------------------------


class Obstinate(Trapper):
    """Waits, in a message, for a gate that never opens."""

    def handle_cast(self, message: Any) -> None:
        Event().wait()


@pytest.mark.parametrize(
    ("shutdown", "reason"),
    [("brutal_kill", "killed"), ("infinity", "shutdown"), (1.0, "shutdown"), (0, "shutdown")],
)
def test_all_children_end_as_their_shutdown_says(system: System, shutdown: Any, reason: str) -> None:
    class Idle(GenServer):
        pass

    pool = pool_of(system)
    watches = [monitor(add(pool, cls=Idle, shutdown=shutdown)) for _ in range(3)]
    stop(pool, "shutdown")
    assert [watch.wait(5).reason for watch in watches] == [reason] * 3


@pytest.mark.parametrize("shutdown", ["infinity", 1.0])
@pytest.mark.parametrize("reason", [("shutdown", "oops"), "normal", "odd"])
@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_children_that_end_otherwise_while_they_are_stopped_are_not_restarted(
    system: System, shutdown: Any, reason: object, restart: Any
) -> None:
    gate = Event()
    pool = pool_of(system)
    refs = [add(pool, shutdown=shutdown, restart=restart) for _ in range(3)]
    watches = [monitor(ref) for ref in refs]
    for ref in refs:
        cast(ref, lambda server: gate.wait() and Stop(reason))
    stopping = gevent.spawn(stop, pool, "shutdown")
    gevent.idle()
    gate.set()
    stopping.get(timeout=5)
    assert [watch.wait(0).reason for watch in watches] == [reason] * 3
    assert system.processes() == []


def test_who_takes_longer_than_its_shutdown_is_killed_and_the_others_are_not(system: System) -> None:
    pool = pool_of(system)
    first, stuck, last = (add(pool, cls=cls, shutdown=0.05) for cls in (Puppet, Obstinate, Puppet))
    cast(stuck, "wait")
    watches = [monitor(ref) for ref in (first, stuck, last)]
    stop(pool, "shutdown")
    assert [watch.wait(5).reason for watch in watches] == ["shutdown", "killed", "shutdown"]
    until(lambda: not system.scheduler.lingering)


def test_children_of_different_shutdowns_end_together(system: System) -> None:
    pool = pool_of(system)
    patient, brutal = add(pool, shutdown="infinity"), add(pool, shutdown="brutal_kill")
    watches = [monitor(ref) for ref in (patient, brutal)]
    stop(pool, "shutdown")
    assert [watch.wait(5).reason for watch in watches] == ["shutdown", "killed"]


@pytest.mark.parametrize(("shutdown", "reason"), [("brutal_kill", "killed"), (1.0, "shutdown")])
def test_terminate_child_ends_one_and_forgets_it(system: System, shutdown: Any, reason: str) -> None:
    pool = pool_of(system)
    ref = add(pool, shutdown=shutdown)
    watch = monitor(ref)
    DynamicSupervisor.terminate_child(pool, ref)
    assert watch.wait(5).reason == reason
    assert isinstance(failure_of(DynamicSupervisor.terminate_child, pool, ref), ChildNotFound)
    assert DynamicSupervisor.count_children(pool) == (0, 0, 0, 0)


def test_a_stranger_is_no_child_and_lives_on(system: System) -> None:
    pool, stranger = pool_of(system), Puppet.start(system=system)
    add(pool)
    assert isinstance(failure_of(DynamicSupervisor.terminate_child, pool, stranger), ChildNotFound)
    assert call(stranger, "alive") == "alive"
    elsewhere = system.ref_from(("elsewhere", 1, DynamicSupervisor.which_children(pool)[0].ref.id))
    assert isinstance(failure_of(DynamicSupervisor.terminate_child, pool, elsewhere), ChildNotFound)


def test_a_dead_one_is_noproc(system: System) -> None:
    pool = pool_of(system)
    stop(pool)
    assert isinstance(failure_of(DynamicSupervisor.start_child, pool, ChildSpec(Puppet)), NoProcess)
