"""What has finished traces stored: a process that takes what has gathered, a little at a time, and writes it in groups.

Nobody waits for it, and what it can't keep up with is dropped and counted, so that memory stays bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import gevent
from gevent.lock import RLock
from pydantic_core import from_json, to_json

from packetflow.capabilities.backends.audit import shown
from packetflow.node.trace_search import TraceSearch
from packetflow.otp import GenServer, Task
from packetflow.otp.clock import Clock
from packetflow.storage.traces import StoredTraces, TraceRow
from packetflow.telemetry.traces import Traces
from packetflow.wire.errors import RequestError

GROUP = 500  # traces that are written together at most
TURN = 25  # traces that are put into words before the hub may do something else
AGAIN = 5.0  # seconds until the next try, where they can't be written now
PRUNE = 60.0  # seconds between two looks for what is too old or too many

Keep = Callable[[Sequence[TraceRow]], object]


class TraceKeeper(GenServer):
    """Stores the traces that are to be kept. keep: writes rows; raises RequestError. prune: forgets what is too old."""

    def init(
        self,
        traces: Traces,
        keep: Keep,
        prune: Callable[[], object],
        clock: Clock,
        log: Any,
        rule: str | None = None,
        most: int = 100_000,
    ) -> None:
        """Begin. rule: only those for which this condition holds are stored. most: how many are kept, of which a tenth more may
        be stored before the oldest go."""
        self._since, self._slack = 0, max(1, most // 10)
        self._rule = None if rule is None else TraceSearch({"where": rule, "nested": True})
        self._traces, self._keep, self._prune, self._clock, self._log = traces, keep, prune, clock, log
        self._writing = RLock()
        self._pruned = clock.monotonic() - PRUNE  # an earlier life may have left more than is kept
        Task.start_link(self._run)

    def _run(self) -> None:
        while True:
            self._traces.wait()
            try:
                with self._writing:
                    self._write()
                now = self._clock.monotonic()
                if now - self._pruned >= PRUNE or self._since >= self._slack:
                    self._pruned, self._since = now, 0
                    self._prune()
            except RequestError as error:
                self._log.warning("traces can't be stored now", why=str(error), lost=self._traces.lost)
                gevent.sleep(AGAIN)

    def _write(self) -> None:
        rows: list[TraceRow] = []
        seen = 0
        while (call := self._traces.take()) is not None:
            row = row_of(self._traces, call)
            if row is not None and (self._rule is None or self._rule.holds(row._asdict())):
                rows.append(row)
            if len(rows) == GROUP:
                break
            seen += 1
            if seen % TURN == 0:
                gevent.sleep(0)
        if not rows:
            return
        try:
            self._keep(rows)
        except RequestError:
            self._traces.lost += len(rows)
            raise
        self._traces.stored += len(rows)
        self._since += len(rows)

    def terminate(self, reason: object) -> None:
        """Write what has gathered."""
        try:
            with self._writing:  # what is being written has its time too
                while self._traces.unstored:
                    self._write()
        except RequestError as error:
            self._log.warning("traces are lost with the node's end", why=str(error))


def row_of(traces: Traces, call: Any) -> TraceRow | None:
    """A trace as it is stored; None for a stream that is not over."""
    data = traces.own_data(call)
    if data["outcome"] == "streaming":
        return None
    error = data.get("error")
    body = {key: data[key] for key in ("spans", "module_time", "error", "traceparent") if key in data}
    return TraceRow(
        call.id,
        data["parent"],
        data["capability"],
        str(data["version"]),
        shown(data["principal"]),
        shown(data["tenant"]),
        data["door"],
        traces.epoch(call.stamps[0]),
        data["duration"],
        data["outcome"],
        None if error is None else shown(str(error.get("message", ""))),
        to_json(body, fallback=str, inf_nan_mode="strings"),
    )


def line_of(row: TraceRow) -> dict[str, Any]:
    """A stored trace in a line, as one in memory."""
    started = datetime.fromtimestamp(row.started, UTC).isoformat(timespec="milliseconds")
    return {
        "id": row.id,
        "capability": row.capability,
        "version": row.version,
        "principal": row.principal,
        "tenant": row.tenant,
        "door": row.door,
        "started": started.replace("+00:00", "Z"),
        "outcome": row.outcome,
        "duration": row.duration,
    }


class StoredSearch:
    """Looks in what is stored. stored: None where nothing is."""

    def __init__(self, stored: Callable[[], StoredTraces | None]) -> None:
        self._stored = stored

    def rows(self, search: TraceSearch, limit: int) -> list[dict[str, Any]]:
        """The newest in a line each; none where the database can't be read."""
        stored = self._stored()
        if stored is None:
            return []
        try:
            return [line_of(row) for row in stored.select(search.sql, search.parameters, limit)]
        except (
            RequestError
        ):  # its state is told by the node's health; what is in memory can be seen all the same
            return []

    def ids(self, prefix: str) -> list[str]:
        """The ids that begin so, a few of them."""
        stored = self._stored()
        if stored is None or not prefix.isalnum():
            return []
        low = prefix.lower()
        try:
            return [row.id for row in stored.select("id >= ? AND id < ?", (low, low + "g"), 10)]
        except RequestError:
            return []

    def one(self, id: str) -> dict[str, Any] | None:
        """One in full, with the requests it made."""
        stored = self._stored()
        found = [] if stored is None else stored.select("id = ?", (id,), 1)
        return self._full(found[0]) if found else None

    def _full(self, row: TraceRow) -> dict[str, Any]:
        stored = self._stored()
        assert stored is not None, "it was found there"
        inner = stored.select("parent = ?", (row.id,), 1_000)
        return {
            **line_of(row),
            "parent": row.parent,
            **from_json(row.body),
            "children": [self._full(child) for child in reversed(inner)],
        }
