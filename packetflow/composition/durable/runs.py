"""The durable runs of a node: begun, taken up after a crash or when what they wait for comes, a greenlet each while they run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import Any, NamedTuple

import gevent
from gevent.event import Event as Bell
from gevent.lock import BoundedSemaphore
from pydantic_core import from_json, to_json

from packetflow.composition.durable.interpreting import Interpreter
from packetflow.composition.durable.live import LiveRun
from packetflow.composition.durable.outcomes import Parked
from packetflow.composition.durable.plans import Plans
from packetflow.composition.durable.strands import Requests, Run, Undo
from packetflow.composition.durable.versions import check_readable, contracts_of, unfit
from packetflow.composition.engine import Engine
from packetflow.composition.plan import Composition
from packetflow.storage.errors import StorageUnavailable
from packetflow.storage.runs.records import (
    ENDED,
    FORBIDDEN,
    RUNNING,
    STRANDED,
    Loaded,
    NewRun,
    RunRow,
    Settled,
    Wait,
)
from packetflow.storage.runs.store import RunStore
from packetflow.wire.errors import Conflict, RequestError, Timeout, Unavailable, error_from_dict

AT_ONCE = 256  # runs that are taken up at the same time; those that callers begin are not counted
BATCH = 200  # runs that are read together
AGAIN = 1.0  # seconds between two looks at a store that can't be read
AGAIN_LASTING = 30.0  # the same, where somebody has to mend it


class Outcome(NamedTuple):
    """What a run came to: an end, or `forbidden` or `stranded`."""

    state: str
    result: bytes | None
    error: RequestError | None


class Watcher:
    """Somebody who waits for a run's end."""

    __slots__ = ("bell", "outcome")

    def __init__(self) -> None:
        self.bell = Bell()
        self.outcome: Outcome | None = None


class Runs:
    """All durable runs of one node. begin() and halt() are its process's.

    requests: how a stored run asks for capabilities; contract: what a capability requires and provides now.
    """

    def __init__(
        self,
        store: RunStore,
        engine: Engine,
        requests: Callable[[RunRow], Requests],
        contract: Callable[[str], tuple[str, Any, Any] | None],
    ) -> None:
        self.store = store
        self.engine = engine
        self.clock = engine.clock
        self.requests = requests
        self.contract = contract
        self.plans = Plans(lambda: Interpreter(self._not_undone), store.plan)
        self.began_to_wait: Callable[[int, Wait], None] = lambda run, wait: None
        self._random: Random = engine.chance
        self._live: dict[int, LiveRun] = {}
        self._watchers: dict[int, list[Watcher]] = {}
        self._ready: deque[int] = deque()
        self._stops: dict[int, tuple[RequestError, str]] = {}
        self._again: set[int] = set()  # to be looked at when they have left memory
        self._bell = Bell()
        self._open = False
        self._draining = False
        self._leaving: list[
            gevent.Greenlet[..., None]
        ] = []  # of an earlier life: what they do must be over first
        self._taking_up: gevent.Greenlet[..., None] | None = None

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.clock.utc().timestamp()

    def new_id(self) -> str:
        """128 random bits in lower hex (design ruling 47)."""
        return f"{self._random.getrandbits(128):032x}"

    # ---- life -----------------------------------------------------------------------------------------------------------

    def begin(self) -> gevent.Greenlet[..., None]:
        """Take up what is unfinished; the greenlet that does it, which ends by an error only."""
        self._open, self._draining = True, False
        self._taking_up = gevent.spawn(self._take_up_all)
        return self._taking_up

    def drain(self) -> None:
        """Begin no run any more, and have those under way park after their step (design ruling 32)."""
        self._open, self._draining = False, True
        for live in list(self._live.values()):
            live.stop(Parked())
        for number, watchers in self._watchers.items():
            if number not in self._live:
                self._goes_on_later(watchers)

    def settle(self, seconds: float) -> None:
        """Wait until no run is under way, so long at most."""
        living = [live.greenlet for live in self._live.values() if live.greenlet is not None]
        gevent.joinall(living, timeout=seconds)

    def halt(self) -> None:
        """End at once: what is under way stays as it is stored, and is taken up at the next begin."""
        self._open = False
        living, self._live = list(self._live.values()), {}
        self._leaving += [live.greenlet for live in living if live.greenlet is not None]
        gevent.killall(self._leaving, block=False)
        if self._taking_up is not None:
            self._taking_up.kill(block=False)
        self._ready.clear()

    # ---- beginning ------------------------------------------------------------------------------------------------------

    def start(self, plan: Composition, payload: Any, session: Any, key: str | None = None) -> RunRow:
        """Store a run and begin it; of a key that is known, the run that there is. Raises Unavailable while the node stops."""
        if not self._open:
            why = "the node is stopping" if self._draining else "the node is taking up its runs again"
            raise Unavailable(f"{why}, so it begins none now", retry_after=1.0)
        stored = self.plans.of(plan)
        now = self.now()
        new = NewRun(
            id=self.new_id(),
            composition=plan.id,
            version=plan.version,
            plan=stored.digest,
            principal=session.principal,
            tenant=session.tenant,
            rights=tuple(sorted(session.grants.patterns)),
            payload=to_json(payload, fallback=str),
            started=now,
            expires=None if plan.run_ttl is None else now + plan.run_ttl,
            key=key,
            contracts=to_json(contracts_of(stored.capabilities, self.contract)),
        )
        number, fresh = self.store.create(new, stored.body)
        if not fresh:
            row = self.store.load([number])[0].row
            if (row.composition, row.payload) != (new.composition, new.payload):
                said = (key or "").rpartition("/")[2]
                raise Conflict(
                    f"the idempotency key {said!r} began run {row.id[:8]} with another payload; expected the same payload, "
                    "or another key",
                    {"run": row.id, "idempotency_key": said},
                )
            return row
        row = row_of(number, new)
        self._go(LiveRun(self, Loaded(row, [], []), stored))
        if new.expires is not None:
            self.began_to_wait(number, Wait("", "time", "run_ttl", now, new.expires))
        return row

    def wait(self, row: RunRow, seconds: float | None = None) -> Any:
        """Wait for a run's end: its value. Raises its error. Who gives up waiting ends nothing: Timeout names the run."""
        watcher = Watcher()
        watchers = self._watchers.setdefault(row.number, [])
        watchers.append(watcher)
        try:
            if row.number not in self._live:
                watcher.outcome = self._known(self.store.load([row.number])[0].row)
            if watcher.outcome is None and not watcher.bell.wait(seconds):
                words = f"run {row.id[:8]} of {row.composition} has not ended yet, and goes on"
                raise Timeout(words, {"run": row.id})
        finally:
            watchers.remove(watcher)
            if not watchers:
                self._watchers.pop(row.number, None)
        outcome = watcher.outcome
        assert outcome is not None, "the bell rings when there is one"
        if outcome.error is not None:
            raise outcome.error
        return None if outcome.result is None else from_json(outcome.result)

    @staticmethod
    def _known(row: RunRow) -> Outcome | None:
        if row.state not in (*ENDED, FORBIDDEN, STRANDED):
            return None
        error = None if row.error is None else error_from_dict(from_json(row.error))
        return Outcome(row.state, row.result, error)

    # ---- what living runs tell --------------------------------------------------------------------------------------------

    def living(self, number: int) -> LiveRun | None:
        """The run as it is in memory, if it is."""
        return self._live.get(number)

    @property
    def under_way(self) -> int:
        """How many runs are in memory."""
        return len(self._live)

    def left(self, live: LiveRun) -> None:
        """A run's greenlet ends."""
        if self._live.get(live.row.number) is live:
            del self._live[live.row.number]
        if self._draining:
            self._goes_on_later(self._watchers.get(live.row.number, ()))
        if live.row.number in self._again:
            self._again.discard(live.row.number)
            self.take_up([live.row.number])

    @staticmethod
    def _goes_on_later(watchers: Iterable[Watcher]) -> None:
        for watcher in watchers:
            if watcher.outcome is None:
                error = Unavailable(
                    "the node is stopping; the run goes on when it is started again", retry_after=1.0
                )
                watcher.outcome = Outcome(RUNNING, None, error)
                watcher.bell.set()

    def ended(self, row: RunRow, state: str, result: bytes | None, error: RequestError | None) -> None:
        """A run has ended, or is stuck."""
        for watcher in self._watchers.get(row.number, ()):
            watcher.outcome = Outcome(state, result, error)
            watcher.bell.set()
        if error is not None:
            self.engine.log.warning(
                "run ended", run=row.id[:8], composition=row.composition, state=state, error=str(error)
            )

    def _not_undone(self, run: Run, undo: Undo, error: RequestError) -> None:
        self.engine.log.error("compensation failed", run=run.id[:8], place=undo.place, error=str(error))

    def came(self, settled: Settled | None) -> None:
        """What a run waited for has come, and is stored: it goes on."""
        if settled is None:
            return
        live = self._live.get(settled.run)
        if live is not None:
            live.wake(settled)
        if settled.state == RUNNING:
            self.take_up([settled.run])  # also if it is about to leave memory just now

    def stop_next(self, number: int, error: RequestError, state: str) -> None:
        """A run that is not in memory is to end by this error as soon as it is taken up."""
        self._stops[number] = (error, state)

    # ---- taking up ----------------------------------------------------------------------------------------------------------

    def take_up(self, numbers: Iterable[int]) -> None:
        """Have these runs go on from where they stand in the store."""
        if self._open:
            self._ready.extend(numbers)
            self._bell.set()

    def _take_up_all(self) -> None:
        leaving, self._leaving = self._leaving, []
        gevent.joinall(leaving)  # each has SHUTDOWN seconds for what it stops
        room = BoundedSemaphore(AT_ONCE)
        after = 0
        while numbers := self._patiently(partial(self.store.in_state, [RUNNING], after, BATCH)):
            after = numbers[-1]
            self._take_up_batch(numbers, room)
        while True:
            self._bell.wait()
            self._bell.clear()
            while self._ready:
                batch = [self._ready.popleft() for _ in range(min(BATCH, len(self._ready)))]
                self._take_up_batch(list(dict.fromkeys(batch)), room)

    def _take_up_batch(self, numbers: list[int], room: BoundedSemaphore) -> None:
        absent = [number for number in numbers if number not in self._live]
        self._again.update(number for number in numbers if number in self._live)
        if not absent:
            return
        self._patiently(lambda: self.store.take_up(absent, self.now()))
        for loaded in self._patiently(lambda: self.store.load(absent)):
            row = loaded.row
            if row.state != RUNNING or row.number in self._live:
                continue
            try:
                plan = self.plans.stored(row)
                check_readable(loaded)
                unfit(row, plan, loaded.entries, self.contract)
            except RequestError as error:
                self.strand(row, error)
                continue
            room.acquire()
            self._go(LiveRun(self, loaded, plan)).link(lambda greenlet: room.release())

    def strand(self, row: RunRow, error: RequestError) -> None:
        """A run can't go on with what the node has now; it waits for somebody to say how."""
        body = to_json(error.as_dict(), fallback=str)
        if self._patiently(lambda: self.store.set_state(row.number, [RUNNING], STRANDED, self.now(), body)):
            self.ended(row, STRANDED, None, error)

    def _patiently(self, ask: Callable[[], Any]) -> Any:
        """What is asked of the store, when it can be: a store that can't be used is a state, not the end of a process."""
        told = ""
        while True:
            try:
                return ask()
            except StorageUnavailable as error:
                if str(error) != told:
                    told = str(error)
                    self.engine.log.warning("the runs wait for the store", error=told)
                gevent.sleep(AGAIN_LASTING if error.lasting else AGAIN)

    def _go(self, live: LiveRun) -> gevent.Greenlet[..., None]:
        self._live[live.row.number] = live
        stop = self._stops.pop(live.row.number, None)
        if stop is not None:
            live.stop(*stop)
        return live.begin()


def row_of(number: int, new: NewRun) -> RunRow:
    """A run that has just begun, as it is stored."""
    return RunRow(
        number, new.id, new.composition, new.version, new.plan, RUNNING, new.principal, new.tenant, new.rights,
        new.payload, new.started, new.started, None, new.expires, None, None, new.key, new.contracts, 0, 0, 1, "",
        0, new.origin,
    )  # fmt: skip
