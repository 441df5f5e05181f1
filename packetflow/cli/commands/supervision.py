"""`packetflow tree`: the supervisors and workers of a node."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, show_table
from packetflow.cli.screen.units import number, seconds


@leaf("tree", document="packetflow.node.system.shapes:Tree", examples=["tree", "tree --json"])
def tree(run: Invocation) -> None:
    """The node's supervisors and workers: state, restarts, mailbox, and what each does now."""
    document = run.ask("system.tree")
    run.answer(document, lambda out: show_tree(out, document["tree"]))


def show_tree(out: Painter, top: Mapping[str, Any]) -> None:
    """The tree, a line each."""
    rows = list(branches(top, "", "", out.unicode and out.terminal))
    layout = [
        Column("NAME", "name", shrink=True),
        Column(
            "STATUS",
            "status",
            style=lambda word: () if word in ("running", "waiting", "idle") else ("yellow",),
        ),
        Column("RESTARTS", "restarts", number, right=True, drop=2),
        Column("MAILBOX", "mailbox", number, right=True, drop=3),
        Column("HANDLED", "handled", number, right=True, drop=4),
        Column("AGE", "age", seconds, right=True, drop=5),
        Column("NOW", "current", shrink=True, drop=6),
    ]
    show_table(out, layout, rows)


def branches(member: Mapping[str, Any], lead: str, below: str, lines: bool) -> Iterator[dict[str, Any]]:
    """Each member with its name moved to its depth; drawn lines only where a person watches."""
    yield {**member, "name": f"{lead}{member.get('name') or member.get('id', '?')}"}
    children = list(member.get("children") or ())
    for place, child in enumerate(children):
        last = place == len(children) - 1
        if lines:
            branch, trunk = ("└─ ", "   ") if last else ("├─ ", "│  ")
        else:
            branch, trunk = "  ", "  "
        yield from branches(child, below + branch, below + trunk, lines)
