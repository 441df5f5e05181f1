"""`packetflow call`: one request from the command line, or one for each line of a file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.link import Link
from packetflow.cli.nearest import nearest
from packetflow.cli.screen.progress_line import ProgressLine
from packetflow.cli.screen.value import show_value
from packetflow.cli.typed import fields_of, strict_json


@leaf(
    "call",
    document="packetflow.cli.documents:Call",
    examples=[
        "call ticket.open customer_id=C-1001 text='my card is lost'",
        "call report.write pages:=300 --detach",
        "call ticket.open --from queries.jsonl --concurrency 32 --output results.jsonl",
    ],
)
@click.argument("id")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "source", metavar="FILE", help="The payload as a JSON object; - is stdin.")
@click.option(
    "--key", default="", metavar="WORD", help="Idempotency key; in a batch mixed into each line's key."
)
@click.option("--detach", is_flag=True, help="Do not wait: print the id of a job that does it.")
@click.option(
    "--from", "batch", metavar="FILE", help="Batch: a request for each line of .jsonl or .csv; - is stdin."
)
@click.option(
    "--format", type=click.Choice(["jsonl", "csv"]), help="Batch: of FILE, if its name does not say."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1024),
    default=32,
    show_default=True,
    metavar="N",
    help="Batch: requests under way at once.",
)
@click.option("--output", metavar="FILE", help="Batch: results go there, and the batch can be resumed.")
@click.option("--resume", is_flag=True, help="Batch: go on with --output, no line twice.")
@click.option("--resend-unknown", is_flag=True, help="Batch: send again what a restarted node may have done.")
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="Batch: how often a line that the node puts off is sent again.",
)
def call(
    run: Invocation, id: str, fields: Sequence[str], source: str | None, batch: str | None, **options: Any
) -> int:
    """Calls a capability; the fields are typed by its contract.

    FIELD=VALUE is text where the contract wants text, else null, true, 12, [1, 2], {"a": 1} as JSON writes them.
    FIELD:=JSON is JSON always, FIELD=@FILE a file's text, FIELD=- stdin's. A list's field may be given several times.

    --detach starts it as a job and prints the job's id; `packetflow job show ID --wait` has the value.

    A batch (--from) writes a JSON line for each line: line, outcome, value or error, trace, duration. Exit 1 if any
    failed. Ctrl-C ends it in order; with --output and --resume it goes on.
    """
    if batch is None:
        return call_once(run, id, fields, source, options)
    if options.pop("detach"):
        raise usage("--from and --detach exclude each other: a batch is watched by the one who runs it")
    if fields or source:
        raise usage("--from takes payloads from its file: fields and --input do not go with it")
    from packetflow.cli.batch.command import BatchOptions, run_batch

    return run_batch(run, id, BatchOptions(source=batch, **options))


def call_once(
    run: Invocation, id: str, fields: Sequence[str], source: str | None, options: Mapping[str, Any]
) -> int:
    """One request: its value on stdout, its error as the command's."""
    if options["output"] or options["resume"] or options["resend_unknown"] or options["format"]:
        raise usage("--output, --resume, --resend-unknown and --format belong to a batch: give --from FILE")
    payload = read_payload(source) if source is not None else {}
    with run.link() as link:
        contract = contract_of(link, id) if fields else None
        schema = contract.get("requires") if contract is not None else None
        payload.update(fields_of(fields, schema, read_stdin))
        asked, sent = (
            ("job.start", {"capability": id, "payload": payload}) if options.get("detach") else (id, payload)
        )
        line = ProgressLine(run.err)
        listens = run.err.terminal and not (run.json or run.quiet)
        reply = link.request(asked, sent, key=options["key"] or None, progress=line.show if listens else None)
        line.hide()
        if reply.error is not None:
            failure = link.failure(reply.error, id, reply.trace_id)
            add_nearest_fields(failure, schema)
            show_way(run, link, reply.trace_id)
            raise failure
        document = {"value": reply.value, "trace": reply.trace_id, "duration": reply.execution_time}
        job = job_in(reply.value, contract, bool(options.get("detach")))
        run.answer(document, lambda out: out.line(job) if job else show_value(out, reply.value))
        show_way(run, link, reply.trace_id)
    if job:
        run.next(f"packetflow job show {job[:8]} --wait")
    deprecated = reply.deprecated or (contract or {}).get("deprecated")
    if deprecated:
        run.say(f"note: {id} is deprecated: {deprecated}")
    return 0


def job_in(value: Any, contract: Mapping[str, Any] | None, detached: bool) -> str:
    """The id of the job that an answer names, empty if it names none."""
    if detached or (contract is not None and contract.get("background")):
        return str(value["job"])
    return ""


def contract_of(link: Link, id: str) -> Mapping[str, Any] | None:
    """The capability's contract; None where this caller may not read it, and words are typed by their looks."""
    try:
        contract: Mapping[str, Any] = link.ask("system.capability", {"id": id})
    except Failure as failure:
        if failure.code != "forbidden":
            failure.next = ["packetflow capability list"]
            raise
        return None
    return contract


def read_stdin() -> str:
    """All of stdin."""
    return "" if sys.stdin is None else sys.stdin.read()


def read_payload(source: str) -> dict[str, Any]:
    """The payload of --input. Raises Failure (usage) if it is no JSON object."""
    try:
        text = read_stdin() if source == "-" else Path(source).read_text(encoding="utf-8")
        value = strict_json(text)
    except OSError as error:
        raise usage(f"{source}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise usage(f"{source}: not UTF-8 at byte {error.start + 1}") from error
    except ValueError as error:
        raise usage(f"{'stdin' if source == '-' else source}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise usage(f"{source}: expected a JSON object, the payload")
    return value


def add_nearest_fields(failure: Failure, schema: Mapping[str, Any] | None) -> None:
    """For a field that the contract does not know: the nearest that it does."""
    properties = (schema or {}).get("properties")
    if failure.code != "validation_failed" or not isinstance(properties, Mapping):
        return
    for place, (path, text) in enumerate(failure.rows):
        if path and "." not in path and path not in properties and "nearest" not in text:
            near = nearest(path, properties)
            if near:
                failure.rows[place] = (path, f"{text}; nearest {', '.join(near)}")


def show_way(run: Invocation, link: Link, trace: str) -> None:
    """With -v: the request's trace, on stderr because it is talk beside the value."""
    if not run.verbose or run.json or not trace:
        return
    from packetflow.cli.commands.status import utc_now
    from packetflow.cli.commands.trace import show_trace

    run.out.flush()
    show_trace(run.err, link.ask("system.trace", {"id": trace})["trace"], utc_now())
    run.err.flush()
