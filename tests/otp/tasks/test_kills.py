"""Tasks under random kills of tasks, owners and supervisors at any moment: no wait hangs, and nothing is left behind."""

from __future__ import annotations

import gc
import random
from collections import Counter
from collections.abc import Callable
from itertools import islice
from typing import Any

import gevent
import pytest
from greenlet import GreenletExit, greenlet

from packetflow.otp import (
    ChildSpec,
    GenServer,
    PacketFlowError,
    Ref,
    Stop,
    Supervisor,
    System,
    Task,
    TaskSupervisor,
    exit_signal,
    kill,
    monitor,
    statistics,
    stop,
)
from packetflow.otp.process import PENDING
from tests.otp.actors import until, workers_alive


class Storm:
    """What happens, drawn from a seed; `opened` and `closed` count the tasks that began and whose cleanup ran."""

    def __init__(self, seed: int, system: System) -> None:
        self.draw = random.Random(seed)
        self.system = system
        self.opened = 0
        self.closed = 0
        self.ends: Counter[str] = Counter()

    def nap(self) -> None:
        draw = self.draw.random()
        if draw < 0.5:
            gevent.sleep(0)
        elif draw < 0.7:
            gevent.sleep(self.draw.choice([0.0002, 0.001]))

    def work(self, depth: int) -> Any:
        """A task: waits, starts others, crashes, ends itself, cleans up."""
        self.opened += 1
        try:
            self.nap()
            draw = self.draw.random()
            if draw < 0.1:
                raise ValueError("a crash")
            if draw < 0.15:
                return Stop(self.draw.choice(["normal", "shutdown", "odd"]), reply=depth)
            if draw < 0.55 and depth < 3:
                self.play(depth + 1)
            self.nap()
            return depth
        finally:
            self.closed += 1
            if self.draw.random() < 0.3:
                gevent.sleep(0)

    def begin(self, depth: int) -> Task:
        """A task, started in one of the ways there are."""
        supervisor = self.system.whereis("tasks")
        draw = self.draw.random()
        if draw < 0.6 or supervisor is None:
            return Task.async_(self.work, depth, system=self.system)
        form = TaskSupervisor.async_ if draw < 0.8 else TaskSupervisor.async_nolink
        return form(supervisor, self.work, depth)

    def play(self, depth: int) -> None:
        """What an owner does with tasks."""
        if len(self.system.scheduler.processes) > 500:
            return  # a storm that feeds itself would show nothing more
        try:
            self.draw.choice([self.one, self.several, self.stream, self.loose])(depth)
            self.ends["done"] += 1
        except PacketFlowError as error:
            self.ends[type(error).__name__] += 1

    def one(self, depth: int) -> None:
        task = self.begin(depth)
        self.nap()
        how: Callable[[], Any] = self.draw.choice(
            [
                task.await_,
                lambda: task.await_(0.0005),
                lambda: task.yield_(self.draw.choice([0, 0.0005, None])),
                lambda: task.shutdown(self.draw.choice([0.0005, 1.0, "brutal_kill"])),
                task.ignore,
            ]
        )
        how()

    def several(self, depth: int) -> None:
        tasks = [self.begin(depth) for _ in range(self.draw.randrange(1, 5))]
        if self.draw.random() < 0.5:
            Task.await_many(tasks, self.draw.choice([None, 0.001]))
        else:
            Task.yield_many(tasks, 0.001, on_timeout=self.draw.choice(["nothing", "ignore", "kill_task"]))

    def stream(self, depth: int) -> None:
        supervisor = self.system.whereis("tasks")
        options: dict[str, Any] = {
            "max_concurrency": self.draw.randrange(1, 5),
            "ordered": self.draw.random() < 0.5,
            "timeout": self.draw.choice([None, 0.0005, 1.0]),
            "on_timeout": self.draw.choice(["exit", "kill_task"]),
        }
        items = (depth for _ in range(8))
        if supervisor is None or self.draw.random() < 0.5:
            flow = Task.async_stream(items, self.work, system=self.system, **options)
        else:
            flow = TaskSupervisor.async_stream_nolink(supervisor, items, self.work, **options)
        list(islice(flow, self.draw.choice([1, 3, 8])))

    def loose(self, depth: int) -> None:
        supervisor = self.system.whereis("tasks")
        if supervisor is None:
            Task.start(self.work, depth, system=self.system)
        else:
            TaskSupervisor.start_child(
                supervisor, self.work, depth, restart=self.draw.choice(["temporary", "transient"])
            )


class Owner(GenServer):
    """An actor whose every message is a move of the storm's game."""

    def init(self, storm: Storm, traps: bool) -> None:
        self.storm = storm
        self.trap_exits = traps

    def handle_call(self, request: Any, caller: Any) -> None:
        self.storm.play(0)

    def handle_info(self, message: Any) -> None:
        """Exits of tasks."""


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_left_and_no_wait_hangs(seed: int) -> None:
    before = workers_alive()
    system = System("stormy")
    storm = Storm(seed, system)
    draw = random.Random(seed + 1000)
    names = [f"owner {number}" for number in range(6)]
    options: dict[str, Any] = {"max_restarts": 10**6, "max_seconds": 1.0}
    tree = Supervisor.start(
        [
            TaskSupervisor.child(name="tasks", shutdown=0.2, **options),
            *(ChildSpec(Owner, storm, number % 2 == 0, name=name) for number, name in enumerate(names)),
        ],
        system=system,
        **options,
    )
    done = [0]

    def client(number: int) -> None:
        mine = random.Random(seed * 100 + number)
        for _ in range(40):
            try:
                if number % 2:
                    storm.play(0)
                else:
                    system.call(mine.choice(names), None, mine.choice([None, 0.002]))
            except PacketFlowError as error:
                storm.ends[type(error).__name__] += 1
            gevent.sleep(0)
        done[0] += 1

    def victim() -> None:
        while True:
            storm.play(0)
            gevent.sleep(0)

    victims: list[Any] = []

    def killer() -> None:
        while done[0] < 12:
            for at in [at for at, one in enumerate(victims) if draw.random() < 0.2]:
                victims[at].kill(block=False)
                victims[at] = gevent.spawn(victim)
            if len(victims) < 4:
                victims.append(gevent.spawn(victim))
            targets = [ref for ref in system.processes() if ref != tree]
            if targets:
                target: Ref = draw.choice(targets)
                if draw.random() < 0.7:
                    kill(target)
                else:
                    exit_signal(target, draw.choice(["out", "shutdown"]))
            gevent.sleep(draw.choice([0, 0, 0.0003]))

    clients = [gevent.spawn(client, number) for number in range(12)]
    ending = gevent.spawn(killer)
    gevent.joinall([*clients, ending], timeout=40, raise_error=True)
    assert all(one.ready() for one in [*clients, ending]), "a wait hangs"
    gevent.killall(victims)

    # Greenlets that ended took their tasks along; what nobody awaits ends by itself or with its supervisor.
    watch = monitor(tree)
    stop(tree, "shutdown", timeout=30)
    assert watch.wait(5) is not None
    scheduler = system.scheduler
    until(lambda: not (system.processes() or scheduler.lingering or scheduler.run_queue), 30)
    assert storm.opened == storm.closed
    assert min(storm.ends[kind] for kind in ("done", "TaskExited", "AwaitTimeout")) > 0, storm.ends

    system.shutdown()
    until(lambda: scheduler.workers == 0)
    assert system.names() == []
    assert scheduler.timeouts.waiting() == []
    victims.clear()
    del clients, ending
    gc.collect()
    assert workers_alive() - before == set()
    assert [one for one in gc.get_objects() if type(one) is Task and one.value is PENDING] == []


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("who", ["task", "owner"])
def test_a_kill_at_each_turn_of_one_life(system: System, moment: int, who: str) -> None:
    cleaned: list[str] = []

    def inner(name: str) -> str:
        try:
            for _ in range(3):
                gevent.sleep(0)
            return name
        finally:
            cleaned.append(name)

    def outer() -> list[str]:
        begun.append("outer")
        try:
            tasks = [Task.async_(inner, "one"), Task.async_(inner, "two")]
            return Task.await_many(tasks)
        finally:
            cleaned.append("outer")

    class Plain(GenServer):
        trap_exits = who == "task"

        def handle_call(self, request: Any, caller: Any) -> Any:
            self.task = Task.async_(outer)
            started.append(self.task)
            return self.task.yield_()

        def handle_info(self, message: Any) -> None: ...

    begun: list[str] = []
    started: list[Task] = []
    owner = Plain.start(system=system)
    assert owner is not None
    answers: list[Any] = []

    def ask() -> None:
        try:
            answers.append(system.call(owner, None))
        except PacketFlowError as error:
            answers.append(error)

    gevent.spawn(ask)
    until(lambda: started)
    for _ in range(moment):
        gevent.sleep(0)
    victim = started[0].ref if who == "task" else owner
    assert victim is not None
    kill(victim)
    until(lambda: answers)
    until(lambda: not system.scheduler.lingering)
    assert system.processes() == ([owner] if who == "task" else [])
    assert cleaned.count("outer") == len(begun)
    if who == "task":
        assert statistics(owner).links == 0
        assert statistics(owner).status == "idle"


def test_a_task_that_swallows_every_exit_is_dead_for_all_and_listed(system: System) -> None:
    gate = gevent.event.Event()
    caught: list[int] = []

    def stubborn() -> None:
        while not gate.is_set():
            try:
                gate.wait()
            except GreenletExit:
                caught.append(1)

    task = Task.async_(stubborn, system=system)
    gevent.sleep(0)
    assert task.shutdown("brutal_kill") is None
    until(lambda: caught)
    ((ref, line),) = system.lingering()
    assert ref == task.ref
    assert "stubborn" in line
    gate.set()


def test_the_greenlets_of_finished_tasks_are_used_again(system: System) -> None:
    used: set[greenlet] = set()

    def work() -> None:
        used.add(gevent.getcurrent())

    for _ in range(100):
        Task.async_(work, system=system).await_()
    assert len(used) == 1


def test_the_dead_start_no_tasks(system: System) -> None:
    outcome: list[BaseException] = []
    starts: list[Callable[[], Any]] = [
        lambda: Task.async_(gevent.sleep, 0),
        lambda: Task.start(gevent.sleep, 0),
        lambda: next(Task.async_stream([0], gevent.sleep)),
        lambda: TaskSupervisor.async_nolink(supervisor, gevent.sleep, 0),
    ]
    supervisor = TaskSupervisor.start(system=system)

    def zombie() -> None:
        try:
            gevent.sleep(10)
        finally:
            for start in starts:
                try:
                    start()
                except GreenletExit as error:
                    outcome.append(error)

    ref = Task.start(zombie, system=system)
    gevent.sleep(0)
    kill(ref)
    until(lambda: len(outcome) == len(starts))
    assert system.processes() == [supervisor]
