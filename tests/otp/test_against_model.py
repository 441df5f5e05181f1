"""Random programs, run by the real actors with the fast path on and by the reference model: they have to agree.

1,000 programs in the usual run. For 10,000:

    PACKETFLOW_OTP_PROGRAMS=10000 python -m pytest tests/otp/test_against_model.py
"""

from __future__ import annotations

import logging
from typing import Any

import gevent
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow.otp import (
    CallCycle,
    Down,
    Exit,
    GenServer,
    NoProcess,
    Ref,
    ServerExited,
    System,
    call,
    cast,
    exit_signal,
    kill,
    link,
    monitor,
    send,
    stop,
    unlink,
)
from tests.otp.actors import programs, until
from tests.otp.model import Model


class Crash(Exception):
    pass


def plain(reason: object) -> object:
    return str(reason) if isinstance(reason, Crash) else reason


class Real(GenServer):
    """The model's actor, as a GenServer."""

    def init(self, world: World, trap: bool) -> None:
        self.trap_exits = trap
        self.world = world
        self.total = 0
        self.log: list[Any] = []
        self.terminated: object = None
        self.gate = Event()

    def handle_call(self, request: Any, caller: Any) -> Any:
        kind, argument = request
        match kind:
            case "chain":
                return self.chain(argument)
            case "do":
                return argument()
        return self.act(kind, argument)

    def handle_cast(self, message: Any) -> None:
        self.act(*message)

    def handle_info(self, message: Any) -> None:
        match message:
            case Down(_, ref, reason):
                self.log.append(("down", self.world.number(ref), plain(reason)))
            case Exit(ref, reason):
                self.log.append(("exit", self.world.number(ref), plain(reason)))
            case _:
                self.log.append(message)

    def act(self, kind: str, argument: Any) -> Any:
        match kind:
            case "add":
                self.total += argument
                return self.total
            case "block":
                self.gate.clear()
                self.gate.wait()
                return "released"
            case "crash":
                raise Crash(argument)
        raise AssertionError(kind)

    def chain(self, rest: list[int]) -> Any:
        if not rest:
            return self.act("add", 1)
        return outcome(lambda: call(self.world.refs[rest[0]], ("chain", rest[1:]), 30.0))

    def terminate(self, reason: object) -> None:
        self.terminated = plain(reason)


def outcome(action: Any) -> Any:
    try:
        return action()
    except CallCycle:
        return "cycle"
    except NoProcess:
        return "noproc"
    except ServerExited as error:
        return ("exited", plain(error.reason))


class World:
    """The real actors of one program."""

    def __init__(self) -> None:
        self.system = System("world")
        self.refs: list[Ref] = []
        self.servers: list[Real] = []
        self.results: dict[int, Any] = {}
        self.clients: list[Any] = []

    def number(self, ref: Any) -> int:
        return self.refs.index(ref)

    def spawn(self, trap: bool) -> None:
        ref = Real.start(self, trap, system=self.system)
        assert ref is not None
        self.refs.append(ref)
        self.servers.append(ref._process.server)  # type: ignore[arg-type]

    def ask(self, client: int, action: Any) -> None:
        def run() -> None:
            self.results[client] = outcome(action)

        self.clients.append(gevent.spawn(run))

    def settle(self) -> None:
        """Until nobody can go on: what is left waits for a gate."""
        for _ in range(3):
            gevent.idle()
        scheduler = self.system.scheduler
        until(lambda: not scheduler.run_queue and not scheduler.lingering)

    def in_turn(self, number: int, action: Any) -> None:
        """Has an actor that is free do something itself."""
        outcome(lambda: call(self.refs[number], ("do", action)))


ACTOR = st.integers(0, 5)
REASON = st.sampled_from(["normal", "shutdown", "odd"])
STEP = st.one_of(
    st.tuples(st.just("spawn"), st.booleans()),
    st.tuples(st.just("call"), ACTOR, st.integers(1, 9)),
    st.tuples(st.just("cast"), ACTOR, st.integers(1, 9)),
    st.tuples(st.just("send"), ACTOR, st.integers(1, 9)),
    st.tuples(st.just("chain"), st.lists(ACTOR, min_size=1, max_size=5)),
    st.tuples(st.just("block"), ACTOR, st.booleans()),
    st.tuples(st.just("release"), ACTOR),
    st.tuples(st.just("crash"), ACTOR, st.booleans()),
    st.tuples(st.just("stop"), ACTOR, REASON),
    st.tuples(st.just("kill"), ACTOR),
    st.tuples(st.just("signal"), ACTOR, REASON),
    st.tuples(st.just("link"), ACTOR, ACTOR),
    st.tuples(st.just("unlink"), ACTOR, ACTOR),
    st.tuples(st.just("monitor"), ACTOR, ACTOR),
)


def apply(step: tuple[Any, ...], client: int, model: Model, world: World) -> None:
    kind, *rest = step
    if kind == "spawn":
        if len(model.actors) < 6:
            model.spawn(rest[0])
            world.spawn(rest[0])
        return
    count = len(model.actors)
    if kind == "chain":
        path = [number % count for number in rest[0]]
        if any(model.actors[number].blocked for number in path):
            return
        model.deliver(path[0], ("chain", path[1:], client))
        world.ask(client, lambda: call(world.refs[path[0]], ("chain", path[1:]), 30.0))
        return
    at = rest[0] % count
    actor, ref = model.actors[at], world.refs[at]
    match kind:
        case "call":
            model.deliver(at, ("add", rest[1], client))
            world.ask(client, lambda: call(ref, ("add", rest[1]), 30.0))
        case "cast":
            model.deliver(at, ("add", rest[1], None))
            cast(ref, ("add", rest[1]))
        case "send":
            model.deliver(at, ("info", rest[1], None))
            send(ref, rest[1])
        case "block" if rest[1]:
            model.deliver(at, ("block", None, client))
            world.ask(client, lambda: call(ref, ("block", None), 30.0))
        case "block":
            model.deliver(at, ("block", None, None))
            cast(ref, ("block", None))
        case "release":
            model.release(at)
            world.servers[at].gate.set()
        case "crash" if rest[1]:
            model.deliver(at, ("crash", f"crash {client}", client))
            world.ask(client, lambda: call(ref, ("crash", f"crash {client}"), 30.0))
        case "crash":
            model.deliver(at, ("crash", f"crash {client}", None))
            cast(ref, ("crash", f"crash {client}"))
        case "stop":
            model.deliver(at, ("stop", rest[1], client))
            world.ask(client, lambda: stop(ref, rest[1]) or "stopped")
        case "kill":
            if actor.alive:
                model.die(actor, "killed")
            kill(ref)
        case "signal":
            model.signal(actor, at, rest[1])
            exit_signal(ref, rest[1])
        case _:
            other = rest[1] % count
            if actor.blocked or not actor.alive:
                return
            getattr(model, kind)(at, other)
            action = {"link": link, "unlink": unlink, "monitor": monitor}[kind]
            world.in_turn(at, lambda: action(world.refs[other]) and None)


@settings(max_examples=programs(1000), deadline=None)
@given(st.lists(STEP, min_size=1, max_size=40))
def test_random_programs_end_as_the_model_says(program: list[tuple[Any, ...]]) -> None:
    logging.getLogger("packetflow.otp").setLevel(logging.CRITICAL)
    model, world = Model(), World()
    for trap in (False, True):
        model.spawn(trap)
        world.spawn(trap)
    for client, step in enumerate(program):
        apply(step, client, model, world)
        world.settle()
        compare(model, world)
    for number in range(len(model.actors)):
        while model.actors[number].blocked:
            model.release(number)
            world.servers[number].gate.set()
            world.settle()
    compare(model, world)
    assert len(world.results) == len(world.clients), "a call hangs"
    world.system.shutdown()
    assert world.system.processes() == []


def compare(model: Model, world: World) -> None:
    assert world.results == model.results
    living = world.system.processes()
    for actor, ref, server in zip(model.actors, world.refs, world.servers, strict=True):
        assert (ref in living) is actor.alive
        assert server.total == actor.total
        assert sorted(map(repr, server.log)) == sorted(map(repr, actor.log))
        assert server.terminated == actor.terminated
        if actor.alive:
            bonds = ref._process.bonds
            links = {world.number(process.ref) for process in bonds.links} if bonds is not None else set()
            assert links == actor.links
