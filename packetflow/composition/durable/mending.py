"""Runs by hand: retried, resumed on another plan, forked, replayed. What the node's operator does about a run that is stuck."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pydantic_core import from_json, to_json

from packetflow.composition.durable.again import forgotten, kept, start_of
from packetflow.composition.durable.plans import StoredPlan
from packetflow.composition.durable.replaying import Replay, replay
from packetflow.composition.durable.runs import Runs
from packetflow.composition.durable.versions import contracts_of
from packetflow.composition.plan import Composition
from packetflow.storage.runs.records import (
    CANCELLED,
    FAILED,
    FORBIDDEN,
    STRANDED,
    Again,
    Change,
    Entry,
    Loaded,
    NewRun,
    Put,
    RunRow,
)
from packetflow.wire.errors import Conflict, NotFound

KEEP, LATEST = (
    "keep",
    "latest",
)  # versions of a plan: the one that the run began with, and the highest that is served


class Mending:
    """Changes runs that have ended or are stuck. served: the composition behind an id or id@version, if there is one."""

    def __init__(self, runs: Runs, served: Callable[[str], Composition | None]) -> None:
        self._runs = runs
        self._served = served

    def resume(self, row: RunRow, version: str = KEEP) -> None:
        """Have a run that is stuck (forbidden, stranded) go on, perhaps on another version of its plan.

        Raises Conflict for a run that is not stuck, and where the other version would not lead to where the run stands.
        """
        self._go_on(row, (FORBIDDEN, STRANDED), version, None, "resume")

    def retry(self, row: RunRow, step: str | None = None, version: str = KEEP) -> None:
        """Have a run that failed or was cancelled go on: where it failed, or from a step. What was undone is done again, with
        new keys. Raises as `resume`, and NotFound for a step that the plan has not."""
        self._go_on(row, (FAILED, CANCELLED), version, step, "retry")

    def _go_on(self, row: RunRow, before: tuple[str, ...], version: str, step: str | None, word: str) -> None:
        if row.state not in before:
            hint = {"resume": "forbidden or stranded", "retry": "failed or cancelled"}[word]
            raise Conflict(
                f"run {row.id[:8]} is {row.state}, so there is nothing to {word}; expected one that is {hint}",
                {"run": row.id, "state": row.state},
            )
        runs = self._runs
        loaded = runs.store.load([row.number])[0]
        plan, told = self._plan(row, version)
        changes: list[Change] = []
        undone = False
        if word == "retry":
            start = None if step is None else start_of(plan.node, step)
            changes, undone = forgotten(plan.node, loaded.entries, start, failure_of(row))
        if version != KEEP:
            self._check(loaded._replace(entries=kept(loaded.entries, changes), waits=[]), plan, told)
        now = runs.now()
        again = Again(
            before,
            tuple(changes),
            plan.digest,
            plan.body,
            told,
            row.contracts if version == KEEP else contracts(runs, plan),
            undone,
            None if row.expires is None else max(row.expires, now + row.expires - row.started),
            f"{word} at {runs.clock.utc().isoformat(timespec='seconds')}" + (f" from {step}" if step else ""),
        )
        if not runs.store.again(row.number, again, now):
            raise Conflict(f"run {row.id[:8]} has changed meanwhile; look at it again", {"run": row.id})
        runs.take_up([row.number])

    def fork(self, row: RunRow, step: str | None, session: Any, version: str = LATEST) -> RunRow:
        """A new run with the payload of an old one, and what that had finished before `step`; None: from the beginning.

        Its steps have new keys. Raises as `retry`; whatever state the old one is in, it stays as it is.
        """
        runs = self._runs
        loaded = runs.store.load([row.number])[0]
        plan, told = self._plan(row, version)
        entries: Sequence[Entry] = ()
        if step is not None:
            changes, _ = forgotten(plan.node, loaded.entries, start_of(plan.node, step))
            entries = kept(loaded.entries, changes)
            if version != KEEP:
                self._check(loaded._replace(entries=list(entries), waits=[]), plan, told)
        now = runs.now()
        new = NewRun(
            id=runs.new_id(),
            composition=row.composition,
            version=told,
            plan=plan.digest,
            principal=session.principal,
            tenant=session.tenant,
            rights=tuple(sorted(session.grants.patterns)),
            payload=row.payload,
            started=now,
            expires=None if row.expires is None else now + row.expires - row.started,
            contracts=contracts(runs, plan),
            origin=row.id + (f" from {step}" if step is not None else ""),
        )
        puts = [
            Put(one.place, one.kind, one.label, one.capability, to_json(one.body), one.at, one.seconds)
            for one in entries
        ]
        number, _ = runs.store.create(new, plan.body, puts)
        runs.take_up([number])
        return runs.store.load([number])[0].row

    def replay(self, row: RunRow, version: str = LATEST) -> tuple[Replay, str]:
        """Whether a run would go the same way on a version of its plan; and which that is."""
        plan, told = self._plan(row, version)
        loaded = self._runs.store.load([row.number])[0]
        return replay(loaded, plan.node, plan.provides, self._runs.engine), told

    def _plan(self, row: RunRow, version: str) -> tuple[StoredPlan, str]:
        if version == KEEP:
            return self._runs.plans.stored(row), row.version
        name = row.composition if version == LATEST else f"{row.composition}@{version}"
        found = self._served(name)
        if found is None:
            raise NotFound(
                f"the node serves no composition {name!r}; expected keep, latest or a version that is served",
                {"composition": name},
            )
        return self._runs.plans.of(found), found.version

    def _check(self, loaded: Loaded, plan: StoredPlan, version: str) -> None:
        row = replace(loaded.row, state="running")
        found = replay(loaded._replace(row=row), plan.node, plan.provides, self._runs.engine)
        if not found.same:
            told = [{"path": one.place, "message": f"{one.was}, now: {one.now}"} for one in found.differences]
            raise Conflict(
                f"run {row.id[:8]} can't go on with {row.composition}@{version}: what it has done does not lead there; "
                "fork it from a step before",
                {"run": row.id, "faults": told},
            )


def contracts(runs: Runs, plan: StoredPlan) -> bytes:
    """What the capabilities of a plan are now."""
    return to_json(contracts_of(plan.capabilities, runs.contract))


def failure_of(row: RunRow) -> str:
    """The place that a run's error names; "?" if it names none."""
    error = {} if row.error is None else from_json(row.error)
    return str(error.get("details", {}).get("place", "?"))
