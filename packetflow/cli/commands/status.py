"""`packetflow status` and `packetflow health`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from packetflow.cli.exits import Exit
from packetflow.cli.finding import shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import show_pairs, show_parts, show_wrapped
from packetflow.cli.screen.units import ago, count, seconds


@leaf("status", document="packetflow.node.system.shapes:Status", examples=["status", "status --json"])
def status(run: Invocation) -> None:
    """What a node serves, and where: doors, access, the chain in order, its data folder."""
    document = run.ask("system.status")
    now = utc_now()
    run.answer(document, lambda out: show_status(out, document, now))


def utc_now() -> datetime:
    """The time of day, from the one clock."""
    from packetflow.otp.clock import Clock

    return Clock().utc()


def show_status(out: Painter, status: Mapping[str, Any], now: datetime) -> None:
    """A node's status for people."""
    up = f"up {seconds(float(int(status.get('uptime') or 0)))}"
    head = [f"packetflow {status['version']}", f"node {status['node']}", f"pid {status['pid']}", up]
    show_parts(out, [(part, ("bold",)) for part in head], gap=3)
    show_pairs(out, [*facts(status), *hub_text(status), ("started", ago(status.get("started"), now))])


def hub_text(status: Mapping[str, Any]) -> list[tuple[str, str | Sequence[str]]]:
    """Who held the hub for too long, if anybody did: the last times."""
    hub = status.get("hub") or {}
    if not hub.get("blocked"):
        return []
    return [
        (
            "hub",
            [
                f"{count(int(hub['blocked']), 'time', 'times')} held too long, {hub.get('broken', 0)} broken off",
                *(
                    f"{held['who']} for {held['seconds']:.1f} s at {held['line']}"
                    for held in hub.get("last") or ()
                ),
            ],
        )
    ]


def facts(status: Mapping[str, Any]) -> list[tuple[str, str | Sequence[str]]]:
    """What the banner and `status` both say of a node."""
    access = status.get("access") or {}
    mode = str(access.get("mode", "")).upper()
    note = str(access.get("note", ""))
    return [
        ("config", config_text(status)),
        ("doors", [door_text(door) for door in status.get("doors") or ()] or "none"),
        ("access", f"{mode}: {note}" if note else mode),
        ("chain", chain_text(status.get("chain") or ()) or "no modules"),
        *([("workers", workers_text(status["workers"]))] if status.get("workers") else []),
        ("serves", count(int(status.get("capabilities") or 0), "capability", "capabilities")),
        ("data", shown(Path(str(status.get("data_folder", "?"))))),
    ]


def door_text(door: Mapping[str, Any]) -> str:
    """`tcp 127.0.0.1:7420`, `admin run/admin.sock`."""
    name, address = str(door.get("door", "?")), str(door.get("address", "?"))
    scheme, separator, rest = address.partition("://")
    if not separator:
        return f"{name} {address}"
    return f"{name} {shown(Path(rest)) if scheme == 'unix' else rest}"


def workers_text(workers: Sequence[Mapping[str, Any]]) -> list[str]:
    """`2`, then of each its pid, and its state where that is not the ordinary one."""
    shown = []
    for row in workers:
        state = "" if row.get("status") == "running" else f" {row.get('status')}"
        shown.append(f"pid {row['pid']}{state}" if row.get("pid") else f"{row.get('worker')}{state}")
    return [str(len(workers)), *shown]


def config_text(status: Mapping[str, Any]) -> str:
    """`config/node.toml, 2 from the environment`."""
    file = shown(Path(status["config_file"])) if status.get("config_file") else "defaults"
    environment = int(status.get("environment") or 0)
    return f"{file}, {environment} from the environment" if environment else str(file)


def chain_text(chain: Any) -> str:
    """`rate_limit 100 > compliance 150`."""
    return " > ".join(f"{member['name']} {member['priority']}" for member in chain)


@leaf("health", document="packetflow.node.system.shapes:Health", examples=["health", "health --json"])
def health(run: Invocation) -> int:
    """Is it up and ready, or why not. Exit 0 ready, 3 nobody answers, 6 up but ill or draining."""
    document = run.ask("system.health")
    run.answer(document, lambda out: show_health(out, document))
    good = document.get("status") == "ok" and document.get("ready", True)
    return Exit.DONE if good else Exit.BAD_NEWS


def show_health(out: Painter, health: Mapping[str, Any]) -> None:
    """A node's health for people: the verdict, then each finding with what to do."""
    word = str(health.get("status", "?"))
    colour = {"ok": "green", "ill": "red"}.get(word, "yellow")
    ready = "ready" if health.get("ready") else "not ready"
    up = seconds(float(int(health.get("uptime") or 0)))
    who = [f"node {health.get('node', '?')}", f"pid {health.get('pid', '?')}", f"up {up}"]
    show_parts(out, [(word, (colour, "bold")), (ready, ()), *((part, ()) for part in who)], gap=3)
    if health.get("workers"):
        show_parts(out, [(part, ()) for part in ["  workers", *workers_text(health["workers"])]], gap=3)
    for finding in health.get("findings") or ():
        severity = str(finding.get("severity", ""))
        show_wrapped(
            out, f"{severity}: {finding.get('what', '')}" if severity else str(finding.get("what", "")), 2
        )
        if finding.get("next"):
            out.line(out.paint(f"    next: {finding['next']}", "dim"))
