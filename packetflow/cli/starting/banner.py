"""What a start shows when the node is ready."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.cli.commands.status import config_text, facts
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import show_pairs, show_parts
from packetflow.cli.screen.units import seconds


def show_banner(
    err: Painter, status: Mapping[str, Any], ready_in: float, example: str, background: bool = False
) -> None:
    """The node's doors, access, chain, what it serves, where its data lies; then what to try."""
    head = [
        f"packetflow {status.get('version', '?')}",
        f"node {status.get('node', '?')}",
        f"pid {status.get('pid', '?')}",
        config_text(status),
    ]
    show_parts(err, [(part, ("bold",)) for part in head], gap=3)
    show_pairs(err, [pair for pair in facts(status) if pair[0] != "config"])
    ready = f"ready in {ready_in:.2f} s" if ready_in < 10 else f"ready in {seconds(ready_in)}"
    end = "packetflow stop ends it" if background else "Ctrl-C drains, twice stops"
    show_parts(err, [(ready, ("green",)), (f"try: {example}" if example else "", ()), (end, ("dim",))], gap=4)
    err.flush()
