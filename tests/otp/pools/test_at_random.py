"""Pools under random work, errors, deaths, timeouts and kills of callers: everybody gets what is theirs, nothing is left."""

from __future__ import annotations

import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest

from packetflow.otp import OffloadTimeout, ProcessDied, ProcessPool, ThreadPool
from packetflow.otp.pools.pool import Pool
from tests.otp.actors import until

ROOT = Path(__file__).resolve().parents[3]


def threads() -> Pool:
    return ThreadPool(3)


def processes() -> Pool:
    return ProcessPool(2, spare=1, max_tasks=20)


@pytest.mark.parametrize(
    ("make", "callers", "each", "seed"),
    [
        (threads, 40, 25, 0),
        (processes, 12, 10, 0),
        *(pytest.param(threads, 40, 100, seed, marks=pytest.mark.slow) for seed in range(1, 6)),
        *(pytest.param(processes, 20, 20, seed, marks=pytest.mark.slow) for seed in range(1, 6)),
    ],
)
def test_everybody_gets_what_is_theirs_and_nothing_is_left(
    make: Callable[[], Pool], callers: int, each: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    first = ThreadPool(1)  # what the hub itself opens once
    first.run(int)
    first.close()
    open_before = len(os.listdir("/proc/self/fd"))
    frames_before = len(sys._current_frames())
    pool = make()
    ends: Counter[str] = Counter()
    alive: list[Any] = []

    def caller(number: int) -> None:
        draw = random.Random(seed * 1000 + number)
        for turn in range(each):
            own = number * 1000 + turn
            what = draw.random()
            try:
                if what < 0.6:
                    assert pool.run(max, own, -1) == own
                    ends["answered"] += 1
                elif what < 0.7:
                    with pytest.raises(ValueError, match=str(own)):
                        pool.run(int, f"no number {own}")
                    ends["failed"] += 1
                elif what < 0.8 and isinstance(pool, ProcessPool):
                    pool.run(os._exit, 1)
                else:
                    pool.run(time.sleep, draw.choice([0, 0.001, 0.01]), timeout=draw.choice([None, 0, 0.002]))
                    ends["slept"] += 1
            except OffloadTimeout:
                ends["timeout"] += 1
            except ProcessDied as error:
                ends[f"died of {error.status}"] += 1
            gevent.sleep(draw.choice([0, 0.001]))

    def killer() -> None:
        draw = random.Random(seed)
        for _ in range(callers // 2):
            gevent.sleep(draw.choice([0, 0.002, 0.01]))
            victim = draw.randrange(len(alive))
            alive[victim].kill(block=False)
            ends["killed"] += 1

    alive.extend(gevent.spawn(caller, number) for number in range(callers))
    reaper = gevent.spawn(killer)
    gevent.joinall([*alive, reaper], timeout=40, raise_error=True)
    assert all(one.ready() for one in alive), "a caller hangs"
    assert min(ends[kind] for kind in ("answered", "failed", "slept", "killed")) > 0, ends
    assert {kind for kind in ends if kind.startswith("died")} <= {"died of 1"}

    until(lambda: pool.statistics()[1:4] == (0, 0, 0))
    assert pool.statistics().workers <= 3
    assert pool.run(max, 1, 2) == 2
    pool.close()
    assert pool.statistics()[1:5] == (0, 0, 0, 0)
    until(lambda: len(sys._current_frames()) <= frames_before)
    assert len(os.listdir("/proc/self/fd")) <= open_before
