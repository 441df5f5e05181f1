"""Plans in memory: five steps, a hundred, a hundred at once, map_reduce, and how the cost of a step grows with the plan.

Every step of ours is a request through the one door: contract in and out, rights, trace; and so is the run. The peers' steps are
plain functions. Each round asks every side in turn; medians count.

python bench/composition/in_memory.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.figures import environment, figure, seconds_each, skipped
from packetflow import Node, capability
from packetflow.composition.building import composition, map_reduce, parallel, pipeline, step
from packetflow.composition.nodes import Value

ROUNDS = 5
HERE = Path(__file__).resolve().parent
PEERS = {
    "LangGraph": ("langgraph", "_langgraph_peer.py", ("langgraph",), 5.0),
    "pydantic-graph": ("pydantic_graph", "_pydantic_graph_peer.py", ("pydantic-graph",), 2.5),
}
ROWS = {"five": "five steps", "hundred": "a hundred steps", "parallel": "100 steps at once"}


@capability("bench.add")
def add(n: int) -> int:
    """One more."""
    return n + 1


@capability("bench.same")
def same(n: int) -> int:
    """As it is."""
    return n


def chain(length: int) -> Any:
    steps = [step("bench.add", outputs={"result": "n"}, name=f"step{number}") for number in range(length)]
    return composition(f"bench.chain{length}", "A chain", pipeline(*steps), requires={"n": int})


def wide(width: int) -> Any:
    steps = [step("bench.same", inputs={"n": Value(number)}, name=f"step{number}") for number in range(width)]
    return composition("bench.wide", "At once", parallel(*steps, combine="list"))


ALL = composition(
    "bench.all", "Each of them", map_reduce("items", step("bench.same", inputs={"n": "item"}), "count", concurrency=8, chunk=100),
    requires={"items": list[int]}, timeout=60.0,
)  # fmt: skip


def main() -> None:
    lengths = (5, 10, 100, 999)
    plans = [*(chain(length) for length in lengths), wide(100), ALL]
    with Node(capabilities=[add, same, *plans]) as node:

        def ask(id: str, payload: dict[str, Any]) -> Callable[[], Any]:
            return lambda: node.call(id, payload)

        assert node.call("bench.chain5", {"n": 0}) == 5
        assert node.call("bench.wide") == list(range(100))
        ours = {
            "five": ask("bench.chain5", {"n": 0}),
            "hundred": ask("bench.chain100", {"n": 0}),
            "parallel": ask("bench.wide", {}),
        }
        against_peers(ours)
        grow({length: ask(f"bench.chain{length}", {"n": 0}) for length in lengths})
        over_a_call(ours["hundred"], ask("bench.same", {"n": 1}))
        items_of_map_reduce(
            ask("bench.same", {"n": 1}), lambda items: node.call("bench.all", {"items": items})
        )


def over_a_call(hundred: Callable[[], Any], request: Callable[[], Any]) -> None:
    """What a step costs over the function called directly, and over the request that it is."""
    steps, calls, requests = [], [], []
    for _ in range(ROUNDS):
        steps.append(seconds_each(hundred) / 100)
        calls.append(seconds_each(lambda: add(1)))
        requests.append(seconds_each(request))
    step_, call, alone = (statistics.median(one) * 1e6 for one in (steps, calls, requests))
    figure("composition: a step", step_, call, "the function called directly", "us", None, "lower")
    figure("composition: a step", step_, alone, "the request alone", "us", 1.5, "lower")


def items_of_map_reduce(request: Callable[[], Any], run: Callable[[list[int]], Any]) -> None:
    """An item of map_reduce over the request that it is; and a hundred thousand of them over ten thousand."""
    costs: dict[int, float] = {}
    for count in (10_000, 100_000):
        items = list(range(count))
        assert run(items) == count
        took = [seconds_each(partial(run, items), 0.5) for _ in range(3)]
        costs[count] = statistics.median(took) / count * 1e6
    alone = statistics.median(seconds_each(request) for _ in range(ROUNDS)) * 1e6
    figure(
        "composition: an item of map_reduce over 100,000",
        costs[100_000],
        alone,
        "the request alone",
        "us",
        2.0,
        "lower",
    )
    figure(
        "composition: an item of map_reduce over 100,000",
        costs[100_000],
        costs[10_000],
        "an item of 10,000",
        "us",
        1.3,
        "lower",
    )


def against_peers(ours: dict[str, Callable[[], Any]]) -> None:
    for peer, (name, file, packages, target) in PEERS.items():
        python = environment(name, *packages)
        if python is None:
            skipped(f"composition: against {peer}", f"{' '.join(packages)} can't be had")
            continue
        own: dict[str, list[float]] = {row: [] for row in ROWS}
        theirs: dict[str, list[float]] = {row: [] for row in ROWS}
        for _ in range(ROUNDS):
            for row, function in ours.items():
                own[row].append(seconds_each(function))
            done = subprocess.run(
                [str(python), str(HERE / file), *ROWS], stdout=subprocess.PIPE, text=True, check=True
            )
            for row, seconds in json.loads(done.stdout.splitlines()[-1]).items():
                theirs[row].append(seconds)
        for row, what in ROWS.items():
            one, other = 1 / statistics.median(own[row]), 1 / statistics.median(theirs[row])
            figure(f"composition: {what}", one, other, peer, "runs/s", target)


def grow(chains: dict[int, Callable[[], Any]]) -> None:
    """A step of a long plan over a step of five: nothing may grow but the number of steps."""
    costs = {
        length: statistics.median(seconds_each(run) for _ in range(ROUNDS)) / length
        for length, run in chains.items()
    }
    for length in list(costs)[1:]:
        figure(
            f"composition: a step of {length}",
            costs[length] * 1e6,
            costs[5] * 1e6,
            "a step of five",
            "us",
            1.3,
            "lower",
        )


if __name__ == "__main__":
    main()
