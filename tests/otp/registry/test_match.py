"""otp.md, "Registry": match, select and what goes with them; the patterns."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from packetflow.otp import NoProcess, Ref, Registry, System, kill
from packetflow.otp.registry.patterns import matches
from tests.otp.registries import do, puppet, registry_of

KINDS = pytest.mark.parametrize("kind", ["unique", "duplicate"])


class Point(NamedTuple):
    x: int
    y: int


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (..., [1, None, (), ...], []),
        (5, [5, 5.0], [6, "5", None]),
        ("text", ["text"], ["text ", b"text"]),
        (None, [None], [0, False, ()]),
        ((1, ...), [(1, 2), (1, None), Point(1, 9)], [(2, 1), (1,), (1, 2, 3), [1, 2], 1]),
        (Point(1, 2), [(1, 2), Point(1, 2)], [(2, 1)]),
        ([..., 2], [[1, 2]], [(1, 2), [2, 1], []]),
        ((), [()], [(1,), []]),
        ({"b": int}, [{"b": 1}, {"a": "a", "b": 2}], [{"b": "b"}, {"a": 1}, 1, None]),
        ({}, [{}, {"a": 1}], [[], 0]),
        (str, ["a", ""], [1, b"a", str]),
        (lambda value: value > 3, [4], [3, 0]),
        (
            (1, (str, ...), {"deep": [lambda n: n % 2]}),
            [(1, ("a", 0), {"deep": [3]})],
            [(1, ("a", 0), {"deep": [2]})],
        ),
    ],
)
def test_patterns(pattern: Any, yes: list[Any], no: list[Any]) -> None:
    assert [value for value in yes if not matches(pattern, value)] == []
    assert [value for value in no if matches(pattern, value)] == []


def test_what_a_predicate_raises_comes_to_the_one_who_asks(system: System) -> None:
    registry, actor = filled(system, "unique", hello=(1, "a", 2))
    with pytest.raises(TypeError):
        registry.match("hello", lambda value: value > 1)
    with pytest.raises(TypeError):
        do(actor, registry.unregister_match, "hello", lambda value: value > 1)
    assert registry.count() == 1


def filled(system: System, kind: Any, **values: Any) -> tuple[Registry, Ref]:
    registry = registry_of(kind, system)
    actor = puppet(system)
    for key, value in values.items():
        do(actor, registry.register, key, value)
    return registry, actor


def twice(system: System) -> tuple[Registry, Ref]:
    """A duplicate registry in which an actor has a key with two values."""
    registry, actor = filled(system, "duplicate", hello=(1, "a", 1))
    do(actor, registry.register, "hello", (2, "a", 2))
    return registry, actor


# ---- match -------------------------------------------------------------------------------------------------------------


@KINDS
def test_match_finds_by_structure(system: System, kind: Any) -> None:
    value, other = (1, "a", 1), {"a": "a", "b": "b"}
    registry, actor = filled(system, kind, hello=value, world=other)
    assert registry.match("hello", (1, ..., ...)) == [(actor, value)]
    assert registry.match("hello", (2, ..., ...)) == []
    assert registry.match("hello", (..., "a", ...)) == [(actor, value)]
    assert registry.match("hello", lambda whole: whole[0] == whole[2]) == [(actor, value)]
    assert registry.match("hello", ...) == [(actor, value)]
    assert registry.match(..., ...) == []  # the key is a key here, no pattern
    assert registry.match("world", {"b": "b"}) == [(actor, other)]
    assert registry.match("nobody", ...) == []


@KINDS
def test_match_takes_conditions(system: System, kind: Any) -> None:
    registry, actor = filled(system, kind, hello=(1, "a", 2))
    assert registry.match("hello", (..., ..., lambda n: n > 1)) == [(actor, (1, "a", 2))]
    assert registry.match("hello", (..., ..., lambda n: n > 2)) == []
    assert registry.match("hello", (..., str, ...)) == [(actor, (1, "a", 2))]


def test_match_tells_several_registrations_of_a_key_apart(system: System) -> None:
    registry, actor = twice(system)
    one, two = (actor, (1, "a", 1)), (actor, (2, "a", 2))
    assert registry.match("hello", (1, ..., ...)) == [one]
    assert registry.match("hello", (2, ..., ...)) == [two]
    assert registry.match("hello", (..., "a", ...)) == [one, two]
    assert registry.match("hello", (lambda n: n < 3, ..., ...)) == [one, two]
    assert registry.match("hello", (lambda n: n > 3, ..., ...)) == []


@KINDS
def test_count_match_counts_what_match_finds(system: System, kind: Any) -> None:
    registry, _ = filled(system, kind, hello=(1, "a", 2), world={"a": 1, "b": 2})
    assert registry.count_match("hello", (1, ..., ...)) == 1
    assert registry.count_match("hello", (..., ..., lambda n: n > 2)) == 0
    assert registry.count_match("hello", ...) == 1
    assert registry.count_match(..., ...) == 0
    assert registry.count_match("world", {"b": 2}) == 1


# ---- unregister_match --------------------------------------------------------------------------------------------------


def test_unregister_match_gives_a_key_back_if_the_value_matches(system: System) -> None:
    registry, actor = filled(system, "unique", hello=(1, "a", 1), world=1)
    for pattern in ((2, ..., ...), lambda value: value[0] > 1, "other"):
        do(actor, registry.unregister_match, "hello", pattern)
        assert registry.lookup("hello") == ((actor, (1, "a", 1)),)
    do(actor, registry.unregister_match, "nobody", ...)
    do(puppet(system), registry.unregister_match, "hello", ...)  # not its own
    assert registry.count() == 2
    do(actor, registry.unregister_match, "hello", (..., "a", ...))
    assert registry.lookup("hello") == ()
    assert registry.keys(actor) == ["world"]
    do(actor, registry.unregister_match, "world", int)
    assert actor._process.registries is None


def test_unregister_match_leaves_the_other_registrations_of_the_key(system: System) -> None:
    registry, actor = twice(system)
    other = puppet(system)
    do(other, registry.register, "hello", (2, "a", 2))
    do(actor, registry.unregister_match, "hello", (2, ..., ...))
    assert registry.lookup("hello") == ((actor, (1, "a", 1)), (other, (2, "a", 2)))
    assert registry.keys(actor) == ["hello"]
    do(actor, registry.register, "hello", (2, "b", 2))
    do(actor, registry.unregister_match, "hello", (lambda n: n < 2, ..., ...))
    assert registry.values("hello", actor) == [(2, "b", 2)]
    do(actor, registry.unregister_match, "hello", (..., str, ...))
    assert registry.lookup("hello") == ((other, (2, "a", 2)),)
    assert (registry.keys(actor), registry.count()) == ([], 1)


@KINDS
def test_a_predicate_that_changes_the_table_itself_does_no_harm(system: System, kind: Any) -> None:
    registry, actor = filled(system, kind, hello=1)
    if kind == "duplicate":
        do(actor, registry.register, "hello", 2)

    def meddles(value: int) -> bool:
        registry.unregister("hello")
        return True

    do(actor, registry.unregister_match, "hello", meddles)
    assert (registry.count(), registry.lookup("hello"), actor._process.registries) == (0, (), None)


@KINDS
def test_keys_that_look_like_patterns_are_just_keys(system: System, kind: Any) -> None:
    registry, actor = filled(system, kind, hello="b")
    do(actor, registry.register, ..., "foo")
    do(actor, registry.register, (..., 1), "bar")
    assert registry.match(..., ...) == [(actor, "foo")]
    assert registry.match((..., 1), ...) == [(actor, "bar")]
    assert registry.count_match(..., "foo") == 1
    do(actor, registry.unregister_match, ..., "foo")
    do(actor, registry.unregister, (..., 1))
    assert registry.lookup(...) == ()
    assert registry.keys(actor) == ["hello"]


# ---- select ------------------------------------------------------------------------------------------------------------


@KINDS
def test_select_of_an_empty_registry_is_empty(system: System, kind: Any) -> None:
    assert registry_of(kind, system).select() == []


@KINDS
def test_select_gives_keys_refs_and_values(system: System, kind: Any) -> None:
    value, other = (1, "a", 2), {"a": "a", "b": "b"}
    registry, actor = filled(system, kind, hello=value, world=other)
    hello, world = ("hello", actor, value), ("world", actor, other)
    assert registry.select() == [hello, world]
    assert registry.select(key="hello") == [hello]
    assert registry.select(key="nobody") == []
    assert registry.select(ref=actor) == [hello, world]
    assert registry.select(ref=puppet(system)) == []
    assert registry.select(value=value) == [hello]
    assert registry.select(value=(1, str, ...)) == [hello]
    assert registry.select(value=(..., ..., lambda n: n > 2)) == []
    assert registry.select("world", actor, {"b": "b"}) == [world]
    assert registry.select(key=lambda key: key in ("hello", "world")) == [hello, world]


def test_select_gives_each_registration_of_a_duplicate_key(system: System) -> None:
    registry, actor = twice(system)
    assert registry.select() == [("hello", actor, (1, "a", 1)), ("hello", actor, (2, "a", 2))]
    assert registry.select(value=(2, ..., ...)) == [("hello", actor, (2, "a", 2))]


@KINDS
def test_count_select_counts_what_select_finds(system: System, kind: Any) -> None:
    registry, _ = filled(system, kind, hello=(1, "a", 2), world=None)
    assert registry.count_select() == 2
    assert registry.count_select(value=(1, "a", ...)) == 1
    assert registry.count_select("hello", ..., None) == 0
    assert registry.count_select(key=str) == 2
    assert registry.count_select(value=(..., ..., lambda n: n > 1)) == 1
    assert registry.count_select(key=lambda key: key in ("hello", "world")) == 2


@KINDS
def test_select_of_a_key_that_looks_like_a_pattern_takes_a_predicate(system: System, kind: Any) -> None:
    registry, actor = filled(system, kind, hello="a")
    do(actor, registry.register, ..., (1, "a"))
    do(actor, registry.register, (..., 1), (3, "a"))
    assert len(registry.select(key=...)) == 3  # here it is a pattern
    assert registry.select(key=lambda key: key is ...) == [(..., actor, (1, "a"))]
    assert registry.select(key=lambda key: key == (..., 1)) == [((..., 1), actor, (3, "a"))]
    assert registry.count_select(key=lambda key: key is ...) == 1
    assert registry.count_select(key="hello") == 1


@KINDS
def test_select_sees_the_table_as_it_was_when_it_began(system: System, kind: Any) -> None:
    registry, actor = filled(system, kind, a=1, b=2)

    def ends_it(key: str) -> bool:
        kill(actor)
        return True

    assert [key for key, _, _ in registry.select(key=ends_it)] == ["a", "b"]
    assert registry.select() == []


@KINDS
def test_the_unknown_registry_is_named(system: System, kind: Any) -> None:
    with pytest.raises(NoProcess, match="unknown"):
        do(puppet(system), Registry.named("unknown", system).register, "hello", "value")
