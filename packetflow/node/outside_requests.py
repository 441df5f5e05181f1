"""Requests that a capability makes from outside of its own greenlet: from a thread of its pool, or on the asyncio loop.

They are passed in the node's own thread, in a greenlet each, and end with the request on whose behalf they are made.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import gevent
from greenlet import getcurrent, greenlet

from packetflow.capabilities.context import Context
from packetflow.otp.threads import get_ident
from packetflow.wire.errors import Cancelled
from packetflow.wire.stream import Making
from packetflow.wire.values import Metadata, Response

if TYPE_CHECKING:
    from packetflow.node.door import Door

T = TypeVar("T")
WAITS_FOR_ITSELF = (
    "a coroutine of this node can't wait like this: every other coroutine would wait with it; expected"
    " `await context.request_async(...)` or `call_async`, and `async for` for the items of a stream"
)


def _no_way(function: Callable[..., Any], *arguments: Any) -> Any:
    raise RuntimeError("this door has no node, so a request can't be made from another thread")


def _item_of(making: Making) -> tuple[bool, Any]:
    try:
        return True, making.take_alone()
    except StopIteration:  # which no future and no greenlet can hand over
        return False, None


class OutsideRequests:
    """Of one door. crossing: runs a function in a greenlet of the node's thread and waits for it in the calling thread. loop:
    the greenlet of the asyncio loop, once there is one.
    """

    __slots__ = ("_asking", "_door", "crossing", "loop", "thread")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._asking: dict[Context, set[greenlet]] = {}
        self.thread = get_ident()
        self.crossing: Callable[..., Any] = _no_way
        self.loop: greenlet | None = None

    def request(
        self, parent: Context, capability: str, payload: Mapping[str, Any] | None, metadata: Metadata
    ) -> Response:
        """Pass a request, asked from another thread than the node's."""
        response: Response = self.crossing(self._here, parent, capability, payload, metadata)
        return response

    async def awaited(
        self, parent: Context, capability: str, payload: Mapping[str, Any] | None, metadata: Metadata
    ) -> Response:
        """Pass a request, asked by a coroutine on the loop. If that is cancelled, so is the request."""
        return await self._beside(lambda: self._here(parent, capability, payload, metadata))

    def item(self, making: Making) -> Any:
        """The next item of a stream, for another thread: it is made in the node's. Raises StopIteration after the last one, and
        what ended the stream.
        """
        there, item = self.crossing(_item_of, making)
        if not there:
            raise StopIteration
        return item

    async def next_item(self, making: Making) -> Any:
        """The same for a coroutine. Raises StopAsyncIteration after the last one."""
        there, item = await self._beside(lambda: _item_of(making))
        if not there:
            raise StopAsyncIteration
        return item

    def check_wait(self) -> None:
        """Raises RuntimeError on the loop's own greenlet, where nothing may wait but by `await`."""
        if self.loop is not None and getcurrent() is self.loop:
            raise RuntimeError(WAITS_FOR_ITSELF)

    def on_loop(self, loop: greenlet | None) -> None:
        """From now on this is the loop's greenlet; None: there is none any more."""
        self.loop = loop

    async def _beside(self, work: Callable[[], T]) -> T:
        """What the work gives, done in a greenlet of its own while the coroutine waits."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()

        def settle(value: T | None, failure: BaseException | None) -> None:
            if outcome.done():
                return
            if failure is None:
                outcome.set_result(value)  # type: ignore[arg-type]  # what the work gave
            else:
                outcome.set_exception(failure)

        def do() -> None:
            if outcome.done():
                return  # nobody waits for it any more
            value, failure = None, None
            try:
                value = work()
            except BaseException as error:  # noqa: BLE001 - it is the coroutine's to raise
                failure = error
            loop.call_soon_threadsafe(settle, value, failure)

        working = gevent.spawn(contextvars.copy_context().run, do)
        try:
            return await outcome
        except asyncio.CancelledError:
            self._door.cancel(working, Cancelled("the coroutine that asked for it was cancelled"))
            raise

    def _here(
        self, parent: Context, capability: str, payload: Mapping[str, Any] | None, metadata: Metadata
    ) -> Response:
        if parent.greenlet is None or parent.interrupt is not None:
            return Response(None, Cancelled(f"the request of {parent.capability} has ended"), None)
        me = getcurrent()
        asking = self._asking.setdefault(parent, set())
        asking.add(me)
        try:
            return self._door.request(capability, payload, parent.session, metadata, parent=parent)
        finally:
            asking.discard(me)
            if not asking:
                self._asking.pop(parent, None)

    def end(self, parent: Context) -> None:
        """Cancel what is still asked from outside on behalf of this request."""
        for waiting in list(self._asking.get(parent, ())):
            self._door.cancel(waiting, Cancelled(f"the request of {parent.capability} has ended"))
