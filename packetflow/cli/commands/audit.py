"""`packetflow audit list` and `verify`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from packetflow.cli.commands.status import utc_now
from packetflow.cli.commands.trace import outcome_style, outcome_text
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure, usage
from packetflow.cli.finding import find_node, project_data_folder, shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.moments import begin_of
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, show_pairs, show_table, show_wrapped
from packetflow.cli.screen.units import ago, count, number


@leaf(
    "list",
    document="packetflow.node.system.shapes:AuditList",
    examples=["audit list --since 1h", "audit list --capability 'module.*' --json"],
)
@click.option("--since", metavar="WHEN", help="A time (RFC 3339), or how long ago: 30m, 1h, 7d.")
@click.option("--principal", metavar="PATTERN", help="Who did it.")
@click.option("--capability", metavar="PATTERN", help="What was done: an id, or a pattern.")
@click.option("--outcome", metavar="WORD", help="ok, or an error's code.")
@click.option("--trace", metavar="ID", help="Of one request, by the first letters of its trace.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many.")
def list_(run: Invocation, since: str | None, limit: int, **selected: str | None) -> None:
    """Audit records, the newest first: who did what, when, with what outcome.

    Fields that are secret show as ***. Payloads, and what else a record holds, are in --json.
    """
    now = utc_now()
    asked: dict[str, Any] = {key: value for key, value in selected.items() if value is not None}
    if since is not None:
        asked["since"] = begin_of(since, now, "--since")
    document = run.ask("system.audit", {**asked, "limit": limit})
    run.answer(document, lambda out: show_records(out, document["records"], now))
    if not document["records"]:
        run.say("no audit record" + (" fits" if asked else " has been written yet"))


def show_records(out: Painter, records: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Audit records as a table."""
    layout = [
        Column("N", "n", right=True),
        Column("WHEN", "time", lambda text: ago(text, now)),
        Column("WHO", "principal", shrink=True),
        Column("WHAT", "capability", shrink=True),
        Column("EVENT", "event", drop=2),
        Column("OUTCOME", "outcome", outcome_text, style=outcome_style),
        Column("BY", "by", drop=1, shrink=True),
        Column("VIA", "door", drop=3),
        Column("TRACE", "trace", lambda id: str(id or "-")[:8], drop=4),
    ]
    rows = [{**record, "by": record.get("rule") or record.get("module") or ""} for record in records]
    show_table(out, layout, rows)


@leaf(
    "verify",
    document="packetflow.cli.documents:AuditVerified",
    examples=["audit verify", "audit verify --folder run --json"],
)
@click.option(
    "--folder", type=click.Path(path_type=Path), metavar="DIR", help="This data folder [the project's]."
)
@click.option(
    "--head", metavar="HEAD", help="A head that the log or the anchor holds: it must be in the chain."
)
def verify(run: Invocation, folder: Path | None, head: str | None) -> int:
    """Whether any audit record was changed, removed or put in since it was written.

    Needs no node. Exit 6 if the chain is broken, with the first record that does not hold.

    Whoever can write the files and read the node's key can write a chain anew: only a head that was kept elsewhere
    (--head, from the node's log or audit.anchor) shows that.
    """
    from packetflow.storage import audit_chain, node_key

    data_folder = folder_of(run, folder)
    wanted = None
    if head is not None:
        try:
            wanted = audit_chain.parse_head(head)
        except ValueError as error:
            raise usage(f"--head {error}") from None
    records = data_folder / audit_chain.FOLDER
    try:
        key = node_key.read_key(data_folder)
        found = audit_chain.verify(records, head=wanted, key=key)
    except (OSError, ValueError) as error:
        raise Failure(
            "unavailable", f"the audit records can't be read: {error}", next=["packetflow doctor"]
        ) from error
    notes = list(found.notes)
    if wanted is None and not found.broken:
        notes.append("without --head this can't show whether the whole chain was written anew")
    document = {
        "intact": not found.broken,
        "folder": shown(records),
        "records": found.records,
        "broken": found.broken or None,
        "head": f"{found.last}:{found.hash}",
        "open": sorted(found.open, key=found.open.__getitem__),
        "torn": found.torn,
        "notes": notes,
    }
    run.answer(document, lambda out: show_verdict(out, document))
    return Exit.BAD_NEWS if found.broken else Exit.DONE


def folder_of(run: Invocation, folder: Path | None) -> Path:
    """The data folder that is meant. Raises Failure for one that is not here."""
    if folder is not None:
        if not folder.is_dir():
            raise Failure("not_found", f"no such folder: {folder}", next=["packetflow audit verify"])
        return folder
    if run.node is None and not os.environ.get("PACKETFLOW_NODE"):
        return project_data_folder(os.environ, Path.cwd())[0]
    place = find_node(run.node, os.environ, Path.cwd())
    if place.data_folder is None:
        raise usage("audit records are verified where their files are: name the data folder by --folder")
    return place.data_folder


def show_verdict(out: Painter, document: Mapping[str, Any]) -> None:
    """A verdict for people."""
    if document["broken"]:
        out.line(out.paint("BROKEN", "red", "bold"))
        show_wrapped(out, str(document["broken"]), 2)
    else:
        out.line(
            f"{out.paint('intact', 'green')}: {count(document['records'], 'record')} in {document['folder']}"
        )
    pairs = [("head", str(document["head"]))]
    if document["broken"]:
        pairs.insert(0, ("read", f"{number(document['records'])} records before it"))
    if document["open"]:
        shown_traces = ", ".join(trace[:8] for trace in document["open"][:10])
        pairs.append(("open", f"{count(len(document['open']), 'intent')} without an outcome: {shown_traces}"))
    if document["torn"]:
        pairs.append(("torn", f"{document['torn']} bytes at the end, of a record that was being written"))
    show_pairs(out, pairs)
    for note in document["notes"]:
        show_wrapped(out, f"note: {note}", 2)
