"""What pydantic-graph does for the same work: prints {row: seconds of one run}, in one event loop."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from itertools import pairwise

from pydantic_graph import GraphBuilder, StepContext, reduce_list_append


def chain(length):
    builder = GraphBuilder(input_type=dict, output_type=dict)
    steps = []
    for number in range(length):

        async def step(ctx: StepContext[None, None, dict]) -> dict:
            return {"n": ctx.inputs["n"] + 1}

        steps.append(builder.step(step, node_id=f"step{number}"))
    ends = [builder.start_node, *steps, builder.end_node]
    builder.add(*[builder.edge_from(a).to(b) for a, b in pairwise(ends)])
    graph = builder.build()
    return lambda: loop.run_until_complete(graph.run(inputs={"n": 0}))


def wide(width):
    builder = GraphBuilder(input_type=list[int], output_type=list[int])

    async def step(ctx: StepContext[None, None, int]) -> int:
        return ctx.inputs

    mapped = builder.step(step, node_id="step")
    gathered = builder.join(reduce_list_append, initial_factory=list[int])
    builder.add(
        builder.edge_from(builder.start_node).map().to(mapped),
        builder.edge_from(mapped).to(gathered),
        builder.edge_from(gathered).to(builder.end_node),
    )
    graph = builder.build()
    return lambda: loop.run_until_complete(graph.run(inputs=list(range(width))))


def seconds(function, budget=0.5):
    function()
    runs = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(runs) < 3:
        begun = time.perf_counter()
        function()
        runs.append(time.perf_counter() - begun)
    return statistics.median(runs)


loop = asyncio.new_event_loop()
rows = {"five": chain(5), "hundred": chain(100), "parallel": wide(100)}
print(json.dumps({name: seconds(rows[name]) for name in sys.argv[1:]}))
