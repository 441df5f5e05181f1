"""otp.md, "Supervisor", partition: a child per partition, routed by key."""

from __future__ import annotations

import os
from typing import Any

import pytest

from packetflow.otp import (
    Agent,
    Backoff,
    ChildSpec,
    Down,
    DynamicSupervisor,
    NameTaken,
    NoProcess,
    PartitionSupervisor,
    Ref,
    Registry,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    call,
    kill,
    monitor,
    stop,
    tree,
)
from tests.otp.actors import Puppet, crash, failure_of, seen, until
from tests.otp.registries import do, puppet
from tests.otp.supervision.test_supervisor import Journal


def same(state: Any) -> Any:
    return state


def numbered(system: System, partitions: int | None = 3, **options: Any) -> Ref:
    """A supervisor of agents that know their partition."""
    return PartitionSupervisor.start(
        ChildSpec(Agent, crash(ValueError("never called"))),
        with_arguments=lambda arguments, partition: (lambda: partition,),
        partitions=partitions,
        system=system,
        **options,
    )


def ask(top: Any, key: Any) -> Any:
    return Agent.get(PartitionSupervisor.ref_for(top, key), same)


# ---- starting ----------------------------------------------------------------------------------------------------------


def test_there_is_a_child_for_each_processor_by_default(system: System) -> None:
    top = PartitionSupervisor.start(DynamicSupervisor, system=system)
    assert PartitionSupervisor.partitions(top) == os.cpu_count()
    assert len(PartitionSupervisor.which_children(top)) == os.cpu_count()


def test_dynamic_supervisors_share_the_children_by_key(system: System) -> None:
    PartitionSupervisor.start(DynamicSupervisor, partitions=4, name="pools", system=system)
    names = [f"child {number}" for number in range(100)]
    for name in names:
        pool = PartitionSupervisor.via(system.find("pools"), name)
        DynamicSupervisor.start_child(pool, ChildSpec(Agent, name))
    lines = PartitionSupervisor.which_children(system.find("pools"))
    shares = [DynamicSupervisor.which_children(line.ref) for line in lines]
    assert sum(1 for share in shares if share) > 1
    assert sorted(Agent.get(line.ref, same) for share in shares for line in share) == sorted(names)


def test_each_partition_may_get_arguments_of_its_own(system: System) -> None:
    top = numbered(system)
    assert PartitionSupervisor.partitions(top) == 3
    assert [ask(top, key) for key in (0, 1, 2)] == [0, 1, 2]


def test_a_list_of_arguments_will_do(system: System) -> None:
    top = PartitionSupervisor.start(
        ChildSpec(Agent, 10),
        with_arguments=lambda arguments, partition: [arguments[0] + partition],  # type: ignore[arg-type, return-value]
        partitions=2,
        system=system,
    )
    assert [ask(top, key) for key in (0, 1)] == [10, 11]


@pytest.mark.parametrize(
    ("child", "options", "field"),
    [
        (ChildSpec(Agent, 0), {"partitions": 0}, "partitions"),
        (ChildSpec(Agent, 0), {"partitions": -1}, "partitions"),
        (ChildSpec(Agent, 0), {"partitions": 2.0}, "partitions"),
        (ChildSpec(Agent, 0), {"partitions": True}, "partitions"),
        (ChildSpec(Agent, 0), {"with_arguments": 123}, "with_arguments"),
        (ChildSpec(Agent, 0, name="one"), {}, "child.name"),
        (ChildSpec(Agent, 0, restart="transient", significant=True), {}, "child.significant"),
        (None, {}, "child"),
        ("Agent", {}, "child"),
        (ChildSpec(Agent, 0), {"strategy": "some"}, "strategy"),
        (ChildSpec(Agent, 0), {"max_restarts": -1}, "max_restarts"),
        (ChildSpec(Agent, 0), {"max_seconds": 0}, "max_seconds"),
    ],
)
def test_a_wrong_option_is_named_before_anything_starts(
    system: System, child: Any, options: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError) as failed:
        PartitionSupervisor.start(child, system=system, **options)
    assert failed.value.field == field
    with pytest.raises(SpecError) as failed:
        PartitionSupervisor.child(child, **options)
    assert failed.value.field == field
    assert system.processes() == []


def test_there_is_no_auto_shutdown(system: System) -> None:
    with pytest.raises(TypeError, match="auto_shutdown"):
        PartitionSupervisor.start(
            ChildSpec(Agent, 0),
            auto_shutdown="any_significant",
            system=system,  # type: ignore[call-arg]
        )


def test_arguments_that_are_none_end_the_start(system: System) -> None:
    error = failure_of(
        PartitionSupervisor.start,
        ChildSpec(Agent, 0),
        with_arguments=lambda arguments, partition: partition,
        partitions=2,
        system=system,
    )
    assert isinstance(error, StartFailed)
    assert isinstance(error.reason, SpecError)
    assert error.reason.field == "with_arguments"
    assert system.processes() == []


def test_a_partition_that_fails_to_start_ends_those_before_it(system: System) -> None:
    log: list[Any] = []
    fault = OSError("no room")

    def arguments(_: Any, partition: int) -> tuple[Any, ...]:
        return (str(partition), log, *((crash(fault),) if partition == 2 else ()))

    error = failure_of(
        PartitionSupervisor.start, ChildSpec(Journal), with_arguments=arguments, partitions=4, system=system
    )
    assert isinstance(error, StartFailed)
    assert (error.reason, error.path) == (fault, (2,))
    assert log == ["+0", "+1", "+2", "-1", "-0"]
    assert system.processes() == []


def test_it_is_a_child_with_its_name_as_id(system: System) -> None:
    spec = PartitionSupervisor.child(ChildSpec(Agent, 0), partitions=2, name="pools")
    assert (spec.id, spec.type, spec.shutdown) == ("pools", "supervisor", "infinity")
    name = Registry.named("r", system).via(("a", 1))
    assert PartitionSupervisor.child(DynamicSupervisor, name=name).id == name
    assert PartitionSupervisor.child(DynamicSupervisor).id == "PartitionSupervisor"
    top = Supervisor.start([spec], system=system)
    assert system.call(PartitionSupervisor.via("pools", 1), ("get", same, ())) == 0
    (branch,) = tree(top).children
    assert [child.id for child in branch.children] == [0, 1]


def test_a_spec_written_by_hand_will_do(system: System) -> None:
    spec = ChildSpec(PartitionSupervisor, ChildSpec(Agent, 0), 2, name="pools")
    Supervisor.start([spec], system=system)
    assert PartitionSupervisor.count_children(system.find("pools")) == (2, 2, 0, 2)
    wrong = ChildSpec(PartitionSupervisor, ChildSpec(Agent, 0, name="one"), name="others")
    error = failure_of(Supervisor.start, [wrong], system=system)
    assert isinstance(error, StartFailed)
    assert isinstance(error.reason, SpecError)


def test_it_may_be_named_by_a_registry(system: System) -> None:
    registry = Registry.start("unique", name="r", system=system)
    name = registry.via("pools")
    PartitionSupervisor.start(ChildSpec(Agent, "hello"), partitions=2, name=name, system=system)
    assert PartitionSupervisor.partitions(name) == 2
    assert Agent.get(PartitionSupervisor.via(name, 0), same) == "hello"
    unknown = registry.via("unknown")
    assert isinstance(failure_of(PartitionSupervisor.partitions, unknown), NoProcess)
    assert isinstance(failure_of(Agent.get, PartitionSupervisor.via(unknown, 0), same), NoProcess)


def test_a_name_has_one(system: System) -> None:
    numbered(system, name="pools")
    assert isinstance(failure_of(numbered, system, name="pools"), NameTaken)


# ---- routing -----------------------------------------------------------------------------------------------------------


def test_whole_numbers_lead_to_their_remainder(system: System) -> None:
    top = numbered(system)
    assert [ask(top, key) for key in (0, 1, 2, 3, 4, 301)] == [0, 1, 2, 0, 1, 1]
    assert [ask(top, key) for key in (-1, -2, -3, -4)] == [1, 2, 0, 1]
    assert (ask(top, True), ask(top, False)) == (1, 0)


def test_everything_else_leads_where_its_hash_does_each_time(system: System) -> None:
    top = numbered(system)
    keys = [
        "text",
        "tex" + "t",
        b"bytes",
        None,
        ("a", 1),
        2.5,
        top,
        *(f"key {number}" for number in range(50)),
    ]
    first = [ask(top, key) for key in keys]
    assert first == [ask(top, key) for key in keys]
    assert first == [hash(key) % 3 for key in keys]
    assert set(first) == {0, 1, 2}
    with pytest.raises(TypeError, match="unhashable"):
        PartitionSupervisor.ref_for(top, ["list"])
    with pytest.raises(TypeError, match="unhashable"):
        PartitionSupervisor.via(top, ["list"])


def test_a_key_is_a_name_wherever_names_go(system: System) -> None:
    top = PartitionSupervisor.start(Puppet, partitions=2, name="pools", system=system)
    name = PartitionSupervisor.via("pools", 3)
    (zero, one) = (line.ref for line in PartitionSupervisor.which_children(top))
    assert system.whereis(name) == system.find(name) == PartitionSupervisor.ref_for(top, 3) == one
    assert system.call(name, 7) == 7
    system.cast(name, "cast")
    system.send(name, "send")
    assert call(one, seen) == ["cast", "send"]
    assert call(zero, seen) == []
    actor = puppet(system)
    assert call(actor, lambda server, caller: server.call(name, 8)) == 8
    assert do(actor, PartitionSupervisor.ref_for, "pools", 3) == one
    assert do(actor, PartitionSupervisor.partitions, "pools") == 2
    assert do(actor, PartitionSupervisor.count_children, "pools") == (2, 2, 0, 2)
    watch = system.monitor(name)
    kill(one)
    assert watch.wait(1) == Down(watch, one, "killed")


def test_a_key_is_no_name_to_be_given(system: System) -> None:
    top = numbered(system)
    with pytest.raises(SpecError, match="calling only"):
        Puppet.start(name=PartitionSupervisor.via(top, 0), system=system)
    assert len(system.processes()) == 4


def test_names_of_the_same_key_are_equal(system: System) -> None:
    top = numbered(system)
    assert PartitionSupervisor.via(top, 1) == PartitionSupervisor.via(top, 1)
    assert hash(PartitionSupervisor.via(top, 1)) == hash(PartitionSupervisor.via(top, 1))
    assert PartitionSupervisor.via(top, 1) != PartitionSupervisor.via(top, 2)
    assert PartitionSupervisor.via("pools", 1) != PartitionSupervisor.via(top, 1)
    assert PartitionSupervisor.via("pools", 1) != "pools[1]"
    assert repr(PartitionSupervisor.via("pools", "k")) == "pools['k']"


def test_nobody_is_there_where_the_supervisor_is_not(system: System) -> None:
    top = numbered(system)
    stop(top)
    for question in (
        lambda: PartitionSupervisor.partitions(top),
        lambda: PartitionSupervisor.ref_for(top, 0),
        lambda: PartitionSupervisor.count_children(top),
        lambda: PartitionSupervisor.which_children(top),
        lambda: PartitionSupervisor.resize(top, 1),
        lambda: system.call(PartitionSupervisor.via("unknown", 0), 1),
    ):
        assert isinstance(failure_of(question), NoProcess)
    assert isinstance(failure_of(do, puppet(system), PartitionSupervisor.partitions, "unknown"), NoProcess)
    assert system.whereis(PartitionSupervisor.via("unknown", 0)) is None
    system.cast(PartitionSupervisor.via("unknown", 0), 1)


def test_another_process_is_no_partition_supervisor(system: System) -> None:
    actor = puppet(system)
    for question in (
        lambda: PartitionSupervisor.partitions(actor),
        lambda: PartitionSupervisor.ref_for(actor, 0),
        lambda: system.whereis(PartitionSupervisor.via(actor, 0)),
    ):
        with pytest.raises(SpecError, match="PartitionSupervisor"):
            question()


# ---- restarts, strategies, intensity -----------------------------------------------------------------------------------


def test_a_restarted_child_keeps_its_partition(system: System) -> None:
    top = numbered(system)
    first = PartitionSupervisor.ref_for(top, 1)
    neighbours = [PartitionSupervisor.ref_for(top, key) for key in (0, 2)]
    Agent.update(first, lambda state: "changed")
    kill(first)
    until(lambda: system.whereis(PartitionSupervisor.via(top, 1)) is not None)
    assert PartitionSupervisor.ref_for(top, 1) != first
    assert [ask(top, key) for key in (0, 1, 2, 4)] == [0, 1, 2, 1]
    assert [PartitionSupervisor.ref_for(top, key) for key in (0, 2)] == neighbours


def test_a_partition_between_two_lives_is_nobody(system: System) -> None:
    spec = ChildSpec(Puppet, backoff=Backoff(delay=60.0))
    top = PartitionSupervisor.start(spec, partitions=2, system=system)
    first = PartitionSupervisor.ref_for(top, 1)
    kill(first)
    error = failure_of(PartitionSupervisor.ref_for, top, 1)
    assert isinstance(error, NoProcess)
    assert f"{top}[1]" in str(error)
    assert system.whereis(PartitionSupervisor.via(top, 1)) is None
    assert system.call(PartitionSupervisor.via(top, 0), 5) == 5
    until(lambda: [line.status for line in PartitionSupervisor.which_children(top)] == ["running", "backoff"])
    assert isinstance(failure_of(PartitionSupervisor.ref_for, top, 1), NoProcess)


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["+1"]),
        ("rest_for_one", ["-2", "+1", "+2"]),
        ("one_for_all", ["-2", "-0", "+0", "+1", "+2"]),
    ],
)
def test_the_strategy_is_the_supervisors(system: System, strategy: Any, expected: list[str]) -> None:
    log: list[Any] = []
    top = PartitionSupervisor.start(
        ChildSpec(Journal),
        with_arguments=lambda arguments, partition: (str(partition), log),
        partitions=3,
        strategy=strategy,
        system=system,
    )
    del log[:]
    kill(PartitionSupervisor.ref_for(top, 1))
    until(lambda: len(log) == len(expected))
    assert log == expected


def test_too_many_restarts_end_it(system: System) -> None:
    top = numbered(system, max_restarts=1, max_seconds=60.0)
    watch = monitor(top)
    for _ in range(2):
        kill(PartitionSupervisor.ref_for(top, 0))
        until(lambda: watch.wait(0) or system.whereis(PartitionSupervisor.via(top, 0)))
    down = watch.wait(5)
    assert down is not None
    assert down.reason == "shutdown"
    assert system.processes() == []


def test_the_spec_goes_for_each_partition(system: System) -> None:
    spec = ChildSpec(Agent, 0, restart="temporary", shutdown=0.5)
    top = PartitionSupervisor.start(spec, partitions=2, system=system)
    kill(PartitionSupervisor.ref_for(top, 0))
    until(lambda: PartitionSupervisor.count_children(top).active == 1)
    assert isinstance(failure_of(PartitionSupervisor.ref_for, top, 0), NoProcess)
    assert ask(top, 1) == 0


def test_a_callable_may_start_the_partitions(system: System) -> None:
    spec = ChildSpec(lambda value, partition: Agent.start_link((value, partition)), "v")
    top = PartitionSupervisor.start(
        spec, partitions=2, with_arguments=lambda given, number: (*given, number), system=system
    )
    assert [ask(top, key) for key in (0, 1)] == [("v", 0), ("v", 1)]


# ---- looking and stopping ----------------------------------------------------------------------------------------------


def test_which_children_shows_every_partition(system: System) -> None:
    top = numbered(system)
    lines = PartitionSupervisor.which_children(top)
    assert [(line.id, line.type, line.status) for line in lines] == [
        (number, "worker", "running") for number in range(3)
    ]
    assert [line.ref for line in lines] == [PartitionSupervisor.ref_for(top, number) for number in range(3)]


def test_count_children_counts_workers_and_supervisors(system: System) -> None:
    workers = numbered(system)
    assert PartitionSupervisor.count_children(workers) == (3, 3, 0, 3)
    supervisors = PartitionSupervisor.start(DynamicSupervisor, partitions=2, system=system)
    assert PartitionSupervisor.count_children(supervisors) == (2, 2, 2, 0)


def test_stop_returns_when_all_are_dead(system: System) -> None:
    log: list[Any] = []
    top = PartitionSupervisor.start(
        ChildSpec(Journal),
        with_arguments=lambda arguments, partition: (str(partition), log),
        partitions=3,
        name="pools",
        system=system,
    )
    stop(top)
    assert log[3:] == ["-2", "-1", "-0"]
    assert system.processes() == []
    assert system.whereis("pools") is None


def test_children_are_neither_added_nor_deleted(system: System) -> None:
    top = numbered(system)
    PartitionSupervisor.terminate_child(top, 1)
    assert isinstance(failure_of(PartitionSupervisor.ref_for, top, 1), NoProcess)
    assert isinstance(failure_of(PartitionSupervisor.start_child, top, ChildSpec(Agent, 0)), SpecError)
    assert isinstance(failure_of(PartitionSupervisor.delete_child, top, 1), SpecError)
    PartitionSupervisor.restart_child(top, 1)
    assert [ask(top, key) for key in range(3)] == [0, 1, 2]
