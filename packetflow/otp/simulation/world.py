"""Deterministic simulation: a program of actors in virtual time, where a seed decides who runs next.

Every call, answer, start and hand-over first lets the drawn order have its say, so one seed is one schedule, the same
each time, and another seed is another one. A program that fails does so again for whoever runs its seed. An hour of
timeouts and backoffs takes a blink, and who waits for ever is named at once.

After FoundationDB's way of testing.
"""

from __future__ import annotations

import os
import random
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import gevent
from gevent.hub import Hub, LoopExit, set_hub
from gevent.monkey import get_original

from packetflow.otp.clock import Clock
from packetflow.otp.errors import Deadlock, Endless, SimulationFailed
from packetflow.otp.process import Process
from packetflow.otp.scheduler import Scheduler
from packetflow.otp.signals import die
from packetflow.otp.simulation.loop import SimulatedLoop
from packetflow.otp.simulation.network import Network
from packetflow.otp.system import System

W = TypeVar("W", bound="World")
TURNS = 1_000_000
CLEARING = 100_000  # turns that a world has to end in after its program has failed
BEGIN = datetime(2000, 1, 1, tzinfo=UTC)
# Whose frames are no user's: gevent's and PacketFlow's own.
OUR_FILES = (
    os.path.join(os.path.dirname(gevent.__file__), ""),
    os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(__file__))), ""),
    "src/gevent/",  # of its compiled files
)


class Run(NamedTuple):
    """What a simulated program did. value: what it returned. seconds: virtual ones. digest: of the order that was drawn."""

    seed: int
    value: Any
    turns: int
    seconds: float
    digest: int


class World:
    """What a simulated program is given: systems, time, chance and accidents."""

    def __init__(self, seed: int, loop: SimulatedLoop) -> None:
        self.seed = seed
        self.random = random.Random(~seed)
        """The program's own chance; drawing from it does not change the order of turns."""
        self.network = loop.network
        """The connections between doors and clients: make them slow, cut them, part the two."""
        self._loop = loop
        self._systems: list[System] = []
        self._kills = 0.0
        self._victims: Callable[[Process], bool] = _anybody
        self._accidents: list[Callable[[], None]] = []

    def system(self, name: str = "local") -> System:
        """A new system in this world, shut down with it."""
        return self.adopt(System(name, self.clock(), incarnation=len(self._systems) + 1))

    def adopt(self, system: System) -> System:
        """A system that somebody else has made is part of this world too: its actors may be struck, and it ends with it."""
        self._systems.append(system)
        return system

    def clock(self) -> Clock:
        """The virtual time: monotonic from 0, for people from the first of January 2000."""
        return Clock(self._loop.now, lambda: BEGIN + timedelta(seconds=self._loop.now()))

    def kill_at_random(self, chance: float, among: Callable[[Any], bool] | None = None) -> None:
        """From now on, before each turn, kills some actor with this chance. among: which servers may be struck."""
        self._kills = chance
        self._victims = _anybody if among is None else lambda process: among(process.server)
        self.before_turns(self._strike, chance > 0.0)

    def before_turns(self, accident: Callable[[], None], wanted: bool = True) -> None:
        """Have something done before each turn from now on, or not any more. It runs between greenlets, and must not wait."""
        self._accidents = [one for one in self._accidents if one != accident]
        if wanted:
            self._accidents.append(accident)
        self._loop.before_turn = self._happen if self._accidents else None

    def _quiet(self) -> None:
        """No more accidents."""
        self._accidents.clear()
        self._loop.before_turn = None

    def _happen(self) -> None:
        for accident in list(self._accidents):
            accident()

    def _strike(self) -> None:
        chance = self._loop.random
        if chance.random() >= self._kills:
            return
        victims = [
            process
            for system in self._systems
            for process in system.scheduler.processes.values()
            if self._victims(process)
        ]
        if victims:
            die(chance.choice(victims), "killed")

    def close(self) -> None:
        """The end of the world: no more accidents, all systems shut down."""
        self._quiet()
        for system in reversed(self._systems):
            system.shutdown()
        self.network.close()

    def discard(self) -> None:
        """Closes what is still open, in no order and without a turn."""
        self.network.discard()

    def progress(self) -> tuple[int, float, int]:
        """How far it has come: turns, virtual seconds, and the digest of the order drawn so far."""
        return self._loop.turns, self._loop.now(), self._loop.digest

    def has_workers(self) -> bool:
        """Whether a greenlet of a system has not ended yet."""
        return any(system.scheduler.workers for system in self._systems)

    def waiting(self) -> tuple[str, ...]:
        """Who waits for whom, as lines for people."""
        return tuple(
            f"{process.ref} waits for {process.waiting.target.ref}"
            for system in self._systems
            for process in system.scheduler.processes.values()
            if process.waiting is not None
        )


class TurnsForThreads:
    """What gevent itself would have a native thread do is done in a turn of this one."""

    def apply(self, function: Callable[..., Any], args: Any = (), kwds: Any = None) -> Any:
        """Does it, and returns the outcome."""
        return self.spawn(function, *args, **(kwds or {})).get()

    def spawn(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Does it soon."""
        return gevent.spawn(function, *args, **kwargs)

    def kill(self) -> None:
        """Nothing is held."""


class DrawnQueue(deque[Any]):
    """The run queue of a simulated system: the next is drawn."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance

    def popleft(self) -> Any:
        """Takes out any of them."""
        self.rotate(-self._chance.randrange(len(self)))
        return super().popleft()


class DrawnScheduler(Scheduler):
    """A scheduler whose budget is always spent: every step asks the loop, which draws who is next."""

    __slots__ = ("_loop",)

    def __init__(self, system: System, monotonic: Callable[[], float]) -> None:
        super().__init__(system, monotonic)
        self._loop: SimulatedLoop = self.hub.loop
        self.drawn = True
        self.run_queue = DrawnQueue(self._loop.random)
        self._spend()

    def _spend(self) -> None:
        self.budget = 0
        self.slice_end = float("-inf")

    def mind_the_hub(self) -> None:
        """A call is made: at once, or after others."""
        self._spend()
        if self._loop.random.random() < 0.5:
            self.pass_through_hub()

    def pass_through_hub(self) -> None:
        """Others may have their turn."""
        self.check_may_wait()
        gevent.sleep(0)
        self._spend()

    def _flush(self) -> None:
        # One job a turn, so that timers and other greenlets may come between any two.
        self._switch_to_next(self.run_queue)
        self._spend()
        if self.run_queue:
            self._loop.run_callback(self._flush)
        else:
            self.flushing = False


def simulate(
    program: Callable[[W], Any],
    seed: int,
    *,
    turns: int = TURNS,
    world: Callable[[int, SimulatedLoop], W] | None = None,
) -> Run:
    """Runs a program in a world of its own, in the order that the seed draws. It blocks the calling thread meanwhile.

    program: called in a greenlet; gevent's events, queues, timeouts and sleeps work in virtual time; so do offloaded work and
    the world's own network; other input and output does not. turns: how many it may make. world: what kind of world.
    Raises SimulationFailed (from what the program raised), Deadlock, Endless.
    """
    outcome: list[Any] = []
    done = get_original("_thread", "allocate_lock")()
    done.acquire()

    def in_thread() -> None:
        try:
            outcome.append(_in_this_thread(program, seed, turns, world or World))
        except BaseException as error:  # noqa: BLE001 - raised again by the thread that waits
            outcome.append(error)
        finally:
            done.release()

    # The loop of a thread is chosen when its hub is made, so each run has a thread; and what draws from `random` (the
    # jitter of a backoff) has to draw the same for the same seed.
    state = random.getstate()
    random.seed(seed)
    try:
        get_original("_thread", "start_new_thread")(in_thread, ())
        done.acquire()
    finally:
        random.setstate(state)
    (result,) = outcome
    if isinstance(result, BaseException):
        raise result
    assert isinstance(result, Run)
    return result


def explore(program: Callable[[World], Any], seeds: Iterable[int], *, turns: int = TURNS) -> list[Run]:
    """Runs a program for each seed. Raises what the first that fails raises, which names the seed."""
    return [simulate(program, seed, turns=turns) for seed in seeds]


def _in_this_thread(program: Callable[[Any], Any], seed: int, turns: int, make: Callable[..., Any]) -> Run:
    loop = SimulatedLoop(seed, turns)
    loop.scheduler_class = DrawnScheduler
    hub = Hub(loop)
    hub.exception_stream = None
    hub.threadpool = TurnsForThreads()
    set_hub(hub)
    loop.network = Network(loop)
    world = make(seed, loop)

    def live() -> Any:
        value = program(world)
        world.close()
        while world.has_workers() and loop.turns < turns:
            gevent.sleep(0)
        return value

    life = gevent.Greenlet(live)
    life.start()
    try:
        life.join()
    except LoopExit:
        standing = f"the program waits at {place_of(life)}"
        if loop.turns >= turns:
            raise Endless(seed, f"it made more than {turns:,} turns; {standing}") from None
        raise Deadlock(seed, (*world.waiting(), standing)) from None
    finally:
        if not life.successful():
            _clear_away(world, loop, life)
        world.discard()
        hub.destroy()
    if life.exception is not None:
        error = life.exception
        raise SimulationFailed(seed, f"{type(error).__name__}: {error}") from error
    return Run(seed, life.value, loop.turns, loop.now(), loop.digest)


def _clear_away(world: World, loop: SimulatedLoop, life: gevent.Greenlet[..., Any]) -> None:
    """A program that failed has left its world as it was: what can end in order does so, in further turns."""
    loop.before_turn = None
    loop.limit = loop.turns + CLEARING
    life.kill(block=False)
    closing = gevent.Greenlet(world.close)
    closing.start()
    try:
        closing.join()
    except LoopExit:
        pass  # somebody will not end; `discard` closes what is open


def place_of(waiting: Any) -> str:
    """Where in a user's file a greenlet waits, for people: file, line and function."""
    frame = innermost = waiting.gr_frame
    while frame is not None and frame.f_code.co_filename.startswith(OUR_FILES):
        frame = frame.f_back
    frame = frame or innermost
    if frame is None:
        return "its beginning or end"
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} ({frame.f_code.co_name})"


def _anybody(_: Process) -> bool:
    return True
