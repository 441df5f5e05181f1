"""The pools that capabilities of a node run in: places for greenlets, native threads, processes; shared by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from greenlet import getcurrent, greenlet

from packetflow.capabilities.options import Pool
from packetflow.capabilities.waiting import Waits
from packetflow.otp.clock import Clock
from packetflow.otp.errors import OffloadFailed, PoolClosed, PoolFull, ProcessDied
from packetflow.otp.pools.pool import Pool as Slots
from packetflow.otp.pools.pool import Task
from packetflow.otp.pools.processes import ProcessPool
from packetflow.otp.pools.threads import ThreadPool
from packetflow.wire.errors import ExecutionFailed, Overloaded, Unavailable

THREADS = 8  # how many calls of one blocking capability run at once
QUEUE = 256  # how many more wait
SOONEST, LATEST = 0.1, 60.0  # seconds after which one that was refused may try again
WEIGHT = 0.2  # of the newest run in the average


class _Told(Slots):
    """A pool that tells when somebody gets a slot."""

    taken: Callable[[greenlet | None], None]

    @property
    def has_room(self) -> bool:
        """Whether one more need not wait."""
        return self._running < self.size and not self._line

    def _take(self, task: Task) -> None:
        super()._take(task)
        self.taken(task.greenlet)


class Places(_Told):
    """Places for work that runs in its caller's greenlet: they bound how much of it goes on at once."""

    kind = "greenlets"

    def _run(self, task: Task) -> Any:
        try:
            self._wait(task)
        except BaseException:
            task.greenlet = None
            if task.begun:
                self._leave()
            elif task in self._line:
                self._line.remove(task)
            raise
        if task.error is not None:
            raise task.error
        try:
            return task.function(*task.arguments)
        finally:
            self._leave()

    def _begin(self, task: Task) -> None:
        if task.greenlet is getcurrent():
            task.settled = True
        else:
            self._settle(task)

    def _workers(self) -> int:
        return self._running

    def _shrink(self) -> None:
        """There is nothing to end."""


class Threads(_Told, ThreadPool):
    """Native threads."""


class Processes(_Told, ProcessPool):
    """Processes, one of them kept warm."""


KINDS: dict[str, type[_Told]] = {one.kind: one for one in (Places, Threads, Processes)}


class SharedPool:
    """A pool of a node and those who use it. kind: greenlets, threads or processes.

    What it refuses is told as request errors; how long a refused one should wait follows from how long work takes here.
    """

    __slots__ = (
        "_asking",
        "_average",
        "_inside",
        "_monotonic",
        "_slots",
        "_waits",
        "kept",
        "kind",
        "name",
        "refused",
        "users",
    )

    def __init__(self, name: str, kind: str, pool: Pool, clock: Clock, waits: Waits) -> None:
        self.name = name
        self.kind = kind
        self.kept = pool
        self.users = 0
        self.refused = 0
        self._monotonic = clock.monotonic
        self._waits = waits
        self._average: float | None = None
        self._asking: dict[greenlet | None, Any] = {}
        self._inside: dict[Any, float] = {}  # since when each request has its slot
        self._slots = KINDS[kind](pool.size, queue=pool.queue, full="fail", name=f"pool {name}")
        self._slots.taken = self._taken

    def run(self, function: Callable[..., Any], arguments: tuple[Any, ...], context: Any) -> Any:
        """Have `function(*arguments)` done in a slot, and wait for what it gives. Raises what it raises; Overloaded, Unavailable,
        ExecutionFailed for the pool's own faults; Conflict where the wait for a slot could never end.
        """
        me = getcurrent()
        outer = self._asking.get(me)
        if not self._slots.has_room:
            self._waits.begin(context, self._holders, f"a place in pool {self.name}")
        self._asking[me] = context
        try:
            return self._slots.run(function, *arguments)
        except PoolFull:
            self.refused += 1
            raise self._overloaded() from None
        except PoolClosed:
            raise Unavailable(f"pool {self.name} is closed; try again", retry_after=SOONEST) from None
        except OffloadFailed as error:
            raise Unavailable(f"pool {self.name}: {error}", retry_after=1.0) from error
        except ProcessDied as error:
            raise ExecutionFailed(f"{context.capability} failed: {error}", {"type": "ProcessDied"}) from error
        finally:
            self._waits.end(context)
            since = self._inside.pop(context, None)
            if since is not None:
                self._learn(self._monotonic() - since)
            if outer is None:
                del self._asking[me]
            else:
                self._asking[me] = outer

    def statistics(self) -> dict[str, Any]:
        """Its figures, as `system.stats` shows them."""
        found = self._slots.statistics()
        return {
            "kind": self.kind,
            "size": found.size,
            "queue": self.kept.queue,
            "running": found.running,
            "waiting": found.waiting,
            "lingering": found.lingering,
            "done": found.done,
            "refused": self.refused,
        }

    def lingering(self) -> list[tuple[str, str]]:
        """What runs on in a thread although nobody waits for it: (its name, the line where it is)."""
        return self._slots.lingering() if isinstance(self._slots, Threads) else []

    def close(self) -> None:
        """Who waits is refused, what runs in a thread lingers, what runs in a process is ended."""
        self._slots.close(0.0)

    def _taken(self, waiting: greenlet | None) -> None:
        context = self._asking.get(waiting)
        if context is not None:
            self._waits.end(context)
            self._inside[context] = self._monotonic()

    def _holders(self) -> Iterable[Any]:
        # A slot that lingers is given back by a thread that waits for nobody here.
        return () if self._slots.statistics().lingering else list(self._inside)

    def _learn(self, seconds: float) -> None:
        self._average = (
            seconds if self._average is None else self._average + WEIGHT * (seconds - self._average)
        )

    def _overloaded(self) -> Overloaded:
        found = self._slots.statistics()
        expected = (self._average or 0.0) * (found.waiting + 1) / found.size
        return Overloaded(
            f"pool {self.name}: {found.running} run and {found.waiting} wait, its limits",
            {"pool": self.name},
            retry_after=round(min(max(expected, SOONEST), LATEST), 3),
        )


class Pools:
    """The pools of one node, for as long as somebody uses them."""

    def __init__(self, clock: Clock, waits: Waits) -> None:
        self._clock = clock
        self._waits = waits
        self._shared: dict[Any, SharedPool] = {}

    def take(self, pool: Pool | None, kind: str, capability: str) -> SharedPool:
        """The pool that a capability runs in: by the pool's name, or that object's own, or one for this capability alone."""
        if pool is None:
            pool = (
                Pool(os.cpu_count() or 1, QUEUE, name="cpu")
                if kind == Processes.kind
                else Pool(THREADS, QUEUE)
            )
        key = (pool.name, pool.size, pool.queue, kind) if pool.name else (id(pool), kind)
        found = self._shared.get(key)
        if found is None:
            name = pool.name or capability
            found = self._shared[key] = SharedPool(name, kind, pool, self._clock, self._waits)
        found.users += 1
        return found

    def give_back(self, shared: SharedPool) -> None:
        """One user less; the last one closes it."""
        shared.users -= 1
        if shared.users == 0:
            self._shared = {key: one for key, one in self._shared.items() if one is not shared}
            shared.close()

    def __iter__(self) -> Iterator[SharedPool]:
        return iter(list(self._shared.values()))
