"""Watchdog: names who holds the hub for too long, and breaks the handler where that is safe.

Two things look. A kernel timer that counts the process's own processor time (ITIMER_VIRTUAL, SIGVTALRM) interrupts the
thread of the hub, also inside a regular expression; it never fires in an idle process, and so wakes nobody. A native
thread samples the rest: a handler that sleeps or waits for a file without giving way, for which it sends that signal
once the hub has proved to be stuck, and hubs of other threads, which are named only.
"""

from __future__ import annotations

import atexit
import faulthandler
import signal
import sys
from collections import deque
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, TextIO

from gevent.hub import Hub, get_hub
from gevent.monkey import get_original
from greenlet import getcurrent, greenlet

from packetflow.otp.clock import Clock
from packetflow.otp.errors import HandlerOverrun, SpecError
from packetflow.otp.process import Process, Worker
from packetflow.otp.signals import log
from packetflow.otp.threads import destroy_own_hub, get_ident
from packetflow.otp.watchdog.blocked import Blocked
from packetflow.otp.watchdog.breaking import in_debugger, may_break, work_of

SIGNAL: Final = signal.SIGVTALRM
_AGAIN = 1.0
_TURNING = Hub.run.__code__

_watched: set[Hub] = set()


class Watchdog:
    """Watches the hub of the thread that starts it, and so all systems that live there.

    limit: seconds that one handler, other greenlet or callback may hold the hub. Whoever holds it longer is named: by a
    warning in the log "packetflow.otp", a record in `blocked` (the last `keep`), `count`, and `on_blocked(record)`, called
    on a native thread.

    breaks: in the main thread an actor's handler that is over its limit (its class may have a longer `hub_limit`) gets
    HandlerOverrun raised inside it, again each second while it swallows it; its actor crashes of that by the ordinary
    rules. A handler is broken only where its own code runs, never inside the runtime, a lock of `logging` or an import.
    Greenlets that are no actors, and hubs of other threads, are named only.

    overrun: asked for greenlets that are no actors, with (greenlet, frame, seconds); the exception it returns is raised
    there. who: asked in such a greenlet how to call it; None for its usual name. Both must be quick and must not wait.

    Time in which the process was stopped or starved, or a debugger had it, counts for little: what passes between two
    looks counts for a quarter of the limit at most. C code that keeps the interpreter to itself can't be broken before
    it returns; `dump` (a file with a descriptor; None for no dump) then gets `faulthandler`'s stack of every thread,
    written by a thread of C. `faulthandler.dump_traceback_later` has one user a process: that is the watchdog then.
    """

    def __init__(
        self,
        limit: float = 1.0,
        *,
        breaks: bool = True,
        keep: int = 100,
        on_blocked: Callable[[Blocked], None] | None = None,
        overrun: Callable[[greenlet, FrameType, float], BaseException | None] | None = None,
        who: Callable[[], str | None] | None = None,
        dump: TextIO | None = None,
        clock: Clock | None = None,
    ) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int | float) or not 0.01 <= limit < float("inf"):
            raise SpecError("limit", limit, "seconds, from 0.01")
        if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
            raise SpecError("keep", keep, "a whole number from 1")
        self.limit = float(limit)
        self.count = 0
        self.broken = 0
        self._records: deque[Blocked] = deque(maxlen=keep)
        self._on_blocked = on_blocked
        self._overrun = overrun
        self._who = who
        self._dump = dump
        self._wants_to_break = breaks
        self._clock = clock or Clock()
        self._monotonic = self._clock.monotonic
        self._interval = min(0.1, self.limit / 10)
        self._most = self.limit / 4  # what one look counts at most
        self._hub: Any = None
        self._thread = 0
        self._breaks = False
        self._previous: Any = None
        self._end: Any = None
        self._ended: Any = None
        # What the signal handler remembers of its last look.
        self._looking = False
        self._running: Any = None
        self._process: Process | None = None
        self._handled = 0
        self._since = 0.0
        self._last = 0.0
        self._held = 0.0
        self._raised = 0.0
        # One callback at most waits in the hub, to tell that it turned.
        self._asked = False
        self._turns = 0
        # The block under way, from the first who sees it to the end.
        self._naming = get_original("_thread", "allocate_lock")()
        self._current: Blocked | None = None
        self._began = 0.0
        self._news: deque[tuple[str, Any]] = deque(maxlen=1000)
        self._telling = False

    # ---- on and off ------------------------------------------------------------------------------------------------------

    def start(self) -> Watchdog:
        """Begins to watch the hub of the calling thread. Raises SpecError if it is watched already, or the signal is taken."""
        hub = get_hub()
        if self._hub is not None or hub in _watched:
            raise SpecError("start", hub, "a hub without a watchdog")
        self._thread = get_ident()
        self._forget()
        self._asked = False
        self._current = None
        try:
            self._delay_dump()
        except (AttributeError, OSError, RuntimeError, TypeError, ValueError) as error:
            raise SpecError("dump", self._dump, "a file with a descriptor, or None") from error
        if self._wants_to_break:
            self._arm()
        self._hub = hub
        _watched.add(hub)
        allocate = get_original("_thread", "allocate_lock")
        self._end, self._ended = allocate(), allocate()
        self._end.acquire()
        self._ended.acquire()
        # At the interpreter's end the handler goes before the timer does, and the signal would end the process.
        atexit.register(self.stop)
        try:
            get_original("_thread", "start_new_thread")(self._watch, ())
        except RuntimeError:
            self._ended.release()
            self.stop()
            raise
        return self

    def _arm(self) -> None:
        holder = signal.getsignal(SIGNAL)
        try:
            previous = signal.signal(SIGNAL, self._tick)
        except ValueError:
            return  # not the main thread: signals are not for it
        if holder not in (signal.SIG_DFL, signal.SIG_IGN):
            signal.signal(SIGNAL, previous)
            raise SpecError("breaks", True, f"False, because {holder!r} handles {SIGNAL.name} already")
        self._previous = previous
        self._breaks = True
        signal.setitimer(signal.ITIMER_VIRTUAL, self._interval, self._interval)

    def stop(self) -> None:
        """Ends the watch, in the thread that began it. Nothing stays armed. A second time it does nothing."""
        hub, self._hub = self._hub, None
        if hub is None:
            return
        atexit.unregister(self.stop)
        self._end.release()
        self._ended.acquire()
        if self._breaks:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0.0)
            signal.signal(SIGNAL, signal.SIG_IGN)  # drops one that is on its way, which would end the process
            signal.signal(SIGNAL, self._previous)
            self._breaks = False
        _watched.discard(hub)
        self._forget()
        # What is left to be told gets a moment; no more, because telling may wait for a lock of this very thread.
        until = self._monotonic() + 0.2
        while self._telling and self._monotonic() < until:
            get_original("time", "sleep")(0.002)

    def __enter__(self) -> Watchdog:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def blocked(self) -> list[Blocked]:
        """The last times that the hub was held for longer than the limit, the oldest first."""
        return list(self._records)

    @property
    def breaks(self) -> bool:
        """Whether it breaks handlers now: it is on, and its hub is in the main thread."""
        return self._breaks

    # ---- has the hub turned? ---------------------------------------------------------------------------------------------

    def _ask_hub(self) -> None:
        self._asked = True
        self._hub.loop.run_callback_threadsafe(self._turned)

    def _turned(self) -> None:
        self._asked = False
        self._turns += 1
        self._forget()
        self._end_block("turns")

    def _end_block(self, how: str) -> None:
        current, self._current = self._current, None
        if current is not None:
            current.seconds = self._monotonic() - self._began
            current.over = True
            self._news.append((how, current))

    def _forget(self) -> None:
        self._running = self._process = None
        self._held = 0.0

    # ---- the signal: in the hub's thread, in the midst of anything -------------------------------------------------------

    def _tick(self, number: int, frame: FrameType | None) -> None:
        if self._looking or frame is None or self._hub is None or self._hub.loop is None:
            return
        self._looking = True
        error = None
        try:
            error = self._look(getcurrent(), frame)
        except RecursionError:
            pass  # no room for a look here; the next tick has
        except Exception as fault:  # noqa: BLE001 - a fault of the watchdog must not strike who happens to run
            self._news.append(("fault", fault))
        finally:
            self._looking = False
            del frame
        if error is not None:
            raise error

    def _look(self, me: greenlet, frame: FrameType) -> BaseException | None:
        if (me is self._hub and frame.f_code is _TURNING) or in_debugger(frame):
            self._forget()
            return None
        process = me.process if me.__class__ is Worker else None
        handled = 0 if process is None else process.handled
        now = self._monotonic()
        if not self._asked:
            self._running = None
            self._ask_hub()
        if me is not self._running or process is not self._process or handled != self._handled:
            if self._running is not None:
                self._end_block("left")  # the next one runs, and the hub has not turned in between
            self._running, self._process, self._handled = me, process, handled
            self._since = self._last = now
            self._held = self._raised = 0.0
            return None
        self._held += min(now - self._last, self._most)
        self._last = now
        if now - self._since < self.limit:
            return None
        work = None if process is None else (process, process.current)
        self._name(me, work, frame, now - self._since)
        limit = self.limit if process is None else self._limit_of(process)
        if self._held < limit or (self._raised and now - self._raised < _AGAIN):
            return None
        error: BaseException | None = None
        if process is None:
            if self._overrun is not None and me is not self._hub and may_break(frame, worker=False):
                error = self._overrun(me, frame, now - self._since)
        elif may_break(frame):
            error = HandlerOverrun(now - self._since, limit)
        if error is not None:
            self._raised = now
            self.broken += 1
            current = self._current
            if current is not None:
                current.broken += 1
                self._news.append(("broken", current))
        return error

    def _limit_of(self, process: Process) -> float:
        own = getattr(type(process.server), "hub_limit", None)
        return self.limit if own is None or own < self.limit else float(own)

    def _name(
        self,
        running: greenlet | None,
        work: tuple[Process | None, Any] | None,
        frame: FrameType | None,
        seconds: float,
    ) -> None:
        if self._current is not None or not self._naming.acquire(False):
            return
        try:
            who = self._who() if self._who is not None and running is not None and work is None else None
            record = Blocked(running, work, frame, self._hub, self._clock.utc(), seconds, who)
            self._began = self._monotonic() - seconds
            self.count += 1
            self._records.append(record)
            self._current = record
            self._news.append(("held", record))
        finally:
            self._naming.release()

    # ---- the native thread -----------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        ended = self._ended
        try:
            self._sample()
        except Exception:  # noqa: BLE001 - a fault of ours; nobody else would say it
            if not sys.is_finalizing():
                log.exception("the watchdog's thread ended")
        finally:
            if self._dump is not None:
                faulthandler.cancel_dump_traceback_later()
            ended.release()

    def _delay_dump(self) -> None:
        if self._dump is not None:
            faulthandler.dump_traceback_later(self.limit * 1.5, file=self._dump)

    def _sample(self) -> None:
        end, pause = self._end, self.limit / 4
        last, since, turns, held = self._monotonic(), 0.0, -1, 0.0
        while not end.acquire(True, pause):
            self._delay_dump()
            self._begin_telling()
            now = self._monotonic()
            frame = sys._current_frames().get(self._thread)
            hub = self._hub
            if frame is None or hub is None or hub.loop is None:
                return  # the thread or its hub is gone
            if frame.f_code is _TURNING or in_debugger(frame):
                turns, pause = -1, self.limit / 4
            elif turns != self._turns or not self._asked:
                # Busy: from now on it is known whether it turns.
                turns, since, held, pause = self._turns, now, 0.0, self.limit / 4
                if not self._asked:
                    self._ask_hub()
            else:
                held += min(now - last, self._most)
                pause = self._interval
                if held >= self.limit / 2 and self._breaks:
                    signal.pthread_kill(self._thread, SIGNAL)
                # In the main thread the signal's handler knows better who it is; unless C code keeps it from being run.
                patience = self.limit * 2 if self._breaks else self.limit
                if held >= patience and self._current is None:
                    self._name(None, work_of(frame), frame, now - since)
            last = now
            del frame
        self._begin_telling()

    # ---- telling: on a thread of its own, because a log may wait for a lock, and the watch must go on ---------------------

    def _begin_telling(self) -> None:
        if self._news and not self._telling:
            self._telling = True
            get_original("_thread", "start_new_thread")(self._tell, ())

    def _tell(self) -> None:
        try:
            while self._news:
                self._tell_one(*self._news.popleft())
        finally:
            self._telling = False
            destroy_own_hub()  # a patched lock that had to wait has made one

    def _tell_one(self, what: str, about: Any) -> None:
        try:
            if what == "held":
                stack = "\n  ".join(about.stack)
                log.warning("%s\n  %s", about, stack, extra={"blocked": about.as_dict()})
                if self._on_blocked is not None:
                    self._on_blocked(about)
            elif what == "broken":
                log.warning("%s was broken: it held the hub for too long", about.who)
            elif what == "turns":
                log.info("the hub turns again: %s held it for %.1f s", about.who, about.seconds)
            elif what == "left":
                log.info("%s held the hub for %.1f s; now somebody else does", about.who, about.seconds)
            else:
                log.error("the watchdog failed, and goes on", exc_info=about)
        except Exception:  # noqa: BLE001 - the program's fault, told; the watch goes on
            log.exception("what the watchdog saw could not be told")
