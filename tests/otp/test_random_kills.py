"""Under random kills at random points: no name, link, monitor or greenlet is left, and no call hangs."""

from __future__ import annotations

import gc
import random
from collections import Counter
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallFailed,
    ChildSpec,
    Continue,
    DynamicSupervisor,
    GenServer,
    NoReply,
    Ref,
    StartFailed,
    Supervisor,
    System,
    exit_signal,
    kill,
    monitor,
    send,
)
from tests.otp.actors import until, workers_alive


class Busy(GenServer):
    """Does a bit of everything: waits, calls others, answers late, links, watches, starts children, crashes."""

    def init(self, others: list[str], seed: int) -> Any:
        self.others = others
        self.random = random.Random(seed)
        self.late: list[Any] = []
        if self.random.random() < 0.3:
            gevent.sleep(0)
        return Continue("begun") if self.random.random() < 0.5 else None

    def handle_continue(self, argument: Any) -> None:
        gevent.sleep(0)

    def handle_call(self, depth: int, caller: Any) -> Any:
        draw = self.random.random()
        if draw < 0.15:
            gevent.sleep(self.random.choice([0, 0.0005]))
        elif draw < 0.4 and depth < 4:
            try:
                return self.call(
                    self.random.choice(self.others), depth + 1, self.random.choice([None, 0.001, 5.0])
                )
            except CallFailed:
                return depth
        elif draw < 0.5:
            self.late.append(caller)
            send(self.ref, "answer")
            return NoReply()
        elif draw < 0.6:
            target = self.system.whereis(self.random.choice(self.others))
            if target is not None and target != self.ref:
                self.monitor(target)
        elif draw < 0.65:
            Busy.start_link(self.others, self.random.randrange(10**6))
        elif draw < 0.68:
            raise ValueError("a crash")
        elif draw < 0.7:
            kill(self.ref)
        return depth

    def handle_info(self, message: Any) -> None:
        while self.late:
            self.reply(self.late.pop(), "late")

    def terminate(self, reason: object) -> None:
        if self.random.random() < 0.3:
            gevent.sleep(0)


@pytest.mark.parametrize("seed", range(6))
def test_nothing_is_left_and_no_call_hangs(seed: int) -> None:
    before = workers_alive()
    system = System("stormy")
    draw = random.Random(seed)
    names = [f"busy {number}" for number in range(12)]
    options: dict[str, Any] = {"max_restarts": 10**6, "max_seconds": 1.0}
    groups = [
        Supervisor.child(
            [
                ChildSpec(Busy, names, draw.randrange(10**6), name=name, shutdown=0.05)
                for name in names[at : at + 4]
            ],
            id=at,
            strategy=strategy,
            **options,
        )
        for at, strategy in ((0, "one_for_one"), (4, "one_for_all"), (8, "rest_for_one"))
    ]
    pool = DynamicSupervisor.child(id="pool", name="pool", **options)
    tree = Supervisor.start([*groups, pool], system=system, **options)
    done = [0]
    ends: Counter[str] = Counter()

    def client(number: int) -> None:
        mine = random.Random(seed * 1000 + number)
        for _ in range(300):
            try:
                system.call(mine.choice(names), 0, mine.choice([None, 0.002, 5.0]))
                ends["answered"] += 1
            except CallFailed as error:
                ends[type(error).__name__] += 1  # any end is right but none
            gevent.sleep(0)
        done[0] += 1

    def starter() -> None:
        for _ in range(100):
            spec = ChildSpec(
                Busy, names, draw.randrange(10**6), restart=draw.choice(["temporary", "transient"]), id=0
            )
            try:
                DynamicSupervisor.start_child(system.find("pool"), spec)
            except (CallFailed, StartFailed):
                pass  # the pool may be between two lives
            gevent.sleep(0.0005)
        done[0] += 1

    def killer() -> None:
        while done[0] < 21:
            victims = [ref for ref in system.processes() if ref != tree]
            if victims:
                victim: Ref = draw.choice(victims)
                if draw.random() < 0.8:
                    kill(victim)
                else:
                    exit_signal(victim, "out")
            gevent.sleep(draw.choice([0, 0.0003]))

    clients = [gevent.spawn(client, number) for number in range(20)]
    others = [gevent.spawn(starter), gevent.spawn(killer)]
    gevent.joinall([*clients, *others], timeout=30, raise_error=True)
    assert all(one.ready() for one in [*clients, *others]), "a call hangs"

    assert sum(ends.values()) == 20 * 300
    assert min(ends[kind] for kind in ("answered", "NoProcess", "ServerExited")) > 0, ends

    watch = monitor(tree)
    system.shutdown(timeout=0.5)
    assert watch.wait(5) is not None
    assert system.processes() == []
    assert system.names() == []
    scheduler = system.scheduler
    until(lambda: not scheduler.lingering)
    until(lambda: scheduler.workers == 0)
    assert not scheduler.run_queue
    assert scheduler.timeouts.waiting() == []
    gc.collect()
    assert workers_alive() - before == set()


def test_a_burst_of_workers_ends_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    from packetflow.otp import scheduler

    monkeypatch.setattr(scheduler, "PARKED", 4)
    monkeypatch.setattr(scheduler, "AGAIN", 0.001)
    system = System("burst")
    gate = gevent.event.Event()

    class Waits(GenServer):
        def handle_call(self, request: Any, caller: Any) -> Any:
            return gate.wait()

    refs = [Waits.start(system=system) for _ in range(30)]
    callers = [gevent.spawn(system.call, ref, None, None) for ref in refs]
    until(lambda: system.scheduler.workers == 30)
    gate.set()
    gevent.joinall(callers, raise_error=True)
    until(lambda: system.scheduler.workers <= 4)
    system.shutdown()
