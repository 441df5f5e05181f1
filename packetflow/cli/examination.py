"""The checks of `packetflow doctor`: each looks at one thing and answers what it saw, and what helps if it is bad."""

from __future__ import annotations

import errno
import fcntl
import importlib
import importlib.metadata
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packetflow.cli.failures import Failure
from packetflow.cli.finding import chosen_config, of_data_folder, project_data_folder, shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.screen.units import seconds, size

PYTHON = ((3, 11), (3, 14))  # from, and below
LIBRARIES = {
    "gevent": "gevent",
    "msgpack": "msgpack",
    "structlog": "structlog",
    "click": "click",
    "pydantic": "pydantic",
    "httptools": "httptools",
    "spanned-toml": "spanned_toml",
}
LEAST_DISK = 100_000_000  # bytes
LEAST_FILES = 1024
DOORS = {"tcp": 7420, "http": 7421}
Check = dict[str, Any]


def examine(run: Invocation) -> list[Check]:
    """Every check, in the order in which a start would need them."""
    here = Path.cwd()
    checks = [python(), *libraries(), clock()]
    try:
        config = chosen_config(os.environ, here)
        folder, why = project_data_folder(os.environ, here)
    except Failure as failure:
        return [*checks, error("config", failure.message, "; ".join(failure.next))]
    checks.append(configuration(config))
    node = running(run, folder, why)
    return [*checks, *data_folder(folder), lock(folder, node), *ports(config, node), open_files()]


def ok(name: str, what: str) -> Check:
    """All is well."""
    return {"name": name, "severity": "ok", "what": what, "next": ""}


def note(name: str, what: str, next: str = "") -> Check:
    """Worth knowing; a node runs all the same."""
    return {"name": name, "severity": "note", "what": what, "next": next}


def error(name: str, what: str, next: str) -> Check:
    """A node would not run, or not well."""
    return {"name": name, "severity": "error", "what": what, "next": next}


def python() -> Check:
    """The interpreter's version."""
    version = platform.python_version()
    low, below = PYTHON
    if low <= sys.version_info[:2] < below:
        return ok("python", f"{version} at {sys.executable}")
    wanted = f"{low[0]}.{low[1]} to {below[0]}.{below[1] - 1}"
    return error("python", f"{version} at {sys.executable}, expected {wanted}", f"install Python {wanted}")


def libraries() -> Iterator[Check]:
    """What PacketFlow is built on: there, and loadable (a build for another Python is not)."""
    for name, module in LIBRARIES.items():
        try:
            version = importlib.metadata.version(name)
            importlib.import_module(module)
        except importlib.metadata.PackageNotFoundError:
            yield error("library", f"{name} is not installed", f"pip install {name}")
        except ImportError as problem:
            yield error(
                "library", f"{name} does not load: {problem}", f"pip install --force-reinstall {name}"
            )
        else:
            yield ok("library", f"{name} {version}")


def clock() -> Check:
    """The time of day is not before the day this program was installed."""
    from packetflow.otp.clock import Clock

    now = Clock().utc()
    installed = datetime.fromtimestamp(Path(__file__).stat().st_mtime, UTC)
    text = now.isoformat(timespec="seconds").replace("+00:00", "Z")
    if now < installed:
        behind = seconds((installed - now).total_seconds())
        return error(
            "clock", f"{text}, {behind} before this program's own files", "set the clock (timedatectl)"
        )
    return ok("clock", text)


def configuration(config: Path | None) -> Check:
    """The config file has no faults."""
    if config is None:
        return note(
            "config",
            "no config/node.toml here or above: a node would start on defaults",
            "packetflow init DIR",
        )
    from packetflow.cli.starting.settings import faults_of

    faults = [fault for fault in faults_of(config) if fault.severity == "error"]
    if faults:
        first = str(faults[0]).splitlines()[0]
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        return error("config", f"{first}{more}", f"packetflow config check {shown(config)}")
    return ok("config", shown(config))


def running(run: Invocation, folder: Path, why: str) -> Mapping[str, Any] | None:
    """The status of the node that holds the data folder, if one answers."""
    from packetflow.cli.link import Link

    try:
        with Link(of_data_folder(folder, why), min(run.patience, 5.0)) as link:
            status: Mapping[str, Any] = link.ask("system.status")
    except Failure:
        return None
    return status


def data_folder(folder: Path) -> Iterator[Check]:
    """The data folder can be written, and its disk has room."""
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        yield error(
            "data", f"{shown(there)} can't be written: {problem.strerror}", "choose another node.data_folder"
        )
        return
    made = "" if folder.exists() else ", will be made by the first start"
    yield ok("data", f"{shown(folder)}{made}")
    free = shutil.disk_usage(there).free
    if free < LEAST_DISK:
        yield error(
            "disk", f"{size(free)} left at {shown(there)}", f"make room: less than {size(LEAST_DISK)}"
        )
    else:
        yield ok("disk", f"{size(free)} free")


def lock(folder: Path, node: Mapping[str, Any] | None) -> Check:
    """Who holds the data folder: nobody, a node that answers, one that does not, or what is left of a dead one."""
    from packetflow.storage.data_folder import LOCK, find_admin_socket, holder

    if node is not None:
        return ok("node", f"{node.get('node')} runs here, pid {node.get('pid')}")
    told = holder(folder)
    try:
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return ok("node", "none runs on this data folder")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        who = f"node {told['node']}, pid {told['pid']}," if told else "a process"
        return error(
            "node", f"{who} holds {shown(folder)} and does not answer", "look at its log; end that process"
        )
    finally:
        os.close(descriptor)
    if find_admin_socket(folder) is not None:
        who = f"node {told['node']}, pid {told['pid']}," if told else "a node"
        return note("node", f"{who} ended without tidying up; the next start takes over")
    return ok("node", "none runs on this data folder")


def ports(config: Path | None, node: Mapping[str, Any] | None) -> Iterator[Check]:
    """The ports of the config are free, or held by the node that is meant to hold them."""
    ours = {str(door.get("address")) for door in (node or {}).get("doors") or ()}
    document: Mapping[str, Any] = {}
    if config is not None:
        try:
            document = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return  # told by the check of the config
    for door, usual in DOORS.items():
        table = document.get(door)
        table = table if isinstance(table, Mapping) else {}
        host, port = str(table.get("host", "127.0.0.1")), table.get("port", usual)
        if table.get("enabled") is False or not isinstance(port, int) or port == 0:
            continue
        name = f"{host}:{port}"
        if any(name in address for address in ours):
            yield ok("port", f"{door} {name}, held by this node")
            continue
        problem = bind_problem(host, port)
        if problem is None:
            yield ok("port", f"{door} {name} is free")
        elif problem.errno == errno.EADDRINUSE:
            yield error(
                "port", f"{door} {name} is taken by another process", f"ss -ltnp, or another [{door}] port"
            )
        else:
            yield error("port", f"{door} {name}: {problem.strerror}", f"another host or port in [{door}]")


def bind_problem(host: str, port: int) -> OSError | None:
    """Why a listener could not be opened there; None if it could."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, proto) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1)
    except OSError as problem:
        return problem
    return None


def open_files() -> Check:
    """How many connections the system lets a node have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    text = "unlimited" if soft == resource.RLIM_INFINITY else f"{soft:,}"
    if soft != resource.RLIM_INFINITY and soft < LEAST_FILES:
        return note(
            "files", f"at most {text} open files: connections beyond that are refused", f"ulimit -n {hard}"
        )
    return ok("files", f"at most {text} open files")
