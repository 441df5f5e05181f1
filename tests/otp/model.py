"""A plain reference model of actors: no greenlets, no fast path, nothing clever. The real ones are compared with it."""

from __future__ import annotations

from collections import deque
from typing import Any


class ModelActor:
    """One actor: what it has got, whom it is bound to, and what waits while it is blocked."""

    def __init__(self, number: int, trap: bool) -> None:
        self.number = number
        self.trap = trap
        self.alive = True
        self.blocked = False
        self.block_client: int | None = None
        self.total = 0
        self.log: list[Any] = []
        self.queue: deque[tuple[Any, ...]] = deque()
        self.links: set[int] = set()
        self.monitors: list[int] = []  # who watches me, once for each watch
        self.terminated: object = None


class Model:
    """Does one operation after the other, to the end."""

    def __init__(self) -> None:
        self.actors: list[ModelActor] = []
        self.results: dict[int, Any] = {}  # what each client's call came to; missing while it waits

    def spawn(self, trap: bool) -> None:
        self.actors.append(ModelActor(len(self.actors), trap))

    def deliver(self, to: int, message: tuple[Any, ...]) -> None:
        """message: (kind, argument, client)."""
        actor = self.actors[to]
        client = message[2]
        if not actor.alive:
            if client is not None:
                self.results[client] = "noproc"
        elif actor.blocked:
            actor.queue.append(message)
        else:
            self.handle(actor, *message)

    def handle(self, actor: ModelActor, kind: str, argument: Any, client: int | None) -> None:
        match kind:
            case "add":
                actor.total += argument
                if client is not None:
                    self.results[client] = actor.total
            case "info":
                actor.log.append(argument)
            case "block":
                actor.blocked, actor.block_client = True, client
            case "crash":
                if client is not None:
                    self.results[client] = ("exited", argument)
                actor.terminated = argument
                self.die(actor, argument)
            case "stop":
                actor.terminated = argument
                if client is not None:
                    self.results[client] = "stopped"
                self.die(actor, argument)
            case "chain":
                self.results[client or 0] = self.chain(actor, argument, [actor.number])

    def chain(self, actor: ModelActor, rest: list[int], path: list[int]) -> Any:
        if not rest:
            actor.total += 1
            return actor.total
        following = self.actors[rest[0]]
        if following.number in path:
            return "cycle"
        if not following.alive:
            return "noproc"
        return self.chain(following, rest[1:], [*path, following.number])

    def release(self, number: int) -> None:
        actor = self.actors[number]
        if not actor.blocked:
            return
        actor.blocked = False
        if actor.block_client is not None:
            self.results[actor.block_client] = "released"
            actor.block_client = None
        while actor.queue and actor.alive and not actor.blocked:
            self.handle(actor, *actor.queue.popleft())

    def link(self, a: int, b: int) -> None:
        if a == b:
            return
        if not self.actors[b].alive:
            self.signal(self.actors[a], b, "noproc")
            return
        self.actors[a].links.add(b)
        self.actors[b].links.add(a)

    def unlink(self, a: int, b: int) -> None:
        self.actors[a].links.discard(b)
        self.actors[b].links.discard(a)

    def monitor(self, a: int, b: int) -> None:
        if self.actors[b].alive:
            self.actors[b].monitors.append(a)
        else:
            self.deliver(a, ("info", ("down", b, "noproc"), None))

    def signal(self, actor: ModelActor, sender: int, reason: object) -> None:
        if not actor.alive:
            return
        if actor.trap:
            self.deliver(actor.number, ("info", ("exit", sender, reason), None))
        elif reason != "normal":
            self.die(actor, reason)

    def die(self, first: ModelActor, reason: object) -> None:
        pending = deque([(first, reason)])
        told: list[tuple[int, Any]] = []  # handled only when all deaths are done, by who is left
        while pending:
            actor, reason = pending.popleft()
            if not actor.alive:
                continue
            actor.alive = False
            waiting = [message[2] for message in actor.queue if message[2] is not None]
            if actor.blocked and actor.block_client is not None:
                waiting.append(actor.block_client)
            for client in waiting:
                self.results[client] = ("exited", reason)
            for message in actor.queue:
                if message[0] == "stop" and message[2] is not None and message[1] == reason:
                    self.results[message[2]] = "stopped"
            actor.queue.clear()
            actor.blocked = False
            told.extend((watcher, ("down", actor.number, reason)) for watcher in actor.monitors)
            for other in self.actors:
                other.monitors = [one for one in other.monitors if one != actor.number]
            for number in sorted(actor.links):
                other = self.actors[number]
                other.links.discard(actor.number)
                if not other.alive:
                    continue
                if other.trap:
                    told.append((number, ("exit", actor.number, reason)))
                elif reason != "normal":
                    pending.append((other, reason))
        for number, message in told:
            self.deliver(number, ("info", message, None))
