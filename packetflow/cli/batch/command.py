"""What `packetflow call --from` does with its options: opens the files, runs the batch, answers the exit code."""

from __future__ import annotations

import os
import shlex
import stat
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent

from packetflow.cli.batch.journal import Journal
from packetflow.cli.batch.lines import CsvRecords, Input, JsonLines
from packetflow.cli.batch.progress import Progress
from packetflow.cli.batch.results import Results
from packetflow.cli.batch.run import Batch, Plan, Records, check_same_input
from packetflow.cli.batch.tally import show_summary
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.link import Link
from packetflow.cli.screen.painter import is_terminal
from packetflow.cli.typed import Schema
from packetflow.otp.clock import Clock


@dataclass(frozen=True)
class BatchOptions:
    """What the command line says of a batch."""

    source: str
    format: str | None
    concurrency: int
    output: str | None
    resume: bool
    resend_unknown: bool
    retries: int
    key: str


def run_batch(run: Invocation, capability: str, options: BatchOptions) -> int:
    """Sends each line of the input to the capability. Exit 0 all ok, 1 some failed, 3 the node went, 130 interrupted."""
    if options.resume and options.output is None:
        raise usage("--resume goes on with the results of an earlier run: it needs --output")
    if options.resend_unknown and not options.resume:
        raise usage("--resend-unknown belongs to --resume")
    clock = Clock()
    with run.link(greenlets=True) as link:
        status = node_status(link)
        contract = link.ask("system.capability", {"id": capability})
        schema = contract.get("requires")
        key, boot = options.key, str(status.get("started") or "")
        journal = None
        if options.output is not None:
            journal = Journal.open(
                Path(options.output), resume=options.resume, capability=capability, boot=boot, key=key
            )
        try:
            if journal is not None and journal.intents and options.source != "-":
                reader = open_input(options)
                try:
                    check_same_input(records_of(options, schema, reader.read), journal)
                finally:
                    reader.close()
            reader = open_input(options)
            plan = Plan(
                capability=capability,
                concurrency=options.concurrency,
                retries=options.retries,
                timeout=run.patience,
                key=key,
                boot=boot,
                resend_unknown=options.resend_unknown,
            )
            batch = Batch(plan, records_of(options, schema, reader.read), link, journal, clock.monotonic)
            work(run, batch, reader, journal)
        finally:
            if journal is not None:
                journal.close()
    return conclude(run, batch, options, str(status.get("node") or ""))


def node_status(link: Link) -> dict[str, Any]:
    """The node's name and when it started; nothing where it does not tell that to this caller."""
    try:
        return dict(link.ask("system.status"))
    except Failure as failure:
        if failure.code not in ("forbidden", "not_found"):
            raise
        return {}


class Reader:
    """The input's bytes, read in a thread so that a slow pipe does not hold up the answers. size: 0 if unknown."""

    def __init__(self, descriptor: int, size: int) -> None:
        self.descriptor = descriptor
        self.size = size

    def read(self, amount: int) -> bytes:
        """Up to that many bytes; none at the end."""
        data = gevent.get_hub().threadpool.apply(read_or_refusal, (self.descriptor, amount))
        if isinstance(data, OSError):
            raise data
        return bytes(data)

    def close(self) -> None:
        """Closes a file; stdin stays."""
        if self.descriptor != 0:
            os.close(self.descriptor)


def read_or_refusal(descriptor: int, amount: int) -> bytes | OSError:
    """What can be read; the system's refusal as a value, because a thread of the pool would print what it raises."""
    try:
        return os.read(descriptor, amount)
    except OSError as error:
        return error


def open_input(options: BatchOptions) -> Reader:
    """The input. Raises Failure (usage) if there is none."""
    if options.source == "-":
        try:
            os.fstat(0)
        except OSError:
            raise usage("stdin is closed: nothing to read") from None
        return Reader(0, 0)
    try:
        descriptor = os.open(options.source, os.O_RDONLY | os.O_CLOEXEC)
        about = os.fstat(descriptor)
    except OSError as error:
        raise usage(f"{options.source}: {error.strerror}") from error
    if stat.S_ISDIR(about.st_mode):
        os.close(descriptor)
        raise usage(f"{options.source} is a folder; give a file of JSON lines or CSV")
    return Reader(descriptor, about.st_size if stat.S_ISREG(about.st_mode) else 0)


def records_of(options: BatchOptions, schema: Schema | None, read: Callable[[int], bytes]) -> Records:
    """The input's lines by its format: said, or by the file's ending."""
    format = options.format or ("csv" if options.source.lower().endswith(".csv") else "jsonl")
    return CsvRecords(Input(read), schema) if format == "csv" else JsonLines(Input(read))


def work(run: Invocation, batch: Batch, reader: Reader, journal: Journal | None) -> None:
    """Runs the batch with its writer and its progress, and takes signals meanwhile."""
    progress = Progress(run.err, batch.tally, reader.size, batch.monotonic)
    shown = run.err.terminal and not run.quiet and not run.json and os.environ.get("TERM") != "dumb"
    drawing = gevent.spawn(progress.run) if shown else None

    def refused(error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            batch.fail(Failure("cancelled", "the reader of the results has gone"))
        else:
            batch.fail(Failure("internal", f"the results can't be written: {error.strerror or error}"))

    sys.stdout.flush()
    descriptor = journal.descriptor if journal is not None else sys.stdout.fileno()
    hide = progress.hide if journal is None and is_terminal(sys.stdout) else lambda: None
    undo = batch.watch_signals()
    try:
        batch.run(Results(descriptor, hide, refused))
    finally:
        undo()
        if drawing is not None:
            drawing.kill()
            progress.hide()
        reader.close()


def conclude(run: Invocation, batch: Batch, options: BatchOptions, node: str) -> int:
    """Tells the summary and what ended the batch early; answers the exit code."""
    tally = batch.tally
    summary = tally.document({"capability": batch.plan.capability, "node": node})
    summary["open"] = batch.open
    summary["interrupted"] = batch.interrupted
    summary["output"] = options.output
    unfinished = batch.interrupted or batch.failure is not None
    summary["resume"] = resume_command(run, batch.plan, options) if unfinished and options.output else None
    if batch.failure is not None:
        summary["error"] = batch.failure.document()["error"]
    broken = batch.results is not None and isinstance(batch.results.failed, BrokenPipeError)
    if run.json and not broken:
        # A line like the results before it, also on a terminal.
        sys.stdout.write(f"{dumps({'summary': summary})}\n")
        sys.stdout.flush()
    elif not run.json:
        tell(run, batch, summary, broken)
    if batch.interrupted:
        return Exit.INTERRUPTED
    if batch.failure is not None:
        return batch.failure.exit
    return Exit.REFUSED if tally.failed or batch.open else Exit.DONE


def dumps(document: Any) -> str:
    """A document in one line."""
    import json

    return json.dumps(document, ensure_ascii=False, default=str)


def tell(run: Invocation, batch: Batch, summary: dict[str, Any], broken: bool) -> None:
    """The summary for people, on stderr; -q leaves only what went wrong."""
    from packetflow.cli.invocation import show_failure

    if not run.quiet:
        show_summary(run.err, summary, batch.tally.first)
    if batch.failure is not None and not broken:
        show_failure(batch.failure, run.err)
    run.err.flush()


def resume_command(run: Invocation, plan: Plan, options: BatchOptions) -> str:
    """The command that goes on where this run ended."""
    words = [
        "packetflow",
        "call",
        plan.capability,
        "--from",
        options.source,
        "--output",
        options.output or "",
    ]
    if options.format:
        words += ["--format", options.format]
    if options.concurrency != 32:
        words += ["--concurrency", str(options.concurrency)]
    if options.key:
        words += ["--key", options.key]
    if run.node:
        words += ["--node", run.node]
    return shlex.join([*words, "--resume"])
