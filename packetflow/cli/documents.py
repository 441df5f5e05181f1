"""The documents that `--json` prints, as published shapes (`--json-schema`): fields are only added.

What a node's `system.*` capability answers is that capability's shape, and stands in `packetflow.node.system.shapes`.
"""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from packetflow.node.system.shapes import ChainLink, ModuleRow, Status


class ErrorBody(TypedDict):
    """code: for programs. exit: the process's exit code. next: what helps."""

    code: str
    message: str
    exit: int
    details: NotRequired[dict[str, Any]]
    retry_after: NotRequired[float]
    trace: NotRequired[str]
    next: NotRequired[list[str]]


class Failed(TypedDict):
    """What every command prints instead of its document when it fails."""

    error: ErrorBody


class StreamEnd(TypedDict):
    """The end of a stream. items: that were printed. complete: whether there are no more. duration: seconds on the node."""

    items: int
    complete: bool
    trace: NotRequired[str]
    duration: NotRequired[float]


class StreamLine(TypedDict):
    """A line of `stream`: an item, or, last of all, the end."""

    item: NotRequired[Any]
    end: NotRequired[StreamEnd]


class Version(TypedDict):
    """`version`."""

    version: str
    python: str
    platform: str


class Completion(TypedDict):
    """`completion`. install: where the script belongs."""

    shell: str
    script: str
    install: str


class Help(TypedDict):
    """`help`: text of a command, or why and what helps of a code."""

    topic: str
    text: NotRequired[str]
    why: NotRequired[str]
    helps: NotRequired[str]
    codes: NotRequired[list[str]]
    exit: NotRequired[int]


class Simulated(TypedDict):
    """`simulate`. outcomes: one for each program and seed. failed: the seeds that failed, by program."""

    file: str
    seed: int
    runs: int
    turns: int
    seconds: float
    failed: dict[str, list[int]]
    outcomes: list[dict[str, Any]]


class Init(TypedDict):
    """`init`: the files written, relative to the folder."""

    folder: str
    files: list[str]
    dry_run: bool


class Check(TypedDict):
    """One check of `doctor`."""

    name: str
    severity: Literal["ok", "note", "error"]
    what: str
    next: str


class Doctor(TypedDict):
    """`doctor`."""

    healthy: bool
    errors: int
    checks: list[Check]


class Call(TypedDict):
    """`call`. duration: seconds in the node. Of a batch: result lines, then `{"summary": {...}}`."""

    value: Any
    trace: str
    duration: float | None


class BatchLine(TypedDict):
    """A result of a batch. outcome: `ok`, an error's code, `malformed` or `unknown`."""

    line: int
    outcome: str
    value: NotRequired[Any]
    error: NotRequired[dict[str, Any]]
    trace: NotRequired[str]
    duration: NotRequired[float | None]


class Latency(TypedDict):
    """Seconds from here to the node and back."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None


class Summary(TypedDict):
    """A batch's figures. open: lines sent whose outcome was not seen. resume: the command that goes on."""

    capability: str
    node: str
    lines: int
    failed: int
    skipped: int
    retries: int
    outcomes: dict[str, int]
    latency: Latency
    rate: float
    wall: float
    open: int
    interrupted: bool
    output: str | None
    resume: str | None
    error: NotRequired[ErrorBody]


class BatchEnd(TypedDict):
    """The last document of a batch under --json."""

    summary: Summary


class Stop(TypedDict):
    """`stop`. took: seconds until the process was gone."""

    stopped: bool
    node: str | None
    pid: int | None
    took: NotRequired[float]
    draining: NotRequired[bool]
    dry_run: NotRequired[bool]
    in_flight: NotRequired[int]


class Start(Status):
    """`start`, when the node is ready. ready_in: seconds. log: of a node in the background."""

    ready_in: float
    log: NotRequired[str]


class ModuleChanged(TypedDict):
    """`module enable`, `disable`, `reload`, `restart`."""

    module: ModuleRow
    chain: list[ChainLink]
    changed: bool
    dry_run: bool


class Chain(TypedDict):
    """`chain show`: the modules in order, of one capability those that may see it."""

    modules: list[ModuleRow]


class AuditVerified(TypedDict):
    """`audit verify`. broken: the first record that does not hold, None if all do. head: where the chain ends, `number:hash`.
    open: intents without an outcome, their traces. torn: bytes of a record at the end that is being written, or was at a crash.
    notes: what can't be known, and what else is worth saying.
    """

    intact: bool
    folder: str
    records: int
    broken: str | None
    head: str
    open: list[str]
    torn: int
    notes: list[str]


class ConfigFault(TypedDict):
    """A fault and its place."""

    severity: str
    message: str
    file: str
    line: NotRequired[int]
    column: NotRequired[int]
    end: NotRequired[int]
    key: NotRequired[str]
    given: NotRequired[str]
    expected: NotRequired[str]
    nearest: NotRequired[str]
    next: NotRequired[str]


class ConfigChecked(TypedDict):
    """`config check`."""

    valid: bool
    file: str | None
    faults: list[ConfigFault]


class ConfigShown(TypedDict):
    """`config show`: nested values, and by dotted key where each comes from."""

    file: str | None
    values: dict[str, Any]
    origins: dict[str, str]


ConfigSchema = TypedDict(
    "ConfigSchema",
    {
        "$schema": str,
        "$defs": NotRequired[dict[str, Any]],
        "title": str,
        "description": NotRequired[str],
        "type": str,
        "properties": dict[str, Any],
        "required": NotRequired[list[str]],
        "additionalProperties": NotRequired[bool],
    },
)
ConfigSchema.__doc__ = "`config schema`: JSON Schema itself."


class RunError(TypedDict):
    """Why a run could not be changed."""

    code: str
    message: str


class RunOutcome(TypedDict):
    """What became of one run that was to be changed. state: what it was then; null where nobody looked."""

    id: str
    outcome: str
    state: str | None
    error: RunError | None


class RunOutcomes(TypedDict):
    """`flow cancel`, `resume`, `retry`, `fork`."""

    runs: list[RunOutcome]
