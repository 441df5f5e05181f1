"""A program in virtual time, in an order that a seed draws."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import gevent
import gevent.socket
import pytest
from gevent.event import Event
from gevent.queue import Queue

from packetflow.otp import (
    Backoff,
    CallFailed,
    CallTimeout,
    ChildSpec,
    GenServer,
    StartFailed,
    Supervisor,
    call,
    cast,
    kill,
    monitor,
)
from packetflow.otp.simulation.world import Deadlock, Endless, SimulationFailed, World, explore, simulate
from tests.otp.actors import Puppet, crash, seen


def order_of_three(world: World) -> list[str]:
    """Three greenlets write to one recorder; who comes first is drawn."""
    ref = Puppet.start(system=world.system())
    gevent.joinall(
        [gevent.spawn(call, ref, lambda server, _, name=name: server.seen.append(name)) for name in "abc"]
    )
    return call(ref, seen)  # type: ignore[no-any-return]


def test_one_seed_is_one_schedule() -> None:
    first, again = simulate(order_of_three, 4711), simulate(order_of_three, 4711)
    assert first == again
    assert first.digest != 0


def test_other_seeds_are_other_schedules() -> None:
    runs = explore(order_of_three, range(200))
    assert {tuple(run.value) for run in runs} == {
        ("a", "b", "c"),
        ("a", "c", "b"),
        ("b", "a", "c"),
        ("b", "c", "a"),
        ("c", "a", "b"),
        ("c", "b", "a"),
    }


def test_an_hour_of_waiting_is_virtual() -> None:
    def patient(world: World) -> Any:
        clock = world.clock()
        gevent.sleep(3600)
        return clock.monotonic(), clock.utc().hour

    run = simulate(patient, 1)
    assert run.value == (3600.0, 1)
    assert run.seconds == 3600.0


def test_timeouts_hold_in_virtual_time() -> None:
    def program(world: World) -> float:
        ref = Puppet.start(system=world.system())
        with pytest.raises(CallTimeout):
            call(ref, lambda server, _: gevent.sleep(100), timeout=5.0)
        return world.clock().monotonic()

    assert {run.value for run in explore(program, range(50))} == {5.0}


def test_events_queues_and_timeouts_of_gevent_work() -> None:
    def program(world: World) -> list[int]:
        queue: Queue[int] = Queue(maxsize=1)
        ready = Event()

        def produce() -> None:
            ready.wait()
            for number in range(5):
                queue.put(number)

        gevent.spawn(produce)
        gevent.spawn_later(1.0, ready.set)
        with gevent.Timeout(10.0):
            return [queue.get() for _ in range(5)]

    assert all(run.value == [0, 1, 2, 3, 4] for run in explore(program, range(50)))


def test_a_race_is_found_and_its_seed_shows_it_again() -> None:
    class Account(GenServer):
        def init(self) -> None:
            self.balance = 0

        def handle_call(self, request: Any, caller: Any) -> int:
            if request is not None:
                self.balance = request
            return self.balance

    def lost_update(world: World) -> None:
        account = Account.start(system=world.system())

        def deposit() -> None:
            call(account, call(account, None) + 1)  # reads, then writes: not one step

        gevent.joinall([gevent.spawn(deposit) for _ in range(2)])
        assert call(account, None) == 2

    with pytest.raises(SimulationFailed) as found:
        explore(lost_update, range(100))
    assert isinstance(found.value.__cause__, AssertionError)
    with pytest.raises(SimulationFailed):
        simulate(lost_update, found.value.seed)


def test_who_waits_for_ever_is_named_at_once() -> None:
    class Waiter(GenServer):
        def handle_call(self, request: Any, caller: Any) -> Any:
            return self.call("silent", "a question", timeout=None)

    def program(world: World) -> None:
        system = world.system()
        Puppet.start(name="silent", system=system)
        system.call("silent", "awake")
        waiter = Waiter.start(name="waiter", system=system)
        system.cast("silent", lambda server: Event().wait())
        call(waiter, "go", timeout=None)

    with pytest.raises(Deadlock, match=r"<waiter local/\d> waits for <silent local/\d>"):
        simulate(program, 1)


def test_a_program_without_an_end_is_ended() -> None:
    def program(world: World) -> None:
        while True:
            gevent.sleep(1.0)

    with pytest.raises(Endless, match="1,000 turns"):
        simulate(program, 1, turns=1000)


def test_real_input_and_output_is_refused() -> None:
    def program(world: World) -> None:
        gevent.socket.wait_read(0)

    with pytest.raises(SimulationFailed, match="virtual time"):
        simulate(program, 1)


def test_backoffs_are_played_in_a_blink() -> None:
    attempts: list[float] = []

    def program(world: World) -> None:
        attempts.clear()
        clock = world.clock()

        class Broken(GenServer):
            def init(self) -> None:
                attempts.append(clock.monotonic())
                if len(attempts) > 1:
                    raise OSError("not yet")

        system = world.system()
        spec = ChildSpec(Broken, name="broken", backoff=Backoff(1.0, factor=2.0, maximum=600.0, jitter=0.0))
        Supervisor.start([spec], max_restarts=1000, system=system)
        kill(system.find("broken"))
        gevent.sleep(3600)

    simulate(program, 1)
    waits = [later - earlier for earlier, later in pairwise(attempts)]
    assert waits[:11] == pytest.approx([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600])


def test_the_jitter_of_a_backoff_is_the_seeds() -> None:
    def program(world: World) -> list[float]:
        backoff = Backoff(1.0, jitter=1.0)
        return [backoff.wait(0) for _ in range(3)]

    assert simulate(program, 1).value == simulate(program, 1).value
    assert simulate(program, 1).value != simulate(program, 2).value


class Client(GenServer):
    """Asks a server now and then, and counts what becomes of it."""

    def init(self, target: str, outcomes: list[str]) -> Any:
        self.target = target
        self.outcomes = outcomes
        self.send_after(0.1, "ask")

    def handle_info(self, message: Any) -> None:
        begun = len(self.outcomes)
        self.outcomes.append("begun")
        try:
            self.outcomes[begun] = self.call(self.target, "question", timeout=1.0)
        except CallFailed as error:
            self.outcomes[begun] = type(error).__name__
        self.send_after(0.1, "ask")


class Answerer(GenServer):
    """Answers after some time, or crashes."""

    def init(self, chance: Any) -> None:
        self.chance = chance

    def handle_call(self, request: Any, caller: Any) -> str:
        drawn = self.chance.random()
        if drawn < 0.1:
            raise ValueError("a bad moment")
        gevent.sleep(drawn * 1.3)
        return "answer"


def accidents(world: World) -> tuple[int, int]:
    """A tree under load, in which anybody may be killed before any turn; what has to hold is checked at the end."""
    system = world.system()
    outcomes: list[str] = []
    strategy = world.random.choice(["one_for_one", "one_for_all", "rest_for_one"])
    specs = [ChildSpec(Answerer, world.random, name="server", restart="permanent")]
    specs += [ChildSpec(Client, "server", outcomes, id=f"client {number}") for number in range(4)]
    try:
        top = Supervisor.start(
            [Supervisor.child(specs, strategy=strategy, max_restarts=50, max_seconds=10.0, id="below")],
            max_restarts=50,
            system=system,
        )
    except StartFailed:
        return 0, 0
    watch = monitor(top)
    world.kill_at_random(0.02)
    gevent.sleep(20)
    world.kill_at_random(0.0)
    gevent.sleep(30)
    if watch.wait(0) is None:
        # Nobody was lost for good: the tree came back, and answers.
        answered = 0
        while answered < 3:
            try:
                system.call("server", "question", timeout=5.0)
                answered += 1
            except CallFailed:
                gevent.sleep(0.1)
    system.shutdown()
    assert system.processes() == []
    assert system.names() == []
    assert system.lingering() == []
    assert not system.scheduler.run_queue
    return len(outcomes), outcomes.count("answer")


def test_some_hundred_programs_with_accidents_come_to_an_end() -> None:
    runs = explore(accidents, range(100))
    assert sum(run.value[1] for run in runs) > 100
    assert len({run.digest for run in runs}) == 100
    assert simulate(accidents, 17) == runs[17]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_ten_thousand_programs_of_actors() -> None:
    runs = explore(small_world, range(10_000))
    assert len({run.digest for run in runs}) > 9_000


def small_world(world: World) -> None:
    """A few actors that call, cast, crash, link and watch; nobody waits for ever, and each watch ends once."""
    system = world.system()
    refs = [Puppet.start(system=system) for _ in range(3)]
    watches = [monitor(ref) for ref in refs]
    outcomes: list[object] = []

    def client() -> None:
        for _ in range(world.random.randrange(1, 5)):
            ref = world.random.choice(refs)
            other = world.random.choice(refs)
            action = world.random.choice(["call", "cast", "crash", "link", "kill", "sleep"])
            try:
                match action:
                    case "call":
                        call(
                            ref,
                            lambda server, _, other=other: server.call(other, "nested", timeout=0.5),
                            timeout=1.0,
                        )
                    case "cast":
                        cast(ref, "told")
                    case "crash":
                        call(ref, crash(ValueError("boom")), timeout=1.0)
                    case "link":
                        call(ref, lambda server, _, other=other: server.link(other), timeout=1.0)
                    case "kill":
                        kill(ref)
                    case "sleep":
                        gevent.sleep(world.random.random())
                outcomes.append(action)
            except CallFailed as error:
                outcomes.append(error)

    clients = [gevent.spawn(client) for _ in range(3)]
    gevent.joinall(clients)
    assert all(one.successful() for one in clients)
    alive = system.processes()
    for ref, watch in zip(refs, watches, strict=True):
        assert (watch.wait(0) is None) == (ref in alive)
