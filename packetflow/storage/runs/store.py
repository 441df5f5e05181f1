"""What a store of runs can do. `sqlite.py` is the embedded one; another database implements the same, and passes the same tests.

Every method that changes something returns when it is on the disk, all of it or nothing, and raises
StorageUnavailable where it can't be written now.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from packetflow.storage.runs.records import (
    Again,
    Approval,
    Change,
    Due,
    Event,
    Loaded,
    NewRun,
    RunFilter,
    RunRow,
    Settled,
    WaitRow,
)


class RunStore(Protocol):
    """Runs, their journals, what they wait for, events, approvals."""

    # ---- a run's life ---------------------------------------------------------------------------------------------------

    def create(self, run: NewRun, plan: bytes, changes: Sequence[Change] = ()) -> tuple[int, bool]:
        """Store a run that begins, with its plan; its number, and whether it is new: a key that is known is the old run."""

    def apply(self, run: int, changes: Sequence[Change]) -> None:
        """Write changes of a run's journal, in order."""

    def finish(
        self,
        run: int,
        changes: Sequence[Change],
        state: str,
        result: bytes | None,
        error: bytes | None,
        counts: tuple[int, int],
        now: float,
    ) -> None:
        """A run's last changes and its end. counts: steps, retries. Nothing of it waits any more."""

    def park(
        self, run: int, changes: Sequence[Change], waits: int, counts: tuple[int, int], now: float
    ) -> bool:
        """Set a running run to waiting if all of its `waits` still wait; else it stays running, and False is returned."""

    def set_state(
        self,
        run: int,
        before: Sequence[str],
        after: str,
        now: float,
        error: bytes | None = None,
        note: str = "",
    ) -> bool:
        """Change a run's state if it is one of `before`; whether it was. note: added to what was remarked."""

    def take_up(self, runs: Sequence[int], now: float) -> None:
        """Count that runs are taken up again."""

    def again(self, run: int, again: Again, now: float) -> bool:
        """Have a run that has ended, or is stuck, go on as `again` says, if it is in one of its states; whether it was."""

    # ---- what it waits for ------------------------------------------------------------------------------------------------

    def settle(
        self, run: int, place: str, body: bytes, now: float, taken: str | None = None
    ) -> Settled | None:
        """What a place waited for has come: write it, and set a waiting run to running. None if it does not wait there.

        taken: the id of the event that is used up by this.
        """

    def due(self, now: float, limit: int) -> list[Due]:
        """Waits whose time has come, the oldest first."""

    def next_due(self) -> float | None:
        """When the next wait's time comes, or the next run's `run_ttl` is over."""

    def expired(self, now: float, limit: int) -> list[int]:
        """Runs that have not ended and whose `run_ttl` is over."""

    def subscribed(self, event: str, after: tuple[int, str], limit: int) -> list[WaitRow]:
        """Waits for an event by name, in the order of run and place, behind `after`."""

    def waits_of(self, run: int) -> list[WaitRow]:
        """What a run waits for."""

    def waits_for(self, runs: Sequence[int]) -> dict[int, list[WaitRow]]:
        """What each of several runs waits for."""

    def keep_event(self, run: int, event: Event) -> bool:
        """Keep an event for a run that may wait for it later; whether its id is new to the run."""

    def events_of(self, run: int, name: str) -> list[Event]:
        """The events of this name that were kept for a run and not taken, the oldest first."""

    # ---- approvals ----------------------------------------------------------------------------------------------------------

    def decide(
        self, id: str, state: str, who: str, comment: str, values: bytes, now: float
    ) -> tuple[Approval, Settled | None]:
        """End an open approval, and settle the place that waits for it. If it has ended before, nothing changes: the second is
        None, and the first says who decided."""

    def approvals(self, prefix: str = "", only_open: bool = True, run: int | None = None) -> list[Approval]:
        """Approvals whose id begins so, the oldest first."""

    # ---- reading ------------------------------------------------------------------------------------------------------------

    def load(self, numbers: Sequence[int]) -> list[Loaded]:
        """Runs with their journals."""

    def find(self, prefix: str) -> list[RunRow]:
        """The runs whose id begins so, 20 at most."""

    def listed(self, which: RunFilter) -> list[RunRow]:
        """Runs, the newest first. Raises ValidationFailed, with the place, for a `where` that is none."""

    def in_state(self, states: Sequence[str], after: int, limit: int) -> list[int]:
        """The numbers of runs in one of these states, in order, behind `after`."""

    def counts(self) -> dict[str, int]:
        """How many runs there are by state."""

    def plan(self, digest: str) -> bytes | None:
        """A plan that was stored with a run."""

    # ---- keeping ------------------------------------------------------------------------------------------------------------

    def remove_ended(self, before: float, limit: int) -> int:
        """Remove runs that ended before, with all that is theirs; how many went."""

    def vacuum(self) -> int:
        """Give the room of what was removed back to the disk; bytes."""
