"""otp.md, "Registry": what listeners hear, and that whoever dies is gone before anybody is told."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallFailed,
    ChildSpec,
    DynamicSupervisor,
    Registered,
    ServerExited,
    StartFailed,
    System,
    Unregistered,
    call,
    cast,
    get_state,
    kill,
    stop,
)
from tests.otp.actors import Puppet, Trapper, crash, failure_of, seen, until
from tests.otp.registries import do, puppet, registry_of

KINDS = pytest.mark.parametrize("kind", ["unique", "duplicate"])

# ---- listeners ---------------------------------------------------------------------------------------------------------


@KINDS
def test_listeners_hear_of_registrations_and_their_ends(system: System, kind: Any) -> None:
    registry = registry_of(kind, system, listeners=["ear", "nobody yet"])
    ear, actor = puppet(system, name="ear"), puppet(system)
    do(actor, registry.register, "hello", "world")
    assert call(ear, seen) == [Registered("r", "hello", actor, "world")]
    do(actor, registry.unregister, "hello")
    do(actor, registry.unregister, "hello")
    assert call(ear, seen)[1:] == [Unregistered("r", "hello", actor, "world", None)]


@KINDS
def test_listeners_hear_of_deaths_with_their_reason(system: System, kind: Any) -> None:
    registry = registry_of(kind, system, listeners=["ear"])
    ear, actor = puppet(system, name="ear"), puppet(system)
    for key in ("hello", "world"):
        do(actor, registry.register, key, key.upper())
    fault = ValueError("bad")
    with pytest.raises(ServerExited):
        call(actor, crash(fault))
    assert call(ear, seen)[2:] == [
        Unregistered("r", "hello", actor, "HELLO", fault),
        Unregistered("r", "world", actor, "WORLD", fault),
    ]


def test_a_listener_hears_one_end_for_each_registration(system: System) -> None:
    registry = registry_of("duplicate", system, listeners=["ear"])
    ear, actor = puppet(system, name="ear"), puppet(system)
    for value in (1, 2, 3):
        do(actor, registry.register, "k", value)
    do(actor, registry.unregister_match, "k", 2)
    do(actor, registry.unregister, "k")
    heard = call(ear, seen)
    assert [(type(one).__name__, one.value) for one in heard] == [
        ("Registered", 1),
        ("Registered", 2),
        ("Registered", 3),
        ("Unregistered", 2),
        ("Unregistered", 1),
        ("Unregistered", 3),
    ]


def test_a_listener_with_a_bounded_mailbox_misses_nothing(system: System) -> None:
    class Narrow(Puppet):
        mailbox_limit = 1

    registry = registry_of("unique", system, listeners=["ear"])
    ear, actor = Narrow.start(name="ear", system=system), puppet(system)
    cast(ear, lambda server: gevent.sleep(0.001))
    for key in range(5):
        do(actor, registry.register, key)
    assert [one.key for one in call(ear, seen)] == [0, 1, 2, 3, 4]


def test_a_listener_that_holds_a_key_hears_nothing_of_its_own_death(system: System) -> None:
    registry = registry_of("unique", system, listeners=["ear"])
    ear = puppet(system, name="ear")
    do(ear, registry.register, "k")
    kill(ear)
    again = puppet(system, name="ear")
    assert call(again, seen) == []
    assert registry.count() == 0


# ---- gone at death, before anybody is told -----------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("how", ["kill", "crash", "stop", "link"])
def test_whoever_dies_is_in_no_table_any_more(system: System, kind: Any, how: str) -> None:
    registry = registry_of(kind, system)
    actor, partner = puppet(system), puppet(system)
    for key in ("hello", "world"):
        do(actor, registry.register, key)
    call(actor, lambda server, caller: server.link(partner))
    if how == "kill":
        kill(actor)
    elif how == "crash":
        failure_of(call, actor, crash(ValueError("bad")))
    elif how == "stop":
        stop(actor)
    else:
        kill(partner)
    assert actor not in system.processes()
    assert registry.select() == []
    assert (registry.lookup("hello"), registry.count(), registry.keys(actor)) == ((), 0, [])
    assert get_state(registry.ref)["holders"] == 0


def test_who_hears_of_a_death_finds_the_keys_gone(system: System) -> None:
    """A caller, a monitor, a link, a supervisor: none of them is told before the table is right."""
    registry = registry_of("unique", system)
    found: dict[str, Any] = {}

    class Witness(Trapper):
        def handle_info(self, message: Any) -> None:
            found[type(message).__name__] = registry.lookup("k")

    pool = DynamicSupervisor.start(system=system)

    def registers(server: Any) -> None:
        found["start"] = registry.lookup("k")
        registry.register("k")

    actor = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, registers))
    witness = Witness.start(system=system)
    call(witness, lambda server, caller: (server.link(actor), server.monitor(actor)))
    try:
        call(actor, crash(ValueError("bad")))
    except CallFailed:
        found["caller"] = [ref for ref, _ in registry.lookup("k") if ref == actor]
    until(lambda: {"Exit", "Down"} <= found.keys())
    until(lambda: registry.whereis("k") is not None)
    assert found["start"] == ()  # the restarted child found the key free
    assert found["caller"] == []
    assert all(ref != actor for what in ("Exit", "Down") for ref, _ in found[what])


def test_a_listener_that_watches_a_holder_hears_of_its_keys_before_its_death(system: System) -> None:
    registry = registry_of("unique", system, listeners=["ear"])
    ear, actor = Trapper.start(name="ear", system=system), puppet(system)
    call(ear, lambda server, caller: (server.link(actor), server.monitor(actor), None)[2])
    do(actor, registry.register, "k")
    kill(actor)
    assert [type(one).__name__ for one in call(ear, seen)] == ["Registered", "Unregistered", "Down", "Exit"]


def test_an_init_that_registers_and_fails_leaves_no_key(system: System) -> None:
    registry = registry_of("unique", system)

    def begin(server: Any) -> None:
        registry.register("k")
        raise ValueError("bad")

    with pytest.raises(StartFailed):
        Puppet.start(begin, system=system)
    assert registry.count() == 0


def test_an_end_is_not_lost_over_a_key_whose_hash_has_changed(system: System) -> None:
    class Treacherous:
        def __init__(self) -> None:
            self.number = 1

        def __hash__(self) -> int:
            return self.number

    registry = registry_of("duplicate", system)
    actor, key = puppet(system), Treacherous()
    do(actor, registry.register, key)
    do(actor, registry.register, "honest")
    key.number = 2
    kill(actor)
    assert actor not in system.processes()
    assert registry.lookup("honest") == ()
    other = puppet(system)
    kill(other)  # the next death goes its way
    assert system.processes() == [registry.ref]
