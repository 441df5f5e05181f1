"""Random callers of cached, pooled, asynchronous, blocking and background capabilities, in virtual time: whoever gives up, is
cancelled or killed, whatever comes and goes meanwhile, limits hold and nothing is left."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import gevent

from packetflow import Context, Pool, capability, ttl
from packetflow.testing import World, explore
from packetflow.wire.values import Response

LIVES = int(os.environ.get("PACKETFLOW_LIVES", "40"))
SIZE, QUEUE = 2, 3
CODES = {"timeout", "cancelled", "overloaded", "conflict", "not_found", "execution_failed", "unavailable"}


class Life:
    """A node in a world, what runs in it, and what came of it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.chance = world.random
        self.inside: dict[str, int] = {}
        self.most: dict[str, int] = {}
        self.wrong: list[str] = []
        self.seen: set[str] = set()
        self.jobs: list[str] = []
        self.asking: list[gevent.Greenlet[..., Any]] = []
        self.node = world.node(
            "desk", capabilities=self.capabilities(), config={"jobs": {"running": 5, "keep": 4}}
        )

    def work(self, name: str) -> None:
        """Some work, which may fail."""
        self.inside[name] = self.inside.get(name, 0) + 1
        self.most[name] = max(self.most.get(name, 0), self.inside[name])
        try:
            gevent.sleep(self.chance.choice([0.0, 0.1, 1.0, 5.0]))
            if self.chance.random() < 0.1:
                raise KeyError(name)
        finally:
            self.inside[name] -= 1

    def capabilities(self) -> list[Any]:
        """What is served."""
        pool = Pool(SIZE, QUEUE, name="shared")

        @capability("a.cached", cache=ttl(3, max_entries=2))
        def cached(number: int) -> tuple[int, str]:
            """Say for whom it was made."""
            self.work("cached")
            return number, "cached"

        @capability("a.whose", cache=ttl(3))
        def whose(number: int, context: Context) -> str:
            """Say for whom it was made."""
            self.work("whose")
            return context.principal

        @capability("a.pooled", pool=pool)
        def pooled(number: int) -> int:
            """Take a place."""
            self.work("shared")
            return number

        @capability("a.both", pool=pool, cache=ttl(2))
        def both(number: int, context: Context) -> int:
            """Take a place, and ask for another one or for itself."""
            self.work("shared")
            if number == 0:
                context.request("a.pooled", {"number": 1}, timeout=2)
            elif number == 1:
                error = context.request("a.both", {"number": self.chance.choice([0, 1, 2])}).error
                self.seen.add("" if error is None else error.code)
            return number

        @capability("a.later")
        async def later(number: int, context: Context) -> int:
            """Ask from the loop."""
            await asyncio.sleep(0.1 * number)
            asked = [context.request_async("a.cached", {"number": each}, timeout=1) for each in range(number)]
            await asyncio.gather(*asked)
            return number

        @capability("a.job", background=True)
        def job(number: int, context: Context) -> int:
            """Run on."""
            context.progress(1, 2)
            context.request("a.pooled", {"number": number})
            self.work("job")
            return number

        return [cached, whose, pooled, both, later, job]

    def ask(self) -> None:
        """One request, and perhaps something that befalls its caller."""
        chance = self.chance
        id = chance.choice(["a.cached", "a.whose", "a.pooled", "a.both", "a.later", "a.job", "a.extra"])
        who = chance.choice(["ana", "ben"])
        timeout = chance.choice([None, 0.05, 0.5, 3.0])
        fields = {"number": chance.randrange(3)}

        def pass_it() -> None:
            response = self.node.request(id, fields, session=self.node.session(who), timeout=timeout)
            self.check(id, who, fields["number"], response)

        asking = gevent.spawn(pass_it)
        self.asking.append(asking)
        if chance.random() < 0.25:
            gevent.spawn_later(chance.uniform(0, 2), self.node.door.cancel, asking)
        elif chance.random() < 0.1:
            gevent.spawn_later(chance.uniform(0, 2), asking.kill, block=False)

    def check(self, id: str, who: str, number: int, response: Response) -> None:
        """Whether an answer is one that this caller may get."""
        if response.error is not None:
            self.seen.add(response.error.code)
            if response.error.code not in CODES:
                self.wrong.append(repr(response.error))
            return
        value = response.value
        self.seen.add(id)
        expected: Any = {"a.whose": who, "a.cached": (number, "cached"), "a.extra": 1}.get(id, number)
        if id == "a.job":
            self.jobs.append(value["job"])
        elif value != expected:
            self.wrong.append(f"{id} gave {value!r} to {who} for {number}")

    def change(self) -> None:
        """Something that befalls the node."""
        chance = self.chance
        what = chance.randrange(4)
        if what == 0 and self.jobs:
            operator = self.node.open_session("admin", "", operator=True)
            self.node.request("job.cancel", {"id": chance.choice(self.jobs)}, session=operator)
        elif what == 1 and self.node.routes.catalogue.find("a.extra") is None:

            @capability("a.extra", pool=Pool(1, 1, name="extra"))
            def extra(number: int) -> int:
                """Come and go."""
                self.work("extra")
                return 1

            self.node.register(extra)
        elif what == 2 and self.node.routes.catalogue.find("a.extra") is not None:
            self.node.unregister("a.extra")

    def end(self) -> None:
        """All has come to its end."""
        gevent.joinall(self.asking)
        while self.node.jobs.counts()["running"]:
            gevent.sleep(0.1)
        gevent.sleep(20)  # what was given up cleans up, what was retired is closed
        assert self.wrong == []
        assert self.most.get("shared", 0) <= SIZE
        assert self.most.get("extra", 0) <= 2, "one of each that was registered, while the other is retired"
        assert not any(self.inside.values())
        assert self.node.door.in_flight == {}
        assert len(self.node.surroundings.waits) == 0
        for pool in self.node.surroundings.pools:
            figures = pool.statistics()
            assert (figures["running"], figures["waiting"], figures["lingering"]) == (0, 0, 0), figures
        for one in self.node.routes.catalogue:
            if one.cache is not None:
                assert one.cache._flights == {}
                assert len(one.cache) <= one.cache.max_entries
        assert self.node.jobs.counts()["kept"] <= 4
        assert self.node.door.outside._asking == {}


def life(world: World) -> set[str]:
    made = Life(world)
    for _ in range(made.chance.randint(5, 60)):
        made.ask()
        if made.chance.random() < 0.4:
            gevent.sleep(made.chance.uniform(0.0, 1.0))
        if made.chance.random() < 0.2:
            made.change()
    made.end()
    return made.seen


def test_limits_hold_and_nothing_is_left() -> None:
    runs = explore(life, range(LIVES))
    seen = set().union(*(run.value for run in runs))
    assert {"a.cached", "a.whose", "a.pooled", "a.both", "a.later", "a.job", "a.extra"} <= seen
    assert {"timeout", "cancelled", "overloaded", "execution_failed", "conflict", "not_found"} <= seen
