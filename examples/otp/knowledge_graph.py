"""A knowledge graph whose nodes are actors, and a walker that finds its way by asking them, a whole frontier at once.

python examples/otp/knowledge_graph.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.otp import ActorSystem, Message, Receive, Response, Send

FACTS = [
    ("ada", "wrote_for", "analytical_engine"),
    ("babbage", "designed", "analytical_engine"),
    ("analytical_engine", "inspired", "eckert"),
    ("eckert", "built", "eniac"),
    ("mauchly", "built", "eniac"),
    ("eniac", "led_to", "edvac"),
    ("von_neumann", "described", "edvac"),
    ("edvac", "inspired", "edsac"),
    ("wilkes", "built", "edsac"),
    ("edsac", "inspired", "ada"),  # a circle: no traversal may run for ever
]


def concept(relations: Mapping[str, tuple[str, ...]], send: Send) -> Receive:
    """One node: it knows what it is related to, and how, and nothing further."""
    asked = 0

    def receive(message: Message) -> Response:
        nonlocal asked
        asked += 1
        if message.type == "neighbours":
            wanted = message.payload
            found = [
                (relation, other)
                for relation, others in relations.items()
                if wanted is None or relation in wanted
                for other in others
            ]
            return Response(True, found)
        if message.type == "asked":
            return Response(True, asked)
        return Response(False, error=f"a concept answers neighbours and asked, not {message.type}")

    return receive


def walker(deepest: int, send: Send) -> Receive:
    """Walks breadth first: all nodes of a frontier are asked at once, each one once."""

    def walk(message: Message, start: str, goal: str | None, relations: Any) -> Response:
        ways: dict[str, tuple[str, ...]] = {start: (start,)}
        frontier = [start]
        for _ in range(deepest):
            ask = Message(message.id, "neighbours", relations)
            asked = [(node, send.future(node, ask)) for node in frontier]
            frontier = []
            for node, future in asked:
                answer = future.get()
                if not answer.success:
                    return answer
                for relation, other in answer.data:
                    if other not in ways:
                        ways[other] = (*ways[node], relation, other)
                        frontier.append(other)
            if goal in ways or not frontier:
                break
        if goal is None:
            return Response(True, sorted(set(ways) - {start}))
        if goal not in ways:
            return Response(False, error=f"no way from {start} to {goal}", code="no_way")
        return Response(True, ways[goal])

    def receive(message: Message) -> Response:
        query = message.payload
        return walk(message, query["from"], query.get("to"), query.get("relations"))

    return receive


def build(facts: list[tuple[str, str, str]]) -> ActorSystem:
    """An actor for each node, and a walker beside them."""
    graph = ActorSystem()
    for node in dict.fromkeys(name for subject, _, other in facts for name in (subject, other)):
        relations: dict[str, tuple[str, ...]] = {}
        for subject, relation, other in facts:
            if subject == node:
                relations[relation] = (*relations.get(relation, ()), other)
        graph.register(node, concept, relations)
    graph.register("walker", walker, 20)
    return graph


def main() -> None:
    """A way, what can be reached, what can't, and who is not known."""
    with build(FACTS) as graph:

        def ask(**query: Any) -> Any:
            query["from"] = query.pop("start")
            answer = graph.send("walker", Message("q", "walk", query))
            return answer.data if answer.success else answer.error

        print("way:", " ".join(ask(start="ada", to="edsac")))
        print("from wilkes:", ", ".join(ask(start="wilkes")))
        print("built by mauchly:", ", ".join(ask(start="mauchly", relations=["built"])))
        print("ada to mauchly:", ask(start="ada", to="mauchly"))
        print("turing:", ask(start="turing", to="ada"))
        print("ada was asked", graph.send("ada", Message("n", "asked")).data - 1, "times")


if __name__ == "__main__":
    main()
