"""What is stored of runs: plain values, the same for every database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from packetflow.storage.outbox import Event as Outgoing

# What a run can be. The last three are its end.
RUNNING = "running"  # under way, or about to be: picked up at the node's start
WAITING = "waiting"  # for an event, a time or a decision
FORBIDDEN = "forbidden"  # a step is not allowed any more; resumed by who has the right
STRANDED = "stranded"  # what it needs has changed so that it can't go on; resumed with a version
COMPLETED = "completed"
FAILED = "failed"
CANCELLED = "cancelled"
ENDED = (COMPLETED, FAILED, CANCELLED)
STATES = (RUNNING, WAITING, FORBIDDEN, STRANDED, *ENDED)

FORMAT = 1  # of what is written of a run; a node does not go on with runs of a later one
KINDS = ("done", "failed", "fold", "undo", "wait", "since", "won")  # of entries that this node can read

# What a question can become; all but the first are its end.
OPEN = "open"
APPROVED, REJECTED, MODIFIED, ESCALATED = "approved", "rejected", "modified", "escalated"
EXPIRED, WITHDRAWN = "expired", "withdrawn"  # nobody decided in time; the run needs no answer any more


class Entry(NamedTuple):
    """What one place came to.

    kind: `done` (body: its value), `failed` (the error), `fold` (value and names, for all that was below), `undo` (the error for
    which it goes back, and what is to be undone), `wait` (what came), `since` (when it began). seconds: how long it took.
    """

    place: str
    kind: str
    label: str
    capability: str
    body: Any
    at: float
    seconds: float = 0.0


class Put(NamedTuple):
    """Store an entry. body: its JSON."""

    place: str
    kind: str
    label: str
    capability: str
    body: bytes
    at: float
    seconds: float


class Drop(NamedTuple):
    """Forget the entries below a place (its iteration or attempt, if that is in it), and whatever waits there."""

    place: str


class Forget(NamedTuple):
    """Forget the entry of a place, and whatever waits right there."""

    place: str


class Wait(NamedTuple):
    """Wait at a place: until `due` (seconds since the epoch), for an event, for a decision.

    kind: `time`, `event`, `approval`. Several at one place wait for the first of them. match: a CEL text over `event` and
    the names in `scope` (JSON).
    """

    place: str
    kind: str
    label: str
    since: float
    due: float | None = None
    event: str = ""
    match: str | None = None
    scope: bytes = b""


class Question(NamedTuple):
    """An approval that is asked for at a place. who: principals and roles."""

    id: str
    place: str
    label: str
    who: tuple[str, ...]
    subject: str
    opened: float
    deadline: float | None
    on_timeout: str


class Publish(NamedTuple):
    """Put these into the outbox: they are published if and only if what is stored with them is."""

    events: tuple[Outgoing, ...]


Change = Put | Drop | Forget | Wait | Question | Publish


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run that begins. times: seconds since the epoch.

    plan: digest of the plan; rights: capability patterns of who began it; expires: when `run_ttl` ends it; key: what
    makes a second beginning the same run. contracts: JSON, what each step's capability was when the run began. origin: of what
    run it was forked.
    """

    id: str
    composition: str
    version: str
    plan: str
    principal: str
    tenant: str
    rights: tuple[str, ...]
    payload: bytes
    started: float
    expires: float | None = None
    key: str | None = None
    contracts: bytes = b"{}"
    origin: str = ""


@dataclass(frozen=True, slots=True)
class RunRow:
    """A run as it is stored. number: its place in the store, in the order of the beginnings. result, error: JSON.

    attempts: how often it was taken up. retries: of steps. note: what was remarked on the way, for people. generation: how often
    it was begun again after it had been undone. origin: the run that it was forked from. format: of what is stored of it.
    """

    number: int
    id: str
    composition: str
    version: str
    plan: str
    state: str
    principal: str
    tenant: str
    rights: tuple[str, ...]
    payload: bytes
    started: float
    updated: float
    ended: float | None
    expires: float | None
    result: bytes | None
    error: bytes | None
    key: str | None
    contracts: bytes
    steps: int
    retries: int
    attempts: int
    note: str
    generation: int = 0
    origin: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class WaitRow:
    """What a run waits for at a place. due: seconds since the epoch."""

    run: int
    place: str
    kind: str
    label: str
    since: float
    due: float | None
    event: str
    match: str | None
    scope: bytes


@dataclass(frozen=True, slots=True)
class Approval:
    """A question and what became of it."""

    id: str
    run: int
    run_id: str
    composition: str
    place: str
    label: str
    who: tuple[str, ...]
    subject: str
    opened: float
    deadline: float | None
    on_timeout: str
    state: str
    decided_by: str
    decided_at: float | None
    comment: str
    values: bytes


class Loaded(NamedTuple):
    """A run with all that a resume needs."""

    row: RunRow
    entries: list[Entry]
    waits: list[str]


class Again(NamedTuple):
    """How a run that has ended, or is stuck, goes on. before: states that it may be in. changes: what is forgotten of it.

    plan, body, version, contracts: another plan to go on with. generation: whether its steps get new keys. expires: its
    new end.
    """

    before: tuple[str, ...]
    changes: tuple[Change, ...]
    plan: str
    body: bytes
    version: str
    contracts: bytes
    generation: bool
    expires: float | None
    note: str


class Due(NamedTuple):
    """A wait whose time has come."""

    run: int
    place: str
    kind: str


class Settled(NamedTuple):
    """What became of a run when something it waited for came. state: what it is now; entry: what is written at the place."""

    run: int
    state: str
    entry: Entry


class Event(NamedTuple):
    """An event that was sent to one run. payload: JSON."""

    id: str
    name: str
    payload: bytes
    at: float


class Where(NamedTuple):
    """A filter in SQL, and its values."""

    sql: str
    values: tuple[Any, ...]


class RunFilter(NamedTuple):
    """Which runs to list. None: any. before: only runs with a lower number, to page on. where: over COLUMNS (reading.py);
    now: of its ages, seconds since the epoch."""

    state: str | None = None
    composition: str | None = None
    principal: str | None = None
    before: int | None = None
    limit: int = 50
    where: Where | None = None
    now: float = 0.0
