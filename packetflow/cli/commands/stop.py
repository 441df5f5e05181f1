"""`packetflow stop`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import click

from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import Span, leaf
from packetflow.cli.link import Link
from packetflow.cli.screen.units import seconds

SLACK = 15.0  # seconds that a node may need beyond its drain: children stop, the store is flushed
LOOK_AGAIN = 0.05


@leaf(
    "stop",
    document="packetflow.cli.documents:Stop",
    examples=["stop --yes", "stop --drain 10 --yes"],
    changes=("dry_run", "yes", "no_wait"),
)
@click.option(
    "--drain",
    type=Span(),
    metavar="SECONDS",
    help="How long requests under way may take [the node's setting].",
)
@click.option("--now", is_flag=True, help="End at once; requests under way are cancelled.")
def stop(run: Invocation, drain: float | None, now: bool) -> None:
    """Ends a node: no new requests, those under way finish, then it goes. Returns when it is gone."""
    if now and drain is not None:
        raise usage("--now and --drain exclude each other")
    with run.link() as link:
        status = link.ask("system.status")
        who = {"node": status.get("node"), "pid": status.get("pid")}
        if run.dry_run:
            # The question itself is under way too.
            under_way = max(0, int(link.ask("system.stats")["in_flight"]) - 1)
            document = {"stopped": False, "dry_run": True, **who, "in_flight": under_way}
            text = f"would stop: node {who['node']}, pid {who['pid']}, {under_way} requests under way"
            run.answer(document, lambda out: out.line(text))
            return
        run.confirm(f"stop node {who['node']} (pid {who['pid']})?")
        link.ask("system.stop", {"drain": drain, "now": now})
        if run.no_wait:
            run.answer(
                {"stopped": False, "draining": True, **who},
                lambda out: out.line(f"draining: node {who['node']}"),
            )
            return
        took = wait_until_gone(run, link, status, 0.0 if now else drain)
    document = {"stopped": True, **who, "took": round(took, 3)}
    run.answer(document, lambda out: out.line(f"stopped: node {who['node']}, after {seconds(took)}"))


def wait_until_gone(run: Invocation, link: Link, status: Mapping[str, Any], drain: float | None) -> float:
    """Waits until the node's process and its socket are gone; answers the seconds it took. Failure (timeout) if not."""
    import gevent

    from packetflow.otp.clock import Clock

    clock = Clock()
    begun = clock.monotonic()
    patience = run.timeout if run.timeout is not None else (30.0 if drain is None else drain) + SLACK
    while not gone(link, status):
        if clock.monotonic() - begun > patience:
            raise Failure(
                "timeout",
                f"node {status.get('node')} still runs after {seconds(patience)}",
                next=["packetflow health", "packetflow stop --now --yes"],
                details={"pid": status.get("pid")},
            )
        gevent.sleep(LOOK_AGAIN)
    return clock.monotonic() - begun


def gone(link: Link, status: Mapping[str, Any]) -> bool:
    """Whether nothing of the node is left: its process here, or whoever answers at its address elsewhere."""
    folder = link.place.data_folder
    if folder is not None:
        return not alive(int(status.get("pid") or 0))
    from packetflow.client import Client

    # Over tcp the process can't be looked at: gone is what no longer takes a connection.
    with Client(link.place.url) as client:
        reply = client.request("system.health", {}, timeout=1.0)
    return reply.error is not None and reply.error.code == "unavailable"


def alive(pid: int) -> bool:
    """Whether a process of this machine lives."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not zombie(pid)


def zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice (Linux says; elsewhere no)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return False
