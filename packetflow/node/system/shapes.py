"""What the `system.*` capabilities answer: published shapes, to which fields are only added. Durations are seconds."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from packetflow.node.system.job_shapes import JobCounts


class Finding(TypedDict):
    """Something that is not as it should be. next: what to do."""

    severity: Literal["warning", "error"]
    what: str
    next: str


class WorkerRow(TypedDict):
    """A worker process. status: starting, running, blocked (its hub has had no turn for `stalled` seconds), silent (no sign of
    life for as long), draining, or down (it is being started again). age: seconds since its start.
    """

    worker: str
    pid: int | None
    status: str
    stalled: float
    age: float


class Health(TypedDict):
    """live: the process answers. ready: it takes requests. workers: of a node that has some."""

    status: Literal["ok", "ill", "draining"]
    live: bool
    ready: bool
    node: str
    pid: int
    version: str
    uptime: float
    findings: list[Finding]
    workers: NotRequired[list[WorkerRow]]


class DoorAddress(TypedDict):
    """A door and where it listens."""

    door: str
    address: str


class Access(TypedDict):
    """Who is let in."""

    mode: str
    note: str


class ChainLink(TypedDict):
    """A module's place in the chain."""

    name: str
    priority: int


class Held(TypedDict):
    """One time that somebody held the hub for too long. who: a request and its module, an actor, or a greenlet. at: when it was
    noticed. seconds: how long it took in all, or had when it was noticed if it isn't `over`. line: where it was then. broken: how
    often it was broken off.
    """

    who: str
    at: str
    seconds: float
    line: str
    stack: list[str]
    over: bool
    broken: int


class Hub(TypedDict):
    """Whether everybody gets their turn. limit: seconds; None if nobody looks. blocked: how often somebody held the hub longer.
    broken: how often that was broken off. last: the last of them, the oldest first.
    """

    limit: float | None
    blocked: int
    broken: int
    last: NotRequired[list[Held]]


class Status(TypedDict):
    """A node at a glance. environment: how many settings come from environment variables. workers: of a node that has some."""

    node: str
    version: str
    pid: int
    config_file: str | None
    environment: int
    data_folder: str
    doors: list[DoorAddress]
    access: Access
    chain: list[ChainLink]
    capabilities: int
    started: str
    uptime: float
    hub: Hub
    workers: NotRequired[list[WorkerRow]]


class CatalogueRow(TypedDict):
    """A capability in one line. conditional: whether the caller may call it depends on the payload too."""

    id: str
    version: str
    intent: str
    tags: list[str]
    deprecated: str | None
    conditional: NotRequired[bool]


class Catalogue(TypedDict):
    """What the caller may call."""

    capabilities: list[CatalogueRow]


class CacheFigures(TypedDict):
    """The answers that a cached capability keeps. joined: requests that waited for an equal one under way. skipped: those with
    a value of which nobody can say whether two are equal.
    """

    entries: int
    max_entries: int
    hits: int
    misses: int
    joined: int
    skipped: int


class PoolFigures(TypedDict):
    """A pool. kind: greenlets, threads or processes. lingering: work in a thread that nobody waits for any more."""

    kind: str
    size: int
    queue: int
    running: int
    waiting: int
    lingering: int
    done: int
    refused: int


class Load(TypedDict):
    """How one version of a capability is used. rate: requests a second over the last minute; error_rate: the share of them
    that failed by the node's or the capability's own fault. p50, p95 and p99 are over the requests whose traces are kept; None if
    there are none.
    """

    in_flight: int
    calls: int
    errors: int
    rate: float
    error_rate: float
    p50: float | None
    p95: float | None
    p99: float | None
    last_error: str | None
    cache: NotRequired[CacheFigures]
    pool: NotRequired[PoolFigures]


class CapabilityDetail(TypedDict):
    """A capability in full. owner: who answers for it. health: ok, failing (most requests of the last minute failed by its own
    fault) or full (its pool refuses more). streams: it answers a stream; `provides` is each item's schema, and timeout an item's.
    timeout: None where a job may take as long as it takes. runs: greenlet, asyncio, threads or processes. result: of a background
    capability, what its job comes to. authorize: what its rule asks for, beside the right.
    """

    id: str
    version: str
    versions: list[str]
    intent: str
    description: str
    tags: list[str]
    deprecated: str | None
    owner: str | None
    health: str
    streams: bool
    conditional: NotRequired[bool]
    authorize: NotRequired[str | None]
    timeout: float | None
    runs: str
    cached: bool
    background: bool
    source: str
    requires: dict[str, Any]
    provides: dict[str, Any]
    result: NotRequired[dict[str, Any]]
    examples: list[dict[str, Any]]
    effects: list[str]
    load: Load


class CatalogueChanged(TypedDict):
    """What a change of the catalogue came to, in words; dry_run: what it would."""

    changed: list[str]
    dry_run: bool


class ModuleRow(TypedDict):
    """A module of the chain. handled, changed, rejected, errors count requests since it was registered; p50 and p99 are its own
    time in the requests whose traces are kept.
    """

    name: str
    module: str
    version: str
    priority: int
    status: str
    match: Any
    scope: str
    on_error: str
    timeout: float
    max_concurrency: int
    enabled: bool
    handled: int
    changed: int
    rejected: int
    errors: int
    restarts: int
    p50: float | None
    p99: float | None
    last_error: str | None
    source: str
    hooks: NotRequired[list[str]]
    config: NotRequired[dict[str, Any]]
    description: NotRequired[str]


class Modules(TypedDict):
    """All modules, in the chain's order."""

    modules: list[ModuleRow]


class ModuleDetail(TypedDict):
    """One module in full."""

    module: ModuleRow


class ModuleChange(TypedDict):
    """What a change of a module came to, as it is now seen."""

    module: ModuleRow
    chain: list[ChainLink]
    changed: bool


class Tree(TypedDict):
    """The supervision tree from its root."""

    tree: dict[str, Any]


class Trace(TypedDict):
    """One request's way."""

    trace: dict[str, Any]


class TraceList(TypedDict):
    """The last requests, the newest first."""

    traces: list[dict[str, Any]]


class CapabilityCount(TypedDict):
    """Requests of one capability."""

    calls: int
    errors: int


class Circuit(TypedDict):
    """A circuit breaker. state: closed, open or half_open. failures: in a row. opened: how often it opened."""

    key: str
    state: str
    failures: int
    opened: int


class MetricRow(TypedDict):
    """A metric. series: of each set of labels its value, or count, sum and buckets ([bound, how many are not above it]).
    dropped: label sets that came beyond the bound; they count under `other`.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    series: list[dict[str, Any]]
    dropped: NotRequired[int]


class EffectFigures(TypedDict):
    """What effects did outside of requests: audit records written and lost, notices by channel."""

    audit: dict[str, Any]
    channels: list[dict[str, Any]]


class TraceFigures(TypedDict):
    """Traces that were stored, and those that could not be kept up with or written."""

    stored: int
    lost: int


class AuditRecord(TypedDict):
    """One audit record. event: request, intent, outcome, refused, recovered. n: its number; hash: of it and all before."""

    n: int
    time: str
    event: str
    hash: str
    prev: str
    principal: NotRequired[str]
    tenant: NotRequired[str]
    capability: NotRequired[str]
    trace: NotRequired[str]
    outcome: NotRequired[str]
    answered: NotRequired[str]
    rule: NotRequired[str]
    module: NotRequired[str]
    reason: NotRequired[str]
    door: NotRequired[str]
    peer: NotRequired[str]
    parent: NotRequired[str]
    duration: NotRequired[float]
    payload: NotRequired[Any]
    value: NotRequired[Any]
    bytes: NotRequired[int]


class AuditList(TypedDict):
    """Audit records, the newest first."""

    records: list[AuditRecord]


class Stats(TypedDict):
    """Counts since the node's start. refused: requests that found no capability, or no room.

    Of a node with workers: the sums of all its processes, each since its own start. missing: workers that did not answer.
    """

    requests: int
    errors: int
    refused: int
    in_flight: int
    by_capability: dict[str, CapabilityCount]
    counters: dict[str, int]
    pools: dict[str, PoolFigures]
    jobs: NotRequired[JobCounts]
    circuits: NotRequired[list[Circuit]]
    metrics: NotRequired[list[MetricRow]]
    effects: NotRequired[EffectFigures]
    traces: NotRequired[TraceFigures]
    hub: NotRequired[Hub]
    missing: NotRequired[list[str]]


class FlowRow(TypedDict):
    """A composition. nodes: how many it has. faults: why it can't be run on this node; none if it can."""

    id: str
    version: str
    intent: str
    nodes: int
    faults: list[str]


class Flows(TypedDict):
    """`system.flows`."""

    flows: list[FlowRow]


class Flow(TypedDict):
    """`system.flow`. plan: as data, null where it holds Python functions. text, mermaid: pictures of it; svg: if asked for."""

    id: str
    version: str
    intent: str
    requires: dict[str, Any]
    provides: dict[str, Any]
    plan: dict[str, Any] | None
    text: str
    mermaid: str
    svg: NotRequired[str]
    faults: list[str]


class PlanFault(TypedDict):
    """What is wrong with a node. place: of the node in its plan. file, line, column: where it was written, if in a file."""

    place: str
    message: str
    file: NotRequired[str]
    line: NotRequired[int]
    column: NotRequired[int]


class FlowFaults(TypedDict):
    """`system.flow.check`. id: of the composition that was checked."""

    id: str
    nodes: int
    faults: list[PlanFault]


class Configuration(TypedDict):
    """The live configuration and where each value comes from; secrets hidden."""

    values: dict[str, Any]
    origins: dict[str, str]
    file: str | None


class Reload(TypedDict):
    """What a reload changed, in words; what it could not change while running; and the faults that kept all as it was."""

    changed: list[str]
    kept: list[str]
    faults: list[dict[str, Any]]


class Stopping(TypedDict):
    """The node has begun to stop."""

    draining: bool


class DeadLetterRow(TypedDict):
    """Something that failed for good. kind: `request`, `event`, or a word of what put it away. what: the capability or topic.

    code, reason: of the error. principal, tenant: on whose behalf. origin: where it comes from. replays: how often that was
    tried, and last_replay what came of it. body, details: in full only.
    """

    id: str
    kind: str
    what: str
    code: str
    reason: str
    principal: str
    tenant: str
    origin: str
    created: str
    replays: int
    last_replay: str
    body: NotRequired[Any]
    details: NotRequired[dict[str, Any]]


class DeadLetters(TypedDict):
    """What failed for good, the newest first."""

    dead_letters: list[DeadLetterRow]


class DeadLetterDetail(TypedDict):
    """One of them in full."""

    dead_letter: DeadLetterRow


class DeadLetterDone(TypedDict):
    """What was done with a letter, which is gone now: replayed or removed."""

    letter: DeadLetterRow
    done: Literal["replayed", "removed"]
