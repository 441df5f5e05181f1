"""The seven invariants of the small face, in the nine groups and 22 cases of their own verification.

Each group runs in several worlds that the actors cannot tell apart: plain, with bounded mailboxes, under supervision in
a tree, as a system below another, and beyond a remote hook.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, get_type_hints

import pytest

from packetflow.otp import (
    Actor,
    ActorSystem,
    Hosting,
    Member,
    Message,
    Ref,
    Response,
    Send,
    SpecError,
    Supervisor,
    System,
    call,
)

ASK = Message("1", "ask")


# ---- actors: made by pure factories ------------------------------------------------------------------------------------


def counter(start: int, send: Send) -> Actor:
    """Counts; "add" gives the new value."""
    return Counting(start)


class Counting:
    def __init__(self, start: int) -> None:
        self.value = start

    def send(self, message: Message) -> Response:
        if message.type == "add":
            self.value += message.payload
        return Response(True, self.value)


def forwarder(target_id: str, send: Send) -> Callable[[Message], Response]:
    """Sends on whatever it gets, under the same id."""

    def receive(message: Message) -> Response:
        return send(target_id, Message(message.id, "add", message.payload))

    return receive


def recorder(seen: list[Message], send: Send) -> Callable[[Message], Response]:
    def receive(message: Message) -> Response:
        seen.append(message)
        return Response(True, len(seen))

    return receive


class Scripted:
    """A send for a test: keeps what it was asked, and answers 42."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []

    def __call__(self, target_id: str, message: Message) -> Response:
        self.sent.append((target_id, message))
        return Response(True, 42)


# ---- worlds: where and how the actors live -------------------------------------------------------------------------------


class World(NamedTuple):
    actors: ActorSystem
    hosting: Hosting
    begin: Callable[[], Any]

    def register(self, id: str, factory: Any, data: Any) -> Member:
        member = self.actors.register(id, factory, data, self.hosting)
        self.begin()
        return member


class Line:
    """The way to other systems of this process, as a network would be: by the refs' keys only."""

    def __init__(self, *there: System) -> None:
        self.there = {world.name: world for world in there}

    def reaches(self, ref: Ref) -> bool:
        return ref.node in self.there

    def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
        return call(self.there[ref.node].ref_from(ref.key()), message, timeout)

    def tell(self, ref: Ref, kind: str, message: Any) -> None:
        raise AssertionError("the face only calls")


class Tree:
    """Starts the tree of a system that is a child in it, once the first member is known."""

    def __init__(self, actors: ActorSystem, system: System) -> None:
        self.actors, self.system, self.top = actors, system, None

    def __call__(self) -> None:
        if self.top is None:
            self.top = Supervisor.start([self.actors.child()], system=self.system)


@pytest.fixture(params=["plain", "mailbox", "supervised", "nested"])
def world(request: pytest.FixtureRequest, system: System) -> Iterator[World]:
    """One and the same actors: as they come; with a bounded mailbox each; in a supervision tree; in a system below one."""
    usual = Hosting()
    if request.param == "supervised":
        actors = ActorSystem(system, start=False)
        tree = Tree(actors, system)
        yield World(actors, Hosting(max_restarts=100), tree)
    else:
        actors = ActorSystem(system)
        if request.param == "nested":
            ActorSystem(system).register("below", actors)
        bounded = Hosting(mailbox_limit=1, mailbox_full="block")
        yield World(actors, bounded if request.param == "mailbox" else usual, lambda: None)
    actors.close()


# ---- the groups ----------------------------------------------------------------------------------------------------------


class TestPureFunctionInvariant:
    """Actors are made by pure factories, with no hidden dependencies."""

    def test_equal_data_gives_actors_of_equal_behaviour(self, world: World) -> None:
        one, other = (world.register(id, counter, 10) for id in ("one", "other"))
        for amount, value in ((5, 15), (1, 16)):
            expected = Response(True, value)
            assert one.send(Message("1", "add", amount)) == expected
            assert other.send(Message("1", "add", amount)) == expected
        before = dict(globals())
        assert counter(10, Scripted()).send(ASK) == Response(True, 10)  # type: ignore[arg-type]
        assert globals() == before

    def test_an_actor_runs_with_a_send_of_the_tests_and_nothing_else(self) -> None:
        send = Scripted()
        receive = forwarder("far away", send)  # type: ignore[arg-type]
        assert receive(Message("7", "any", 3)) == Response(True, 42)
        assert send.sent == [("far away", Message("7", "add", 3))]


class TestSendInjectionInvariant:
    """Every actor receives send when it is made."""

    def test_send_is_in_scope_for_the_whole_life_of_an_actor(self, world: World) -> None:
        world.register("counter", counter, 0)
        member = world.register("forwarder", forwarder, "counter")
        values = [member.send(Message(str(turn), "go", 1)).data for turn in range(3)]
        assert values == [1, 2, 3]

    def test_a_factory_that_takes_no_send_is_refused(self, world: World) -> None:
        def lonely(data: int) -> Callable[[Message], Response]:
            return lambda message: Response(True, data)

        with pytest.raises(SpecError, match=r"a factory \(data, send\) -> actor, not \(data: 'int'\)"):
            world.register("lonely", lonely, 1)
        assert world.actors.send("lonely", ASK).error == "Actor not found: lonely"


class TestSendPrimitiveInvariant:
    """send(target_id, message) -> response is the only means of communication."""

    def test_its_signature(self) -> None:
        hints = get_type_hints(Send.__call__)
        assert (hints["target_id"], hints["message"], hints["return"]) == (str, Message, Response)
        required = [
            name
            for name, one in inspect.signature(Send.__call__).parameters.items()
            if one.default is one.empty
        ]
        assert required == ["self", "target_id", "message"]

    def test_it_gives_a_response_at_once_or_later(self, world: World) -> None:
        def both(data: None, send: Send) -> Callable[[Message], Response]:
            def receive(message: Message) -> Response:
                later = send.future("counter", Message("2", "add", 10))
                now = send("counter", Message("1", "add", 1))
                return Response(True, (now, later.get(), later.ready, later.get()))

            return receive

        world.register("counter", counter, 0)
        now, later, ready, again = world.register("both", both, None).send(ASK).data
        assert now.success is later.success is ready is True
        assert sorted((now.data, later.data)) in ([10, 11], [1, 11])
        assert again == later

    def test_an_actor_has_no_other_handle(self, world: World) -> None:
        given: list[Any] = []

        def curious(data: str, send: Send) -> Callable[[Message], Response]:
            given.extend((data, send))
            return lambda message: Response(True)

        world.register("curious", curious, "data")
        data, send = given
        assert data == "data"
        assert [name for name in dir(send) if not name.startswith("_")] == ["future"]


class TestSystemSendInvariant:
    """A system provides send, keeps the registry and routes."""

    def test_a_system_provides_send(self, world: World) -> None:
        world.register("counter", counter, 7)
        assert world.actors.send("counter", ASK) == Response(True, 7)

    def test_it_keeps_the_registry(self, world: World) -> None:
        world.register("a", counter, 1)
        world.register("b", counter, 2)
        listed = world.actors.send(Message("1", "list")).data
        assert listed == [{"id": "a", "kind": "actor"}, {"id": "b", "kind": "actor"}]
        world.actors.unregister("a")
        assert [one["id"] for one in world.actors.send(Message("2", "list")).data] == ["b"]

    def test_messages_reach_the_actor_that_is_meant_and_no_other(self, world: World) -> None:
        to_a: list[Message] = []
        to_b: list[Message] = []
        world.register("a", recorder, to_a)
        world.register("b", recorder, to_b)
        world.actors.send("b", Message("1", "x", "for b"))
        assert (to_a, to_b) == ([], [Message("1", "x", "for b")])

    def test_an_unknown_target_is_a_failed_response(self, world: World) -> None:
        expected = Response(False, error="Actor not found: nobody", code="not_found")
        assert world.actors.send("nobody", ASK) == expected
        assert world.register("forwarder", forwarder, "nobody").send(ASK) == expected


class TestBridgeInvariant:
    """From outside: actor.send(message). Inside: send(target_id, message)."""

    def test_from_outside_with_one_argument(self, world: World) -> None:
        assert world.register("counter", counter, 3).send(Message("1", "add", 4)) == Response(True, 7)

    def test_inside_with_two_arguments(self, world: World) -> None:
        seen: list[Message] = []
        world.register("recorder", recorder, seen)
        world.register("forwarder", forwarder, "recorder").send(Message("9", "go", "on"))
        assert seen == [Message("9", "add", "on")]

    def test_the_two_are_told_apart_by_the_number_of_arguments(self, world: World) -> None:
        world.register("counter", counter, 0)
        assert world.actors.send(Message("1", "stats")).success  # for the system itself
        assert world.actors.send("counter", Message("1", "stats")).data == 0  # for the actor
        wrong: Any = world.actors.send
        for arguments in ((), ("counter", ASK, "more")):
            with pytest.raises(
                TypeError, match=rf"\(message\) or \(target_id, message\), not {len(arguments)}"
            ):
                wrong(*arguments)


class TestCompositionInvariant:
    """Systems are actors."""

    def test_a_system_is_an_actor(self, world: World) -> None:
        def ask(actor: Actor) -> Response:  # whoever takes an actor takes a system
            return actor.send(Message("1", "list"))

        member = world.register("counter", counter, 0)
        assert ask(world.actors) == Response(True, [{"id": "counter", "kind": "actor"}])
        assert ask(member) == Response(True, 0)

    def test_a_system_can_be_registered_in_a_system(self, world: World, system: System) -> None:
        root = ActorSystem(system)
        root.register("sub", world.actors)
        world.register("counter", counter, 5)
        assert root.send("sub/counter", ASK) == Response(True, 5)
        assert root.send(Message("1", "list")).data == [{"id": "sub", "kind": "system"}]
        assert root.send("sub", Message("1", "list")).data == [{"id": "counter", "kind": "actor"}]
        root.close()

    def test_systems_nest_to_any_depth(self, world: World, system: System) -> None:
        world.register("leaf", counter, 1)
        top = world.actors
        for _ in range(50):
            above = ActorSystem(system)
            above.register("down", top)
            top = above
        path = "/".join(["down"] * 50 + ["leaf"])
        assert top.send(path, Message("1", "add", 1)) == Response(True, 2)
        assert top.send("down/down/nobody", ASK).error == "Actor not found: down/down/nobody"
        assert top.send(f"{path}/deeper", ASK).error == f"Actor not found: {path}/deeper"


class TestAddressingInvariant:
    """How send finds its target is opaque to actors."""

    def test_an_actor_gets_at_no_registry(self, world: World) -> None:
        def names_of(thing: Any) -> set[str]:
            return {name for name in dir(thing) if not name.startswith("_")}

        given: list[Send] = []

        def blind(data: None, send: Send) -> Callable[[Message], Response]:
            given.append(send)
            return lambda message: send("target", message)

        world.register("target", counter, 8)
        assert world.register("blind", blind, None).send(ASK) == Response(True, 8)
        assert names_of(given[0]) == {"future"}
        assert not hasattr(given[0], "__dict__")

    def test_one_factory_under_a_map_a_nested_and_a_remote_system(self, world: World, system: System) -> None:
        def under(actors: ActorSystem, target_id: str) -> Response:
            return actors.register("forwarder", forwarder, target_id).send(Message("1", "go", 1))

        # A map: the target stands beside it.
        world.register("counter", counter, 0)
        assert under(world.actors, "counter") == Response(True, 1)
        # Nested: it lives in a system below.
        above = ActorSystem(system)
        above.register("sub", world.actors)
        assert under(above, "sub/counter") == Response(True, 2)
        # Remote: it lives in another world, that only the hook reaches.
        far = System("far")
        hosted = ActorSystem(far, name="shop")
        hosted.register("counter", counter, 2)
        system.remote = Line(far)
        here = ActorSystem(system)
        here.register("counter", system.ref_from(far.find("shop/counter").key()))
        assert under(here, "counter") == Response(True, 3)
        far.shutdown()
        assert here.send("counter", ASK).code == "unavailable"
        here.close()
        above.close()


class TestMessageAndResponseTypes:
    """Message(id, type, payload); Response(success, data?, error?)."""

    def test_a_message_has_id_type_and_payload_and_is_checked_at_the_bridge(self, world: World) -> None:
        message = Message("1", "test", {})
        assert (message.id, message.type, message.payload) == ("1", "test", {})
        for wrong, field in (((1, "t", 0), "id"), (("", "t", 0), "id"), (("1", None, 0), "type")):
            with pytest.raises(SpecError, match=rf"message\.{field}: given"):
                Message(*wrong)  # type: ignore[arg-type]
        seen: list[Message] = []
        member = world.register("recorder", recorder, seen)
        for send in (member.send, lambda thing: world.actors.send("recorder", thing), world.actors.send):
            refused = send({"id": "1", "type": "t"})  # type: ignore[arg-type,call-overload]
            assert (refused.success, refused.code) == (False, "validation_failed")
            assert refused.error == "message: given {'id': '1', 'type': 't'}; accepted is a Message"
        assert seen == []

    def test_a_response_has_success_and_may_have_data_or_error_and_is_checked(self, world: World) -> None:
        assert (Response(True).data, Response(True, 5).data, Response(True).error) == (None, 5, None)
        assert Response(False, error="why").error == "why"
        for wrong in ({"success": 1}, {"success": False}, {"success": True, "error": "but"},
                      {"success": True, "code": "c"}, {"success": False, "error": "e", "code": 7}):  # fmt: skip
            with pytest.raises(SpecError, match=r"response\.\w+: given"):
                Response(**wrong)

        def vague(data: None, send: Send) -> Callable[[Message], Response]:
            return lambda message: "done"  # type: ignore[return-value]

        refused = world.register("vague", vague, None).send(ASK)
        assert (refused.success, refused.code) == (False, "execution_failed")
        assert refused.error == "response: given 'done'; accepted is a Response"


class TestCompleteExampleTaskGraph:
    """A graph of tasks, whose dependants start by themselves."""

    def test_finishing_a_task_starts_those_that_waited_for_it(self, world: World) -> None:
        started: list[str] = []

        def task(data: dict[str, Any], send: Send) -> Callable[[Message], Response]:
            missing = set(data["after"])

            def receive(message: Message) -> Response:
                missing.discard(message.payload)
                if missing:
                    return Response(True, "waits")
                started.append(data["id"])
                for dependant in data["before"]:
                    send(dependant, Message(message.id, "finished", data["id"]))
                return Response(True, "done")

            return receive

        graph = {
            "design": [],
            "build": ["design"],
            "test": ["build"],
            "docs": ["design"],
            "ship": ["test", "docs"],
        }
        for id, after in graph.items():
            before = [other for other, needs in graph.items() if id in needs]
            world.register(id, task, {"id": id, "after": after, "before": before})
        assert world.actors.send("ship", Message("0", "start")).data == "waits"
        assert world.actors.send("design", Message("1", "start")).data == "done"
        assert sorted(started) == sorted(graph)
        assert all(started.index(need) < started.index(id) for id, needs in graph.items() for need in needs)


def test_the_nine_groups_and_their_22_cases_are_here() -> None:
    groups = {
        name.removeprefix("Test"): sum(1 for each in vars(group) if each.startswith("test_"))
        for name, group in globals().items()
        if name.startswith("Test")
    }
    assert groups == {
        "PureFunctionInvariant": 2,
        "SendInjectionInvariant": 2,
        "SendPrimitiveInvariant": 3,
        "SystemSendInvariant": 4,
        "BridgeInvariant": 3,
        "CompositionInvariant": 3,
        "AddressingInvariant": 2,
        "MessageAndResponseTypes": 2,
        "CompleteExampleTaskGraph": 1,
    }
