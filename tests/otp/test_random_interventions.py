"""Servers are suspended, resumed, traced, repaired and asked many at once while they, and whoever does it, are killed:
nothing hangs and nothing is left."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import gevent
import pytest

from packetflow.otp import (
    CallFailed,
    ChildSpec,
    GenServer,
    NoReply,
    RequestIds,
    SpecError,
    StartFailed,
    Supervisor,
    System,
    exit_signal,
    get_state,
    get_status,
    kill,
    replace_state,
    resume,
    send,
    suspend,
    trace,
    untrace,
)
from tests.otp.actors import until

NAMES = [f"server {number}" for number in range(8)]


class Asked(GenServer):
    """Answers at once, later, or after asking others at once; sometimes it has an idle timeout under way."""

    def init(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.late: list[Any] = []

    def handle_call(self, depth: int, caller: Any) -> Any:
        match self.random.randrange(6):
            case 0:
                self.late.append(caller)
                send(self.ref, "answer")
                return NoReply()
            case 1 if depth < 3:
                requests = RequestIds()
                for name in self.random.sample(NAMES, 3):
                    requests.add(self.system.send_request(name, depth + 1))
                try:
                    while requests.receive_response(self.random.choice([0.001, 0.05])) is not None:
                        pass
                except CallFailed:
                    return "some did not answer"
            case 2 if depth < 3:
                self.system.send_request(self.random.choice(NAMES), depth + 1, as_message=True)
            case 3:
                gevent.sleep(self.random.choice([0, 0.0005]))
            case 4:
                send(self.ref, "idle")
        return depth

    def handle_info(self, message: Any) -> Any:
        while self.late:
            self.reply(self.late.pop(), "late")
        return NoReply(timeout=0.0005) if message == "idle" else None


@pytest.mark.parametrize("seed", range(4))
def test_nothing_hangs_and_nothing_is_left(seed: int) -> None:
    system = System("meddled")
    draw = random.Random(seed)
    specs = [ChildSpec(Asked, draw.randrange(10**6), name=name, shutdown=0.05) for name in NAMES]
    tree = Supervisor.start(specs, max_restarts=10**6, max_seconds=1.0, system=system)
    told = [0]
    ends: Counter[str] = Counter()

    def sink(event: Any) -> Any:
        told[0] += 1
        return "done" if draw.random() < 0.01 else None

    def meddle(mine: random.Random) -> None:
        ref = system.find(mine.choice(NAMES))
        soon = mine.choice([0.002, 1.0])
        match mine.randrange(8):
            case 0:
                suspend(ref, soon)
                gevent.sleep(mine.choice([0, 0.001]))
                resume(ref, soon)
            case 1:
                trace(ref, sink, soon)
            case 2:
                untrace(ref, mine.choice([None, sink]), soon)
            case 3:
                assert get_status(ref, soon).status in ("running", "suspended")
            case 4:
                replace_state(ref, lambda state: {**state, "repaired": True}, soon)
            case 5:
                suspend(tree, soon)
                resume(tree)
            case 6:
                assert "random" in get_state(ref, soon)
            case _:
                system.multi_call(mine.sample(NAMES, 3), 0, soon)

    def meddler(number: int) -> None:
        mine = random.Random(seed * 1000 + number)
        for _ in range(60):
            try:
                meddle(mine)
                ends["done"] += 1
            except (CallFailed, StartFailed, SpecError) as error:
                ends[type(error).__name__] += 1
            gevent.sleep(0)

    def client(number: int) -> None:
        mine = random.Random(seed * 7000 + number)
        for _ in range(150):
            try:
                system.call(mine.choice(NAMES), 0, mine.choice([0.002, 0.2]))
                ends["answered"] += 1
            except CallFailed as error:
                ends[type(error).__name__] += 1
            gevent.sleep(0)

    workers = [gevent.spawn(meddler, number) for number in range(10)]
    workers += [gevent.spawn(client, number) for number in range(10)]
    while not all(worker.ready() for worker in workers):
        victims = [ref for ref in system.processes() if ref != tree]
        if victims:
            (kill if draw.random() < 0.7 else lambda ref: exit_signal(ref, "out"))(draw.choice(victims))
        if draw.random() < 0.02:
            draw.choice(workers).kill(block=False)
        gevent.sleep(draw.choice([0, 0.0005, 0.002]))
    # A meddler may have been ended between suspending and resuming.
    resume(tree)
    assert min(ends[kind] for kind in ("done", "answered", "NoProcess", "ServerExited")) > 0, ends
    assert told[0] > 0
    system.shutdown(timeout=0.5)
    assert (system.processes(), system.names()) == ([], [])
    until(lambda: not system.scheduler.lingering)
    until(lambda: system.scheduler.workers == 0)
    assert not system.scheduler.run_queue
    assert len(system.scheduler.timers) == 0
