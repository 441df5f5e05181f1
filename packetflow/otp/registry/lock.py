"""The locks of a registry: one greenlet at a time for each key (Elixir's `Registry.lock`)."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from packetflow.otp import turn
from packetflow.otp.calls import check_cycle, wait
from packetflow.otp.errors import NoProcess
from packetflow.otp.process import PENDING, Call, Failed, Process, Worker

if TYPE_CHECKING:
    from packetflow.otp.scheduler import Scheduler


class _Inside:
    """Who is inside, and who waits for it. owner: the registry's server, for whom one waits if no actor is inside."""

    __slots__ = ("greenlet", "owner", "queue")

    def __init__(self, inside: greenlet, owner: Process) -> None:
        self.greenlet = inside
        self.owner = owner
        self.queue: deque[Call] = deque()


class Locks:
    """The locks of one registry that are held now."""

    __slots__ = ("_held", "_scheduler")

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held: dict[Any, _Inside] = {}

    def enter(self, key: Any, owner: Process, timeout: float | None) -> None:
        """Takes the lock of a key, after those who wait already."""
        scheduler = self._scheduler
        scheduler.check_may_wait()
        me = getcurrent()
        inside = self._held.get(key)
        if inside is None:
            self._held[key] = _Inside(me, owner)
            return
        caller = me.process if me.__class__ is Worker else None
        if inside.greenlet is me:
            raise RuntimeError(f"the lock {key!r} is held by the caller itself, which would wait for ever")
        holder = _process_of(inside.greenlet)
        request = Call(me, owner if holder is None else holder, None, caller, None)
        if holder is not None:
            check_cycle(caller, holder)
        inside.queue.append(request)
        try:
            wait(request, timeout)
        except BaseException:
            if self._held.get(key) is inside:
                if inside.greenlet is me:
                    self.leave(key)  # it was handed over at the moment when this one gave up
                else:
                    _drop(inside.queue, request)
            raise

    def leave(self, key: Any) -> None:
        """Gives the lock to the next, or back."""
        inside = self._held[key]
        queue = inside.queue
        while queue:
            request = queue.popleft()
            if request.value is PENDING and request.greenlet is not None:
                inside.greenlet = request.greenlet
                for other in queue:
                    other.target = request.caller or inside.owner  # the edge that finds cycles
                turn.answer(request, None)
                return
        del self._held[key]

    def close(self, name: str) -> None:
        """The registry is gone: nobody waits for its locks any more. Who is inside goes on."""
        for inside in self._held.values():
            while inside.queue:
                request = inside.queue.popleft()
                if request.value is PENDING:
                    request.value = Failed(lambda timeout: NoProcess(name))
                    if request.greenlet is not None:
                        self._scheduler.enqueue(request)


class Lock:
    """The lock of one key, for one `with` block."""

    __slots__ = ("_key", "_locks", "_owner", "_timeout")

    def __init__(self, locks: Locks, owner: Process, key: Any, timeout: float | None) -> None:
        self._locks = locks
        self._owner = owner
        self._key = key
        self._timeout = timeout

    def __enter__(self) -> None:
        self._locks.enter(self._key, self._owner, self._timeout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._locks.leave(self._key)


def _process_of(one: greenlet) -> Process | None:
    return one.process if one.__class__ is Worker else None


def _drop(queue: deque[Call], request: Call) -> None:
    if request in queue:
        queue.remove(request)
