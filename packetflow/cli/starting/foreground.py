"""A node in this process: started, shown, and kept until it ends. gevent has patched everything before this is imported."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from packetflow.cli.commands.capability import example_line
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.finding import of_data_folder, shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.link import Link
from packetflow.cli.screen.units import count, seconds
from packetflow.cli.starting.banner import show_banner
from packetflow.cli.starting.settings import config_failure
from packetflow.cli.starting.signals import Signals
from packetflow.cli.starting.trial import try_request, words_of
from packetflow.cli.starting.watch import Watch
from packetflow.node import Node
from packetflow.node.capability_files import look
from packetflow.node.config import ConfigError, LoadedConfig
from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.wire.errors import RequestError

WORKER_PROGRAM = "packetflow.cli.starting.worker:serve"


@dataclass(frozen=True)
class Wishes:
    """What the command line wants of a start beside the configuration.

    request: of --try. without: modules to leave out. watch: reload when a file changes.
    """

    request: str | None = None
    without: Sequence[str] = ()
    watch: bool = False


def run_node(run: Invocation, loaded: LoadedConfig, wishes: Wishes, at_terminal: bool) -> int:
    """Starts the node, shows it, and returns its exit code when it has ended.

    at_terminal: whether a person sat at stdin. Raises Failure if the node does not start.
    """
    if wishes.request is not None:
        words_of(wishes.request)  # its faults are told before anything is started
    clock = Clock()
    begun = clock.monotonic()
    signals = Signals(at_terminal)
    signals.install()
    node, sources = started(loaded, wishes.without)
    ended = gevent.spawn(node.wait)
    ended.link(lambda greenlet: signals.asked.set())
    status = node.status()
    ready_in = clock.monotonic() - begun
    with Link(of_data_folder(Path(status["data_folder"]), "the node just started"), run.patience) as link:
        show_ready(run, link, status, ready_in)
        if wishes.request is not None:
            try_request(run, link, wishes.request)
    if wishes.watch:
        gevent.spawn(Watch(sources.paths, lambda: reload(run, node, sources), sources.seen).run)
    keep(run, node, signals, sources, ended)
    signals.done()
    failure: str | None = getattr(node, "failure", None)
    if failure is not None:
        raise Failure("internal", f"the node stopped: {failure}", next=["packetflow start"])
    return Exit.DONE


def started(loaded: LoadedConfig, without: Sequence[str]) -> tuple[Node, Sources]:
    """The node, started, and its files as they were then. Raises Failure: what kept it from that, and what helps."""
    try:
        node = node_of(loaded, without)
        sources = Sources(node)  # before they are read: what changes from here on is news
        node.start()
    except ConfigError as error:
        raise config_failure(error) from error
    except PacketFlowError as error:
        raise start_failure(error, [module.name for module in loaded.config.modules]) from error
    except OSError as error:
        raise port_failure(error) from error
    return node, sources


def node_of(loaded: LoadedConfig, without: Sequence[str]) -> Node:
    """One process, or a parent with workers, as the configuration says."""
    if loaded.config.node.workers == 1:
        return Node(loaded, without=without, watchdog=True)
    from packetflow.node.parent import ParentNode

    return ParentNode(loaded, without=without, program=WORKER_PROGRAM, watchdog=True)


class Sources:
    """The files that a node is made of, as they were when they were last loaded."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.seen = look(self.paths())

    def paths(self) -> list[Path]:
        """Files and folders: configuration, modules, capabilities."""
        loaded = self.node.blueprint.loaded
        config = self.node.config
        files = list(loaded.files) if loaded is not None else []
        sources = [entry.path for entry in config.capabilities if entry.path is not None]
        return [*files, *config.module_path, *sources]

    def changed(self) -> list[Path]:
        """What has changed since the last look."""
        before, self.seen = self.seen, look(self.paths())
        return [
            Path(path)
            for path in sorted(before.keys() | self.seen.keys())
            if before.get(path) != self.seen.get(path)
        ]


def reload(run: Invocation, node: Node, sources: Sources) -> None:
    """Puts in place what changed: the configuration, capabilities, and the code of modules. Tells it; faults change nothing."""
    paths = sources.changed()
    if paths:
        more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
        run.say(f"changed: {shown(paths[0])}{more}")
    outcome = node.reload()
    faults = list(outcome["faults"])
    changed = list(outcome["changed"])
    for row in node.modules():
        if faults or not any(Path(row["source"]) in (path, *path.parents) for path in paths):
            continue
        if any(f"module {row['name']} " in word for word in changed):
            continue  # its settings changed too, so it was built anew with the code of now
        try:
            if node.change_module("reload", row["name"], "start", False)["changed"]:
                changed.append(f"module {row['name']} has new code")
        except RequestError as error:
            faults.append({"message": str(error)})
    tell_reload(run, {"changed": changed, "kept": outcome["kept"], "faults": faults})


def start_failure(error: PacketFlowError, modules: Sequence[str]) -> Failure:
    """What a part of the node said when it could not start. modules: the names in the configuration."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (
            errno.EADDRINUSE,
            errno.EADDRNOTAVAIL,
            errno.EACCES,
        ):
            return port_failure(cause, str(error))
        cause = cause.__cause__
    details = dict(getattr(error, "details", None) or {})
    rows = [
        (key, str(details[key])) for key in ("module", "capability", "where", "cause") if details.get(key)
    ]
    nexts = [str(details["next"])] if details.get("next") else []
    if error.code == "module":
        nexts += [f"packetflow start --without {name}" for name in modules if name in str(error)][:1]
    return Failure(error.code, str(error), rows=rows, next=nexts or ["packetflow doctor"], details=details)


def port_failure(error: OSError, message: str = "") -> Failure:
    """A door that can't be opened: another process has its port, or the address is not this machine's."""
    what = message or f"a door can't be opened: {error.strerror or error}"
    nexts = ["packetflow doctor", "packetflow start --set tcp.port=0 --set http.port=0 takes any free ports"]
    return Failure("unavailable", what, next=nexts)


def show_ready(run: Invocation, link: Link, status: Mapping[str, Any], ready_in: float) -> None:
    """The banner; under --json the one document, after which stdout belongs to nobody."""
    if run.json:
        run.write_json({**status, "ready_in": round(ready_in, 3)})
        # What capabilities print goes to stderr from here on: stdout held one document, and its reader may be gone.
        os.dup2(2, 1)
    elif not run.quiet:
        show_banner(run.err, status, ready_in, example_of(link))


def example_of(link: Link) -> str:
    """The first example of the first capability that has one, as a command; nothing if there is none."""
    for row in link.ask("system.catalogue")["capabilities"]:
        if not str(row["id"]).startswith(("system.", "job.")):
            examples = link.ask("system.capability", {"id": row["id"]})["examples"]
            if examples:
                return example_line(str(row["id"]), examples[0])
    return ""


def keep(run: Invocation, node: Node, signals: Signals, sources: Sources, ended: gevent.Greenlet) -> None:
    """Returns when the node has ended: by a signal, by `packetflow stop`, or by itself."""
    drain = node.config.timeouts.drain
    while not ended.ready():
        signals.asked.wait()
        match signals.take():
            case "stop":
                run.say(f"draining for at most {seconds(drain)}; once more stops at once")
                node.stop(drain=drain)
                run.say("stopped")
                return
            case "reload":
                reload(run, node, sources)


def tell_reload(run: Invocation, outcome: Mapping[str, Any]) -> None:
    """What a reload did, as talk; with faults everything is as it was."""
    faults = outcome.get("faults") or ()
    for fault in faults:
        place = f"{fault.get('file', '')}:{fault.get('line', '')}: " if fault.get("file") else ""
        run.say(f"{place}{fault.get('message', fault)}")
    if faults:
        run.say(f"not reloaded: {count(len(faults), 'fault')}; the node goes on as it was")
        return
    changed = outcome.get("changed") or ()
    run.say(f"reloaded: {'; '.join(str(word) for word in changed) or 'nothing had changed'}")
    for word in outcome.get("kept") or ():
        run.say(f"  kept until the next start: {word}")
