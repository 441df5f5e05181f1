"""What a configuration holds: the typed, immutable `NodeConfig` and its parts. Where it comes from is in sources.py.

Every field says what it means; docs/configuration.md and `packetflow config schema` are made from this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    Strict,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

from packetflow.node.config.contradictions import contradictions
from packetflow.node.config.effect_sections import AuditSection, ChannelEntry, EffectEntry
from packetflow.node.config.fields import (
    KIB,
    MIB,
    Count,
    Duration,
    Expect,
    File,
    Files,
    Name,
    Port,
    Section,
    Size,
    Switch,
    Table,
    Wait,
    Word,
    Words,
    listed,
)


def _unlimited(value: object) -> object:
    return 0 if value == "unlimited" else value


def _included(value: object) -> object:
    return value["files"] if isinstance(value, Mapping) and set(value) == {"files"} else value


def _matched(value: object) -> object:
    return {"capabilities": value} if isinstance(value, list | tuple) else value


class NodeSection(Section):
    """The node itself."""

    name: Name = Field(
        default="node", description="The node's name, as `packetflow status` and traces show it."
    )
    data_folder: File = Field(
        default=Path("run"),
        description="Where the node keeps its lock, admin socket, overlay and stores; relative to the project folder. "
        "Belongs to one node at a time.",
    )
    watch: Switch = Field(
        default=False,
        description="Whether modules and capability files are loaded again when they change (polled each second).",
    )
    workers: Annotated[int, Strict(), Field(ge=1, le=256), Expect("an integer from 1 to 256", "4")] = Field(
        default=1,
        description="How many processes serve the tcp and http doors when `packetflow start` runs the node. More than one: "
        "beside the one that the operator talks to.",
    )


class TcpSection(Section):
    """The door for msgpack frames."""

    enabled: Switch = Field(default=True, description="Whether the door is there.")
    host: Annotated[Word, Expect("a host name or address", '"127.0.0.1"')] = Field(
        default="127.0.0.1",
        description="Address to listen on. Elsewhere than loopback needs `access.insecure = true`.",
    )
    port: Port = Field(default=7420, description="Port to listen on; 0 takes any free one.")


class HttpSection(Section):
    """The door for HTTP/1.1."""

    enabled: Switch = Field(default=True, description="Whether the door is there.")
    host: Annotated[Word, Expect("a host name or address", '"127.0.0.1"')] = Field(
        default="127.0.0.1",
        description="Address to listen on. Elsewhere than loopback needs `access.insecure = true`.",
    )
    port: Port = Field(default=7421, description="Port to listen on; 0 takes any free one.")
    allowed_hosts: Annotated[Words, Expect("a list of host names", '["desk.example.org"]')] = Field(
        default=(), description="Host headers accepted besides loopback's; others get 421."
    )
    allowed_origins: Annotated[Words, Expect("a list of origins", '["https://desk.example.org"]')] = Field(
        default=(), description="Browser origins accepted; a request with any other Origin gets 403."
    )


class AccessSection(Section):
    """Who may call what, until there is authentication."""

    insecure: Switch = Field(
        default=False,
        description="Allows doors elsewhere than on loopback although callers are not authenticated: whoever reaches "
        "the port may call what `local` allows.",
    )
    local: Annotated[Words, Expect("a list of capability patterns", '["ticket.*"]')] = Field(
        default=("*",),
        description="Capability patterns for callers in process and by tcp and http. `*` does not cover `system.*`.",
    )
    operator: Annotated[Words, Expect("a list of capability patterns", '["*", "system.*"]')] = Field(
        default=("*", "system.*"),
        description="Capability patterns for callers by the admin socket (the command line).",
    )
    local_roles: Annotated[Words, Expect("a list of roles", '["agent"]')] = Field(
        default=(),
        description="Roles of callers in process and by tcp and http, for capabilities with `authorize=roles(...)`.",
    )
    operator_roles: Annotated[Words, Expect("a list of roles", '["admin"]')] = Field(
        default=("admin", "operator"), description="Roles of callers by the admin socket."
    )


class LimitsSection(Section):
    """How much of anything."""

    frame: Size = Field(default=MIB, description="Largest frame or HTTP body.")
    payload: Size = Field(default=MIB, description="Largest payload of a request, decoded.")
    depth: Annotated[int, Strict(), Field(ge=1, le=256), Expect("an integer from 1 to 256", "32")] = Field(
        default=32, description="Deepest nesting of a payload."
    )
    string: Size = Field(default=256 * KIB, description="Longest string in a payload.")
    collection: Count = Field(default=10_000, description="Most items in one list or table of a payload.")
    in_flight_session: Count = Field(
        default=64, description="Most requests under way for one session; more are `overloaded`."
    )
    in_flight_node: Count = Field(
        default=1024, description="Most requests under way on the node; more are queued."
    )
    queue: Count = Field(default=256, description="Most requests that wait; more are `overloaded`.")
    cache: Count = Field(
        default=1000, description="Most answers that a cached capability keeps, if it does not say itself."
    )
    connections: Count = Field(
        default=1000, description="Most connections at each door; more are closed at once."
    )


class TimeoutsSection(Section):
    """How long anything may take."""

    request: Duration = Field(default=30.0, description="A request that names no timeout of its own.")
    reader: Duration = Field(
        default=300.0, description="An open stream whose reader asks for nothing more; then it is ended."
    )
    hook: Duration = Field(
        default=1.0, description="A module's hook, where the module's entry names no `timeout`."
    )
    hub: Wait = Field(
        default=1.0,
        description="A request, hook or actor that computes or waits without giving way, so that nobody else goes on; then it "
        "is ended (docs/hub-discipline.md). 0: nobody looks. A node in a program of your own looks only with "
        "`Node(watchdog=True)`, or if this is set.",
    )
    start: Duration = Field(default=30.0, description="The start of a module or resource.")
    shutdown: Duration = Field(
        default=5.0, description="The end of a module or other child, before it is killed."
    )
    drain: Wait = Field(
        default=30.0, description="Requests under way when the node stops; 0 cancels them at once."
    )


class LogSection(Section):
    """The log, on standard error."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Expect("debug, info, warning or error")
    ] = Field(default="info", description="The least severity that is written.")
    format: Annotated[Literal["auto", "console", "json"], Expect("auto, console or json")] = Field(
        default="auto",
        description="`console` for people, `json` one object a line, `auto`: console on a terminal.",
    )


def _trace_rule(text: str) -> str:
    from packetflow.node.trace_search import TraceSearch
    from packetflow.wire.errors import ValidationFailed

    try:
        TraceSearch({"where": text})
    except ValidationFailed as error:
        raise ValueError(str(error)) from None
    return text


Rule = Annotated[str, AfterValidator(_trace_rule)]


class TracesSection(Section):
    """Traces, in memory and in the database."""

    keep: Count = Field(default=1000, description="How many finished requests are kept.")
    memory: Size = Field(default=64 * MIB, description="How much memory they may take; the oldest go first.")
    store: Annotated[Literal["none", "failed", "all"], Expect("none, failed or all")] = Field(
        default="failed", description="Which are also stored in the database, so that they outlive the node."
    )
    rule: Annotated[
        Rule | None, Expect("a condition over a trace, as `trace list --where` takes", "'duration > 0.1'")
    ] = Field(
        default=None,
        description='Of those, only the ones for which this condition in CEL holds; `id.endsWith("0")` is one of sixteen.',
    )
    expire: Duration = Field(default=7 * 86_400.0, description="How long one is stored.")
    stored: Count = Field(default=100_000, description="How many are stored at most; the oldest go first.")


class JobsSection(Section):
    """Background calls, kept in memory."""

    running: Count = Field(default=1000, description="Most jobs at once; more are `overloaded`.")
    keep: Count = Field(default=1000, description="How many ended jobs are kept; the oldest go first.")
    expire: Duration = Field(default=3600.0, description="How long an ended job is kept.")


class StorageSection(Section):
    """What the node keeps in its database (`node.db` in the data folder), and for how long."""

    idempotency_keys: Duration = Field(
        default=24 * 3600.0, description="How long the answer to a request with an idempotency key is kept."
    )
    dead_letters: Duration = Field(
        default=30 * 86_400.0, description="How long what failed for good is kept."
    )
    runs: Duration = Field(default=30 * 86_400.0, description="How long a durable run is kept after its end.")
    queue: Count = Field(default=10_000, description="Writes that wait for the disk; more are `overloaded`.")


class CapabilityEntry(Section):
    """One source of capabilities: a file or folder by `path`, or an importable package by `module`."""

    path: File | None = Field(
        default=None, description="A Python file, or a folder of them; relative to the project folder."
    )
    module: (
        Annotated[str, Field(min_length=1, max_length=255), Expect("a module's dotted name", '"shop.orders"')]
        | None
    ) = Field(default=None, description="An importable module's dotted name, instead of `path`.")
    config: Table = Field(
        default_factory=dict,
        description="What its resources get as `settings.config`. Secrets by reference only.",
    )


class CatalogueSection(Section):
    """Capabilities beside those of `[[capabilities]]`."""

    files: Files = Field(
        default=(),
        description="Further capability files; `packetflow capability add` keeps what it added here, in the overlay.",
    )
    folders: Files = Field(
        default=(),
        description="Folders of capability files that are watched (polled each second): a new or changed file is loaded, a "
        "faulty one leaves what it gave before, and health says so. Files that begin with `_` are for the others to share.",
    )
    without: Annotated[Words, Expect("a list of capability ids", '["ticket.close", "user.find@1.0.0"]')] = (
        Field(
            default=(),
            description="Capabilities that are not served though a file has them; `packetflow capability remove` adds to it.",
        )
    )


class Excluded(Section):
    """What a module leaves alone."""

    capabilities: Words = Field(default=(), description="Capability patterns that are left out.")
    tags: Words = Field(default=(), description="Tags that are left out.")
    principals: Words = Field(default=(), description="Callers that are left out.")
    tenants: Words = Field(default=(), description="Tenants that are left out.")


class Match(Section):
    """Which requests a module sees: those that fit every list here (a list is met by any of its items)."""

    capabilities: Words = Field(default=("*",), description="Capability patterns.")
    tags: Words = Field(default=(), description="Tags, of which the capability has one; empty: any.")
    principals: Words = Field(default=(), description="Patterns of callers; empty: any.")
    tenants: Words = Field(default=(), description="Patterns of tenants; empty: any.")
    not_: Annotated[Excluded, Expect("a table", '{ tags = ["internal"] }')] = Field(
        default=Excluded(), alias="not", description="What is left out although it fits."
    )


class ModuleEntry(Section):
    """One module in the chain."""

    name: Name = Field(description="The instance's name, unique on the node.")
    module: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_.-]{0,127}(:[A-Za-z_]\w{0,127})?$"),
        Expect("the name of a folder on module_path", '"rate_limit"'),
    ] = Field(
        default="",
        description="The module it runs: a folder on `module_path`. Default: `name`.",
        validate_default=False,
    )
    priority: Annotated[
        int, Strict(), Field(ge=0, le=1_000_000), Expect("an integer from 0 to 1000000", "150")
    ] = Field(default=500, description="Place in the chain: lower sees requests earlier and responses later.")
    match: Annotated[
        Match,
        BeforeValidator(_matched, json_schema_input_type=tuple[str, ...] | Match),
        Expect("a list of capability patterns, or a table", '["ticket.*"]'),
    ] = Field(
        default=Match(),
        description="Which requests it sees: a list of capability patterns, or a table of capabilities, tags, "
        "principals, tenants and not.",
    )
    scope: Annotated[Literal["all", "edge"], Expect("all or edge")] = Field(
        default="all", description="`edge`: only requests from outside, not those that capabilities make."
    )
    on_error: Annotated[Literal["fail", "skip", "reject"], Expect("fail, skip or reject")] | None = Field(
        default=None,
        description="What becomes of a request when the module fails. Default: `fail`, and `skip` for modules that only "
        "watch responses.",
    )
    timeout: Duration = Field(default=1.0, description="Longest run of one hook. Default: `timeouts.hook`.")
    max_concurrency: Annotated[
        int,
        Strict(),
        BeforeValidator(_unlimited),
        Field(ge=0, le=10**9),
        WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 0}, {"const": "unlimited"}]}),
        Expect('an integer of at least 1, or "unlimited" (0)', "1"),
    ] = Field(
        default=1, description='Hooks at the same time; more wait in order. "unlimited" (or 0): no bound.'
    )
    enabled: Switch = Field(default=True, description="Whether it is in the chain from the start.")
    config: Table = Field(
        default_factory=dict, description="The module's own configuration, checked by its `Config` class."
    )

    @model_validator(mode="before")
    @classmethod
    def _run_its_name(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "module" not in data and isinstance(data.get("name"), str):
            return {**data, "module": data["name"]}
        return data


class NodeConfig(Section):
    """The configuration of a node. `NodeConfig()` is a node that serves its own capabilities only."""

    include: Annotated[
        Files, BeforeValidator(_included, json_schema_input_type=tuple[str, ...] | dict[str, list[str]])
    ] = Field(
        default=(),
        description="Further files, relative to this one. This file's values win; `[[modules]]` and "
        "`[[capabilities]]` of both count.",
    )
    module_path: Files = Field(
        default=(Path("modules"),),
        description="Folders that hold modules, searched in order; relative to the project folder.",
    )
    node: NodeSection = Field(default=NodeSection(), description="The node itself.")
    tcp: TcpSection = Field(default=TcpSection(), description="The door for msgpack frames.")
    http: HttpSection = Field(default=HttpSection(), description="The door for HTTP.")
    access: AccessSection = Field(default=AccessSection(), description="Who may call what.")
    limits: LimitsSection = Field(default=LimitsSection(), description="How much of anything.")
    timeouts: TimeoutsSection = Field(default=TimeoutsSection(), description="How long anything may take.")
    log: LogSection = Field(default=LogSection(), description="The log.")
    traces: TracesSection = Field(
        default=TracesSection(), description="Traces, in memory and in the database."
    )
    storage: StorageSection = Field(default=StorageSection(), description="What is kept in the database.")
    audit: AuditSection = Field(default=AuditSection(), description="Audit records.")
    channels: Annotated[
        tuple[ChannelEntry, ...],
        BeforeValidator(listed),
        Expect("tables under [[channels]]", '[[channels]] name = "ops"'),
    ] = Field(default=(), description="Where notices go, one table each.")
    effects: Annotated[
        tuple[EffectEntry, ...],
        BeforeValidator(listed),
        Expect("tables under [[effects]]", '[[effects]] kind = "sms"'),
    ] = Field(default=(), description="Backends for effects of kinds of your own, one table each.")
    jobs: JobsSection = Field(default=JobsSection(), description="Background calls.")
    catalogue: CatalogueSection = Field(
        default=CatalogueSection(), description="Capabilities beside those of `[[capabilities]]`."
    )
    capabilities: Annotated[
        tuple[CapabilityEntry, ...],
        BeforeValidator(listed),
        Expect("tables under [[capabilities]]", '[[capabilities]] path = "capabilities.py"'),
    ] = Field(default=(), description="Where capabilities come from, one table each.")
    modules: Annotated[
        tuple[ModuleEntry, ...],
        BeforeValidator(listed),
        Expect("tables under [[modules]]", '[[modules]] name = "rate_limit"'),
    ] = Field(default=(), description="The modules of the chain, one table each.")

    @model_validator(mode="before")
    @classmethod
    def _hand_down_the_hook_timeout(cls, data: Any) -> Any:
        """A module's entry without a timeout has `timeouts.hook`."""
        if not isinstance(data, Mapping):
            return data
        timeouts, modules = data.get("timeouts"), data.get("modules")
        hook = timeouts.get("hook") if isinstance(timeouts, Mapping) else getattr(timeouts, "hook", None)
        if hook is None or not isinstance(modules, list | tuple):
            return data
        try:
            TimeoutsSection(hook=hook)
        except ValueError:
            return data  # its own fault is told at its own place
        filled = [
            {**entry, "timeout": hook} if isinstance(entry, Mapping) and "timeout" not in entry else entry
            for entry in modules
        ]
        return {**data, "modules": filled}

    @model_validator(mode="after")
    def _agree(self) -> NodeConfig:
        for found in contradictions(self.model_dump(by_alias=True)):
            raise ValueError(f"{found.message}; expected {found.expected}")
        return self

    def resolved(self, folder: Path) -> NodeConfig:
        """The same with relative paths made absolute: they are relative to the project folder. `~` is the user's home."""

        def absolute(path: Path) -> Path:
            text = str(path)
            return (path.expanduser() if text == "~" or text.startswith("~/") else folder / path).absolute()

        return self.model_copy(
            update={
                "module_path": tuple(absolute(path) for path in self.module_path),
                "node": self.node.model_copy(update={"data_folder": absolute(self.node.data_folder)}),
                "audit": self.audit.model_copy(
                    update={"anchor": absolute(self.audit.anchor) if self.audit.anchor else None}
                ),
                "catalogue": self.catalogue.model_copy(
                    update={
                        "files": tuple(absolute(path) for path in self.catalogue.files),
                        "folders": tuple(absolute(path) for path in self.catalogue.folders),
                    }
                ),
                "capabilities": tuple(
                    entry.model_copy(update={"path": absolute(entry.path)})
                    if entry.path is not None
                    else entry
                    for entry in self.capabilities
                ),
            }
        )


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that an annotation names, directly or as items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = model_in(argument)
        if found is not None:
            return found
    return None
