"""The small face beyond its 22 cases: faults as responses, supervision, mailboxes, futures, nesting, limits."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    ActorSystem,
    Backoff,
    ChildSpec,
    Hosting,
    Message,
    Response,
    Send,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    cast,
    kill,
    statistics,
    tree,
)
from packetflow.otp.actor_system import system as module
from tests.otp.actor_system.test_invariants import counter, forwarder
from tests.otp.actors import Puppet, until

ROOT = Path(__file__).resolve().parents[3]
ASK = Message("1", "ask")
Receive = Callable[[Message], Response]


def worker(data: Any, send: Send) -> Receive:
    """Does what the payload says: a function of the worker's own list and of send."""
    kept: list[Any] = []

    def receive(message: Message) -> Response:
        done = message.payload(kept, send)
        return done if isinstance(done, Response) else Response(True, done)

    return receive


def do(what: Callable[[list[Any], Send], Any]) -> Message:
    return Message("1", "do", what)


def crash(kept: list[Any], send: Send) -> Any:
    raise ValueError("bad payload")


# ---- faults ----------------------------------------------------------------------------------------------------------------


def test_an_actor_that_raises_gives_a_failure_with_a_code_and_is_made_anew_by_its_factory(
    actors: ActorSystem, system: System
) -> None:
    made: list[object] = []

    def counted(data: Any, send: Send) -> Receive:
        made.append(data)
        return worker(data, send)

    member = actors.register("worker", counted, "data")
    member.send(do(lambda kept, send: kept.append("old")))
    before = system.find("shop/worker")
    failed = member.send(do(crash))
    assert failed == Response(False, error="ValueError: bad payload", code="execution_failed")
    assert member.send(do(lambda kept, send: list(kept))).data == []
    assert made == ["data", "data"]
    assert system.find("shop/worker") != before


def test_supervision_sees_the_crash(actors: ActorSystem, system: System) -> None:
    member = actors.register("worker", worker, None)
    watch = system.monitor("shop/worker")
    member.send(do(crash))
    down = watch.wait(5)
    assert down is not None
    assert isinstance(down.reason, ValueError)
    (members,) = [tree(ref) for ref in system.processes() if tree(ref).id == "Members"]
    assert members.children[0].children[0].restarts == 1


def test_who_dies_too_often_is_down_and_takes_nobody_along(actors: ActorSystem) -> None:
    bad = actors.register("bad", worker, None, Hosting(max_restarts=2, max_seconds=60))
    good = actors.register("good", counter, 1)
    codes = [bad.send(do(crash)).code for _ in range(3)]
    assert codes == ["execution_failed"] * 3
    until(lambda: bad.send(do(crash)).code != "execution_failed")
    assert bad.send(ASK) == Response(False, error="Actor not running: bad", code="unavailable")
    assert good.send(ASK).data == 1
    actors.unregister("bad")
    actors.register("bad", counter, 2)
    assert actors.send("bad", ASK).data == 2


@pytest.mark.parametrize("restart", ["temporary", "transient", "permanent"])
def test_restart_is_the_hosts_choice(actors: ActorSystem, system: System, restart: Any) -> None:
    member = actors.register("worker", worker, None, Hosting(restart=restart))
    kill(system.find("shop/worker"))
    alive = member.send(do(lambda kept, send: "here")).data == "here"
    assert alive is (restart != "temporary")


def test_who_sends_between_two_lives_waits_for_the_next(actors: ActorSystem, system: System) -> None:
    gate = Event()
    gate.set()

    def slow_to_make(data: Any, send: Send) -> Receive:
        gate.wait()
        return worker(data, send)

    member = actors.register("worker", slow_to_make, None)
    gate.clear()
    kill(system.find("shop/worker"))
    assert member.send(do(lambda kept, send: 1), timeout=0.01).code == "timeout"
    waiting = gevent.spawn(member.send, do(lambda kept, send: "the new one"))
    gevent.idle()
    assert not waiting.ready()
    gate.set()
    assert waiting.get(timeout=5).data == "the new one"


def test_a_backoff_is_the_hosts_choice(actors: ActorSystem, system: System) -> None:
    member = actors.register("worker", worker, None, Hosting(backoff=Backoff(delay=0.01, jitter=0)))
    kill(system.find("shop/worker"))
    assert member.send(ASK).code == "unavailable"
    until(lambda: system.whereis("shop/worker"))
    assert member.send(do(lambda kept, send: 5)).data == 5


def test_what_is_no_answer_in_time_is_a_failure(actors: ActorSystem) -> None:
    gate = Event()
    member = actors.register("slow", worker, None)
    failed = member.send(do(lambda kept, send: gate.wait()), timeout=0.01)
    assert (failed.success, failed.code) == (False, "timeout")
    gate.set()
    assert member.send(do(lambda kept, send: "late is dropped")).data == "late is dropped"


def test_a_circle_of_sends_is_a_failure_and_no_hang(actors: ActorSystem) -> None:
    actors.register("a", forwarder, "b")
    actors.register("b", forwarder, "a")
    failed = actors.send("a", ASK)
    assert failed.success is False
    assert failed.error is not None
    assert "would wait for itself" in failed.error


def test_an_actor_may_send_to_itself_later_but_not_wait_for_it(actors: ActorSystem) -> None:
    member = actors.register("self", worker, None)
    asked = member.send(do(lambda kept, send: send("self", ASK)))
    assert "calls itself" in str(asked.error)
    fetched = member.send(do(lambda kept, send: send.future("self", do(lambda kept, send: 1)).get()))
    assert "calls itself" in str(fetched.error)
    member.send(do(lambda kept, send: bool(send.future("self", do(lambda kept, send: kept.append("done"))))))
    assert member.send(do(lambda kept, send: list(kept))).data == ["done"]


def test_a_factory_that_raises_makes_register_fail_and_leaves_nothing(
    actors: ActorSystem, system: System
) -> None:
    def broken(data: Any, send: Send) -> Receive:
        raise KeyError("no such thing")

    before = len(system.processes())
    with pytest.raises(StartFailed, match="KeyError") as failed:
        actors.register("broken", broken, None)
    assert isinstance(failed.value.reason, KeyError)
    assert actors.send("broken", ASK).error == "Actor not found: broken"
    until(lambda: len(system.processes()) == before)
    actors.register("broken", counter, 1)


def test_a_factory_that_makes_no_actor_is_refused(actors: ActorSystem) -> None:
    with pytest.raises(StartFailed, match=r"actor: given 7; accepted is what has send"):
        actors.register("seven", lambda data, send: 7, None)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("id", ["", "a/b", 5, None])
def test_an_id_that_cant_be_addressed_is_refused(actors: ActorSystem, id: Any) -> None:
    with pytest.raises(SpecError, match="id: given"):
        actors.register(id, counter, 0)


def test_an_id_has_one_holder(actors: ActorSystem) -> None:
    actors.register("a", counter, 1)
    for other in (counter, ActorSystem(actors._world)):
        with pytest.raises(SpecError, match="no other member's id"):
            actors.register("a", other, 2)  # type: ignore[call-overload]
    assert actors.send("a", ASK).data == 1


def test_what_is_no_actor_and_no_factory_is_refused(actors: ActorSystem) -> None:
    with pytest.raises(SpecError, match="actor: given 5"):
        actors.register("five", 5)  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", [{"restart": "often"}, {"max_restarts": -1}, {"mailbox_limit": 0},
                                   {"mailbox_full": "wait"}, {"backoff": 3}, {"max_seconds": 0}])  # fmt: skip
def test_wrong_hosting_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=next(iter(wrong))):
        Hosting(**wrong)


def test_any_thread_may_send_and_wait(actors: ActorSystem) -> None:
    actors.register("a", counter, 1)
    actors.register("worker", worker, None)
    pool = gevent.get_hub().threadpool
    assert pool.apply(actors.send, ("a", ASK)).data == 1
    assert pool.apply(actors.send, ("worker", do(crash))).code == "execution_failed"
    assert pool.apply(actors.send, ("nobody", ASK)).code == "not_found"


# ---- supervision and mailboxes ----------------------------------------------------------------------------------------------


def test_in_a_tree_its_members_start_and_start_again_with_it(system: System) -> None:
    actors = ActorSystem(system, name="shop", start=False)
    actors.register("counter", counter, 1)
    assert actors.send("counter", ASK).error == "Actor not running: counter"
    specs = [ChildSpec(Puppet, name="database"), actors.child()]
    Supervisor.start(specs, strategy="rest_for_one", system=system)
    actors.register("late", counter, 2)
    assert actors.send("counter", Message("1", "add", 5)).data == 6
    before = system.find("shop/late")
    kill(system.find("database"))
    until(lambda: system.whereis("shop/late") not in (None, before))
    assert [actors.send(id, ASK).data for id in ("counter", "late")] == [1, 2]
    actors.close()  # the tree's business
    assert actors.send("late", ASK).data == 2
    with pytest.raises(SpecError, match="start: given True"):
        ActorSystem(system).child()
    with pytest.raises(SpecError, match="start: given False"):
        ActorSystem(start=False)


def blocked(actors: ActorSystem, hosting: Hosting) -> Event:
    """A worker that is busy until the event is set, and has one message waiting."""
    gate = Event()
    actors.register("busy", worker, None, hosting)
    actors._send_now = [actors.future("busy", do(lambda kept, send: bool(gate.wait())))]  # type: ignore[attr-defined]
    until(lambda: statistics(actors._world.find("shop/busy")).status == "busy")
    gevent.idle()
    return gate


@pytest.mark.parametrize("full", ["fail", "drop"])
def test_a_full_mailbox_is_a_failure_with_its_code(actors: ActorSystem, full: Any) -> None:
    gate = blocked(actors, Hosting(mailbox_limit=1, mailbox_full=full))
    waiting = actors.future("busy", do(lambda kept, send: "waited"))
    assert actors.send("busy", ASK).code == "overloaded"
    assert actors.future("busy", ASK).get().code == "overloaded"
    gate.set()
    assert waiting.get().data == "waited"


def test_the_oldest_may_be_what_a_full_mailbox_drops(actors: ActorSystem) -> None:
    gate = blocked(actors, Hosting(mailbox_limit=1, mailbox_full="drop_oldest"))
    older = actors.future("busy", do(lambda kept, send: "older"))
    newer = actors.future("busy", do(lambda kept, send: "newer"))
    assert older.ready
    assert older.get().code == "overloaded"
    gate.set()
    assert newer.get().data == "newer"


def test_a_full_mailbox_may_make_senders_wait(actors: ActorSystem) -> None:
    gate = blocked(actors, Hosting(mailbox_limit=1, mailbox_full="block"))
    waiting = [gevent.spawn(actors.send, "busy", do(lambda kept, send: "waited")) for _ in range(3)]
    gevent.idle()
    assert not any(one.ready() for one in waiting)
    gate.set()
    assert [one.get(timeout=5).data for one in waiting] == ["waited"] * 3


# ---- futures ---------------------------------------------------------------------------------------------------------------


def test_several_futures_are_under_way_at_once(actors: ActorSystem) -> None:
    gate = Event()
    for id in "abc":
        actors.register(id, worker, None)
    futures = [actors.future(id, do(lambda kept, send: bool(gate.wait()) and "done")) for id in "abc"]
    until(lambda: all(statistics(actors._world.find(f"shop/{id}")).status == "busy" for id in "abc"))
    assert not any(future.ready for future in futures)
    gate.set()
    assert [future.get().data for future in futures] == ["done"] * 3


def test_a_future_that_is_not_there_in_time_is_a_failure_and_stays_one(actors: ActorSystem) -> None:
    gate = Event()
    actors.register("slow", worker, None)
    future = actors.future("slow", do(lambda kept, send: bool(gate.wait())))
    assert future.get(0.01).code == "timeout"
    gate.set()
    assert actors.send("slow", do(lambda kept, send: 1)).data == 1
    assert future.get().code == "timeout"


def test_a_future_learns_of_the_death(actors: ActorSystem) -> None:
    actors.register("worker", worker, None)
    future = actors.future("worker", do(crash))
    assert future.get() == Response(False, error="ValueError: bad payload", code="execution_failed")


def test_a_future_of_a_system_or_of_nobody_is_there_at_once(actors: ActorSystem, system: System) -> None:
    actors.register("sub", ActorSystem(system))
    for target_id, expected in (("sub", True), ("nobody", False)):
        future = actors.future(target_id, Message("1", "list"))
        assert future.ready
        assert future.get().success is expected


def test_a_routed_future_does_not_wait(actors: ActorSystem, system: System) -> None:
    gate = Event()
    sub = ActorSystem(system)
    actors.register("sub", sub)
    sub.register("slow", worker, None)
    inner = do(lambda kept, send: bool(gate.wait()))
    future = actors.future("sub", Message("1", "route", {"target": "slow", "message": inner}))
    assert not future.ready
    gate.set()
    assert future.get().data is True
    sub.close()


def test_casts_of_strangers_to_an_actors_process_do_not_pass_for_messages(
    actors: ActorSystem, system: System
) -> None:
    member = actors.register("counter", counter, 1)
    watch = system.monitor("shop/counter")
    cast(system.find("shop/counter"), "not a message")
    assert watch.wait(5) is not None  # a crash, by the ordinary rules
    assert member.send(ASK).data == 1


# ---- its size and its types ---------------------------------------------------------------------------------------------------


def test_the_face_is_at_most_200_lines_over_the_runtime() -> None:
    source = inspect.getsource(module)
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            text = node.body[0]
            documentation.update(range(text.lineno, (text.end_lineno or 0) + 1))
    lines = [
        line
        for number, line in enumerate(source.splitlines(), 1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    ]
    assert len(lines) <= 200


@pytest.mark.slow
def test_a_type_checker_tells_the_two_ways_to_send_apart(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        """
from packetflow.otp import Actor, ActorSystem, Message, Receive, Response, Send

message = Message("1", "test", {})

def good(data: int, send: Send) -> Receive:
    def receive(got: Message) -> Response:
        send.future("other", got)
        return send("other", got)
    return receive

def lonely(data: int) -> Receive:
    return lambda got: Response(True)

def shouting(data: int, send: Send) -> Receive:
    def receive(got: Message) -> Response:
        return send(got)  # 1: inside, a target is needed
    return receive

system = ActorSystem()
member = system.register("good", good, 1)
system.send(message)
system.send("good", message)
member.send(message)
actor: Actor = system
actor = member
root = ActorSystem()
root.register("sub", system)
system.register("bad", good, "text")  # 2: the factory takes a number
system.register("lonely", lonely, 1)  # 3: a factory takes send
system.send("good")  # 4: a message is missing
system.send()  # 5: nothing at all
system.send("a", message, message)  # 6: too much
member.send("good", message)  # 7: from outside, one argument
Message("1", 2, 3)  # 8: the type is a text
Response("yes")  # 9: success is a truth value
"""
    )
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)],
        cwd=ROOT, capture_output=True, text=True, env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    source = program.read_text().splitlines()
    wrong = {number for number, line in enumerate(source, 1) if "  # " in line}
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert found == wrong, done.stdout
