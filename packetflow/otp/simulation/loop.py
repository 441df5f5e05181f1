"""A gevent loop without an operating system below it: virtual time, and each turn drawn from those that are ready.

`simulation` runs programs on it. Callbacks of one source (the object that a bound method belongs to) keep their order,
as gevent's own code takes for granted; everything else may come in any.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, NoReturn
from zlib import crc32


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

    def again(self, callback: Callable[..., Any], *args: Any, **_: Any) -> None:
        """The same."""
        self.start(callback, *args)

    def stop(self) -> None:
        """It is off."""
        if self._entry is not None:
            self._entry[2] = None
            self._entry = None
        self.callback = None

    def fire(self) -> None:
        """Its time has come."""
        callback, args = self.callback, self.args
        self.callback = self._entry = None
        if self.repeat:
            self.after = self.repeat
            self.start(callback, *args)  # type: ignore[arg-type]
        if callback is not None:
            callback(*args)


class SimulatedLoop:
    """The loop of one simulated thread. seed: decides every turn. limit: how many turns it makes at most."""

    default = False
    MINPRI = MAXPRI = 0
    approx_timer_resolution = 0.0
    error_handler: Any = None
    scheduler_class: Any  # what a System of this thread is scheduled by

    def __init__(self, seed: int, limit: int) -> None:
        self.random = random.Random(seed)
        self.limit = limit
        self.turns = 0
        self.digest = 0  # of all that was drawn: the same for the same seed
        self.before_turn: Callable[[], None] | None = None
        self._time = 0.0
        self._count = 0
        self._timers: list[list[Any]] = []
        self._ready: list[Callback] = []

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

    def io(self, *_: object, **__: object) -> NoReturn:
        """There are no files and sockets in a simulation."""
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
            if self.before_turn is not None:
                self.before_turn()
            if self._ready:
                self._call(self._draw())
            elif not self._advance():
                return
            if once or nowait:
                return

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
        while timers:
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
