"""otp.md, "Registry": a key as a name, wherever a name goes."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.otp import (
    Agent,
    AlreadyRegistered,
    ChildSpec,
    Down,
    DynamicSupervisor,
    NoProcess,
    Registered,
    Registry,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    Via,
    call,
    kill,
    monitor,
    tree,
)
from tests.otp.actors import Puppet, crash, failure_of, seen, until
from tests.otp.registries import do, puppet, registry_of


def test_an_actor_is_started_called_and_found_by_its_key(system: System) -> None:
    registry = registry_of("unique", system)
    name = registry.via("hello")
    actor = Puppet.start(name=name, system=system)
    assert system.whereis(name) == system.find(name) == registry.whereis("hello") == actor
    assert system.call(name, 5) == 5
    system.cast(name, "cast")
    system.send(name, "send")
    system.send_after(0.0, name, "late")
    until(lambda: len(system.call(name, seen)) == 3)
    assert system.call(name, seen) == ["cast", "send", "late"]
    watch = system.monitor(name)
    system.stop_process(name, "shutdown")
    assert watch.wait(1) == Down(watch, actor, "shutdown")
    assert registry.count() == 0


def test_inside_of_an_actor_too(system: System) -> None:
    registry = registry_of("unique", system)
    name = registry.via("hello")
    other = Puppet.start(name=name, system=system)
    actor = puppet(system)

    def uses(server: Any, caller: Any) -> Any:
        server.cast(name, "cast")
        server.send(name, "send")
        server.send_after(0.0, "late", name)
        assert server.monitor(name).ref == other
        return server.call(name, 7)

    assert call(actor, uses) == 7
    until(lambda: len(call(other, seen)) == 3)
    kill(other)
    until(lambda: call(actor, seen))
    assert call(actor, seen)[0].ref == other


def test_a_name_that_nobody_holds(system: System) -> None:
    registry = registry_of("unique", system)
    for name in (registry.via("nobody"), Registry.named("not running", system).via("k")):
        assert system.whereis(name) is None
        error = failure_of(system.call, name, 1)
        assert isinstance(error, NoProcess)
        assert error.ref is name
        assert repr(name) in str(error)
        system.cast(name, 1)
        system.send(name, 1)
        watch = system.monitor(name)
        assert watch.wait(1) == Down(watch, name, "noproc")
        with pytest.raises(NoProcess):
            system.stop_process(name)


def test_the_value_of_the_name_is_registered_with_it(system: System) -> None:
    registry = registry_of("unique", system, listeners=["ear"])
    ear = puppet(system, name="ear")
    actor = Puppet.start(name=registry.via("hello", "value"), system=system)
    assert registry.lookup("hello") == ((actor, "value"),)
    assert call(ear, seen) == [Registered("r", "hello", actor, "value")]
    other = Puppet.start(name=registry.via("world"), system=system)
    assert registry.lookup("world") == ((other, None),)


def test_a_second_holder_is_refused_before_its_init_runs(system: System) -> None:
    registry = registry_of("unique", system)
    name = registry.via("hello")
    first = Agent.start(0, name=name, system=system)
    Agent.update(name, lambda state: state + 1)
    error = failure_of(Puppet.start, crash(ValueError("never called")), name=name, system=system)
    assert isinstance(error, AlreadyRegistered)
    assert error.holder == first
    assert system.processes() == [registry.ref, first]
    assert Agent.get(name, lambda state: state) == 1


def test_a_start_that_fails_gives_the_key_back(system: System) -> None:
    registry = registry_of("unique", system)
    name = registry.via("hello")
    with pytest.raises(StartFailed):
        Puppet.start(crash(ValueError("bad")), name=name, system=system)
    assert registry.lookup("hello") == ()
    with pytest.raises(StartFailed, match="timeout"):
        Puppet.start(lambda server: __import__("gevent").sleep(5), name=name, timeout=0.001, system=system)
    assert registry.lookup("hello") == ()
    assert Puppet.start(name=name, system=system) == registry.whereis("hello")


def test_a_child_has_its_key_again_after_a_restart(system: System) -> None:
    registry = registry_of("unique", system)
    spec = ChildSpec(Puppet, name=registry.via("hello", "value"))
    assert spec.id == spec.name
    top = Supervisor.start([spec], system=system)
    ((first, _),) = registry.lookup("hello")
    assert tree(top).as_dict()["children"][0]["id"] == "r['hello']"
    kill(first)
    until(lambda: registry.whereis("hello") not in (None, first))
    assert registry.values("hello", registry.whereis("hello")) == ["value"]


def test_a_dynamic_supervisor_names_the_holder_when_it_refuses(system: System) -> None:
    registry = registry_of("unique", system)
    pool = DynamicSupervisor.start(system=system)
    spec = ChildSpec(Puppet, name=registry.via("hello"))
    first = DynamicSupervisor.start_child(pool, spec)
    error = failure_of(DynamicSupervisor.start_child, pool, spec)
    assert isinstance(error, StartFailed)
    assert isinstance(error.reason, AlreadyRegistered)
    assert error.reason.holder == first


def test_a_supervisor_can_be_named_so_too(system: System) -> None:
    registry = registry_of("unique", system)
    top = Supervisor.start([], name=registry.via("tree"), system=system)
    pool = DynamicSupervisor.start(name=registry.via("pool"), system=system)
    assert (registry.whereis("tree"), registry.whereis("pool")) == (top, pool)


def test_a_duplicate_registry_gives_no_names(system: System) -> None:
    name = registry_of("duplicate", system).via("hello")
    for action in (
        lambda: Puppet.start(name=name, system=system),
        lambda: system.call(name, 1),
        lambda: system.whereis(name),
    ):
        with pytest.raises(SpecError, match="unique"):
            action()
    assert len(system.processes()) == 1


def test_a_name_of_a_registry_that_does_not_run_can_not_be_given(system: System) -> None:
    with pytest.raises(NoProcess, match="absent"):
        Puppet.start(name=Registry.named("absent", system).via("k"), system=system)
    assert system.processes() == []


def test_a_name_belongs_to_its_own_system(system: System) -> None:
    registry, other = registry_of("unique", system), System("other")
    with pytest.raises(SpecError, match="other"):
        Puppet.start(name=registry.via("k"), system=other)
    actor = Puppet.start(name=registry.via("k"), system=system)
    assert other.whereis(registry.via("k")) == actor  # it is found from everywhere in this thread
    other.shutdown()


def test_a_name_that_is_none_is_refused(system: System) -> None:
    with pytest.raises(SpecError, match="name"):
        Puppet.start(name=5, system=system)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="name"):
        ChildSpec(Puppet, name=5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        system.call(5, 1)  # type: ignore[arg-type]
    assert system.processes() == []


def test_names_of_the_same_key_are_equal(system: System) -> None:
    registry, other = registry_of("unique", system), registry_of("unique", system, "other")
    name = registry.via("k", "value")
    assert isinstance(name, Via)
    assert name == registry.via("k")
    assert hash(name) == hash(registry.via("k"))
    assert name != registry.via("j")
    assert name != other.via("k")
    assert name != "r['k']"
    assert repr(name) == "r['k']"
    with pytest.raises(TypeError, match="unhashable"):
        registry.via(["list"])


def test_an_actor_with_such_a_name_may_hold_more_keys_and_give_the_name_back(system: System) -> None:
    registry = registry_of("unique", system)
    actor = Puppet.start(name=registry.via("hello"), system=system)
    do(actor, registry.register, "world")
    do(actor, registry.unregister, "hello")
    assert system.whereis(registry.via("hello")) is None
    assert system.whereis(registry.via("world")) == actor
    watch = monitor(actor)
    kill(actor)
    assert watch.wait(1) is not None
    assert registry.count() == 0
