"""Native threads: which one this is, and how a function is run in a system's thread for one that waits in another.

`get_ident` is the native one also where gevent has patched `threading`, whose idents are greenlets' then.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Protocol

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original
from greenlet import getcurrent

from packetflow.otp.errors import HubBlocked, ThreadGone

if TYPE_CHECKING:
    from packetflow.otp.process import Process
    from packetflow.otp.scheduler import Scheduler


class Work(Protocol):
    """What a thread does for somebody."""

    def awaited_by(self) -> Process | None:
        """The actor that waits for it, if one does and still does."""


# Set in a thread that works for an actor: what it calls, the actor waits for too.
WORK: ContextVar[Work | None] = ContextVar("packetflow_work", default=None)

get_ident: Callable[[], int] = get_original("_thread", "get_ident")
_allocate_lock: Callable[[], Any] = get_original("_thread", "allocate_lock")

LOOK = 1.0  # how often a waiting thread looks whether the other one is alive


class Door:
    """How other threads hand functions to a hub.

    gevent's `run_callback_threadsafe` counts the loop's handles up from the other thread while the loop counts them itself
    without holding the GIL: counts get lost, and in the end the loop takes itself for empty (LoopExit). Here the other
    thread only fills a deque and rings.
    """

    __slots__ = ("_bell", "_hub", "_inbox")

    def __init__(self, hub: Any) -> None:
        self._hub = hub
        self._inbox: deque[tuple[Callable[..., object], tuple[Any, ...]]] = deque()
        self._bell = hub.loop.async_()
        self._bell.start(self._take_in)
        self._bell.ref = False

    def post(self, function: Callable[..., object], *arguments: Any) -> None:
        """Has the hub run a function soon. From any thread."""
        self._inbox.append((function, arguments))
        self._bell.send()

    def _take_in(self) -> None:
        inbox = self._inbox
        while inbox:
            function, arguments = inbox.popleft()
            try:
                function(*arguments)
            except BaseException:  # noqa: BLE001 - as with any callback of the loop, the others run all the same
                self._hub.handle_error(function, *sys.exc_info())


def door_of(hub: Any) -> Door:
    """The one door of a hub; made by the first who asks in the hub's own thread."""
    door: Door | None = hub.__dict__.get("_packetflow_door")
    if door is None:
        door = hub._packetflow_door = Door(hub)
    return door


class Crossing:
    """A function on its way to the thread of a system's hub, and its outcome on the way back."""

    __slots__ = ("_arguments", "_arrived", "_context", "_function", "_given_up", "_lock", "_outcome")

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self._function = function
        self._arguments = arguments
        self._context = copy_context()
        self._given_up = False
        self._lock = _allocate_lock()  # nobody rings a bell that is being taken down
        self._outcome: tuple[bool, Any] | None = None
        self._arrived: Callable[[], object] = _nobody_waits

    def run(self) -> None:
        """In the system's thread, in a greenlet of its own."""
        if self._given_up:
            return
        try:
            self._outcome = (True, self._context.run(self._function, *self._arguments))
        except BaseException as error:  # noqa: BLE001 - who waits in the other thread gets it
            self._outcome = (False, error)
        with self._lock:
            self._arrived()

    def wait(self, scheduler: Scheduler) -> Any:
        """In the other thread. Raises what the function raises, ThreadGone if the system's thread has ended."""
        try:
            if _runs_greenlets():
                self._wait_in_greenlet(scheduler)
            else:
                self._wait_in_thread(scheduler)
        except BaseException:
            self._given_up = True
            raise
        assert self._outcome is not None
        worked, value = self._outcome
        if worked:
            return value
        raise value

    def _wait_in_thread(self, scheduler: Scheduler) -> None:
        lock = _allocate_lock()
        lock.acquire()
        self._arrived = lock.release
        _post(scheduler, self)
        while not lock.acquire(timeout=LOOK):
            _check_alive(scheduler)

    def _wait_in_greenlet(self, scheduler: Scheduler) -> None:
        # This thread has greenlets of its own, which have to go on.
        hub = gevent.get_hub()
        if getcurrent() is hub:
            raise HubBlocked(
                "the hub's own greenlet (a loop callback) must not wait; spawn a greenlet, or cast"
            )
        bell = hub.loop.async_()
        self._arrived = bell.send
        try:
            _post(scheduler, self)
            while self._outcome is None:
                with gevent.Timeout(LOOK, False):
                    hub.wait(bell)
                if self._outcome is None:
                    _check_alive(scheduler)
        finally:
            with self._lock:
                self._arrived = _nobody_waits
            bell.stop()
            bell.close()


def run_in_thread_of(scheduler: Scheduler, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Runs a function in a greenlet of the system's thread, with this thread's context variables, and waits for it."""
    return Crossing(function, arguments).wait(scheduler)


def _nobody_waits() -> None:
    pass


def _runs_greenlets() -> bool:
    return getcurrent().parent is not None


def _post(scheduler: Scheduler, crossing: Crossing) -> None:
    _check_alive(scheduler)
    door_of(scheduler.hub).post(gevent.spawn, crossing.run)


def _check_alive(scheduler: Scheduler) -> None:
    if scheduler.thread not in sys._current_frames():
        raise ThreadGone(f"the thread of the system {scheduler.system.name!r} has ended: nobody is there")


def destroy_own_hub() -> None:
    """At the end of a native thread of ours: destroys the hub that somebody's use of gevent may have made for it."""
    hub = get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)


def check_room(frames: int = 24) -> None:
    """Raises RecursionError unless so many frames can still be called: before what must be done wholly or not at all.

    This file is never compiled: compiled functions call each other without being counted.
    """
    if frames:
        check_room(frames - 1)
