"""otp.md, "Looking inside"."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    ChildSpec,
    DynamicSupervisor,
    NoProcess,
    Supervisor,
    System,
    call,
    cast,
    get_state,
    kill,
    monitor,
    statistics,
    stop,
    tree,
)
from tests.otp.actors import Puppet, until
from tests.otp.supervision.test_supervisor import fall


def test_the_tree_is_data_with_what_a_person_wants_to_know(system: System) -> None:
    inner = Supervisor.child([ChildSpec(Puppet, name="leaf")], id="inner")
    top = Supervisor.start([inner, DynamicSupervisor.child(name="pool")], name="top", system=system)
    DynamicSupervisor.start_child(system.find("pool"), ChildSpec(Puppet, id="one"))
    fall(system, "leaf")
    cast(system.find("leaf"), "counted")
    call(system.find("leaf"), "counted")
    seen = tree(top)
    assert (seen.name, seen.kind, seen.status) == ("top", "supervisor", "running")
    leaf = seen.children[0].children[0]
    assert (leaf.id, leaf.kind, leaf.restarts, leaf.handled, leaf.mailbox) == ("leaf", "worker", 1, 3, 0)
    assert leaf.current is None
    assert 0 <= leaf.age <= seen.age
    pool = seen.children[1]
    assert (pool.kind, pool.children[0].id) == ("supervisor", "one")
    plain = seen.as_dict()
    assert plain["children"][0]["children"][0]["id"] == "leaf"
    assert plain["ref"] == repr(top)


def test_the_tree_shows_a_busy_server_without_waiting_for_it(system: System) -> None:
    gate = Event()
    top = Supervisor.start([ChildSpec(Puppet, name="leaf")], system=system)
    asked = gevent.spawn(call, system.find("leaf"), lambda server, caller: gate.wait(), None)
    until(lambda: statistics(system.find("leaf")).status == "busy")
    cast(system.find("leaf"), "waits")
    until(lambda: statistics(system.find("leaf")).mailbox == 1)
    (leaf,) = tree(top).children
    assert "lambda" in str(leaf.current)
    assert leaf.mailbox == 1
    gate.set()
    asked.get(timeout=5)


def test_the_tree_shows_who_does_not_run(system: System) -> None:
    top = Supervisor.start([ChildSpec(Puppet, name="leaf", restart="transient")], system=system)
    stop(system.find("leaf"))
    until(lambda: tree(top).children[0].status == "undefined")
    assert tree(top).children[0].ref is None


def test_statistics_tell_whom_a_server_waits_for(system: System) -> None:
    gate = Event()
    first, second = Puppet.start(system=system), Puppet.start(system=system)
    asked = gevent.spawn(
        call, first, lambda server, caller: call(second, lambda s, c: gate.wait(), None), None
    )
    until(lambda: statistics(second).status == "busy")
    assert statistics(first).waits_for == second
    watch = monitor(first)
    assert statistics(first).monitors == 1
    gate.set()
    asked.get(timeout=5)
    assert statistics(first).waits_for is None
    assert watch is not None


def test_the_dead_are_not_shown(system: System) -> None:
    ref = Puppet.start(system=system)
    kill(ref)
    for look in (tree, statistics, get_state):
        with pytest.raises(NoProcess):
            look(ref)


def test_a_message_whose_repr_raises_is_shown_as_such(system: System) -> None:
    class Odd:
        def __repr__(self) -> str:
            raise ValueError("no repr")

        def __call__(self, server: Any, caller: Any) -> str:
            return str(statistics(server.ref).current)

    ref = Puppet.start(system=system)
    assert call(ref, Odd()) == "<Odd, whose repr raises ValueError>"
