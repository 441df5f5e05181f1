"""The traces of a node: the last requests in a ring, the failed ones a while longer, turned into spans only when
somebody looks."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, NamedTuple

from gevent.event import Event

from packetflow.otp.clock import Clock
from packetflow.telemetry.masking import HIDDEN
from packetflow.wire.ids import OWN

OVERHEAD = 1_500  # bytes a trace takes by estimate, without what modules noted
UNSTORED = 10_000  # traces that wait to be stored
SHORTEST = 4  # letters of an id that are enough to ask for it
OWN_FAULT = 500  # the least HTTP status of an error that is no fault of the caller's


class Sample(NamedTuple):
    """One request as figures need it. ended: monotonic seconds, the same for all processes of a machine. failed: by the
    node's or the capability's own fault, not by what the caller sent.
    """

    ended: float
    seconds: float
    failed: bool


class Traces:
    """The last `keep` requests, and beside them the last failed or changed ones. A trace is the request's Context.

    store: which are also to be stored (`none`, `failed`, `all`): they gather in `unstored`, up to a bound, until somebody takes
    them. stored, lost: how many were, and how many found no room or could not be written.
    """

    def __init__(self, clock: Clock, keep: int = 1000, memory: int = 64 << 20, store: str = "none") -> None:
        self._clock = clock
        self.unstored: deque[Any] = deque()
        self.stored = self.lost = 0
        self._store = store
        self._filled: Event | None = None
        size = max(1, min(keep, memory // OVERHEAD))
        self._recent: deque[Any] = deque(maxlen=size)
        self._notable: deque[Any] = deque(maxlen=max(1, size // 4))
        # Bound, and called for every request: keep a finished one, and keep one that failed or was changed longer.
        self.add: Callable[[Any], None] = self._recent.append
        self.add_notable: Callable[[Any], None] = self._notable.append
        if store == "all":
            self.add = self._add_and_store
        elif store == "failed":
            self.add_notable = self._add_notable_and_store_failed

    # ---- what is to be stored ---------------------------------------------------------------------------------------------

    def _add_and_store(self, call: Any) -> None:
        self._recent.append(call)
        self._gather(call)

    def _add_notable_and_store_failed(self, call: Any) -> None:
        self._notable.append(call)
        if call.error is not None:
            self._gather(call)

    def _gather(self, call: Any) -> None:
        if call.capability.startswith(OWN):
            return
        if len(self.unstored) >= UNSTORED:
            self.lost += 1
            return
        self.unstored.append(call)
        if self._filled is not None:
            self._filled.set()
            self._filled = None

    @property
    def stores(self) -> bool:
        """Whether any are to be stored."""
        return self._store != "none"

    def over(self, call: Any) -> None:
        """A stream that was kept when it began is over."""
        if self._store == "all":
            self._gather(call)

    def wait(self) -> None:
        """Wait until there is something to be stored."""
        if not self.unstored:
            self._filled = Event()
            self._filled.wait()

    def take(self) -> Any | None:
        """The next one to be stored, None if there is none."""
        return self.unstored.popleft() if self.unstored else None

    def __iter__(self) -> Iterator[Any]:
        """The newest first, each once."""
        seen = set()
        for call in (*reversed(self._recent), *reversed(self._notable)):
            if call.number not in seen:
                seen.add(call.number)
                yield call

    def last(self) -> Any | None:
        """The outermost request that ended last, the node's own aside."""
        for call in self:
            if call.parent is None and not call.capability.startswith(OWN):
                return call
        return None

    def find(self, prefix: str) -> list[Any]:
        """The traces whose id begins so, a unique one if it is long enough to be."""
        return [call for call in self if call.id.startswith(prefix.lower())]

    def samples(self, capability: str, version: str) -> list[Sample]:
        """How the kept requests of one version of a capability went, the oldest first."""
        return [
            Sample(call.stamps[-1], call.duration, call.error is not None and call.error.status >= OWN_FAULT)
            for call in self._recent
            if call.capability == capability and call.version == version
        ]

    def now(self) -> float:
        """The time that samples are counted in."""
        return self._clock.monotonic()

    def covered(self) -> float:
        """For how many seconds back every request is kept; without an end where none was dropped yet."""
        recent = self._recent
        if len(recent) < (recent.maxlen or 0):
            return float("inf")
        return self._clock.monotonic() - float(recent[0].stamps[-1])

    def module_times(self) -> dict[str, list[float]]:
        """Seconds that each module took of the kept requests, all its hooks of one request together."""
        times: dict[str, list[float]] = {}
        for call in self._recent:
            stamps = call.stamps
            own: dict[str, float] = {}
            for place, stage in enumerate(call.stages[: len(stamps) - 1]):
                if stage.gate is not None:
                    own[stage.name] = own.get(stage.name, 0.0) + stamps[place + 1] - stamps[place]
            for name, seconds in own.items():
                times.setdefault(name, []).append(seconds)
        return times

    def started(self, call: Any) -> str:
        """When a request started, RFC 3339 in UTC."""
        return self.moment(call.stamps[0])

    def epoch(self, monotonic: float) -> float:
        """A reading of the node's monotonic clock in seconds since the epoch."""
        return self._clock.utc().timestamp() - (self._clock.monotonic() - monotonic)

    def moment(self, monotonic: float) -> str:
        """A reading of the node's monotonic clock as RFC 3339 in UTC, counted back from now."""
        ago = self._clock.monotonic() - monotonic
        begin = self._clock.utc() - timedelta(seconds=ago)
        return begin.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def row(self, call: Any) -> dict[str, Any]:
        """One line about a trace."""
        return {
            "id": call.id,
            "capability": call.capability,
            "version": call.version,
            "principal": call.principal,
            "tenant": call.tenant,
            "door": call.session.door,
            "started": self.started(call),
            "outcome": outcome_of(call),
            "duration": call.duration,
        }

    def as_data(self, call: Any, values: bool = True) -> dict[str, Any]:
        """A trace in full: its spans in order, what each module did, and the requests it made."""
        data = self.own_data(call, values)
        data["children"] = [
            self.as_data(child, values) for child in reversed(list(self)) if child.parent is call
        ]
        return data

    def own_data(self, call: Any, values: bool = True) -> dict[str, Any]:
        """The same without the requests it made."""
        spans = self._spans(call, values)
        data = self.row(call)
        data["module_time"] = sum(
            span["self"] for span in spans if span["kind"] in ("request", "plan", "response")
        )
        data["parent"] = call.parent.id if call.parent is not None else None
        if call.metadata.traceparent:
            data["traceparent"] = call.metadata.traceparent
        if call.error is not None:
            data["error"] = call.error.as_dict()
        data["spans"] = spans
        return data

    def _spans(self, call: Any, values: bool) -> list[dict[str, Any]]:
        notes: dict[int, list[dict[str, Any]]] = {}
        for place, what, detail in _masked(call.notes or (), values):
            notes.setdefault(place, []).append({"what": what, "detail": detail})
        spans = []
        stamps = call.stamps
        for place, stage in enumerate(call.stages[: len(stamps) - 1]):
            span: dict[str, Any] = {
                "where": stage.name,
                "kind": stage.kind,
                "start": stamps[place] - stamps[0],
                "self": stamps[place + 1] - stamps[place],
            }
            if stage.gate is not None:
                gate = stage.gate
                span["priority"] = gate.response_priority if stage.kind == "response" else gate.priority
            if place in notes:
                span["notes"] = notes[place]
            spans.append(span)
        return spans


def _masked(notes: Any, values: bool) -> list[tuple[int, str, Any]]:
    """The notes, with every place that one module hides hidden in all of them (design ruling 17)."""
    hidden = {
        row["path"]
        for _, _, detail in notes
        if isinstance(detail, list)
        for row in detail
        if row["after"] == HIDDEN or row["before"] == HIDDEN
    }
    shown = []
    for place, what, detail in notes:
        if isinstance(detail, list):
            detail = [
                row
                if values and row["path"] not in hidden
                else {"path": row["path"], "before": HIDDEN, "after": HIDDEN}
                for row in detail
            ]
        shown.append((place, what, detail))
    return shown


def outcome_of(call: Any) -> str:
    """`ok`, the error's code, or `streaming` for a stream that has not come to its end."""
    if call.error is not None:
        code: str = call.error.code
        return code
    stages = call.stages
    under_way = len(call.stamps) == len(stages) and stages[-1].kind == "stream"
    return "streaming" if under_way else "ok"


def quantile(ordered: list[float], share: float) -> float | None:
    """The value below which this share of an ordered list lies; None of an empty one."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else None
