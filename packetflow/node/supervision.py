"""The supervision tree of a node, and the processes in it by name.

Node                          one_for_one
├─ telemetry                  its loss costs log lines of the runtime, nothing else
├─ storage                    holds the data folder and what is stored in it
├─ publisher                  gives the outbox's events to who subscribed
├─ traces                     stores finished traces
├─ audit                      writes audit records
├─ notices                    one_for_one: a channel each, and the effects that are done after the answer
└─ core                       rest_for_one
   ├─ capabilities            the registry: what is served
   ├─ intelligence            one_for_all
   │  ├─ modules              dynamic: a supervisor of its own for each module
   │  └─ chain                the registry: who stands in the chain
   ├─ files                   looks at the folders of capability files
   ├─ runs                    takes up the durable runs that are unfinished, and wakes those that wait
   ├─ ports, workers          of a node with workers: its processes, each with such a tree of its own
   └─ transports              one_for_one: a listener each; started last, stopped first
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from packetflow.capabilities.registry import CapabilityRegistry
from packetflow.intelligence.loader import shipped
from packetflow.intelligence.registry import ModuleRegistry, Surroundings
from packetflow.node.capability_files import CapabilityFiles
from packetflow.node.channels import channel_processes
from packetflow.node.durable import DurableRuns
from packetflow.node.listeners import listeners
from packetflow.node.parts import Storage, Telemetry
from packetflow.node.publisher import PUBLISHER, Publisher
from packetflow.node.trace_keeping import TraceKeeper
from packetflow.node.view import tree_row
from packetflow.otp import ChildSpec, DynamicSupervisor, Ref, StartFailed, Supervisor
from packetflow.otp import tree as tree_of

if TYPE_CHECKING:
    from packetflow.composition.durable.waking import Waking
    from packetflow.node.node import Node

CAPABILITIES = "capabilities"
MODULES = "chain"
HOSTS = "modules"
FILES = "files"
RUNS = "runs"


def start_tree(node: Node) -> Ref:
    """Start the tree. Raises what the part that did not start raised."""
    timeouts = node.config.timeouts
    name = node.config.node.name
    files = ChildSpec(
        CapabilityFiles,
        lambda: node.config.catalogue.folders,
        node.take_on_files,
        node.log,
        id="files",
        name=FILES,
    )
    own = [files, _runs(node)] if node.holds_folder else []
    core = [_capabilities(node), _intelligence(node), *own, *node.more_children(), _transports(node)]
    storage = ChildSpec(
        Storage,
        node.config.node.data_folder,
        name,
        node.clock,
        node.disk,
        node.pid,
        node.folder_opened,
        node.log,
        id="storage",
    )
    traces = ChildSpec(
        TraceKeeper,
        node.traces,
        node.keep_traces,
        node.prune_traces,
        node.clock,
        node.log,
        node.config.traces.rule,
        node.config.traces.stored,
        id="traces",
        shutdown=timeouts.shutdown,
    )
    publisher = ChildSpec(
        Publisher,
        lambda: node.stores,
        node.events.subscriptions,
        node.log,
        lambda: node.has_started,
        id=PUBLISHER,
        name=PUBLISHER,
    )
    try:
        return Supervisor.start(
            [
                ChildSpec(Telemetry, node.log, id="telemetry"),
                *([storage, publisher] if node.holds_folder else []),
                *([traces] if node.traces.stores else []),
                node.audit_process(),
                channel_processes(
                    [*(node.effects.channels.values() if node.holds_folder else ()), node.effects.deferred],
                    timeouts.shutdown,
                ),
                Supervisor.child(core, id="core", strategy="rest_for_one"),
            ],
            name=name,
            system=node.system,
            strategy="one_for_one",
            timeout=timeouts.start * (3 + node.blueprint.parts),
        )
    except StartFailed as failed:
        cause = root_cause(failed)
    raise cause  # outside of the handler: it is itself what StartFailed has as its cause


def root_cause(failed: BaseException) -> BaseException:
    """What a part that did not start raised itself."""
    while isinstance(failed, StartFailed) and isinstance(failed.reason, BaseException):
        failed = failed.reason
    return failed


def _capabilities(node: Node) -> ChildSpec:
    return ChildSpec(
        CapabilityRegistry,
        node.sources,
        node.config.node.data_folder,
        node.surroundings,
        node.swap_catalogue,
        node.settle_in,
        node.log,
        node.check_catalogue,
        id=CAPABILITIES,
        name=CAPABILITIES,
        start_timeout=node.config.timeouts.start * (1 + node.blueprint.parts),
    )


def _intelligence(node: Node) -> ChildSpec:
    timeouts = node.config.timeouts
    surroundings = Surroundings(
        module_path=[*node.config.module_path, *shipped()],
        supervisor=HOSTS,
        clock=node.clock,
        log=node.log,
        swap=node.swap_chain,
        settle=node.settle,
        totals=node.routes.totals,
        run_async=node.coroutines.run,
        start_timeout=timeouts.start,
        shutdown=timeouts.shutdown,
        configure=lambda placement, cls: node.blueprint.module_config(placement, cls),
    )
    hosts = DynamicSupervisor.child(id=HOSTS, name=HOSTS)
    registry = ChildSpec(
        ModuleRegistry,
        surroundings,
        lambda: node.blueprint.placements(),
        id=MODULES,
        name=MODULES,
        start_timeout=timeouts.start * (1 + len(node.config.modules)),
    )
    return Supervisor.child([hosts, registry], id="intelligence", strategy="one_for_all")


def _runs(node: Node) -> ChildSpec:
    timeout = node.config.timeouts.start
    flows = node.compositions

    def at_start() -> Waking | None:
        flows.kept = node.config.storage.runs
        flows.database = lambda: node.stores.database
        flows.begin_runs = lambda: node.system.call(RUNS, ("begin", flows.waking), timeout=timeout)
        return flows.runs_at_start(node.stores.has_file)

    return ChildSpec(DurableRuns, at_start, id=RUNS, name=RUNS, start_timeout=timeout)


def _transports(node: Node) -> ChildSpec:
    return Supervisor.child(listeners(node), id="transports", strategy="one_for_one")


def process_tree(root: Ref | None) -> dict[str, Any]:
    """The tree as plain data."""
    return tree_row(tree_of(root), _shown) if root is not None else {}


def _shown(message: Any) -> str:
    """A message under way, in a few words: what is in it may be anybody's."""
    word = message[0] if isinstance(message, tuple) and message else message
    return str(word) if isinstance(word, str) else type(message).__name__
