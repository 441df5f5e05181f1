"""`packetflow flow`: compositions: which there are, how one looks, whether a file's can run here, and running one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from packetflow.cli.commands.call import call_once
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure, usage
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, show_parts, show_table, show_wrapped
from packetflow.cli.screen.units import count

if TYPE_CHECKING:
    from packetflow.documents.faults import Fault


@leaf(
    "list",
    document="packetflow.node.system.shapes:Flows",
    examples=["flow list", "flow list --json"],
)
def list_(run: Invocation) -> None:
    """The compositions that the node serves, and what keeps them from running."""
    document = run.ask("system.flows")
    run.answer(document, lambda out: show_flows(out, document["flows"]))
    if not document["flows"]:
        run.say("the node serves no composition")


def show_flows(out: Painter, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table, then the faults of those that have some."""
    layout = [
        Column("ID", "id"),
        Column("VERSION", "version", right=True, drop=1),
        Column("NODES", "nodes", right=True, drop=2),
        Column("RUNS", "runs"),
        Column("WHAT", "intent", shrink=True),
    ]
    shown = [{**row, "runs": "no" if row["faults"] else "yes"} for row in rows]
    show_table(out, layout, shown)
    for row in rows:
        for fault in row["faults"]:
            show_wrapped(out, f"{row['id']} {fault}", 2)


@leaf(
    "show",
    document="packetflow.node.system.shapes:Flow",
    examples=["flow show ticket.intake", "flow show ticket.intake --as svg"],
)
@click.argument("id")
@click.option(
    "--as",
    "how",
    type=click.Choice(["text", "mermaid", "svg", "toml", "json", "yaml"]),
    default="text",
    metavar="HOW",
    help="text, mermaid, svg, or the plan's file: toml, json, yaml.",
)
def show(run: Invocation, id: str, how: str) -> None:
    """One composition: its plan as a tree, as a picture, or as the text of a file that it could stand in."""
    document = run.ask("system.flow", {"id": id, "svg": how == "svg"})
    text = _as_file(id, document["plan"], how) if how in ("toml", "json", "yaml") else document.get(how, "")
    run.answer(document, lambda out: show_flow(out, document, "" if how == "text" else text))


def _as_file(id: str, plan: Mapping[str, Any] | None, how: Any) -> str:
    from packetflow.composition.nodes import PlanError
    from packetflow.composition.writing import write_data

    if plan is None:
        raise Failure(
            "rejected",
            f"{id} holds Python functions or types, so no file can hold it",
            next=[f"flow show {id}"],
        )
    try:
        return write_data(plan, how)
    except PlanError as error:
        raise Failure("rejected", str(error), next=[f"flow show {id} --as yaml"]) from error


def show_flow(out: Painter, flow: Mapping[str, Any], text: str) -> None:
    """Its plan, after what it is; or the text that was asked for instead."""
    if text:
        out.stream.write(text)
        return
    show_parts(out, [(f"{flow['id']}@{flow['version']}", ("bold",)), (flow["intent"], ())])
    for word in ("requires", "provides"):
        names = flow[word].get("properties", {})
        if names:
            needed = flow[word].get("required", ())
            out.line(f"  {word}  {', '.join(name if name in needed else name + '?' for name in names)}")
    out.line("")
    for line in flow["text"].splitlines():
        out.line(f"  {line}")
    for fault in flow["faults"]:
        show_wrapped(out, f"can't be run: {fault}", 2)


@leaf(
    "check",
    document="packetflow.node.system.shapes:FlowFaults",
    examples=["flow check flows/intake.toml", "flow check flows/intake.toml --json"],
)
@click.argument("file", type=click.Path(path_type=Path))
def check(run: Invocation, file: Path) -> int:
    """Whether the composition in a file could run on the node: its form, then every name, type and condition.

    Exit 2 if the file holds no composition, 6 if it holds one that could not run.
    """
    from packetflow.composition.files import read_plan
    from packetflow.composition.nodes import PlanError
    from packetflow.composition.writing import to_data

    try:
        plan = read_plan(file)
    except PlanError as error:
        details = {"faults": [{"path": one.key, **one.as_dict()} for one in error.faults]}
        raise Failure(
            "validation_failed", f"{file} holds no composition", text=str(error), details=details
        ) from error
    document = run.ask("system.flow.check", {"plan": to_data(plan.composition)})
    faults = [plan.fault(fault["place"], fault["message"]) for fault in document["faults"]]
    for told, fault in zip(document["faults"], faults, strict=True):
        told.update(file=fault.file, line=fault.line, column=fault.column)
    run.answer(document, lambda out: show_check(out, document, faults))
    return Exit.BAD_NEWS if faults else Exit.DONE


def show_check(out: Painter, document: Mapping[str, Any], faults: Sequence[Fault]) -> None:
    """Each fault where it stands in the file, or that there is none."""
    from packetflow.documents.faults import render

    if faults:
        out.line(render(faults))
    else:
        out.line(f"{document['id']} can run here: {count(document['nodes'], 'node')}")


@leaf(
    "run",
    document="packetflow.cli.documents:Call",
    examples=[
        "flow run ticket.intake customer_id=C-1001 text='my card is lost'",
        "flow run ticket.intake customer_id=C-1001 text=hi --durable",
    ],
    changes=("no_wait",),
)
@click.argument("id")
@click.argument("fields", nargs=-1, metavar="[FIELD=VALUE]...")
@click.option("--input", "source", metavar="FILE", help="The payload as a JSON object; - is stdin.")
@click.option("--key", default="", metavar="WORD", help="Idempotency key.")
@click.option("--durable", is_flag=True, help="Store each step's result: the run survives the node's end.")
def run_(run: Invocation, id: str, fields: Sequence[str], source: str | None, key: str, durable: bool) -> int:
    """Runs a composition to its end; the fields are typed by what it requires, as with `call`.

    --durable: any composition as a durable run. Who stops waiting for it ends nothing (exit 7 names the run); --no-wait
    prints its id and does not wait.
    """
    if durable:
        from packetflow.cli.commands.runs import run_durably

        return run_durably(run, id, fields, source, key, run.no_wait)
    if run.no_wait:
        raise usage("--no-wait needs --durable: a run that is not stored belongs to who waits for it")
    nothing = {"output": None, "resume": False, "resend_unknown": False, "format": None}
    return call_once(run, id, fields, source, {"key": key, **nothing})
