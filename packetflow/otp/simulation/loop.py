"""A gevent loop of its own: virtual time, and each turn drawn from those that are ready.

`world` runs programs on it. Callbacks of one source (the object that a bound method belongs to) keep their order, as
gevent's own code takes for granted; everything else may come in any. Sockets are only those whose two ends are in this
thread (network.py, asyncio's own pair): what the one end wrote, the other can read at once, so that they are as certain
as all else.
"""

from __future__ import annotations

import os
import random
import stat
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any
from zlib import crc32

from gevent.monkey import get_original

if TYPE_CHECKING:
    from packetflow.otp.simulation.network import Network

READ, WRITE = 1, 2  # as libev has them
UNIX = 1  # the family of sockets that stay on this machine
POLLIN, POLLOUT = 1, 4  # as the system has them; anything else it tells means both


class Callback:
    """One function to be called once; gevent's own callbacks look like this."""

    __slots__ = ("args", "callback")

    def __init__(self, callback: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.callback: Callable[..., Any] | None = callback
        self.args: tuple[Any, ...] | None = args

    def stop(self) -> None:
        """It is not wanted any more."""
        self.callback = self.args = None

    close = stop

    @property
    def pending(self) -> bool:
        """Whether it is still to come."""
        return self.callback is not None

    def __bool__(self) -> bool:
        return self.args is not None


class Watcher:
    """A watcher of the loop. What would be told by the operating system is told by `send`, or not at all."""

    def __init__(self, loop: SimulatedLoop, ref: bool = True) -> None:
        self.loop = loop
        self.ref = ref
        self.callback: Callable[..., Any] | None = None
        self.args: tuple[Any, ...] = ()

    def start(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """From now on it calls this."""
        self.callback, self.args = callback, args

    def stop(self) -> None:
        """It calls nobody any more."""
        self.callback = None

    def close(self) -> None:
        """The same."""
        self.stop()

    def send(self, *_: Any) -> None:
        """Has it call whom it was started with, soon."""
        self.loop.run_callback(self._tell)

    @property
    def active(self) -> bool:
        """Whether it was started."""
        return self.callback is not None

    pending = False

    def _tell(self) -> None:
        if self.callback is not None:
            self.callback(*self.args)

    def __enter__(self) -> Watcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class IoWatcher(Watcher):
    """Tells when a socket can be read or written, as long as it is started."""

    def __init__(self, loop: SimulatedLoop, descriptor: int, events: int, ref: bool = True) -> None:
        super().__init__(loop, ref)
        self.fd = descriptor
        self.events = events
        self.due = False  # it is among those that are ready
        self._found = 0
        self._told_what = False

    def start(self, callback: Callable[..., Any], *args: Any, pass_events: bool = False, **more: Any) -> None:
        """From now on it calls this, again and again while there is something. pass_events: with what there is, first."""
        self._told_what = pass_events
        super().start(callback, *args, **more)
        self.loop.watched[self] = None

    def stop(self) -> None:
        """It calls nobody any more."""
        super().stop()
        self.loop.watched.pop(self, None)

    def found(self, events: int) -> None:
        """There is something: its turn may be drawn."""
        self.due = True
        self._found = events
        self.loop.run_callback(self._ready)

    def _ready(self) -> None:
        self.due = False
        if self.callback is not None:
            self.callback(*((self._found,) if self._told_what else ()), *self.args)


class TimerWatcher(Watcher):
    """A timer in virtual time."""

    def __init__(self, loop: SimulatedLoop, after: float, repeat: float = 0.0, ref: bool = True) -> None:
        super().__init__(loop, ref)
        self.after = after
        self.repeat = repeat
        self._entry: list[Any] | None = None

    def start(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """It is due `after` seconds from now."""
        self.stop()
        self.callback, self.args = callback, args
        self._entry = self.loop.due_in(self.after, self)
        self.loop.awaited += self.ref

    def again(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """The same."""
        self.start(callback, *args)

    def stop(self) -> None:
        """It is off."""
        if self._entry is not None:
            self._entry[2] = None
            self._entry = None
            self.loop.awaited -= self.ref
        self.callback = None

    def fire(self) -> None:
        """Its time has come."""
        callback, args = self.callback, self.args
        self.callback = self._entry = None
        self.loop.awaited -= self.ref
        if self.repeat:
            self.after = self.repeat
            self.start(callback, *args)  # type: ignore[arg-type]
        if callback is not None:
            callback(*args)


class SimulatedLoop:
    """The loop of one simulated thread. seed: decides every turn. limit: how many turns it makes at most."""

    simulated = True  # what has threads, processes, sockets or chance of its own looks for this
    default = False
    MINPRI = MAXPRI = 0
    approx_timer_resolution = 0.0
    error_handler: Any = None
    scheduler_class: Any  # what a System of this thread is scheduled by
    network: Network  # between the doors and clients of this thread

    def __init__(self, seed: int, limit: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.limit = limit
        self.turns = 0
        self.digest = 0  # of all that was drawn: the same for the same seed
        self.before_turn: Callable[[], None] | None = None
        self.watched: dict[IoWatcher, None] = {}  # in the order in which they were started
        self.awaited = 0  # timers that keep the loop going
        self._poll: Any = get_original("select", "poll")
        self._chances = 0
        self._time = 0.0
        self._count = 0
        self._timers: list[list[Any]] = []
        self._ready: list[Callback] = []

    def chance(self) -> random.Random:
        """For one who draws ids or delays of its own: from the seed, and without changing the order of turns."""
        self._chances += 1
        return random.Random(f"{self.seed}/{self._chances}")

    # ---- time ------------------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Virtual seconds since the beginning."""
        return self._time

    def update_now(self) -> None:
        """Virtual time needs no reading."""

    update = update_now

    def due_in(self, seconds: float, timer: TimerWatcher) -> list[Any]:
        """Puts a timer in its place; its entry's third item is taken away when it is stopped."""
        self._count += 1
        entry = [self._time + max(seconds, 0.0), self._count, timer]
        heappush(self._timers, entry)
        return entry

    def pass_time(self, seconds: float) -> None:
        """Something holds up this thread for so long: time passes, and nobody has a turn."""
        self._time += seconds

    def at_rest(self) -> bool:
        """Whether nobody is ready and no timer is to come."""
        return not self._ready and not self.awaited

    # ---- what gevent asks for --------------------------------------------------------------------------------------------

    def timer(
        self, after: float, repeat: float = 0.0, ref: bool = True, priority: object = None
    ) -> TimerWatcher:
        """A timer in virtual time."""
        return TimerWatcher(self, after, repeat, ref)

    def run_callback(self, callback: Callable[..., Any], *args: Any) -> Callback:
        """Has a function called in some later turn."""
        made = Callback(callback, args)
        self._ready.append(made)
        return made

    run_callback_threadsafe = run_callback

    def async_(self, ref: bool = True, priority: object = None) -> Watcher:
        """A watcher that only `send` makes ring."""
        return Watcher(self, ref)

    idle = prepare = check = fork = async_

    def signal(self, number: int, ref: bool = True, priority: object = None) -> Watcher:
        """Nobody sends signals here."""
        return Watcher(self, ref)

    def io(self, fd: int, events: int, ref: bool = True, priority: object = None) -> IoWatcher:
        """A watcher of a socket. Raises RuntimeError for one that leads out of the simulation."""
        self._check_local(fd)
        return IoWatcher(self, fd, events, ref)

    def _check_local(self, descriptor: int) -> None:
        family = None
        if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            sock = get_original("socket", "socket")(fileno=descriptor)
            family = sock.family
            sock.detach()
        if family != UNIX:
            raise RuntimeError(
                "a simulated program tried real input or output, which has no place in virtual time"
            )

    def install_sigchld(self) -> None:
        """No processes either."""

    def destroy(self) -> bool:
        """Nothing is held."""
        return True

    def handle_error(self, context: object, kind: Any, value: Any, traceback: Any) -> None:
        """An error of a callback, which goes on to the hub."""
        if self.error_handler is not None:
            self.error_handler.handle_error(context, kind, value, traceback)
        else:
            sys.excepthook(kind, value, traceback)

    def _format(self) -> str:
        return f"simulated, {self._time:g} s, {self.turns} turns"

    # ---- turning ---------------------------------------------------------------------------------------------------------

    def run(self, nowait: bool = False, once: bool = False) -> None:
        """Turn after turn, until nobody is ready and no timer is to come."""
        while self.turns < self.limit:
            if self.watched:
                self._look()
            if self.before_turn is not None:
                self.before_turn()
            if self._ready:
                self._call(self._draw())
            elif not self._advance():
                return
            if once or nowait:
                return

    def _look(self) -> None:
        """Which sockets can be read or written now."""
        poll = self._poll()
        wanted: dict[int, int] = {}
        for watcher in self.watched:
            flags = (POLLIN if watcher.events & READ else 0) | (POLLOUT if watcher.events & WRITE else 0)
            wanted[watcher.fd] = wanted.get(watcher.fd, 0) | flags
        for descriptor, flags in wanted.items():
            poll.register(descriptor, flags)
        told = dict(poll.poll(0))
        if told:
            for watcher in list(self.watched):
                flags = told.get(watcher.fd, 0)
                found = (READ if flags & ~POLLOUT else 0) | (WRITE if flags & ~POLLIN else 0)
                if found & watcher.events and not watcher.due:
                    watcher.found(found & watcher.events)

    def _draw(self) -> Callback:
        ready = self._ready
        drawn = self.random.randrange(len(ready))
        source = getattr(ready[drawn].callback, "__self__", None)
        if source is not None:
            for index in range(drawn):
                if getattr(ready[index].callback, "__self__", None) is source:
                    drawn = index
                    break
        self.digest = crc32(b"%d/%d" % (drawn, len(ready)), self.digest)
        return ready.pop(drawn)

    def _advance(self) -> bool:
        timers = self._timers
        while timers and self.awaited:
            due, _, timer = heappop(timers)
            if timer is not None:
                self._time = max(self._time, due)
                self._call(Callback(timer.fire, ()))
                return True
        return False

    def _call(self, made: Callback) -> None:
        callback, args = made.callback, made.args
        if callback is None or args is None:
            return
        made.callback = None
        self.turns += 1
        try:
            callback(*args)
        except BaseException:  # noqa: BLE001 - as gevent's own loops: the hub decides what becomes of it
            self.handle_error(made, *sys.exc_info())
        finally:
            made.args = None
