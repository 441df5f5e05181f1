"""`packetflow flow runs` and its sisters: durable runs, looked at and changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from packetflow.cli.commands.call import contract_of, read_payload, read_stdin
from packetflow.cli.commands.status import utc_now
from packetflow.cli.exits import Exit, exit_of
from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.link import Link
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, plain, show_pairs, show_parts, show_table, show_wrapped
from packetflow.cli.screen.units import ago, count, number, seconds
from packetflow.cli.screen.value import show_value
from packetflow.cli.typed import fields_of

SHAPES = "packetflow.node.system.run_shapes:"
DOCUMENTS = "packetflow.cli.documents:"
STATES = ["running", "waiting", "forbidden", "stranded", "completed", "failed", "cancelled"]
AHEAD = 1.0  # seconds that a question to the node may take longer than what it waits for


@leaf(
    "runs",
    document=SHAPES + "Runs",
    examples=["flow runs", "flow runs --where 'state == \"failed\" && age < 3600.0'"],
)
@click.option("--where", default="", metavar="CEL", help="A filter over a run's fields.")
@click.option("--state", type=click.Choice(STATES), metavar="STATE", help="Only runs in this state.")
@click.option("--composition", metavar="ID", help="Only runs of this composition.")
@click.option("--user", metavar="PRINCIPAL", help="Only runs that this principal began.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@click.option("--before", metavar="RUN", help="Only runs older than this one, to page on.")
def runs(
    run: Invocation,
    where: str,
    state: str | None,
    composition: str | None,
    user: str | None,
    limit: int,
    before: str | None,
) -> None:
    """Durable runs, the newest first.

    A filter compares id, state, composition, version, principal, tenant, origin, error (a code), message, started,
    updated, ended (times in quotes), age, duration (seconds), steps, retries, attempts with == != < <= > >= in, joined by
    && || !; texts have startsWith and contains, and text("some words") looks for words.
    """
    document = run.ask(
        "system.runs",
        {
            "where": where,
            "state": state,
            "composition": composition,
            "principal": user,
            "limit": limit,
            "before": before,
        },
    )
    now = utc_now()
    run.answer(document, lambda out: show_runs(out, document["runs"], now))
    if not document["runs"]:
        run.say("no such run")


def show_runs(out: Painter, rows: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Runs as a table."""
    layout = [
        Column("ID", "id", lambda id: str(id)[:8]),
        Column("COMPOSITION", "composition", shrink=True),
        Column("STATE", "state", style=state_style),
        Column("WAITS FOR", "waiting", shrink=True, drop=1),
        Column("BY", "principal", drop=3),
        Column("STARTED", "started", lambda text: ago(text, now), drop=2),
        Column("STEPS", "done", number, right=True, drop=4),
        Column("ERROR", "fault", shrink=True),
    ]
    show_table(out, layout, [{**row, "waiting": waits_of(row), "fault": fault_of(row)} for row in rows])


def state_style(state: Any) -> Sequence[str]:
    """Green and red beside the words; what is open has none."""
    if state == "completed":
        return ("green",)
    return ("red",) if state in ("failed", "forbidden", "stranded") else ()


def waits_of(row: Mapping[str, Any]) -> str | None:
    """What a run waits for, in a few words."""
    return ", ".join(wait["label"] for wait in row["waits"]) or None


def fault_of(row: Mapping[str, Any]) -> str | None:
    """Its error in a line."""
    error = row["error"]
    return None if error is None else f"{error['code']}: {error['message']}"


@leaf("inspect", document=SHAPES + "RunDetail", examples=["flow inspect 7c1f", "flow inspect 7c1f --json"])
@click.argument("id")
def inspect(run: Invocation, id: str) -> None:
    """One durable run: what each place of its plan came to, what it waits for, who decided.

    ID is its id or its first letters (4 or more).
    """
    document = run.ask("system.run", {"id": id})
    now = utc_now()
    run.answer(document, lambda out: show_run(out, document, now))


def show_run(out: Painter, row: Mapping[str, Any], now: datetime) -> None:
    """A run for people."""
    show_head(out, row, now)
    if row["error"] is not None:
        show_wrapped(out, str(fault_of(row)), 2)
    pairs = [("payload", plain(row["payload"]))]
    if row["result"] is not None:
        pairs.append(("result", plain(row["result"])))
    pairs += [(word, str(row[word])) for word in ("origin", "note") if row[word]]
    show_pairs(out, pairs)
    if row["steps"]:
        layout = [
            Column("PLACE", "place"),
            Column("WHAT", "what"),
            Column("STEP", "label", shrink=True),
            Column("AT", "at", lambda text: ago(text, now), drop=1),
            Column("TIME", "seconds", seconds, right=True),
        ]
        show_table(out, layout, row["steps"])
    for wait in row["waits"]:
        until = f", until {ago(wait['due'], now)}" if wait["due"] else ""
        show_wrapped(out, f"waits at {wait['place'] or 'its plan'}: {wait['label']}{until}", 2)
    for one in row["approvals"]:
        who = f"by {one['decided_by']}" if one["decided_by"] else f"asks {', '.join(one['who'])}"
        show_wrapped(
            out, f"approval {one['id'][:8]} {one['subject']}: {one['state']}, {who} {one['comment']}", 2
        )


def show_head(out: Painter, row: Mapping[str, Any], now: datetime) -> None:
    """What a run is, in a line."""
    parts: list[tuple[str, Sequence[str]]] = [
        (str(row["id"])[:8], ("bold",)),
        (f"{row['composition']}@{row['version']}", ()),
        (str(row["state"]), state_style(row["state"])),
        (f"by {row['principal']}", ()),
        (ago(row["started"], now), ()),
        (count(row["done"], "step"), ()),
    ]
    show_parts(out, parts)


# ---- running and waiting --------------------------------------------------------------------------------------------


def run_durably(
    run: Invocation, id: str, fields: Sequence[str], source: str | None, key: str, no_wait: bool
) -> int:
    """`flow run --durable`: begins a run, and waits for its end. Who stops waiting ends nothing."""
    payload = read_payload(source) if source is not None else {}
    with run.link() as link:
        contract = contract_of(link, id) if fields else None
        payload.update(fields_of(fields, None if contract is None else contract.get("requires"), read_stdin))
        begun = link.ask("system.run.start", {"composition": id, "payload": payload, "key": key or None})[
            "id"
        ]
        if no_wait:
            document = link.ask("system.run", {"id": begun})
            run.answer(document, lambda out: out.line(begun))
            return Exit.DONE
        run.say(f"run {begun[:8]} began; Ctrl-C leaves it going")
        return ended(run, seen(link, begun, run.patience, parked=False))


def seen(link: Link, id: str, patience: float, parked: bool) -> Mapping[str, Any]:
    """A run, when it has ended or is stuck (parked: or waits). Raises Failure if that is not seen in time."""
    from packetflow.otp.clock import Clock

    clock = Clock().monotonic
    end = clock() + patience
    while True:
        some = max(0.05, min(10.0, end - clock()))
        row: Mapping[str, Any] = link.ask(
            "system.run.wait", {"id": id, "seconds": some, "parked": parked}, some + 10 * AHEAD
        )
        if row["state"] not in ("running", "waiting") or (parked and row["state"] == "waiting"):
            return row
        if clock() >= end:
            waits = waits_of(row)
            raise Failure(
                "timeout",
                f"run {id[:8]} is {row['state']}" + (f" for {waits}" if waits else "") + ", and goes on",
                next=[f"packetflow flow inspect {id[:8]}"],
                details={"run": id, "state": row["state"]},
            )


def ended(run: Invocation, row: Mapping[str, Any]) -> int:
    """A run's value, or its error as the command's."""
    if row["error"] is not None:
        error = row["error"]
        again = "retry" if row["state"] in ("failed", "cancelled") else "resume"
        raise Failure(
            error["code"],
            error["message"],
            rows=[("run", row["id"][:8]), ("state", row["state"])],
            next=[f"packetflow flow inspect {row['id'][:8]}", f"packetflow flow {again} {row['id'][:8]}"],
            details={**error.get("details", {}), "run": row["id"]},
        )
    run.answer(row, lambda out: show_value(out, row["result"]))
    return Exit.DONE


# ---- changing -------------------------------------------------------------------------------------------------------

Change = Callable[[Link, str], Mapping[str, Any]]


def change(
    run: Invocation, id: str | None, where: str, word: str, make: Change, *, parked: bool = True
) -> int:
    """Change one run, or all that a filter finds: an outcome each, the worst exit code."""
    if (id is None) == (not where):
        raise usage(f"flow {word} takes one run, or --where with a filter")
    with run.link() as link:
        if id is None:
            ids = [row["id"] for row in link.ask("system.runs", {"where": where, "limit": 1000})["runs"]]
            run.confirm(f"{word} {count(len(ids), 'run')}?")
        else:
            ids = [link.ask("system.run", {"id": id})["id"]]
            if word == "cancel":
                run.confirm(f"cancel run {ids[0][:8]}?")
        if run.dry_run:
            outcomes = [{"id": one, "outcome": f"would {word}", "state": None, "error": None} for one in ids]
        else:
            outcomes = [outcome_of(run, link, one, make, parked) for one in ids]
    document = {"runs": outcomes}
    if id is not None and outcomes[0]["error"] is not None:
        error = outcomes[0]["error"]
        raise Failure(error["code"], error["message"], rows=error["rows"], details=error["details"],
                      next=[f"packetflow flow inspect {ids[0][:8]}"])  # fmt: skip
    for one in outcomes:
        if one["error"] is not None:
            one["error"] = {"code": one["error"]["code"], "message": one["error"]["message"]}
    run.answer(document, lambda out: show_outcomes(out, outcomes))
    return max((exit_of(one["error"]["code"]) for one in outcomes if one["error"]), default=Exit.DONE)


def outcome_of(run: Invocation, link: Link, id: str, make: Change, parked: bool) -> dict[str, Any]:
    """What became of one run that was to be changed."""
    try:
        changed = make(link, id)
        id = str(changed.get("id", id))
        if run.no_wait:
            return {"id": id, "outcome": "accepted", "state": None, "error": None}
        row = seen(link, id, run.patience, parked)
        outcome = "unchanged" if changed.get("changed") is False else "done"
        return {"id": id, "outcome": outcome, "state": row["state"], "error": None}
    except Failure as failure:
        error = {
            "code": failure.code,
            "message": failure.message,
            "rows": failure.rows,
            "details": failure.details,
        }
        return {"id": id, "outcome": "refused", "state": None, "error": error}


def show_outcomes(out: Painter, rows: Sequence[Mapping[str, Any]]) -> None:
    """An outcome each."""
    layout = [
        Column("ID", "id", lambda id: str(id)[:8]),
        Column("OUTCOME", "outcome"),
        Column("STATE", "state", style=state_style),
        Column("ERROR", "fault", shrink=True),
    ]
    show_table(out, layout, [{**row, "fault": fault_of(row)} for row in rows])


WHERE = click.option("--where", default="", metavar="CEL", help="Every run for which this holds.")
STEP = click.option("--from", "step", metavar="STEP", help="A step's place, name or capability.")
VERSION = click.option("--version", metavar="V", help="Of the plan: keep, latest, or one that is served.")
CHANGES = ("dry_run", "yes", "no_wait")


@leaf(
    "cancel",
    document=DOCUMENTS + "RunOutcomes",
    examples=["flow cancel 7c1f --yes", "flow cancel --where 'state == \"waiting\" && age > 86400.0' --yes"],
    changes=CHANGES,
)
@click.argument("id", required=False)
@WHERE
def cancel(run: Invocation, id: str | None, where: str) -> int:
    """Ends runs that are open; what they did and says how is undone."""
    return change(
        run, id, where, "cancel", lambda link, one: link.ask("system.run.cancel", {"id": one}), parked=False
    )


@leaf(
    "resume",
    document=DOCUMENTS + "RunOutcomes",
    examples=["flow resume 7c1f", "flow resume 7c1f --version latest"],
    changes=CHANGES,
)
@click.argument("id", required=False)
@WHERE
@VERSION
def resume(run: Invocation, id: str | None, where: str, version: str | None) -> int:
    """Has runs that are forbidden or stranded go on, if they can now, perhaps on another version of their plan.

    Returns when the run has ended, waits, or is stuck again.
    """
    given = {"version": version or "keep"}
    return change(
        run, id, where, "resume", lambda link, one: link.ask("system.run.resume", {"id": one, **given})
    )


@leaf(
    "retry",
    document=DOCUMENTS + "RunOutcomes",
    examples=["flow retry 7c1f", "flow retry 7c1f --from payment.send"],
    changes=CHANGES,
)
@click.argument("id", required=False)
@WHERE
@STEP
@VERSION
def retry(run: Invocation, id: str | None, where: str, step: str | None, version: str | None) -> int:
    """Has runs that failed or were cancelled go on where they failed, or from a step.

    Finished steps before it are not run again. What was undone is done again, with new keys.
    """
    given = {"version": version or "keep", "step": step}
    return change(
        run, id, where, "retry", lambda link, one: link.ask("system.run.retry", {"id": one, **given})
    )


@leaf(
    "fork",
    document=DOCUMENTS + "RunOutcomes",
    examples=["flow fork 7c1f", "flow fork 7c1f --from payment.send --version latest"],
    changes=("dry_run", "no_wait"),
)
@click.argument("id")
@STEP
@VERSION
def fork(run: Invocation, id: str, step: str | None, version: str | None) -> int:
    """Begins a new run with the payload of an old one, and with what that had finished before a step.

    The old run stays as it is. Without --from nothing is taken over but the payload.
    """
    given = {"version": version or "latest", "step": step}
    return change(run, id, "", "fork", lambda link, one: link.ask("system.run.fork", {"id": one, **given}))


@leaf(
    "signal",
    document=SHAPES + "Signalled",
    examples=["flow signal payment.received order=81 --run 7c1f", "flow signal payment.received order=81"],
)
@click.argument("event")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--run", "to", metavar="RUN", help="Only to this run, which keeps it until it waits for it.")
@click.option("--id", metavar="WORD", help="The event's id: the same one twice is once.")
def signal(run: Invocation, event: str, fields: Sequence[str], to: str | None, id: str | None) -> None:
    """Sends an event to the runs that wait for it now, or to one run."""
    payload = fields_of(fields, None, read_stdin)
    document = run.ask("system.run.signal", {"event": event, "payload": payload, "run": to, "id": id})
    run.answer(document, lambda out: out.line(f"taken by {count(document['runs'], 'run')}"))


@leaf(
    "approve",
    document=SHAPES + "ApprovalRow",
    examples=["flow approve 7c1f", "flow approve 7c1f total=80 --reason 'a part of it'"],
)
@click.argument("id")
@click.argument("fields", nargs=-1, metavar="[NAME=VALUE]...")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the decision.")
def approve(run: Invocation, id: str, fields: Sequence[str], reason: str) -> None:
    """Says yes to what a run waits for; with NAME=VALUE, yes with other values.

    ID is the run's or the approval's. A second decision changes nothing, and says who decided.
    """
    values = fields_of(fields, None, read_stdin) or None
    decide(run, id, "modified" if values else "approved", reason, values)


@leaf(
    "reject",
    document=SHAPES + "ApprovalRow",
    examples=["flow reject 7c1f --reason 'too dear'", "flow reject 7c1f --json"],
)
@click.argument("id")
@click.option("--reason", default="", metavar="TEXT", help="Kept with the decision.")
def reject(run: Invocation, id: str, reason: str) -> None:
    """Says no to what a run waits for: the step fails with `rejected`, and what comes behind it is never begun."""
    decide(run, id, "rejected", reason, None)


def decide(run: Invocation, id: str, decision: str, reason: str, values: Mapping[str, Any] | None) -> None:
    """One decision."""
    given = {"id": id, "decision": decision, "comment": reason, "values": values}
    document = run.ask("system.approval.decide", given)
    told = (
        f"{document['state']}: {document['id'][:8]} of run {document['run'][:8]}, {document['composition']}"
    )
    run.answer(document, lambda out: out.line(told))


@leaf(
    "replay",
    document=SHAPES + "RunReplay",
    examples=["flow replay 7c1f", "flow replay 7c1f --version keep --json"],
)
@click.argument("id")
@VERSION
def replay(run: Invocation, id: str, version: str | None) -> int:
    """Whether a run would go the same way on a version of its plan, the latest if none is named; nothing is run.

    Exit 6 if it would go another way.
    """
    document = run.ask("system.run.replay", {"id": id, "version": version or "latest"})
    run.answer(document, lambda out: show_replay(out, document))
    return Exit.DONE if document["same"] else Exit.BAD_NEWS


def show_replay(out: Painter, found: Mapping[str, Any]) -> None:
    """What a replay found, for people."""
    way = "the same way" if found["same"] else "another way"
    name = f"{found['composition']}@{found['against']}"
    out.line(f"{found['id'][:8]} would go {way} on {name}")
    layout = [Column("PLACE", "place"), Column("WAS", "was", shrink=True), Column("NOW", "now", shrink=True)]
    if found["differences"]:
        show_table(out, layout, found["differences"])
    for one in found["ahead"]:
        show_wrapped(out, f"next at {one['place'] or 'its plan'}: {one['now']}", 2)
    if found["folded"]:
        out.line(f"  {count(found['folded'], 'iteration')} can't be looked into: only their outcome is kept")
