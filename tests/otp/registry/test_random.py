"""Registries under random registering, giving back, and dying: the table is what a plain model says, with no dead in it."""

from __future__ import annotations

import random
from typing import Any

import gevent
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from packetflow.otp import (
    AlreadyRegistered,
    CallFailed,
    ChildSpec,
    DynamicSupervisor,
    GenServer,
    NoProcess,
    Ref,
    Registered,
    Registry,
    StartFailed,
    Supervisor,
    System,
    Unregistered,
    call,
    kill,
    link,
)
from packetflow.otp.simulation.world import World, explore
from tests.otp.actors import Puppet, until
from tests.otp.registries import do, registry_of

KEYS = ["a", "b", "c"]
ACTORS = 4
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("register"), st.integers(0, ACTORS - 1), st.sampled_from(KEYS), st.integers(0, 2)),
        st.tuples(st.just("unregister"), st.integers(0, ACTORS - 1), st.sampled_from(KEYS)),
        st.tuples(
            st.just("unregister_match"), st.integers(0, ACTORS - 1), st.sampled_from(KEYS), st.integers(0, 2)
        ),
        st.tuples(st.just("update"), st.integers(0, ACTORS - 1), st.sampled_from(KEYS)),
        st.tuples(st.just("start"), st.integers(0, ACTORS - 1), st.sampled_from(KEYS)),
        st.tuples(st.just("link"), st.integers(0, ACTORS - 1), st.integers(0, ACTORS - 1)),
        st.tuples(st.just("kill"), st.integers(0, ACTORS - 1)),
        st.tuples(st.just("end registry")),
    ),
    max_size=40,
)


class Mirror(GenServer):
    """A listener that rebuilds the table from what it hears."""

    def init(self) -> None:
        self.table: list[tuple[Any, Ref, Any]] = []

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Registered):
            self.table.append((message.key, message.ref, message.value))
        else:
            assert isinstance(message, Unregistered)
            self.table.remove((message.key, message.ref, message.value))

    def handle_call(self, request: Any, caller: Any) -> Any:
        return list(self.table)


class Model:
    """A list of registrations and a set of links; slow, and easily seen to be right."""

    def __init__(self, unique: bool) -> None:
        self.unique = unique
        self.table: list[tuple[Any, Ref, Any]] = []
        self.links: set[frozenset[Ref]] = set()
        self.dead: set[Ref] = set()

    def register(self, key: Any, ref: Ref, value: Any) -> bool:
        if self.unique and any(key == each for each, _, _ in self.table):
            return False
        self.table.append((key, ref, value))
        return True

    def refused(self, key: Any, holder: Ref) -> None:
        assert self.unique
        assert [ref for each, ref, _ in self.table if each == key] == [holder]

    def unregister(self, key: Any, ref: Ref, value: Any = ...) -> None:
        self.table = [
            (each, holder, its)
            for each, holder, its in self.table
            if not (each == key and holder == ref and value in (..., its))
        ]

    def die(self, ref: Ref) -> None:
        if ref in self.dead:
            return
        self.dead.add(ref)
        self.table = [entry for entry in self.table if entry[1] != ref]
        for pair in [pair for pair in self.links if ref in pair]:
            for other in pair:
                self.die(other)


def check(registry: Registry, model: Model, refs: list[Ref]) -> None:
    living = {ref for ref in refs if ref not in model.dead}
    found = registry.select()
    assert sorted(map(repr, found)) == sorted(map(repr, model.table))
    assert all(ref in living for _, ref, _ in found)
    assert registry.count() == len(model.table)
    for key in KEYS:
        assert registry.lookup(key) == tuple((ref, value) for each, ref, value in model.table if each == key)
    for ref in refs:
        mine = [key for key, holder, _ in model.table if holder == ref]
        assert sorted(registry.keys(ref)) == sorted(mine)
        assert (ref._process.registries is not None) == bool(mine)
        for key in KEYS:
            assert registry.values(key, ref) == [
                value for each, holder, value in model.table if each == key and holder == ref
            ]
    assert registry._members.keys() == ({key for key, _, _ in model.table} if not model.unique else set())
    assert len(registry._holders) == len({ref for _, ref, _ in model.table})


@pytest.mark.parametrize("kind", ["unique", "duplicate"])
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_the_table_is_what_the_model_says(kind: Any, steps: list[Any]) -> None:
    system = System("model")
    mirror = Mirror.start(name="mirror", system=system)
    registry = registry_of(kind, system, listeners=["mirror"])
    model = Model(kind == "unique")
    refs: list[Ref] = [Puppet.start(system=system) for _ in range(ACTORS)]
    everybody = list(refs)
    for step in steps:
        what, *rest = step
        if what == "end registry":
            holders = {ref for _, ref, _ in model.table}
            kill(registry.ref)
            kill(mirror)
            for ref in holders:
                model.die(ref)
            model.table = []
            mirror = Mirror.start(name="mirror", system=system)
            registry_of(kind, system, listeners=["mirror"])
        else:
            at, *rest = rest
            one_step(system, registry, model, refs, everybody, what, at, *rest)
        assert {ref for ref in everybody if ref._process.current is not None} >= model.dead
        check(registry, model, everybody)
    assert sorted(map(repr, call(mirror, None))) == sorted(map(repr, model.table))
    assert [ref for ref in everybody if ref in system.processes()] == [
        ref for ref in everybody if ref not in model.dead
    ]
    system.shutdown()
    assert system.processes() == []
    assert registry._holders == {}
    assert dict(registry._found) == {}


def one_step(
    system: System,
    registry: Registry,
    model: Model,
    refs: list[Ref],
    everybody: list[Ref],
    what: str,
    at: int,
    *rest: Any,
) -> None:
    ref = refs[at]
    if what == "start":  # in the place of a dead one, by name
        if ref in model.dead:
            name = registry.via(rest[0], "named") if model.unique else None
            try:
                refs[at] = Puppet.start(name=name, system=system)
            except AlreadyRegistered as error:
                model.refused(rest[0], error.holder)
            else:
                everybody.append(refs[at])
                if name is not None:
                    assert model.register(rest[0], refs[at], "named")
    elif what == "kill":
        kill(ref)
        model.die(ref)
    elif ref in model.dead:
        with pytest.raises(NoProcess):
            registry.register("a", ref=ref)
    elif what == "link":
        if refs[rest[0]] not in model.dead:
            do(ref, link, refs[rest[0]])
            if refs[rest[0]] != ref:
                model.links.add(frozenset((ref, refs[rest[0]])))
    elif what == "register":
        key, value = rest
        try:
            do(ref, registry.register, key, value)
        except AlreadyRegistered as error:
            model.refused(key, error.holder)
        else:
            assert model.register(key, ref, value)
    elif what == "unregister":
        do(ref, registry.unregister, rest[0])
        model.unregister(rest[0], ref)
    elif what == "unregister_match":
        do(ref, registry.unregister_match, *rest)
        model.unregister(rest[0], ref, rest[1])
    elif (
        what == "update"
        and model.unique
        and [1 for key, holder, _ in model.table if (key, holder) == (rest[0], ref)]
    ):
        # Listeners hear nothing of it: the value stays the same here, so that the mirror stays right.
        do(ref, registry.update_value, rest[0], lambda value: value)


class Nomad(GenServer):
    """Registers, gives back, crashes and asks others, as it likes, under the eyes of those who look everything up."""

    def init(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.unique = Registry.named("unique", self.system)
        self.duplicate = Registry.named("duplicate", self.system)

    def handle_call(self, request: Any, caller: Any) -> Any:
        draw = self.random.random()
        key = self.random.randrange(20)
        try:
            if draw < 0.3:
                self.unique.register(key, "mine")
            elif draw < 0.6:
                self.duplicate.register(key, self.random.randrange(3))
            elif draw < 0.7:
                self.unique.unregister(key)
            elif draw < 0.8:
                self.duplicate.unregister_match(key, self.random.randrange(3))
            elif draw < 0.85:
                with self.unique.lock(key % 2, 0.5):
                    gevent.sleep(0)
            elif draw < 0.9:
                return self.call(self.unique.via(key), 1, 0.05)
            elif draw < 0.93:
                raise ValueError("a crash")
            elif draw < 0.95:
                kill(self.ref)
            else:
                gevent.sleep(0)
        except (AlreadyRegistered, CallFailed):
            pass  # another has it, or nobody, or the registry is between two lives
        return None


@pytest.mark.parametrize("seed", range(3))
def test_under_random_kills_nobody_dead_is_seen_and_nothing_is_left(seed: int) -> None:
    system = System("stormy")
    draw = random.Random(seed)
    options: dict[str, Any] = {"max_restarts": 10**6, "max_seconds": 1.0}
    top = Supervisor.start(
        [
            Registry.child("unique", name="unique", listeners=["ear"]),
            Registry.child("duplicate", name="duplicate"),
            DynamicSupervisor.child(name="pool", **options),
        ],
        system=system,
        **options,
    )
    registries = [Registry.named(name, system) for name in ("unique", "duplicate")]
    looks = dict.fromkeys(("looked", "found", "between"), 0)
    done = False

    def alive(ref: Ref) -> bool:
        return system.scheduler.processes.get(ref.id) is ref._process

    def look() -> None:
        while not done:
            for registry in registries:
                try:
                    found = registry.select()
                    looks["looked"] += 1
                    looks["found"] += len(found)
                    assert all(alive(ref) for _, ref, _ in found)
                    assert registry.count() == len(found)
                    for key, ref, value in found:
                        assert (ref, value) in registry.lookup(key)
                        assert key in registry.keys(ref)
                    for key in range(20):
                        assert all(alive(ref) for ref, _ in registry.lookup(key))
                except NoProcess:
                    looks["between"] += 1
            gevent.sleep(0)

    def use() -> None:
        for _ in range(150):
            living = [ref for ref in system.processes() if ref._process.label() == "Nomad"]
            try:
                if len(living) < 15:
                    DynamicSupervisor.start_child(
                        system.find("pool"), ChildSpec(Nomad, draw.randrange(10**6))
                    )
                else:
                    call(draw.choice(living), None, 1.0)
            except (CallFailed, StartFailed):
                pass  # whoever was asked has died
            gevent.sleep(0)

    def end() -> None:
        while not done:
            living = [ref for ref in system.processes() if ref != top]
            if living:
                kill(draw.choice(living))
            gevent.sleep(draw.choice([0, 0.0005]))

    users = [gevent.spawn(use) for _ in range(8)]
    others = [gevent.spawn(look), gevent.spawn(end)]
    gevent.joinall(users, timeout=30, raise_error=True)
    assert all(one.ready() for one in users), "a call hangs"
    done = True
    gevent.joinall(others, timeout=5, raise_error=True)
    assert looks["looked"] > 20, looks
    assert looks["found"] > 20, looks

    system.shutdown(timeout=0.5)
    until(lambda: not system.scheduler.lingering)
    until(lambda: system.scheduler.workers == 0)
    assert system.processes() == []
    for registry in registries:
        assert (registry._owner, registry._count) == (None, 0)
        assert registry._holders == {}
        assert registry._members == {}
        assert dict(registry._found) == {}
        until(lambda registry=registry: registry._locks._held == {})


def nomads(world: World) -> int:
    """The same in an order that a seed draws: between any two turns somebody may be killed, and the table is right."""
    system = world.system()
    options: dict[str, Any] = {"max_restarts": 10**6, "max_seconds": 1.0}
    Supervisor.start(
        [
            Registry.child("unique", name="unique"),
            Registry.child("duplicate", name="duplicate"),
            DynamicSupervisor.child(name="pool", **options),
        ],
        name="top",
        system=system,
        **options,
    )
    registries = [Registry.named(name, system) for name in ("unique", "duplicate")]
    world.kill_at_random(0.03, lambda server: server.ref != system.whereis("top"))
    looked = 0

    def look() -> int:
        count = 0
        for registry in registries:
            try:
                found = registry.select()
            except NoProcess:
                continue  # between two lives
            assert all(system.scheduler.processes.get(ref.id) is ref._process for _, ref, _ in found)
            assert registry.count() == len(found)
            for key in range(20):
                pairs = [(ref, value) for each, ref, value in found if each == key]
                assert sorted(map(repr, registry.lookup(key))) == sorted(map(repr, pairs))
            count += len(found)
        return count

    for _ in range(60):
        living = [ref for ref in system.processes() if ref._process.label() == "Nomad"]
        try:
            if len(living) < 6:
                spec = ChildSpec(Nomad, world.random.randrange(10**6))
                DynamicSupervisor.start_child(system.find("pool"), spec, 5.0)
            else:
                call(world.random.choice(living), None, 5.0)
        except (CallFailed, StartFailed):
            pass  # whoever was asked has died
        looked += look()
    world.kill_at_random(0.0)
    system.shutdown()
    for registry in registries:
        assert (registry._owner, registry._count, registry._holders) == (None, 0, {})
        assert registry._locks._held == {}
    return looked


def test_in_whatever_order_nobody_dead_is_seen() -> None:
    assert sum(run.value for run in explore(nomads, range(40))) > 100
