"""otp.md, "Registry": how it is started, where it lives, and what ends it."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.otp import (
    ChildSpec,
    NameTaken,
    NoProcess,
    Registry,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    call,
    cast,
    get_state,
    kill,
    monitor,
    send,
    tree,
)
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.registries import do, puppet, registry_of
from tests.otp.registry.test_registry import KINDS

# ---- starting, and where it lives --------------------------------------------------------------------------------------


@KINDS
def test_a_registry_is_started_with_a_name_and_found_by_it(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    assert Registry.named("r", system) is registry
    assert system.whereis("r") == registry.ref
    assert registry.count() == 0
    assert do(puppet(system), Registry.named, "r") is registry


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"keys": "both"}, "keys"),
        ({"keys": ("duplicate", "pid")}, "keys"),
        ({"name": ""}, "name"),
        ({"name": 5}, "name"),
        ({"listeners": "one"}, "listeners"),
        ({"listeners": [1]}, "listeners"),
        ({"listeners": 7}, "listeners"),
        ({"meta": ["a"]}, "meta"),
    ],
)
def test_a_wrong_option_is_named_before_anything_starts(
    system: System, options: dict[str, Any], field: str
) -> None:
    given: dict[str, Any] = {"keys": "unique", "name": "r", **options}
    for begin in (Registry.start, Registry.child):
        with pytest.raises(SpecError) as failed:
            begin(given["keys"], **{key: value for key, value in given.items() if key != "keys"})
        assert failed.value.field == field
    assert system.processes() == []


def test_a_registry_needs_a_name(system: System) -> None:
    with pytest.raises(TypeError, match="name"):
        Registry.start("unique", system=system)  # type: ignore[call-arg]


def test_a_second_registry_of_a_name_is_refused(system: System) -> None:
    first = registry_of("unique", system)
    assert isinstance(failure_of(registry_of, "duplicate", system), NameTaken)
    system.unregister("r")
    error = failure_of(registry_of, "duplicate", system)
    assert isinstance(error, StartFailed)
    assert isinstance(error.reason, NameTaken)
    assert first.count() == 0  # it runs as before


def test_the_spec_of_a_registry_has_its_name_as_id(system: System) -> None:
    spec = Registry.child("unique", name="sessions")
    assert (spec.id, spec.name, spec.type, spec.restart) == ("sessions", "sessions", "worker", "permanent")
    assert Registry.child("unique", name="sessions", id="other", restart="transient").id == "other"


def test_who_writes_the_spec_of_a_registry_by_hand_is_told_the_way() -> None:
    with pytest.raises(SpecError, match=r"Registry\.child\(\.\.\.\)"):
        ChildSpec(Registry, "unique", name="sessions")  # type: ignore[arg-type]


def test_what_is_asked_of_a_registry_that_does_not_run_raises_noproc(system: System) -> None:
    absent = Registry.named("absent", system)
    actor = puppet(system)
    for question in (
        lambda: absent.register("k", 1),
        lambda: absent.lookup("k"),
        lambda: absent.whereis("k"),
        lambda: absent.keys(),
        lambda: absent.values("k"),
        lambda: absent.match("k", ...),
        lambda: absent.select(),
        lambda: absent.count(),
        lambda: absent.dispatch("k", print),
        lambda: absent.meta("m"),
        lambda: absent.put_meta("m", 1),
        lambda: absent.delete_meta("m"),
        lambda: absent.lock("k"),
        lambda: absent.ref,
        lambda: absent.update_value("k", abs),
    ):
        with pytest.raises(NoProcess, match="absent"):
            do(actor, question)
    assert "not running" in repr(absent)


def test_an_actor_starts_a_linked_registry_which_ends_with_it(system: System) -> None:
    actor = puppet(system)
    registry = do(actor, Registry.start_link, "unique", name="mine")
    cast(actor, lambda server: Stop("shutdown"))
    watch = monitor(actor)
    assert watch.wait(5) is not None
    until(lambda: system.whereis("mine") is None)
    with pytest.raises(NoProcess):
        registry.count()


def test_a_registry_is_a_child_and_comes_back_empty(system: System) -> None:
    specs = [Registry.child("unique", name="r", meta={"m": 1}), ChildSpec(Puppet, name="worker")]
    top = Supervisor.start(specs, system=system)
    registry = Registry.named("r", system)
    first = registry.ref
    outside = puppet(system)
    do(outside, registry.register, "k", 1)
    registry.put_meta("m", 2)
    kill(first)
    until(lambda: system.whereis("r") not in (None, first))
    assert registry.ref != first
    assert registry.lookup("k") == ()
    assert (registry.count(), registry.meta("m")) == (0, 1)
    assert tree(top).children[0].restarts == 1


def test_its_state_is_shown(system: System) -> None:
    registry = registry_of("duplicate", system, listeners=["ear"], meta={"m": 1})
    actor = puppet(system)
    do(actor, registry.register, "k")
    do(actor, registry.register, "k")
    assert get_state(registry.ref) == {
        "keys": "duplicate",
        "count": 2,
        "holders": 1,
        "listeners": ("ear",),
        "meta": {"m": 1},
    }
    assert repr(registry) == "<Registry r, 2 duplicate keys>"


def test_exit_signals_and_stray_messages_do_not_end_it(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    call(actor, lambda server, caller: server.link(registry.ref))
    kill(actor)
    send(registry.ref, "what is this?")
    assert get_state(registry.ref)["count"] == 0
