"""otp.md, "Supervisor", partition: partitions are stopped, and started again."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    ChildNotFound,
    ChildSpec,
    NoProcess,
    PartitionSupervisor,
    SpecError,
    StartFailed,
    System,
    kill,
)
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.supervision.test_partition_supervisor import ask, numbered

# ---- resize ------------------------------------------------------------------------------------------------------------


def test_partitions_are_stopped_and_started_again(system: System) -> None:
    top = numbered(system, 8)
    now = 8
    for wanted in (*range(8, -1, -1), *range(9), 3, 8, 0, 5, 5):
        assert PartitionSupervisor.resize(top, wanted) == now
        now = wanted
        assert PartitionSupervisor.partitions(top) == wanted
        assert PartitionSupervisor.count_children(top) == (8, wanted, 0, 8)
        assert [ask(top, key) for key in range(wanted)] == list(range(wanted))
        if wanted:
            assert ask(top, wanted) == 0


def test_with_no_partitions_a_key_leads_nowhere(system: System) -> None:
    top = numbered(system)
    PartitionSupervisor.resize(top, 0)
    assert isinstance(failure_of(PartitionSupervisor.ref_for, top, 0), NoProcess)
    assert system.whereis(PartitionSupervisor.via(top, 0)) is None


def test_a_partition_that_was_taken_away_comes_back_by_resize_only(system: System) -> None:
    top = numbered(system)
    PartitionSupervisor.resize(top, 1)
    error = failure_of(PartitionSupervisor.restart_child, top, 2)
    assert isinstance(error, SpecError)
    assert "below 1" in str(error)
    assert isinstance(failure_of(PartitionSupervisor.restart_child, top, 3), ChildNotFound)
    assert PartitionSupervisor.count_children(top).active == 1


def test_temporary_partitions_that_have_ended_come_back_by_resize(system: System) -> None:
    top = PartitionSupervisor.start(ChildSpec(Puppet, restart="temporary"), partitions=4, system=system)
    for key in (0, 2):
        kill(PartitionSupervisor.ref_for(top, key))
    until(lambda: PartitionSupervisor.count_children(top) == (2, 2, 0, 2))
    assert PartitionSupervisor.resize(top, 2) == 4
    assert PartitionSupervisor.resize(top, 4) == 2
    assert [line.id for line in PartitionSupervisor.which_children(top)] == [1, 2, 3]
    assert [system.whereis(PartitionSupervisor.via(top, key)) is None for key in range(4)] == [True] + [
        False
    ] * 3


@pytest.mark.parametrize("wrong", [-1, 4, 1.0, "2", True])
def test_it_grows_no_further_than_it_began(system: System, wrong: Any) -> None:
    top = numbered(system)
    with pytest.raises(SpecError, match="from 0 to 3"):
        PartitionSupervisor.resize(top, wrong)
    assert PartitionSupervisor.count_children(top).active == 3


def test_no_key_leads_to_a_partition_that_is_being_stopped(system: System) -> None:
    led: list[Any] = []

    class Slow(Puppet):
        def terminate(self, reason: object) -> None:
            led.append([PartitionSupervisor.ref_for(top, key) for key in range(4)])
            gevent.sleep(0)
            led.append([PartitionSupervisor.ref_for(top, key) for key in range(4)])

    top = PartitionSupervisor.start(Slow, partitions=2, system=system)
    zero = PartitionSupervisor.ref_for(top, 0)
    PartitionSupervisor.resize(top, 1)
    assert led == [[zero] * 4, [zero] * 4]


def test_a_restart_of_all_does_not_bring_back_what_was_taken_away(system: System) -> None:
    top = numbered(system, strategy="one_for_all")
    PartitionSupervisor.resize(top, 2)
    first = PartitionSupervisor.ref_for(top, 1)
    kill(PartitionSupervisor.ref_for(top, 0))
    until(lambda: system.whereis(PartitionSupervisor.via(top, 1)) not in (None, first))
    assert PartitionSupervisor.count_children(top).active == 2
    assert PartitionSupervisor.partitions(top) == 2


def test_a_partition_that_fails_to_come_leaves_things_as_they_were(system: System) -> None:
    fault, broken = OSError("no room"), []

    class Picky(Puppet):
        def init(self, partition: int) -> None:  # type: ignore[override]
            super().init()
            if partition in broken:
                raise fault

    top = PartitionSupervisor.start(
        ChildSpec(Picky),
        with_arguments=lambda arguments, partition: (partition,),
        partitions=4,
        system=system,
    )
    PartitionSupervisor.resize(top, 1)
    broken.append(2)
    error = failure_of(PartitionSupervisor.resize, top, 4)
    assert isinstance(error, StartFailed)
    assert (error.reason, error.path) == (fault, (2,))
    assert PartitionSupervisor.partitions(top) == 1
    assert PartitionSupervisor.count_children(top).active == 1
    broken.clear()
    assert PartitionSupervisor.resize(top, 4) == 1
    assert PartitionSupervisor.count_children(top).active == 4
