"""Two hundred lives of nodes: whatever happens, each request has one answer in its time, and in the end nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow import Module, Reject, capability
from packetflow.node.node import Node
from packetflow.otp import kill
from packetflow.otp.errors import PacketFlowError
from packetflow.testing import World, explore
from packetflow.testing.running import run_in_process
from tests.testing.capabilities import crash, in_thread, wait, wait_async

ROOT = Path(__file__).resolve().parents[2]
SLACK = 20.0  # seconds beyond its timeout after which a request must have its answer: five for cleaning up, thrice nested


@capability("test.relay", timeout=60.0)
def relay(depth: int, seconds: float, context: Any) -> str:
    """Ask another, who asks another."""
    if depth == 0:
        return str(context.call("test.wait", {"seconds": seconds, "word": "far"}))
    return str(context.call("test.relay", {"depth": depth - 1, "seconds": seconds}))


@capability("test.all_at_once", timeout=60.0)
def all_at_once(number: int, context: Any) -> int:
    """Ask several at once; those that fail are left out."""
    asked = [
        gevent.spawn(context.request, "test.wait", {"seconds": 0.3 * one, "word": "x"})
        for one in range(number)
    ]
    gevent.joinall(asked)
    return sum(one.value is not None and one.value.ok for one in asked)


SERVED = [wait, wait_async, in_thread, crash, relay, all_at_once]


class Odd(Module):
    """Refuses a word, is slow with another, and asks something itself for a third."""

    def handle_request(self, request: Any, context: Any) -> Any:
        match request.payload.get("word"):
            case "odd":
                return Reject("odd", "no odd words")
            case "slow":
                gevent.sleep(5)
            case "even":
                context.request("test.in_thread", {"number": 1}, timeout=0.5)
        return None


class Counting(Module):
    """Sees answers, and fails now and then."""

    seen = 0

    def handle_response(self, response: Any, context: Any) -> None:
        self.seen += 1
        gevent.sleep(0.01)
        if self.seen % 7 == 0:
            raise LookupError("lost count")


MODULES = ("Odd", "Counting")
ACCIDENTS = (
    "cut", "cancel", "caller killed", "module changed", "registered", "reloaded", "process killed", "parted", "crash",
    *["quiet"] * 6,
)  # fmt: skip
ANSWERS = (
    "answered", "cancelled", "execution_failed", "not_found", "overloaded", "rejected", "timeout", "unavailable",
    "validation_failed",
)  # fmt: skip


def configuration(draw: Any) -> str:
    """A file that a node might have."""
    text = "[node]\n"
    if draw.random() < 0.4:
        text += f"[limits]\nin_flight_node = {draw.randint(1, 4)}\nqueue = {draw.randint(1, 3)}\n"
    for name in MODULES:
        if draw.random() < 0.7:
            text += f'[[modules]]\nname = "{name.lower()}"\nmodule = "tests.testing.test_lives:{name}"\n'
            text += f"priority = {draw.randint(1, 999)}\ntimeout = {draw.choice([0.2, 1.0])}\n"
            text += f"max_concurrency = {draw.randint(1, 3)}\n"
    return text


class Life:
    """One node of a world, its clients, and what was asked."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.draw = world.random
        self.config = world.folder / "node.toml"
        self.config.write_text(configuration(self.draw))
        world.network.latency = (0.0, self.draw.choice([0.0, 0.05, 0.5]))
        world.network.loss = self.draw.choice([0.0, 0.0, 0.02])
        world.disk().latency = self.draw.choice([(0.0, 0.0), (0.001, 0.2)])
        world.disk().faults = self.draw.choice([0.0, 0.0, 0.1])
        self.asked: list[tuple[gevent.Greenlet[..., Any], float]] = []
        self.down: Any = None
        self.seen: set[str] = set()
        """What came about: errors, and accidents that were not refused."""
        self.begin()

    def begin(self) -> None:
        """The node starts; on a disk that fails, again until it does."""
        while True:
            try:
                self.node = self.world.node(capabilities=SERVED, config=self.config, doors=True)
                break
            except PacketFlowError:
                assert self.world.disk().faults
        self.clients = [self.world.client(self.node, f"client-{n}") for n in range(self.draw.randint(1, 3))]

    def ask(self) -> None:
        """A request of some kind, by some way."""
        draw = self.draw
        id, payload = draw.choice(
            [
                ("test.wait", {"seconds": draw.uniform(0, 5), "word": draw.choice(["odd", "slow", "even"])}),
                ("test.wait_async", {"seconds": draw.uniform(0, 5)}),
                ("test.in_thread", {"number": 3}),
                ("test.crash", {"seconds": draw.uniform(0, 2)}),
                ("test.relay", {"depth": draw.randint(0, 3), "seconds": draw.uniform(0, 5)}),
                ("test.all_at_once", {"number": draw.randint(0, 6)}),
                ("test.unknown", {}),
                ("test.wait", {"seconds": "not a number"}),
            ]
        )
        limit = draw.choice([0.5, 3.0, 20.0])
        way = draw.choice([self.node.request, *(client.request for client in self.clients)])
        self.asked.append((gevent.spawn(self.timed, way, id, payload, limit), limit))

    def timed(self, request: Any, id: str, payload: dict[str, Any], limit: float) -> Any:
        begun = self.world.clock().monotonic()
        answer = request(id, payload, timeout=limit)
        return self.world.clock().monotonic() - begun, answer

    def accident(self) -> None:
        """Something that may happen to any node."""
        draw, node = self.draw, self.node
        what = draw.choice(ACCIDENTS)
        try:
            match what:
                case "cut":
                    if not self.world.network.cut(caller="client-0"):
                        return
                case "cancel":
                    node.door.cancel(draw.choice(self.asked)[0])
                case "caller killed":
                    draw.choice(self.asked)[0].kill(block=False)
                case "module changed":
                    name = node.list_active_modules()[0]["name"]
                    node.change_module(draw.choice(["restart", "disable"]), name, "test", False)
                case "registered":
                    node.register(capability("test.more")(one_more))
                case "reloaded":
                    self.config.write_text(configuration(draw))
                    if node.reload()["faults"]:
                        return
                case "process killed":
                    spared = ("storage",) if self.world.disk().faults else ()  # it could not come back
                    kill(draw.choice(children(node, spared)).ref)
                    gevent.sleep(draw.uniform(2, 6))  # below the supervisors' intensity
                case "parted":
                    self.world.network.part("client-0", self.world.address(node))
                    gevent.spawn_later(draw.uniform(0, 10), self.world.network.heal)
                case "crash":
                    self.down = self.down or self.world.crash_within(node, draw.randint(1, 2000))
        except (PacketFlowError, LookupError):
            return  # it was refused, or what it needs was just killed
        finally:
            if self.down is not None and self.down.is_set():
                self.down = None
                self.seen.add("started again")
                self.begin()
        self.seen.add(what)

    def check_answers(self) -> None:
        """Each request has one, in its time."""
        ended = gevent.joinall([one for one, _ in self.asked], timeout=120)
        assert len(ended) == len(self.asked), "somebody has no answer"
        for one, limit in self.asked:
            if isinstance(one.value, gevent.GreenletExit):
                continue  # it was the caller itself that was killed
            took, answer = one.value
            assert (answer.error is None) != (answer.value is None), answer
            assert took < limit + SLACK, (took, limit)
            self.seen.add(answer.error.code if answer.error is not None else "answered")

    def end(self) -> None:
        """When all is over the node is as new, and it can be stopped while it works."""
        if self.down is not None:
            self.down.wait()
            self.begin()
        self.world.network.heal()
        self.world.network.loss = 0.0
        gevent.sleep(15)
        assert list(self.node.door.active()) == []
        assert self.node.stats()["in_flight"] == 0
        assert self.node.call("test.wait_async", {"seconds": 0.0}, session=self.node.session("other")) == 0.0
        last = [
            gevent.spawn(self.node.request, "test.wait", {"seconds": 3.0 * n, "word": "w"}) for n in range(3)
        ]
        gevent.sleep(0.5)
        begun = self.world.clock().monotonic()
        self.node.stop(self.draw.choice([0.0, 4.0]))
        assert self.world.clock().monotonic() - begun < 4.0 + SLACK, "the drain has no end"
        gevent.joinall(last, timeout=1)
        assert all((one.value.error is None) != (one.value.value is None) for one in last)
        assert not self.node.door.in_flight
        assert not self.node.system.scheduler.processes


def children(node: Node, spared: tuple[str, ...] = ()) -> list[Any]:
    """The processes of a node but its root, whose end is the node's. spared: ids of others left out."""
    root = node._root
    assert root is not None
    return [
        one
        for one in node.system.scheduler.processes.values()
        if one is not root._process and type(one.server).__name__.lower() not in spared
    ]


def one_more() -> int:
    """One more."""
    return 1


def life_of_a_node(world: World) -> set[str]:
    """Random requests to a random node, from inside and by clients, among accidents of all kinds."""
    life = Life(world)
    for _ in range(world.random.randint(5, 25)):
        life.ask()
        if world.random.random() < 0.3:
            gevent.sleep(world.random.uniform(0.0, 2.0))
        life.accident()
    life.check_answers()
    life.end()
    return life.seen


def test_lives_of_nodes() -> None:
    explore(life_of_a_node, range(1000, 1015))


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_two_hundred_lives_of_nodes() -> None:
    """And they are lives of all kinds: each accident comes about, and each answer that there can be."""
    runs = explore(life_of_a_node, range(200))
    assert len({run.digest for run in runs}) == 200
    seen = set().union(*(run.value for run in runs))
    assert seen - {"quiet"} == {*ACCIDENTS, *ANSWERS, "started again"} - {"quiet"}, seen


LIFE = """
from tests.testing.test_lives import life_of_a_node

def simulate_life(world):
    life_of_a_node(world)
    raise AssertionError(world.log)  # so that all of it is told
"""


def test_a_life_is_the_same_to_the_byte_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    file = tmp_path / "life.py"
    file.write_text(LIFE)
    other = run_in_process(file, 0)
    told = 0
    for seed in range(1, 5):
        first, again = run_in_process(file, seed), run_in_process(file, seed)
        assert first[0]["turns"] > 100
        told += len(first[0]["log"])
        assert first == again
        assert first[0]["digest"] != other[0]["digest"]
    assert told > 1_000  # a life without accidents logs nothing
