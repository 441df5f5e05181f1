"""`packetflow trace`: the way of one request, and the last ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from packetflow.cli.commands.status import utc_now
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.moments import begin_of
from packetflow.cli.screen.painter import Painter, clean, columns
from packetflow.cli.screen.table import Column, pad, plain, show_parts, show_table, show_wrapped, wrap
from packetflow.cli.screen.units import ago, number, seconds

MARKS = {"request": ">", "response": "<", "plan": "="}


@leaf(
    "show", document="packetflow.node.system.shapes:Trace", examples=["trace last", "trace 4f2a9c1e --json"]
)
@click.argument("id", default="last")
def show(run: Invocation, id: str) -> None:
    """One request's way: what each module changed, and where the time went.

    ID is a trace id or its first letters (4 or more), or `last`. `packetflow trace list` shows the last requests.
    """
    document = run.ask("system.trace", {"id": id})
    now = utc_now()
    run.answer(document, lambda out: show_trace(out, document["trace"], now))


@leaf(
    "list",
    document="packetflow.node.system.shapes:TraceList",
    examples=[
        "trace list --outcome error --since 1h",
        "trace list --principal ana --longer 0.5 --json",
        'trace list --where \'capability.startsWith("ticket.") && !(outcome in ["ok", "not_found"])\'',
    ],
)
@click.option("--capability", metavar="PATTERN", help="What was asked for: an id, or a pattern.")
@click.option("--principal", metavar="PATTERN", help="Who asked.")
@click.option("--outcome", metavar="WORD", help="ok, error (any), or an error's code.")
@click.option("--since", metavar="WHEN", help="A time (RFC 3339), or how long ago: 30m, 1h, 7d.")
@click.option("--until", metavar="WHEN", help="As --since.")
@click.option("--longer", type=float, metavar="SECONDS", help="Those that took so long at least.")
@click.option("--shorter", type=float, metavar="SECONDS", help="Those that took less.")
@click.option("--text", metavar="WORDS", help="What the error says.")
@click.option("--module", metavar="NAME", help="One that it passed.")
@click.option(
    "--where",
    metavar="CEL",
    help="A condition over capability, principal, started, duration, outcome, error, ...",
)
@click.option("--nested", is_flag=True, help="Also what requests asked for, and the node's own.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
def list_(
    run: Invocation, limit: int, since: str | None, until: str | None, nested: bool, **selected: Any
) -> None:
    """The last requests, the newest first: those in memory, and those that are stored (`traces.store`).

    --where names id, parent, capability, version, principal, tenant, door, started, duration (seconds), outcome and error, as in
    'outcome == "timeout" && started > timestamp("2026-01-31T12:00:00Z")'.
    """
    now = utc_now()
    asked = {key: value for key, value in selected.items() if value is not None}
    for name, text in (("since", since), ("until", until)):
        if text is not None:
            asked[name] = begin_of(text, now, f"--{name}")
    if nested:
        asked["nested"] = True
    document = run.ask("system.traces", {**asked, "limit": limit})
    run.answer(document, lambda out: show_traces(out, document["traces"], now))
    if not document["traces"]:
        run.say("no request fits" if asked else "no request has been traced yet")


def show_traces(out: Painter, traces: Sequence[Mapping[str, Any]], now: datetime) -> None:
    """Requests as a table."""
    layout = [
        Column("ID", "id", lambda id: str(id)[:8]),
        Column("CAPABILITY", "capability", shrink=True),
        Column("PRINCIPAL", "principal", drop=2),
        Column("VIA", "door", drop=3),
        Column("STARTED", "started", lambda text: ago(text, now), drop=1),
        Column("OUTCOME", "outcome", outcome_text, style=outcome_style),
        Column("TIME", "duration", seconds, right=True),
    ]
    show_table(out, layout, traces)


def outcome_text(outcome: Any) -> str:
    """`OK`, or the error's code."""
    return "OK" if outcome == "ok" else plain(outcome)


def outcome_style(outcome: Any) -> Sequence[str]:
    """Green and red beside the words; what is under way has none."""
    return ("green",) if outcome == "ok" else () if outcome == "streaming" else ("red",)


def show_trace(out: Painter, trace: Mapping[str, Any], now: datetime) -> None:
    """One request's way for people; the requests it made follow, indented."""
    version = trace.get("version")
    name = f"{trace['capability']}@{version}" if version not in (None, "") else str(trace["capability"])
    who = f"{trace.get('principal') or '?'} via {trace.get('door') or '?'}"
    outcome = trace.get("outcome")
    took = f"in {seconds(trace.get('duration'))}"
    if trace.get("module_time"):
        took += f", modules {seconds(trace['module_time'])} of it"
    head: list[tuple[str, Sequence[str]]] = [(str(trace["id"])[:8], ("bold",)), (name, ()), (who, ())]
    verdict = (outcome_text(outcome), outcome_style(outcome))
    show_parts(out, [*head, (ago(trace.get("started"), now), ()), verdict, (took, ())])
    error = trace.get("error")
    if isinstance(error, Mapping):
        show_wrapped(out, f"{error.get('code', '')}: {error.get('message', '')}", 2)
    elif error:
        show_wrapped(out, str(error), 2)
    show_spans(out, list(trace.get("spans") or ()))
    for child in trace.get("children") or ():
        show_trace(out.indented(4), child, now)


def show_spans(out: Painter, spans: Sequence[Mapping[str, Any]]) -> None:
    """The stations of a request: own time, place, what happened there."""
    if not spans:
        return
    rows = list(stations(spans))
    if not out.terminal:
        layout = [
            Column("SELF", "self"),
            Column("KIND", "kind"),
            Column("WHERE", "where"),
            Column("WHAT CHANGED", "what"),
        ]
        show_table(out, layout, rows)
        return
    times = [seconds(row["self"]) for row in rows]
    first = max(len("SELF"), *(len(text) for text in times)) + 2
    second = max(len("WHERE"), *(columns(row["place"]) for row in rows))
    out.line(out.paint(f"{'SELF':>{first}}  {pad('WHERE', second)}  WHAT CHANGED", "bold"))
    for text, row in zip(times, rows, strict=True):
        room = None if out.width is None else max(16, out.width - first - second - 4)
        lines = wrap(row["what"], room)
        out.line(f"{text:>{first}}  {pad(row['place'], second)}  {lines[0]}")
        for line in lines[1:]:
            out.line(" " * (first + second + 4) + line)


def stations(spans: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each span as a row: module hooks carry a mark for their direction and their priority."""
    for span in spans:
        kind = str(span.get("kind") or "")
        where = str(span.get("where") or kind)
        if span.get("priority") is not None:
            where = f"{where} {span['priority']}"
        yield {
            "self": span.get("self"),
            "kind": kind,
            "where": where,
            "place": clean(f"{MARKS.get(kind, ' ')} {where}"),
            "what": clean(what_text(kind, span.get("notes") or ())),
        }


def what_text(kind: str, notes: Sequence[Mapping[str, Any]]) -> str:
    """What a station did, in words."""
    if not notes:
        return "nothing" if kind in MARKS else ""
    return "; ".join(note_text(str(note.get("what") or ""), note.get("detail")) for note in notes)


def stream_text(told: Mapping[str, Any]) -> str:
    """How a stream went: `3 items, the first after 46 us, done`."""
    items = told.get("items")
    words = [f"{number(items)} item{'' if items == 1 else 's'}"]
    if told.get("first") is not None:
        words.append(f"the first after {seconds(told['first'])}")
    return ", ".join([*words, plain(told.get("end"))])


def note_text(what: str, detail: Any) -> str:
    """One thing a station did: for a change each place with its value before and after."""
    if detail in (None, "", {}, []):
        return what
    if what == "streamed" and isinstance(detail, Mapping):
        return stream_text(detail)
    if isinstance(detail, list):
        return "; ".join(change_text(row) if isinstance(row, Mapping) else plain(row) for row in detail)
    return f"{what}: {plain(detail)}" if what else plain(detail)


def change_text(row: Mapping[str, Any]) -> str:
    """A changed place: `card '4111' -> '****'`."""
    return f"{row.get('path')} {row.get('before')} -> {row.get('after')}"
