"""Nodes with durable runs on one data folder, one after the other."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent

from packetflow import Context, Node, capability
from packetflow.composition.building import composition
from packetflow.composition.plan import Composition
from packetflow.node.config import NodeConfig
from packetflow.otp.clock import Clock


class Place:
    """A data folder, and nodes on it, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.done: list[str] = []
        self.nodes: list[Node] = []
        self.log = io.StringIO()

    def capabilities(self) -> list[Callable[..., Any]]:
        @capability("work.do")
        def do(word: str) -> dict[str, str]:
            """Do it."""
            self.done.append(word)
            return {"did": word}

        @capability("work.undo")
        def undo(word: str) -> None:
            """Undo it."""
            self.done.append(f"undo {word}")

        @capability("work.slow")
        def slow(word: str, context: Context) -> dict[str, str]:
            """Do it slowly."""
            gevent.sleep(0.3)
            self.done.append(f"slow {word}")
            return {"did": word}

        return [do, undo, slow]

    def node(self, *plans: Composition, more: list[Any] | None = None, clock: Clock | None = None) -> Node:
        config = NodeConfig.model_validate(
            {
                "node": {"name": "durable", "data_folder": str(self.folder)},
                "tcp": {"enabled": False},
                "http": {"enabled": False},
                "access": {"local": ["*", "system.*"]},
            }
        )
        given = self.capabilities() if more is None else more
        served = [*given, *(plan.definition for plan in plans)]
        node = Node(config, capabilities=served, log_stream=self.log, clock=clock)
        self.nodes.append(node)
        return node.start()

    def again(self, *plans: Composition, more: list[Any] | None = None, clock: Clock | None = None) -> Node:
        self.nodes[-1].stop()
        return self.node(*plans, more=more, clock=clock)


def left_waiting(node: Node, id: str, **payload: Any) -> str:
    """Begin a run, and wait until it waits; its id. Its caller waits too."""
    known = {row["id"] for row in node.call("system.runs")["runs"]}
    gevent.spawn(node.request, id, payload)
    with gevent.Timeout(20):
        while True:
            rows = node.call("system.runs", {"state": "waiting", "composition": id})["runs"]
            new = [str(row["id"]) for row in rows if row["id"] not in known]
            if new and node.waking().runs.under_way == 0:
                return new[0]
            gevent.sleep(0.01)


def ended(node: Node, run: str) -> Any:
    waking = node.waking()
    return waking.runs.wait(waking.find(run), 10.0)


def flow(id: str, body: Any, **options: Any) -> Composition:
    return composition(id, "A plan", body, requires={"word": str}, durable=True, **options)
