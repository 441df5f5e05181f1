"""Durable runs against DBOS on SQLite, each acknowledged with `synchronous=FULL`: five steps one at a time and 256 at once, how
the cost of a step grows, taking up 1,000 unfinished runs among 10,000 that ended, and what 100,000 waiting runs cost.

Every step of ours is a request through the one door. Both sides write to the disk where the bench stands (`BENCH_DATA`).

python bench/composition/durable.py
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent
from greenlet import greenlet

from bench.figures import environment, figure, seconds_each, skipped
from packetflow import Node, capability
from packetflow.composition.building import composition, pipeline, step, wait_for
from packetflow.node.config import NodeConfig

ROUNDS = 5
AT_ONCE = 256
ENDED, UNFINISHED = 10_000, 1_000
THEIR_UNFINISHED, THEIR_WAITING = 200, 200
WAITING = 100_000
PEER = "DBOS on SQLite"
HERE = Path(__file__).resolve().parent


@capability("bench.add")
def add(n: int) -> int:
    """One more."""
    return n + 1


@capability("bench.gate", timeout=3600.0)
def gate(n: int) -> int:
    """One more; but not in the process that is to be killed."""
    if len(sys.argv) > 1 and sys.argv[1] == "crash":
        gevent.sleep(3600)
    return n + 1


def chain(length: int) -> Any:
    steps = [step("bench.add", outputs={"result": "n"}, name=f"step{number}") for number in range(length)]
    return composition(
        f"bench.durable{length}", "A chain", pipeline(*steps), requires={"n": int}, durable=True
    )


one = step("bench.add", outputs={"result": "n"})
gated = composition(
    "bench.gated", "Two steps, a gate, two steps",
    pipeline(one, one, step("bench.gate", outputs={"result": "n"}), one, one), requires={"n": int}, durable=True,
)  # fmt: skip
waiter = composition(
    "bench.waiter", "Waits for an event", pipeline(one, wait_for("bench.answer")), requires={"n": int}, durable=True
)  # fmt: skip
CHAINS = {length: chain(length) for length in (5, 100, 900)}


@contextmanager
def a_node(folder: str) -> Iterator[Node]:
    config = NodeConfig.model_validate(
        {
            "node": {"name": "bench", "data_folder": folder},
            "tcp": {"enabled": False},
            "http": {"enabled": False},
            "timeouts": {"request": 600.0},
            "log": {"level": "error"},
        }
    )
    capabilities = [add, gate, *(one.definition for one in (*CHAINS.values(), gated, waiter))]
    with Node(config, capabilities=capabilities) as node:
        yield node


@contextmanager
def a_folder() -> Iterator[str]:
    """On a real disk, not a file system in memory: where the bench stands."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DATA", Path.cwd())) as folder:
        yield folder


def many(node: Node, plan: Any, count: int, at_once: int, starts_only: bool = False) -> float:
    """Seconds that so many runs take, so many at once."""
    left = iter(range(count))

    def work() -> None:
        for number in left:
            if starts_only:
                node.waking().runs.start(plan, {"n": number}, node.session())
            else:
                node.call(plan.id, {"n": number})

    begun = time.perf_counter()
    gevent.joinall([gevent.spawn(work) for _ in range(at_once)], raise_error=True)
    return time.perf_counter() - begun


def asked(python: Path, role: str, folder: str, count: int = 0) -> Any:
    command = [str(python), str(HERE / "_dbos_peer.py"), role, str(Path(folder) / "dbos.sqlite"), str(count)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def own_process(role: str, folder: str) -> Any:
    done = subprocess.run(
        [sys.executable, __file__, role, folder], stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


# ---- rows ------------------------------------------------------------------------------------------------------------


def rates(python: Path | None) -> None:
    own: dict[str, list[float]] = {"one": [], "many": []}
    theirs: dict[str, list[float]] = {"one": [], "many": []}
    for _ in range(ROUNDS):
        with a_folder() as folder, a_node(folder) as node:
            assert (
                node.call("bench.durable5", {"n": 0}) == {"n": 5}
                or node.call("bench.durable5", {"n": 0}) == 5
            )
            own["one"].append(1 / seconds_each(lambda: node.call("bench.durable5", {"n": 0}), 1.0))
            count = 4 * AT_ONCE
            own["many"].append(count / many(node, CHAINS[5], count, AT_ONCE))
        if python is not None:
            with a_folder() as folder:
                for row, rate in asked(python, "rate", folder).items():
                    theirs[row].append(rate)
    for row, what, target in (("one", "one at a time", 6.0), ("many", f"{AT_ONCE} at once", 60.0)):
        name = f"durable: five steps, {what}"
        if python is None:
            skipped(name, "dbos can't be had")
        else:
            figure(name, statistics.median(own[row]), statistics.median(theirs[row]), PEER, "runs/s", target)


def growth() -> None:
    with a_folder() as folder, a_node(folder) as node:
        costs: dict[int, list[float]] = {length: [] for length in CHAINS}
        for _ in range(ROUNDS):
            for length in CHAINS:
                call = lambda: node.call(f"bench.durable{length}", {"n": 0})  # noqa: B023, E731
                costs[length].append(seconds_each(call, 0.5) / length)
        five = statistics.median(costs[5]) * 1e6
        for length in list(CHAINS)[1:]:
            each = statistics.median(costs[length]) * 1e6
            figure(f"durable: a step of {length}", each, five, "a step of five", "us", 1.3, "lower")


def recovery(python: Path | None) -> None:
    with a_folder() as folder:
        left = own_process("crash", folder)
        assert left == UNFINISHED, left
        seconds = own_process("recover", folder)
    name = "durable: an unfinished run taken up and ended after a crash"
    if python is None:
        skipped(name, "dbos can't be had")
        return
    with a_folder() as folder:
        assert asked(python, "crash", folder, THEIR_UNFINISHED) == THEIR_UNFINISHED
        theirs = asked(python, "recover", folder)
    figure(name, seconds / UNFINISHED * 1e3, theirs / THEIR_UNFINISHED * 1e3, PEER, "ms", 0.1, "lower")


def waiting(python: Path | None) -> None:
    with a_folder() as folder:
        found = own_process("waiting", folder)
    name = f"durable: memory of a waiting run, {WAITING:,} of them"
    figure(name, found["bytes"], 2_048, "the limit asked for", "bytes", 1.0, "lower")
    figure("durable: greenlets a waiting run", found["greenlets"], 1, "one each", "1", 0.01, "lower")
    figure(
        "durable: five steps beside the waiting", found["beside"], found["alone"], "five steps alone", "ms", 1.3, "lower"
    )  # fmt: skip
    if python is not None:
        with a_folder() as folder:
            theirs = asked(python, "waiting", folder, THEIR_WAITING)
        figure("durable: memory of a waiting run", found["bytes"], theirs, PEER, "bytes", None, "lower")


# ---- processes of their own ------------------------------------------------------------------------------------------


def crash(folder: str) -> int:
    """Runs that ended, and runs that have done two of their five steps, left behind by a process that ends at once."""
    with a_node(folder) as node:
        many(node, CHAINS[5], ENDED, AT_ONCE)
        many(node, gated, UNFINISHED, AT_ONCE, starts_only=True)
        while sum(call.route.id == "bench.gate" for call in node.door.active()) < UNFINISHED:
            gevent.sleep(0.01)
        print(json.dumps(UNFINISHED), flush=True)
        os._exit(0)


def recover(folder: str) -> float:
    begun = time.perf_counter()
    with a_node(folder) as node:
        store = node.waking().store
        while store.counts() != {"completed": ENDED + UNFINISHED}:
            gevent.sleep(0.01)
        return time.perf_counter() - begun


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def greenlets() -> int:
    gc.collect()
    return sum(isinstance(one, greenlet) and not one.dead for one in gc.get_objects())


def wait(folder: str) -> dict[str, float]:
    with a_node(folder) as node:

        def five() -> float:
            return statistics.median(
                seconds_each(lambda: node.call("bench.durable5", {"n": 0}), 0.5) for _ in range(ROUNDS)
            )

        store = node.waking().store
        many(node, waiter, 1_000, AT_ONCE, starts_only=True)
        while store.counts().get("waiting", 0) < 1_000:
            gevent.sleep(0.05)
        alone, before, threads = five(), resident(), greenlets()
        many(node, waiter, WAITING, AT_ONCE, starts_only=True)
        while store.counts()["waiting"] < 1_000 + WAITING:
            gevent.sleep(0.05)
        more = greenlets() - threads
        return {
            "bytes": (resident() - before) / WAITING,
            "greenlets": more / WAITING,
            "alone": alone * 1e3,
            "beside": five() * 1e3,
        }


ROLES: dict[str, Callable[[str], Any]] = {"crash": crash, "recover": recover, "waiting": wait}


def main() -> None:
    if len(sys.argv) > 1:
        print(json.dumps(ROLES[sys.argv[1]](sys.argv[2])), flush=True)
        os._exit(0)
    python = environment("dbos", "dbos")
    rates(python)
    growth()
    recovery(python)
    waiting(python)


if __name__ == "__main__":
    main()
