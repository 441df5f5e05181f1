"""A run in memory: its greenlet interprets the plan until it ends or every strand of it waits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gevent
from greenlet import getcurrent
from pydantic_core import from_json, to_json

from packetflow.composition.durable.journal import Journal
from packetflow.composition.durable.outcomes import Parked, Stuck
from packetflow.composition.durable.scopes import Scope
from packetflow.composition.durable.strands import Run, Strand
from packetflow.storage.errors import StorageUnavailable
from packetflow.storage.runs.records import (
    CANCELLED,
    COMPLETED,
    FAILED,
    RUNNING,
    Change,
    Loaded,
    Settled,
    Wait,
)
from packetflow.wire.errors import Cancelled, Internal, Overloaded, RequestError

if TYPE_CHECKING:
    from packetflow.composition.durable.plans import StoredPlan
    from packetflow.composition.durable.runs import Runs
    from packetflow.composition.durable.strands import Requests

AGAIN = 0.5  # seconds between two tries to write what the store does not take now


class LiveRun:
    """One run that is being interpreted. It may write only while it is the one that `Runs` knows by its number."""

    def __init__(self, runs: Runs, loaded: Loaded, plan: StoredPlan) -> None:
        self.runs = runs
        self.row = loaded.row
        self.plan = plan
        self._steps, self._retries = loaded.row.steps, loaded.row.retries
        self.journal = Journal(loaded.entries, loaded.waits, self._write, runs.now, self._subscribed)
        self.greenlet: gevent.Greenlet[..., None] | None = None
        self._run: Run | None = None
        self._strand: Strand | None = None
        self._stop: BaseException | None = None
        self._ending = ""  # the state that it ends with where it is stopped

    # ---- from outside ---------------------------------------------------------------------------------------------------

    def begin(self) -> gevent.Greenlet[..., None]:
        """Go on in a greenlet of its own."""
        self.greenlet = gevent.spawn(self._main)
        return self.greenlet

    def wake(self, settled: Settled) -> None:
        """Something that it waited for has come, and is stored."""
        self.journal.settle(settled.entry)
        if self._run is not None:
            self._run.wake(settled.entry.place)

    def stop(self, error: BaseException, state: str = "") -> None:
        """End it with this error, and in this state; Parked has it stay as it is stored, once its steps under way have ended."""
        if self._stop is None or isinstance(self._stop, Parked):
            self._stop, self._ending = error, state
        if self._run is not None and isinstance(error, Parked):
            self._run.draining = True
        if self._strand is not None:
            self._strand.stop(error)

    # ---- its greenlet -----------------------------------------------------------------------------------------------------

    def _main(self) -> None:
        requests = self.runs.requests(self.row)
        error: RequestError | None = None
        try:
            error = self._until_settled(requests)
        except Exception as crash:  # ours: the run stays as it is stored, and its place in the log says why
            error = Internal(f"run {self.row.id[:8]}: {type(crash).__name__}: {crash}")
            self.runs.engine.log.error("run crashed", run=self.row.id[:8], exc_info=crash)
            self._try_to_stick(error)
        except gevent.GreenletExit:
            raise
        except BaseException as end:  # noqa: BLE001 - the node ends it from outside: it stays as it is stored
            error = Cancelled(f"run {self.row.id[:8]} was left: {type(end).__name__}")
        finally:
            requests.close(error)
            self.runs.left(self)

    def _try_to_stick(self, error: RequestError) -> None:
        try:
            self._end(FAILED, None, error)
        except StorageUnavailable:
            pass  # it is taken up at the node's next start

    def _until_settled(self, requests: Requests) -> RequestError | None:
        """Interpret until it has ended or waits; the error it ended with."""
        while True:
            run = self._run = Run(self.row.id, requests, self.runs.engine, self.journal, self.row.generation)
            strand = self._strand = Strand(run)
            strand.greenlet = getcurrent()
            if self._stop is not None:
                strand.stop(self._stop)
            try:
                return self._interpreted(run, strand)
            except Parked:
                if isinstance(self._stop, Parked):
                    self.journal.flush()
                    return None
                if self._stop is not None:
                    continue  # stopped while it parked: once more, to end
                if self._park(run):
                    return None
            finally:
                strand.greenlet = None
                run.end()
                self._count(run)

    def _interpreted(self, run: Run, strand: Strand) -> RequestError | None:
        try:
            scope = Scope(from_json(self.row.payload))
            value = self.plan.operation(strand, scope, "")
            if self.plan.provides is not None:
                value = {name: scope.get(name) for name in self.plan.provides}
            result = to_json(value, fallback=str)
        except Stuck as stuck:
            self._stick(stuck)
            return stuck.error
        except RequestError as error:
            state = self._ending or (CANCELLED if isinstance(error, Cancelled) and self._stop else FAILED)
            self._end(state, None, error)
            return error
        self._end(COMPLETED, result, None)
        return None

    def _count(self, run: Run) -> None:
        self._steps += run.steps
        self._retries += run.retries
        run.steps = run.retries = 0

    def _counts(self) -> tuple[int, int]:
        run = self._run
        more = (run.steps, run.retries) if run is not None else (0, 0)
        return self._steps + more[0], self._retries + more[1]

    # ---- what it writes ---------------------------------------------------------------------------------------------------

    def _patiently(self, write: Any) -> Any:
        """Write, however long the store does not take it: what has been done must not be done twice for a full disk."""
        while True:
            if self.runs.living(self.row.number) is not self:
                raise gevent.GreenletExit  # another has taken the run over, and what this one knows is old
            try:
                return write()
            except (StorageUnavailable, Overloaded) as error:
                if getattr(error, "lasting", False) or isinstance(self._stop, Parked):
                    raise Stuck(RUNNING, error) from None
                self.runs.engine.log.warning("run waits for the store", run=self.row.id[:8], error=str(error))
                gevent.sleep(AGAIN)

    def _write(self, changes: Sequence[Change]) -> None:
        self._patiently(lambda: self.runs.store.apply(self.row.number, changes))

    def _subscribed(self, wait: Wait) -> None:
        self.runs.began_to_wait(self.row.number, wait)

    def _park(self, run: Run) -> bool:
        changes, waits = self.journal.take(), len(self.journal.waits)
        counts = self._counts()
        parked: bool = self._patiently(
            lambda: self.runs.store.park(self.row.number, changes, waits, counts, self.runs.now())
        )
        return parked

    def _stick(self, stuck: Stuck) -> None:
        if stuck.state == RUNNING:
            return
        self.journal.flush()
        body = to_json(stuck.error.as_dict(), fallback=str)
        store, now = self.runs.store, self.runs.now()
        self._patiently(lambda: store.set_state(self.row.number, [RUNNING], stuck.state, now, body))
        self.runs.ended(self.row, stuck.state, None, stuck.error)

    def _end(self, state: str, result: bytes | None, error: RequestError | None) -> None:
        changes = self.journal.take()
        body = None if error is None else to_json(error.as_dict(), fallback=str)
        counts, now = self._counts(), self.runs.now()
        self._patiently(
            lambda: self.runs.store.finish(self.row.number, changes, state, result, body, counts, now)
        )
        self.runs.ended(self.row, state, result, error)
