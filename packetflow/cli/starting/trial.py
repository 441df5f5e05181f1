"""`start --try`: one request, sent as any client would, with its way shown."""

from __future__ import annotations

import shlex

from packetflow.cli.commands.call import contract_of, read_stdin
from packetflow.cli.commands.status import utc_now
from packetflow.cli.commands.trace import show_trace
from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation, show_failure
from packetflow.cli.link import Link
from packetflow.cli.screen.value import show_value
from packetflow.cli.typed import fields_of


def words_of(request: str) -> list[str]:
    """The words of 'ID k=v ...'. Raises Failure (usage) if there are none or a quote is open."""
    try:
        words = shlex.split(request)
    except ValueError as error:
        raise usage(f"--try {request!r}: {error}") from error
    if not words:
        raise usage("--try needs 'ID FIELD=VALUE ...'")
    return words


def try_request(run: Invocation, link: Link, request: str) -> None:
    """Sends the request and shows its value and its way, as talk. What fails is told; the node runs on."""
    id, *fields = words_of(request)
    err = run.err
    run.say("")
    run.say(err.paint(f"$ packetflow call {request}", "bold"))
    try:
        contract = contract_of(link, id) if fields else None
        payload = fields_of(fields, contract.get("requires") if contract is not None else None, read_stdin)
        reply = link.request(id, payload)
        if run.json or run.quiet:
            return
        if reply.error is not None:
            show_failure(link.failure(reply.error, id, reply.trace_id), err)
        else:
            show_value(err, reply.value)
        if reply.trace_id:
            run.say("")
            run.say(err.paint(f"$ packetflow trace {reply.trace_id[:8]}", "bold"))
            show_trace(err, link.ask("system.trace", {"id": reply.trace_id})["trace"], utc_now())
            err.flush()
    except Failure as failure:
        if not (run.json or run.quiet):
            show_failure(failure, err)
