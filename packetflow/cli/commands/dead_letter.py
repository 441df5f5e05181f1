"""`packetflow dead-letter`: what failed for good, and doing it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from packetflow.cli.commands.status import utc_now
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, plain, show_pairs, show_parts, show_table
from packetflow.cli.screen.units import ago


@leaf(
    "list",
    document="packetflow.node.system.shapes:DeadLetters",
    examples=["dead-letter list", "dead-letter list --kind event --json"],
)
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--kind", help="Only these: request, event, ...")
@click.option("--what", help="Only of this capability or topic.")
def list_(run: Invocation, limit: int, kind: str | None, what: str | None) -> None:
    """What failed for good, the newest first."""
    document = run.ask("system.dead_letter.list", {"limit": limit, "kind": kind, "what": what})
    now = utc_now()
    layout = [
        Column("ID", "id", lambda id: str(id)[:8]),
        Column("KIND", "kind", drop=2),
        Column("WHAT", "what", shrink=True),
        Column("SINCE", "created", lambda text: ago(text, now), drop=1),
        Column("CODE", "code", style=lambda _: ("red",)),
        Column("REASON", "reason", shrink=True),
    ]
    run.answer(document, lambda out: show_table(out, layout, document["dead_letters"]))
    if document["dead_letters"]:
        run.next("packetflow dead-letter show ID", "packetflow dead-letter replay ID")
    else:
        run.say("nothing has failed for good")


@leaf(
    "show",
    document="packetflow.node.system.shapes:DeadLetterDetail",
    examples=["dead-letter show 4f2a9c1e", "dead-letter show 4f2a9c1e --json"],
)
@click.argument("id")
def show(run: Invocation, id: str) -> None:
    """One dead letter in full: what it holds, and why it failed.

    ID is its id or its first letters (4 or more).
    """
    document = run.ask("system.dead_letter.show", {"id": id})
    now = utc_now()
    run.answer(document, lambda out: show_letter(out, document["dead_letter"], now))


def show_letter(out: Painter, letter: Mapping[str, Any], now: datetime) -> None:
    """A letter for people."""
    show_parts(
        out, [(str(letter["id"])[:8], ("bold",)), (str(letter["what"]), ()), (str(letter["kind"]), ())]
    )
    replays = f"{letter['replays']}, the last: {letter['last_replay']}" if letter["replays"] else "none"
    show_pairs(
        out,
        [
            ("failed", f"{letter['code']}: {letter['reason']}"),
            ("since", f"{letter['created']}, {ago(letter['created'], now)}"),
            ("for", " of ".join(part for part in (letter["principal"], letter["tenant"]) if part) or "-"),
            ("origin", plain(letter["origin"] or None)),
            ("replays", replays),
            ("details", plain(letter.get("details") or None)),
            ("body", plain(letter.get("body"))),
        ],
    )


@leaf(
    "replay",
    document="packetflow.node.system.shapes:DeadLetterDone",
    examples=["dead-letter replay 4f2a9c1e", "dead-letter replay 4f2a9c1e --json"],
)
@click.argument("id")
def replay(run: Invocation, id: str) -> None:
    """Does again what failed; if it works, the letter is gone, else it stays.

    A request is made with the rights that it had, under the rules of now.
    """
    _done(run, run.ask("system.dead_letter.replay", {"id": id}))


@leaf(
    "remove",
    document="packetflow.node.system.shapes:DeadLetterDone",
    examples=["dead-letter remove 4f2a9c1e --yes", "dead-letter remove 4f2a9c1e --yes --json"],
    changes=("yes",),
)
@click.argument("id")
def remove(run: Invocation, id: str) -> None:
    """Forgets a dead letter: what it holds is lost."""
    with run.link() as link:
        letter = link.ask("system.dead_letter.show", {"id": id})["dead_letter"]
        run.confirm(f"remove the dead letter {letter['id'][:8]} ({letter['what']})?")
        done = link.ask("system.dead_letter.remove", {"id": letter["id"]})
    _done(run, done)


def _done(run: Invocation, document: Mapping[str, Any]) -> None:
    letter = document["letter"]
    run.answer(document, lambda out: out.line(f"{document['done']}: {letter['id'][:8]}, {letter['what']}"))
