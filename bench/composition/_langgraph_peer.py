"""What LangGraph does for the same work: prints {row: seconds of one run}, in memory, without a checkpointer."""

from __future__ import annotations

import json
import operator
import os
import statistics
import sys
import time
from typing import Annotated, TypedDict

os.environ["LANGSMITH_TRACING"] = os.environ["LANGCHAIN_TRACING_V2"] = "false"

from langgraph.graph import END, START, StateGraph
from langgraph.types import Send


class State(TypedDict):
    n: int


class Wide(TypedDict):
    n: int
    seen: Annotated[list, operator.add]


def chain(length):
    graph = StateGraph(State)
    names = [f"step{number}" for number in range(length)]
    for name in names:
        graph.add_node(name, lambda state: {"n": state["n"] + 1})
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    compiled = graph.compile()
    return lambda: compiled.invoke({"n": 0}, {"recursion_limit": length + 10})


def wide(width):
    graph = StateGraph(Wide)
    graph.add_node("step", lambda state: {"seen": [state["n"]]})
    graph.add_conditional_edges(
        START, lambda state: [Send("step", {"n": number, "seen": []}) for number in range(width)], ["step"]
    )
    graph.add_edge("step", END)
    compiled = graph.compile()
    return lambda: compiled.invoke({"n": 0, "seen": []})


def seconds(function, budget=0.5):
    function()
    runs = []
    end = time.perf_counter() + budget
    while time.perf_counter() < end or len(runs) < 3:
        begun = time.perf_counter()
        function()
        runs.append(time.perf_counter() - begun)
    return statistics.median(runs)


rows = {"five": chain(5), "hundred": chain(100), "parallel": wide(100)}
print(json.dumps({name: seconds(rows[name]) for name in sys.argv[1:]}))
