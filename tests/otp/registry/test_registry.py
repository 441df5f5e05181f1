"""otp.md, "Registry": unique and duplicate keys, values, dispatch, listeners, gone at death, its place in the tree."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import (
    AlreadyRegistered,
    Exit,
    NameTaken,
    NoProcess,
    NotAnActor,
    NotRegistered,
    SpecError,
    System,
    WrongThread,
    call,
    cast,
    get_state,
    kill,
    send,
    stop,
)
from tests.otp.actors import Trapper, crash, failure_of, seen, until
from tests.otp.registries import do, puppet, registry_of

KINDS = pytest.mark.parametrize("kind", ["unique", "duplicate"])

# ---- holders and their links -------------------------------------------------------------------------------------------


@KINDS
def test_when_the_registry_dies_its_holders_get_an_exit_signal(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    plain, trapping, former = puppet(system), Trapper.start(system=system), puppet(system)
    for actor in (plain, trapping, former):
        do(actor, registry.register, actor)
    do(former, registry.unregister, former)
    where = registry.ref
    kill(where)
    assert plain not in system.processes()
    assert former in system.processes()
    assert call(trapping, seen) == [Exit(where, "killed")]
    with pytest.raises(NoProcess):
        registry.lookup(plain)


def test_when_the_registry_stops_normally_its_holders_live_on_without_keys(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, "k")
    stop(registry.ref)
    assert actor in system.processes()
    assert actor._process.registries is None
    registry_of("unique", system)
    do(actor, registry.register, "k")
    assert registry.whereis("k") == actor


@KINDS
def test_the_last_key_given_back_ends_the_link(system: System, kind: Any) -> None:
    registry = registry_of(kind, system)
    actor = puppet(system)
    for key in ("hello", "world"):
        do(actor, registry.register, key)
    do(actor, registry.unregister, "hello")
    assert actor._process.registries == (registry,)
    do(actor, registry.unregister, "world")
    assert actor._process.registries is None
    kill(registry.ref)
    assert actor in system.processes()


def test_an_actor_may_hold_keys_of_several_registries(system: System) -> None:
    one, two = registry_of("unique", system, "one"), registry_of("duplicate", system, "two")
    actor = puppet(system)
    do(actor, one.register, "k", 1)
    do(actor, two.register, "k", 2)
    assert (one.lookup("k"), two.lookup("k")) == (((actor, 1),), ((actor, 2),))
    do(actor, one.unregister, "k")
    assert two.keys(actor) == ["k"]
    do(actor, one.register, "j")
    kill(actor)
    assert (one.count(), two.count(), one.select(), two.select()) == (0, 0, [], [])


# ---- unique keys -------------------------------------------------------------------------------------------------------


def test_a_unique_key_has_one_holder(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, "hello", "value")
    assert registry.keys(actor) == ["hello"]
    assert registry.values("hello", actor) == ["value"]
    with pytest.raises(AlreadyRegistered) as refused:
        do(actor, registry.register, "hello", "other")
    assert refused.value.holder == actor
    assert registry.values("hello", actor) == ["value"]
    do(actor, registry.register, "world", "value")
    assert sorted(registry.keys(actor)) == ["hello", "world"]
    assert registry.count() == 2


def test_a_second_holder_is_refused_by_an_error_that_names_the_first(system: System) -> None:
    registry = registry_of("unique", system)
    first, second = puppet(system, name="first"), puppet(system)
    do(first, registry.register, "hello", 1)
    with pytest.raises(
        AlreadyRegistered, match=r"registry r: the key 'hello' is held by <first test/\d+>"
    ) as no:
        do(second, registry.register, "hello", 2)
    assert isinstance(no.value, NameTaken)
    assert (no.value.registry, no.value.key, no.value.holder) == ("r", "hello", first)
    assert registry.keys(second) == []
    assert registry.values("hello", second) == []
    assert second._process.registries is None
    assert (registry.count(), registry.lookup("hello")) == (1, ((first, 1),))


def test_a_refused_registration_leaves_nothing(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, "hello")
    do(actor, registry.register, "world")
    with pytest.raises(AlreadyRegistered):
        do(actor, registry.register, "hello")
    assert get_state(registry.ref)["count"] == 2
    kill(actor)
    assert (registry.count(), get_state(registry.ref)["holders"]) == (0, 0)


def test_a_key_is_free_the_moment_its_holder_is_dead(system: System) -> None:
    registry = registry_of("unique", system)
    first, second = puppet(system), puppet(system)
    do(first, registry.register, "hello", "old")
    kill(first)
    assert registry.lookup("hello") == ()
    assert registry.whereis("hello") is None
    do(second, registry.register, "hello", "new")
    assert registry.lookup("hello") == ((second, "new"),)


def test_a_key_can_be_anything_that_a_dict_takes(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    for key in (None, ..., ("a", 1), frozenset({1}), b"bytes", actor, int, "_"):
        do(actor, registry.register, key, key)
    for key in (None, ..., ("a", 1), frozenset({1}), b"bytes", actor, int, "_"):
        assert registry.lookup(key) == ((actor, key),)
    do(actor, registry.unregister, ...)
    assert registry.count() == 7
    with pytest.raises(TypeError, match="unhashable"):
        do(actor, registry.register, ["list"])
    assert registry.count() == 7


def test_keys_are_compared_as_a_dicts_are(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, 1, "one")
    with pytest.raises(AlreadyRegistered):
        do(actor, registry.register, 1.0)
    assert registry.lookup(True) == ((actor, "one"),)
    assert registry.lookup("1") == ()


def test_a_value_is_updated_by_its_holder_only(system: System) -> None:
    registry = registry_of("unique", system)
    other, actor = puppet(system), puppet(system)
    for _ in range(2):
        with pytest.raises(NotRegistered, match="'hello' is not held by") as refused:
            do(actor, registry.update_value, "hello", crash(ValueError("never called")))
        assert (refused.value.key, refused.value.ref) == ("hello", actor)
        if not registry.lookup("hello"):
            do(other, registry.register, "hello", "value")
    do(actor, registry.register, "world", 1)
    assert do(actor, registry.update_value, "world", lambda value: value + 1) == (2, 1)
    assert registry.lookup("world") == ((actor, 2),)


def test_a_value_stays_if_its_update_fails_or_the_key_is_gone_meanwhile(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, "k", 1)
    with pytest.raises(ValueError, match="bad"):
        do(actor, registry.update_value, "k", crash(ValueError("bad")))
    assert registry.lookup("k") == ((actor, 1),)

    def loses_it(value: int) -> int:
        registry.unregister("k")
        return value + 1

    with pytest.raises(NotRegistered):
        do(actor, registry.update_value, "k", loses_it)
    assert registry.lookup("k") == ()
    assert registry.count() == 0


def test_a_holder_gives_its_keys_back(system: System) -> None:
    registry = registry_of("unique", system)
    actor, other = puppet(system), puppet(system)
    do(actor, registry.unregister, "hello")  # nothing there, and no error
    do(actor, registry.register, "hello")
    do(actor, registry.register, "world")
    do(other, registry.unregister, "hello")  # not its own
    assert registry.whereis("hello") == actor
    do(actor, registry.unregister, "hello")
    assert registry.keys(actor) == ["world"]
    do(actor, registry.unregister, "world")
    assert registry.keys(actor) == []
    assert registry.count() == 0


# ---- duplicate keys ----------------------------------------------------------------------------------------------------


def test_a_duplicate_key_has_any_number_of_holders_each_as_often_as_it_likes(system: System) -> None:
    registry = registry_of("duplicate", system)
    one, two = puppet(system), puppet(system)
    do(one, registry.register, "hello", 1)
    do(two, registry.register, "hello", 2)
    do(one, registry.register, "hello", 3)
    do(one, registry.register, "world", 4)
    assert registry.lookup("hello") == ((one, 1), (two, 2), (one, 3))
    assert sorted(registry.keys(one)) == ["hello", "hello", "world"]
    assert registry.keys(two) == ["hello"]
    assert registry.values("hello", one) == [1, 3]
    assert registry.values("hello", two) == [2]
    assert registry.values("world", two) == []
    assert registry.count() == 4


def test_unregister_takes_every_registration_of_the_caller_under_a_key(system: System) -> None:
    registry = registry_of("duplicate", system)
    one, two = puppet(system), puppet(system)
    for key in ("hello", "hello", "world"):
        do(one, registry.register, key)
    do(two, registry.register, "hello")
    do(one, registry.unregister, "hello")
    assert registry.keys(one) == ["world"]
    assert registry.lookup("hello") == ((two, None),)
    do(one, registry.unregister, "world")
    do(one, registry.unregister, "world")
    assert registry.keys(one) == []
    assert registry.count() == 1


def test_a_lookup_follows_every_change(system: System) -> None:
    registry = registry_of("duplicate", system)
    one, two = puppet(system), puppet(system)
    assert registry.lookup("k") == ()
    do(one, registry.register, "k", 1)
    before = registry.lookup("k")
    do(two, registry.register, "k", 2)
    assert before == ((one, 1),)  # what was handed out does not change
    assert registry.lookup("k") == ((one, 1), (two, 2))
    kill(one)
    assert registry.lookup("k") == ((two, 2),)
    do(two, registry.unregister, "k")
    assert registry.lookup("k") == ()


@pytest.mark.parametrize(
    "question",
    [
        lambda registry: registry.update_value("k", abs),
        lambda registry: registry.whereis("k"),
        lambda registry: registry.via("k").whereis(None),
    ],
)
def test_what_needs_unique_keys_is_refused_by_a_duplicate_registry(system: System, question: Any) -> None:
    registry = registry_of("duplicate", system)
    with pytest.raises(SpecError, match="unique"):
        do(puppet(system), question, registry)


# ---- who registers -----------------------------------------------------------------------------------------------------


def test_only_an_actor_registers(system: System) -> None:
    registry = registry_of("unique", system)
    for action in (registry.register, registry.unregister):
        with pytest.raises(NotAnActor):
            action("k")
    with pytest.raises(NotAnActor):
        registry.keys()


def test_another_actor_may_be_registered_by_its_ref(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    registry.register("k", 1, ref=actor)
    assert registry.lookup("k") == ((actor, 1),)
    assert registry.update_value("k", lambda value: value + 1, ref=actor) == (2, 1)
    registry.unregister_match("k", 1, ref=actor)
    assert registry.whereis("k") == actor
    registry.unregister("k", ref=actor)
    assert registry.whereis("k") is None


def test_the_dead_and_the_actors_of_other_systems_are_not_registered(system: System) -> None:
    registry = registry_of("unique", system)
    dead, other = puppet(system), System("other")
    stranger = puppet(other)
    kill(dead)
    with pytest.raises(NoProcess):
        registry.register("k", ref=dead)
    with pytest.raises(SpecError, match="system test"):
        registry.register("k", ref=stranger)
    with pytest.raises(SpecError, match="system test"):
        do(stranger, registry.register, "k")
    assert registry.count() == 0
    assert (registry.keys(dead), registry.keys(stranger)) == ([], [])
    other.shutdown()


def test_a_killed_actor_that_still_runs_can_not_register(system: System) -> None:
    registry = registry_of("unique", system)
    outcome: list[Any] = []

    def lingers(server: Any) -> None:
        try:
            gevent.sleep(10)
        finally:
            outcome.append(failure_of(registry.register, "k"))

    actor = puppet(system)
    cast(actor, lingers)
    gevent.sleep(0)
    kill(actor)
    until(lambda: outcome)
    assert isinstance(outcome[0], NoProcess)
    assert registry.count() == 0


def test_any_thread_may_look_up_and_never_keeps_what_was_for_those_after_it(system: System) -> None:
    unique, duplicate = registry_of("unique", system, "unique"), registry_of("duplicate", system, "duplicate")
    actor = puppet(system)
    do(actor, unique.register, "k", 1)
    do(actor, duplicate.register, "k", 2)
    found = gevent.get_hub().threadpool.apply(
        lambda: (unique.lookup("k"), unique.whereis("no"), duplicate.lookup("k"), duplicate.match("k", int))
    )
    assert found == (((actor, 1),), None, ((actor, 2),), [(actor, 2)])
    assert dict(duplicate._found) == {}
    with pytest.raises(WrongThread):
        gevent.get_hub().threadpool.apply(unique.register, ("j",), {"ref": actor})
    assert unique.count() == 1


# ---- dispatch ----------------------------------------------------------------------------------------------------------


def test_dispatch_calls_nobody_where_nobody_is_registered(system: System) -> None:
    for kind in ("unique", "duplicate"):
        registry_of(kind, system, kind).dispatch("hello", crash(ValueError("never called")))


def test_dispatch_hands_the_one_holder_of_a_unique_key(system: System) -> None:
    registry = registry_of("unique", system)
    actor = puppet(system)
    do(actor, registry.register, "hello", "value")
    registry.dispatch("hello", lambda pairs: [send(ref, ("dispatch", value)) for ref, value in pairs])
    assert call(actor, seen) == [("dispatch", "value")]


def test_dispatch_hands_all_holders_of_a_key_at_once_in_the_callers_own_greenlet(system: System) -> None:
    registry = registry_of("duplicate", system)
    actor = puppet(system)
    for key, value in (("hello", 1), ("hello", 2), ("world", 3)):
        do(actor, registry.register, key, value)
    calls: list[Any] = []

    def deliver(pairs: Any) -> None:
        calls.append(gevent.getcurrent())
        for ref, value in pairs:
            send(ref, ("dispatch", value))

    registry.dispatch("hello", deliver)
    assert call(actor, seen) == [("dispatch", 1), ("dispatch", 2)]
    registry.dispatch("world", deliver)
    assert call(actor, seen)[2:] == [("dispatch", 3)]
    assert calls == [gevent.getcurrent()] * 2


def test_what_a_dispatch_raises_comes_to_its_caller(system: System) -> None:
    registry = registry_of("duplicate", system)
    actor = puppet(system)
    do(actor, registry.register, "k")
    with pytest.raises(ValueError, match="bad"):
        registry.dispatch("k", crash(ValueError("bad")))
    assert registry.lookup("k") == ((actor, None),)


# ---- meta --------------------------------------------------------------------------------------------------------------


def test_a_registry_keeps_something_about_itself(system: System) -> None:
    registry = registry_of("unique", system, meta={"custom": "value"})
    assert registry.meta("custom") == "value"
    assert registry.meta("unknown") is None
    assert registry.meta("unknown", "default") == "default"
    registry.put_meta(("a", "tuple"), 1)
    registry.put_meta("custom", "changed")
    assert (registry.meta(("a", "tuple")), registry.meta("custom")) == (1, "changed")
    registry.delete_meta("custom")
    registry.delete_meta("custom")
    assert registry.meta("custom") is None
