"""What wakes durable runs: times, events, decisions. One greenlet serves all times."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.event import Event as Bell
from pydantic_core import from_json, to_json

from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.composition.durable.mending import Mending
from packetflow.composition.durable.runs import AGAIN, AGAIN_LASTING, Runs
from packetflow.storage.errors import StorageUnavailable
from packetflow.storage.runs.records import (
    ENDED,
    EXPIRED,
    FORBIDDEN,
    MODIFIED,
    OPEN,
    RUNNING,
    STRANDED,
    WAITING,
    Approval,
    Due,
    Event,
    RunRow,
    Wait,
    WaitRow,
)
from packetflow.wire.errors import (
    Cancelled,
    Conflict,
    Forbidden,
    NotFound,
    RequestError,
    Timeout,
    ValidationFailed,
)

BATCH = 500
LONGEST = 60.0  # seconds between two looks at the times: the wall clock may be set
SHORTEST_ID = 4
KEPT = 30 * 24 * 3600.0  # seconds that a run is kept after its end
PRUNE = 600.0  # seconds between two looks for those that are older


class Waking:
    """Wakes the runs of a node."""

    def __init__(self, runs: Runs, mending: Mending, kept: float = KEPT) -> None:
        """kept: seconds that a run is kept after its end."""
        self.runs = runs
        self.mending = mending
        self._kept = kept
        self.store = runs.store
        self._bell = Bell()
        self._next: float | None = None
        runs.began_to_wait = self._began_to_wait

    def _began_to_wait(self, run: int, wait: Wait) -> None:
        if wait.due is not None and (self._next is None or wait.due < self._next):
            self._next = wait.due
            self._bell.set()
        if wait.event:
            for event in self.store.events_of(run, wait.event):
                if self._is_meant(wait, event) and self._deliver(run, wait.place, event):
                    return

    def look(self) -> None:
        """Look at the times now: the clock may have been set."""
        self._bell.set()

    # ---- times ----------------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Wake what is due, and remove what ended long ago, for ever."""
        pruned, told = 0.0, ""
        while True:
            try:
                now = self.runs.now()
                due = self.store.due(now, BATCH)
                expired = self.store.expired(now, BATCH)
                if due:
                    self._together(self._is_due, due)
                for number in expired:
                    self._end_of_time(number)
                if len(due) == BATCH or len(expired) == BATCH:
                    continue
                if now >= pruned + PRUNE:
                    pruned = now
                    self._forget(now - self._kept)
                self._next = self.store.next_due()
            except StorageUnavailable as error:
                if str(error) != told:
                    told = str(error)
                    self.runs.engine.log.warning("the times wait for the store", error=told)
                gevent.sleep(AGAIN_LASTING if error.lasting else AGAIN)
                continue
            told = ""
            left = LONGEST if self._next is None else min(LONGEST, max(0.0, self._next - self.runs.now()))
            self._bell.wait(left)
            self._bell.clear()

    def _forget(self, before: float) -> None:
        """Remove what ended before, and give the room back to the disk."""
        gone = 0
        while removed := self.store.remove_ended(before, BATCH):
            gone += removed
            if removed < BATCH:
                break
        if gone:
            freed = self.store.vacuum()
            self.runs.engine.log.info("old runs were forgotten", runs=gone, bytes=freed)

    @staticmethod
    def _together(work: Callable[[Any], Any], what: list[Any]) -> list[Any]:
        """Each in a greenlet, so that the store commits them together. Raises what the first that fails raises."""
        greenlets = [gevent.spawn(work, one) for one in what]
        gevent.joinall(greenlets)
        return [one.get() for one in greenlets]

    def _is_due(self, due: Due) -> None:
        if due.kind != "approval":
            self.runs.came(self.store.settle(due.run, due.place, b'{"due":true}', self.runs.now()))
            return
        for approval in self.store.approvals(run=due.run):
            if approval.place == due.place:
                self._end_approval(approval, EXPIRED, "", "", {})

    def _end_of_time(self, number: int) -> None:
        self.end(self.store.load([number])[0].row, Timeout("its run_ttl is over"), "failed")

    def end(self, row: RunRow, error: RequestError, state: str) -> None:
        """End a run by an error; what was done and says how is undone."""
        live = self.runs.living(row.number)
        if live is not None:
            live.stop(error, state)
            return
        if row.state not in ENDED:
            self.runs.stop_next(row.number, error, state)
            self.store.set_state(row.number, [WAITING, FORBIDDEN, STRANDED], RUNNING, self.runs.now())
            self.runs.take_up([row.number])

    # ---- events -----------------------------------------------------------------------------------------------------------

    def signal(
        self, name: str, payload: dict[str, Any], run: RunRow | None = None, id: str | None = None
    ) -> int:
        """Send an event: to one run, for which it is kept until it is waited for, or to all that wait for it now.

        id: the same event twice is once, for each run. Gives the number of runs that took it or keep it.
        """
        event = Event(id or self.runs.new_id(), name, to_json(payload, fallback=str), self.runs.now())
        if run is not None:
            if run.state in ENDED:
                raise Conflict(f"run {run.id[:8]} is {run.state} and takes no event", {"run": run.id})
            if not self.store.keep_event(run.number, event):
                return 0
            for row in self.store.waits_of(run.number):
                if row.event == name and self._is_meant(row, event):
                    self._deliver(run.number, row.place, event)
                    break
            return 1
        taken = 0
        after = (0, "")
        while rows := self.store.subscribed(name, after, BATCH):
            after = (rows[-1].run, rows[-1].place)
            meant = [row for row in rows if self._is_meant(row, event)]
            taken += sum(self._together(partial(self._keep_and_deliver, event), meant))
        return taken

    def _keep_and_deliver(self, event: Event, row: WaitRow) -> bool:
        return self.store.keep_event(row.run, event) and self._deliver(row.run, row.place, event)

    def _is_meant(self, wait: Wait | WaitRow, event: Event) -> bool:
        if wait.match is None:
            return True
        names = {**from_json(wait.scope or b"{}"), "event": from_json(event.payload)}
        try:
            return Expression(wait.match).holds(names)
        except ConditionError as error:
            self.runs.engine.log.warning(
                "a match failed", event=event.name, place=wait.place, error=str(error)
            )
            return False

    def _deliver(self, run: int, place: str, event: Event) -> bool:
        body = {"event": {"id": event.id, "name": event.name, "payload": from_json(event.payload)}}
        settled = self.store.settle(run, place, to_json(body), self.runs.now(), taken=event.id)
        self.runs.came(settled)
        return settled is not None

    # ---- approvals ----------------------------------------------------------------------------------------------------------

    def decide(
        self,
        id: str,
        state: str,
        who: str,
        anybody: bool,
        comment: str = "",
        values: dict[str, Any] | None = None,
    ) -> Approval:
        """End an approval. anybody: who decides need not be one of those who are asked (the node's operator).

        Raises NotFound, Forbidden for who may not, Conflict if it was decided before, saying by whom.
        """
        approval = self._approval(id)
        if not anybody and who not in approval.who:
            raise Forbidden(
                f"approval {approval.id[:8]} asks {', '.join(approval.who)}, not {who}",
                {"approval": approval.id},
            )
        if values and state != MODIFIED:
            raise ValidationFailed("only a modifying decision has values", {"faults": []})
        if approval.state == OPEN and approval.deadline is not None and approval.deadline <= self.runs.now():
            approval, _ = self._end_approval(
                approval, EXPIRED, "", "", {}
            )  # its time was over while the node was away
        if approval.state == OPEN:
            approval, changed = self._end_approval(approval, state, who, comment, values or {})
            if changed:
                return approval
        by = f" by {approval.decided_by}" if approval.decided_by else ""
        details = {"approval": approval.id, "state": approval.state, "by": approval.decided_by}
        raise Conflict(f"approval {approval.id[:8]} was {approval.state}{by} already", details)

    def _approval(self, id: str) -> Approval:
        """The one whose id begins so, or the one of the run whose id does: the open one, if there is one."""
        if len(id) < SHORTEST_ID:
            raise too_short(id)
        found = self.store.approvals(id.lower(), only_open=False)
        if not found:
            runs = self.store.find(id.lower())
            every = [one for run in runs for one in self.store.approvals(only_open=False, run=run.number)]
            found = [one for one in every if one.state == OPEN] or every[-1:]
            if runs and not found:
                raise NotFound(f"run {runs[0].id[:8]} asks nobody", {"run": runs[0].id})
        if not found:
            raise NotFound(f"no approval, and no run, {id!r}", {"approval": id})
        if len(found) > 1:
            ids = [one.id for one in found]
            raise ValidationFailed(f"{id!r} means {len(found)} approvals", {"candidates": ids, "faults": []})
        return found[0]

    def _end_approval(
        self, approval: Approval, state: str, who: str, comment: str, values: dict[str, Any]
    ) -> tuple[Approval, bool]:
        ended, settled = self.store.decide(approval.id, state, who, comment, to_json(values), self.runs.now())
        self.runs.came(settled)
        return ended, settled is not None

    # ---- runs by hand ---------------------------------------------------------------------------------------------------------

    def find(self, id: str) -> RunRow:
        """The run whose id begins so. Raises NotFound; ValidationFailed for too short an id, or one that begins several."""
        if len(id) < SHORTEST_ID:
            raise too_short(id)
        found = self.store.find(id.lower())
        if not found:
            raise NotFound(f"no run {id!r}; `packetflow flow runs` lists them", {"run": id})
        if len(found) > 1:
            candidates = [row.id for row in found]
            raise ValidationFailed(
                f"{id!r} begins {len(found)} runs", {"candidates": candidates, "faults": []}
            )
        return found[0]

    def cancel(self, row: RunRow, who: str) -> bool:
        """Cancel a run; whether it was still open."""
        if row.state in ENDED:
            return False
        self.end(row, Cancelled(f"cancelled by {who}"), "cancelled")
        return True


def too_short(id: str) -> ValidationFailed:
    """The error for an id of which too little is given."""
    return ValidationFailed(f"id {id!r} is too short; expected {SHORTEST_ID} letters or more", {"faults": []})
