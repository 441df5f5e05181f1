"""`packetflow stream`: the items of a streaming capability, as they come."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import Any

import click

from packetflow.cli.commands.call import add_nearest_fields, contract_of, read_payload, read_stdin, show_way
from packetflow.cli.exits import Exit
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.link import Link
from packetflow.cli.screen.painter import clean
from packetflow.cli.screen.progress_line import ProgressLine
from packetflow.cli.typed import fields_of


@leaf(
    "stream",
    document="packetflow.cli.documents:StreamLine",
    examples=["stream ticket.export status=open", "stream ticket.export --max 10 --json"],
)
@click.argument("id")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "source", metavar="FILE", help="The payload as a JSON object; - is stdin.")
@click.option("--max", "most", type=click.IntRange(1), metavar="N", help="End after so many items.")
def stream(run: Invocation, id: str, fields: Sequence[str], source: str | None, most: int | None) -> int:
    """Prints the items of a streaming capability as they come, a JSON line each.

    Fields are written as for call. What is no stream is one of one item. --timeout bounds the wait for each item; without
    it, as long as the node allows. Ctrl-C ends it, and so does a closed pipe: the node stops making items.

    With --json a line is {"item": ...}, and the last one {"end": {...}} or {"error": {...}}.
    """
    payload = read_payload(source) if source is not None else {}
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with run.link() as link:
            contract = contract_of(link, id) if fields else None
            schema = contract.get("requires") if contract is not None else None
            payload.update(fields_of(fields, schema, read_stdin))
            read(run, link, id, payload, schema, most)
    except KeyboardInterrupt:  # how an endless one is ended: nothing to say
        return Exit.INTERRUPTED
    return Exit.DONE


def read(
    run: Invocation, link: Link, id: str, payload: dict[str, Any], schema: Any, most: int | None
) -> None:
    """Writes the items, and how it ended. Raises Failure if that was an error."""
    from packetflow.wire.errors import RequestError

    line = ProgressLine(run.err)
    listens = run.err.terminal and not (run.json or run.quiet)
    items = link.client.stream(id, payload, timeout=run.timeout, progress=line.show if listens else None)
    with items:
        try:
            for item in items:
                line.hide()
                write_item(run, item)
                if items.at_hand == 0:
                    run.out.flush()
                if items.count == most:
                    break
        except RequestError as error:
            failure = link.failure(error, id, items.trace_id)
            add_nearest_fields(failure, schema)
            raise failure from error
        finally:
            line.hide()
            run.out.flush()
    if run.json:
        end: dict[str, Any] = {"items": items.count, "complete": items.complete}
        if items.trace_id:
            end |= {"trace": items.trace_id, "duration": items.execution_time}
        run.out.stream.write(json.dumps({"end": end}) + "\n")
        run.out.flush()
    show_way(run, link, items.trace_id)


def write_item(run: Invocation, item: Any) -> None:
    """One item: a JSON line; a text alone is shown as it is on a terminal."""
    if run.json:
        run.out.stream.write(json.dumps({"item": item}, ensure_ascii=False, default=str) + "\n")
    elif run.out.terminal:
        run.out.line(
            clean(item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str))
        )
    else:
        run.out.stream.write(json.dumps(item, ensure_ascii=False, default=str) + "\n")
