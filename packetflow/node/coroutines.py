"""Runs coroutines beside greenlets: one asyncio loop in one greenlet of the hub's thread, shared by the nodes on it.

The loop waits by gevent's selector, so it yields to the hub, patched or not (design ruling 29).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import gevent
from gevent.event import AsyncResult
from gevent.selectors import GeventSelector
from greenlet import greenlet

T = TypeVar("T")
PATIENCE = 5.0  # seconds that a cancelled coroutine has to end in when the loop is closed

_thread = (
    threading.local()
)  # a thread has one hub, and its hub has one loop: a second one in the thread can't run


class Coroutines:
    """A node's use of the loop. `close()` ends it with the last node that uses it. on_loop: told the loop's greenlet when there
    is one, and None when there is none any more.
    """

    def __init__(self, on_loop: Callable[[greenlet | None], object] = lambda loop: None) -> None:
        self._opened: _Loop | None = None
        self._on_loop = on_loop

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for it in this greenlet. Raises what it raises.

        If this greenlet is ended while it waits, the coroutine is cancelled. Raises RuntimeError when
        called from the loop itself, which would wait for itself: use `await` there.
        """
        if self._opened is None:
            self._opened = _Loop.share()
            self._on_loop(self._opened.greenlet)
        return self._opened.run(coroutine)

    def close(self) -> None:
        """Give the loop back."""
        if self._opened is not None:
            self._opened.give_back()
            self._opened = None
            self._on_loop(None)


class _Loop:
    users = 0

    def __init__(self) -> None:
        self._loop = asyncio.SelectorEventLoop(GeventSelector())
        turns = gevent.get_hub().loop
        if getattr(turns, "simulated", False):
            self._loop.time = turns.now  # type: ignore[method-assign]  # its timers are in virtual time too
        self._ending = False
        self.greenlet = gevent.spawn(self._serve)

    def _serve(self) -> None:
        while not self._ending:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # asyncio lets these through to whoever runs the loop. They are their coroutine's crash, which is told to
                # whoever waits for it (design ruling 23); the others go on.
                continue
        self._cancel_all()

    def _cancel_all(self) -> None:
        """What nobody waits for any more ends before the loop does, so that its `finally` blocks run."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            if not task.cancelling():  # one that is cleaning up must not be disturbed in it
                task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE))

    @classmethod
    def share(cls) -> _Loop:
        found: _Loop | None = getattr(_thread, "loop", None)
        if found is None:
            found = _thread.loop = cls()
        found.users += 1
        return found

    def give_back(self) -> None:
        self.users -= 1
        if self.users == 0:
            _thread.loop = None
            self._ending = True
            self._loop.call_soon_threadsafe(self._loop.stop)
            self.greenlet.join()
            self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if gevent.getcurrent() is self.greenlet:
            coroutine.close()
            raise RuntimeError(
                "a blocking call on the asyncio loop's own greenlet would wait for itself; use await there"
            )
        outcome: AsyncResult[T] = AsyncResult()
        task: asyncio.Task[T] | None = None

        def finished(done: asyncio.Task[T]) -> None:
            if done.cancelled():
                outcome.set_exception(asyncio.CancelledError())
            elif (error := done.exception()) is not None:
                outcome.set_exception(error)
            else:
                outcome.set_result(done.result())

        def begin() -> None:
            nonlocal task
            task = self._loop.create_task(coroutine)
            task.add_done_callback(finished)

        self._soon(begin)
        try:
            value: T = outcome.get()
            return value
        except BaseException:
            if not outcome.ready():
                self._soon(
                    lambda: task is not None and task.cancel()
                )  # it has begun by then: callbacks keep their order
            raise

    def _soon(self, callback: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(callback)
