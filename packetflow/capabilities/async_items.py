"""The items of an asynchronous generator, for a greenlet that takes them one by one.

The generator lives in one task from its beginning to its end, as asyncio's timeouts and cancel scopes want it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any, Self

ENDED = object()


class AsyncItems:
    """An iterator whose items an asynchronous generator makes on the node's loop. It makes one when it is asked to, not before.

    run: runs a coroutine there while the calling greenlet waits. An exception thrown into that greenlet cancels the generator.
    """

    __slots__ = ("_answer", "_asked", "_closing", "_made", "_run", "_task")

    def __init__(
        self, made: AsyncGenerator[Any, None], run: Callable[[Coroutine[Any, Any, Any]], Any]
    ) -> None:
        self._made = made
        self._run = run
        self._task: asyncio.Task[None] | None = None
        self._asked: asyncio.Event | None = None
        self._answer: asyncio.Future[Any] | None = None
        self._closing = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        item = self._run(self._next())
        if item is ENDED:
            raise StopIteration
        return item

    def close(self) -> None:
        """End the generator and wait until it has cleaned up. Raises what it raises meanwhile."""
        self._run(self._end())

    # ---- on the loop --------------------------------------------------------------------------------------------------

    async def _next(self) -> Any:
        answer = self._answer = asyncio.get_running_loop().create_future()
        if self._task is None:
            self._asked = asyncio.Event()
            self._task = asyncio.create_task(self._make())
        elif self._task.done():
            return ENDED
        assert self._asked is not None
        self._asked.set()
        try:
            return await answer
        except asyncio.CancelledError:
            self._cancel(self._task)
            raise

    async def _make(self) -> None:
        """The generator's life."""
        assert self._asked is not None
        try:
            await self._asked.wait()
            async with aclosing(self._made) as made:
                async for item in made:
                    if self._closing:  # it was told to end, and went on
                        break
                    self._asked.clear()
                    self._tell(item)
                    await self._asked.wait()
        except asyncio.CancelledError:
            if not self._closing:
                self._tell_failure(RuntimeError("the generator cancelled its own task"))
        except (SystemExit, KeyboardInterrupt, GeneratorExit) as failure:
            # The loop would take these for its own end; they are this generator's crash (design ruling 23).
            self._tell_failure(RuntimeError(f"the generator raised {type(failure).__name__}"))
        except BaseException as failure:
            if self._answer is None or self._answer.done():
                raise  # it cleans up, and `close` tells
            self._tell_failure(failure)
        else:
            self._tell(ENDED)

    def _tell(self, item: Any) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(item)

    def _tell_failure(self, failure: BaseException) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(failure)

    async def _end(self) -> None:
        task = self._task
        if task is None:
            await self._made.aclose()
            return
        if not task.done():
            self._cancel(task)
            await asyncio.wait({task})
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            raise failure

    def _cancel(self, task: asyncio.Task[None]) -> None:
        """Once: a second time would strike the generator while it cleans up."""
        if not self._closing:
            self._closing = True
            task.cancel()
