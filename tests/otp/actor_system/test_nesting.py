"""An actor system as an actor: systems in systems, what they answer about themselves, members that come and go."""

from __future__ import annotations

import pytest

from packetflow.otp import ActorSystem, ChildNotFound, Clock, Message, Response, Send, System, call, kill
from tests.otp.actor_system.test_invariants import counter, forwarder, recorder
from tests.otp.actor_system.test_system import ASK, crash, do, worker
from tests.otp.actors import Puppet

# ---- the system as an actor ------------------------------------------------------------------------------------------------


def test_route_forwards_to_a_nested_target(actors: ActorSystem, system: System) -> None:
    sub = ActorSystem(system)
    sub.register("counter", counter, 0)
    actors.register("sub", sub)
    add = Message("2", "add", 3)
    assert actors.send(Message("1", "route", {"target": "sub/counter", "message": add})).data == 3
    inner = Message("1", "route", {"target": "counter", "message": add})
    assert actors.send("sub", inner).data == 6
    assert actors.send(Message("0", "route", {"target": "sub", "message": inner})).data == 9
    lost = actors.send("sub", Message("1", "route", {"target": "nobody", "message": add}))
    assert lost == Response(False, error="Actor not found: nobody", code="not_found")
    for payload in (
        None,
        {},
        {"target": "sub"},
        {"target": 1, "message": add},
        {"target": "sub", "message": 1},
    ):
        assert actors.send(Message("1", "route", payload)).code == "validation_failed"
    sub.close()


def test_stats_counts_members_messages_errors_and_tells_the_uptime() -> None:
    now = [100.0]
    world = System(clock=Clock(monotonic=lambda: now[0]))
    actors = ActorSystem(world)
    sub = ActorSystem(world)
    actors.register("sub", sub)
    actors.register("bad", worker, None)
    now[0] = 107.5
    actors.send("bad", do(crash))
    actors.send("sub/nobody", ASK)
    actors.future("sub/nobody", ASK).get()
    assert sub.send(Message("1", "stats")).data == {"messages": 2, "errors": 2, "members": 0, "uptime": 7.5}
    assert actors.send(Message("1", "stats")).data == {
        "messages": 3,
        "errors": 3,
        "members": 2,
        "uptime": 7.5,
    }
    world.shutdown()


def test_what_a_system_does_not_answer_is_told(actors: ActorSystem) -> None:
    told = actors.send(Message("1", "dance"))
    assert told.error == "a system answers list, stats and route, not 'dance'"
    assert told.code == "validation_failed"


def test_meta_messages_are_the_systems_and_no_actor_sees_them(actors: ActorSystem) -> None:
    seen: list[Message] = []
    member = actors.register("recorder", recorder, seen)
    for kind in ("list", "stats"):
        actors.send(Message("1", kind))
    assert seen == []
    member.send(Message("2", "list"))  # an actor may use the same words for its own
    assert [message.type for message in seen] == ["list"]


def test_a_system_below_may_lead_back_up(actors: ActorSystem, system: System) -> None:
    sub = ActorSystem(system)
    actors.register("sub", sub)
    sub.register("up", actors)
    actors.register("counter", counter, 1)
    sub.register("climber", forwarder, "up/counter")
    assert actors.send("sub/climber", Message("1", "go", 1)).data == 2
    assert actors.send("sub/up/sub/up/counter", ASK).data == 2
    sub.close()


def test_a_ref_may_be_a_member_and_what_it_answers_is_checked(actors: ActorSystem, system: System) -> None:
    ref = Puppet.start(system=system)
    assert ref is not None
    actors.register("puppet", ref)
    failed = actors.send("puppet", Message("1", "any"))
    assert failed.code == "contract_violated"
    assert str(failed.error).startswith("puppet answered Message(")
    actors.unregister("puppet")
    assert call(ref, "still there") == "still there"


def test_an_actor_that_is_made_already_can_be_registered(actors: ActorSystem, system: System) -> None:
    made = counter(5, None)  # type: ignore[arg-type]
    member = actors.register("made", made)
    assert member.send(Message("1", "add", 1)).data == 6
    kill(system.find("shop/made"))
    assert member.send(Message("1", "add", 1)).data == 7  # it can't be made anew: it goes on


def test_a_class_is_a_factory(actors: ActorSystem) -> None:
    class Greeter:
        def __init__(self, greeting: str, send: Send) -> None:
            self.greeting = greeting

        def send(self, message: Message) -> Response:
            return Response(True, f"{self.greeting} {message.payload}")

    assert actors.register("greeter", Greeter, "hello").send(Message("1", "greet", "Ana")).data == "hello Ana"


def test_unregister_stops_the_actor_and_an_unknown_one_raises(actors: ActorSystem, system: System) -> None:
    actors.register("a", counter, 1)
    before = len(system.processes())
    actors.unregister("a")
    assert system.whereis("shop/a") is None
    assert len(system.processes()) == before - 2
    assert actors.send("a", ASK).error == "Actor not found: a"
    with pytest.raises(ChildNotFound):
        actors.unregister("a")


def test_close_stops_the_members_and_leaves_systems_of_others(system: System) -> None:
    before = set(system.processes())
    sub = ActorSystem(system)
    sub.register("a", counter, 1)
    with ActorSystem(system) as actors:
        actors.register("sub", sub)
        actors.register("b", counter, 2)
    assert actors.send("b", ASK).code == "unavailable"
    assert sub.send("a", ASK).data == 1
    sub.close()
    sub.close()
    assert set(system.processes()) == before


def test_a_world_of_its_own_ends_with_it() -> None:
    with ActorSystem() as actors:
        assert actors.register("a", counter, 1).send(ASK).data == 1
        world = actors._world
        assert world.whereis("a") is not None
    assert world.processes() == []
