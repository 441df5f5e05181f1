"""`packetflow chain show`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from packetflow.cli.commands.module import match_text, status_style, status_text
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, plain, show_table
from packetflow.cli.screen.units import seconds


@leaf(
    "show", document="packetflow.cli.documents:Chain", examples=["chain show", "chain show --for ticket.open"]
)
@click.option("--for", "id", metavar="ID", help="Only the modules that see a request for this capability.")
def show(run: Invocation, id: str | None) -> None:
    """Who sees a request, in which order; responses pass in the opposite order.

    A module whose match names principals or tenants is shown too, because it depends on who asks.
    """
    with run.link() as link:
        modules = list(link.ask("system.modules")["modules"])
        if id is not None:
            modules = seeing(modules, link.ask("system.capability", {"id": id}))
    document = {"modules": modules}
    run.answer(document, lambda out: show_chain(out, modules))
    if not modules:
        run.say("no module sees it" if id else "the chain is empty")


def seeing(modules: Sequence[Mapping[str, Any]], capability: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The modules whose match takes the capability, by the node's own rule."""
    from packetflow.intelligence.match import Match

    id, tags = str(capability["id"]), list(capability.get("tags") or ())
    return [
        module
        for module in modules
        if module.get("status") != "disabled" and Match.of(module.get("match")).capability(id, tags)
    ]


def show_chain(out: Painter, modules: Sequence[Mapping[str, Any]]) -> None:
    """The chain as a table."""
    layout = [
        Column("PRIO", "priority", right=True),
        Column("MODULE", "name"),
        Column("STATUS", "status", status_text, style=status_style),
        Column("MATCH", "match", match_text, shrink=True),
        Column("HOOKS", "hooks", shrink=True, drop=4),
        Column("SCOPE", "scope", drop=3),
        Column("ON ERROR", "on_error", plain, drop=1),
        Column("TIMEOUT", "timeout", seconds, right=True, drop=2),
    ]
    if not any("hooks" in module for module in modules):
        layout = [column for column in layout if column.key != "hooks"]
    show_table(out, layout, modules)
