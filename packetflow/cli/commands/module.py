"""`packetflow module list`, `show`, `enable`, `disable`, `reload` and `restart`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from packetflow.cli.commands.status import chain_text
from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.link import Link
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import Column, plain, show_pairs, show_parts, show_table, show_wrapped
from packetflow.cli.screen.units import count, number, seconds
from packetflow.cli.screen.value import show_fields

CHANGES = ("dry_run", "yes", "no_wait")
LOOK_AGAIN = 0.05  # seconds between two looks at a module that is starting
NOT_YET = ("starting", "restarting")
FIGURES = (("changed", "changed"), ("rejected", "refused"), ("errors", "errors"), ("restarts", "restarts"))


@leaf(
    "list", document="packetflow.node.system.shapes:Modules", examples=["module list", "module list --json"]
)
def list_(run: Invocation) -> None:
    """The chain in order, with what each module handled, changed and refused."""
    document = run.ask("system.modules")
    run.answer(document, lambda out: show_modules(out, document["modules"]))
    if not document["modules"]:
        run.say("the chain is empty: no [[modules]] in the config")


def show_modules(out: Painter, modules: Sequence[Mapping[str, Any]]) -> None:
    """The modules as a table; what ails one stands below with the command that helps."""
    layout = [
        Column("PRIO", "priority", right=True),
        Column("MODULE", "name"),
        Column("VERSION", "version", drop=5),
        Column("STATUS", "status", status_text, style=status_style),
        Column("MATCH", "match", match_text, shrink=True, drop=1),
        Column("HANDLED", "handled", number, right=True, drop=2),
        Column("CHANGED", "changed", number, right=True, drop=6),
        Column("REFUSED", "rejected", number, right=True, drop=7),
        Column("ERRORS", "errors", number, right=True, drop=4),
        Column("P50", "p50", seconds, right=True, drop=8),
        Column("P99", "p99", seconds, right=True, drop=3),
    ]
    show_table(out, layout, modules)
    if not out.terminal:
        return
    for module in modules:
        if module.get("last_error") or module.get("status") == "quarantined":
            show_wrapped(out, f"{module['name']}: {ailment(module)}")
            out.line(out.paint(f"  next: packetflow module show {module['name']}", "dim"))


def status_text(word: Any) -> str:
    """Quarantine is loud."""
    return "QUARANTINED" if word == "quarantined" else plain(word)


def status_style(word: Any) -> Sequence[str]:
    """Colours beside the words, never instead of them."""
    return {"running": ("green",), "quarantined": ("red", "bold"), "disabled": ("dim",)}.get(
        str(word), ("yellow",)
    )


def match_text(match: Any) -> str:
    """`*`, `payments.*`, or the keys of a match table."""
    if isinstance(match, Mapping):
        return "; ".join(f"{key} {match_text(value)}" for key, value in match.items())
    return plain(match) if match else "*"


def ailment(module: Mapping[str, Any]) -> str:
    """`4 restarts, 12 errors, last: KeyError 'intent' at planner/slots.py:88`."""
    parts = []
    if module.get("restarts"):
        parts.append(count(module["restarts"], "restart"))
    if module.get("errors"):
        parts.append(count(module["errors"], "error"))
    error = module.get("last_error")
    if isinstance(error, Mapping):
        place = error.get("where") or error.get("place") or ""
        text = str(error.get("message") or error.get("error") or plain(dict(error)))
        parts.append(f"last: {text} at {place}" if place else f"last: {text}")
    elif error:
        parts.append(f"last: {error}")
    return ", ".join(parts) or "quarantined"


@leaf(
    "show",
    document="packetflow.node.system.shapes:ModuleDetail",
    examples=["module show rate_limit", "module show rate_limit --json"],
)
@click.argument("name")
def show(run: Invocation, name: str) -> None:
    """One module in full: its hooks, settings and figures."""
    document = run.ask("system.module.show", {"name": name})
    run.answer(document, lambda out: show_module(out, document["module"]))


def show_module(out: Painter, module: Mapping[str, Any]) -> None:
    """A module for people."""
    head = f"{module['name']} {module.get('version') or ''}".rstrip()
    state = str(module.get("status"))
    about = str(module.get("description") or "")
    show_parts(out, [(head, ("bold",)), (status_text(state), status_style(state)), (about, ())])
    limit = module.get("max_concurrency")
    pairs = [
        ("priority", plain(module.get("priority"))),
        ("match", match_text(module.get("match"))),
        ("hooks", plain(module.get("hooks"))),
        ("scope", plain(module.get("scope"))),
        ("on error", plain(module.get("on_error"))),
        ("timeout", seconds(module.get("timeout"))),
        ("at a time", "unlimited" if limit == 0 else plain(limit)),
        (
            "handled",
            ", ".join(
                [
                    number(module.get("handled")),
                    *(f"{word} {number(module.get(key))}" for key, word in FIGURES),
                ]
            ),
        ),
        ("time", f"p50 {seconds(module.get('p50'))}, p99 {seconds(module.get('p99'))}"),
        ("source", plain(module.get("source"))),
    ]
    if module.get("module") not in (None, module["name"]):
        pairs.insert(0, ("runs", str(module["module"])))
    if module.get("last_error"):
        pairs.append(("ailing", ailment(module)))
    show_pairs(out, pairs)
    config = module.get("config")
    if isinstance(config, Mapping) and config:
        out.line(out.paint("config", "bold"))
        show_fields(out.indented(2), config)


@leaf(
    "enable",
    document="packetflow.cli.documents:ModuleChanged",
    examples=["module enable rate_limit", "module enable rate_limit --dry-run"],
    changes=CHANGES,
)
@click.argument("name")
def enable(run: Invocation, name: str) -> int:
    """Puts a module back into the chain, and returns when it runs there."""
    return change(run, "enable", name)


@leaf(
    "disable",
    document="packetflow.cli.documents:ModuleChanged",
    examples=["module disable rate_limit", "module disable rate_limit --json"],
    changes=CHANGES,
)
@click.argument("name")
def disable(run: Invocation, name: str) -> int:
    """Takes a module out of the chain; `module enable` puts it back."""
    return change(run, "disable", name)


@leaf(
    "reload",
    document="packetflow.cli.documents:ModuleChanged",
    examples=["module reload rate_limit", "module reload rate_limit --dry-run"],
    changes=CHANGES,
)
@click.argument("name")
def reload(run: Invocation, name: str) -> int:
    """Loads a module's code and config anew. If the new one is faulty, the running one stays."""
    return change(run, "reload", name)


@leaf(
    "restart",
    document="packetflow.cli.documents:ModuleChanged",
    examples=["module restart rate_limit", "module restart rate_limit --json"],
    changes=CHANGES,
)
@click.argument("name")
def restart(run: Invocation, name: str) -> int:
    """Starts a module afresh from its config, also one in quarantine."""
    return change(run, "restart", name)


DONE = {"enable": "enabled", "disable": "disabled", "reload": "reloaded", "restart": "restarted"}


def change(run: Invocation, verb: str, name: str) -> int:
    """Asks for the change and waits until the module's state shows it."""
    with run.link() as link:
        payload: dict[str, Any] = {"name": name}
        if run.dry_run:
            payload["dry_run"] = True
        document = dict(link.ask(f"system.module.{verb}", payload))
        if not run.dry_run and not run.no_wait:
            document["module"] = settled(run, link, document["module"])
        document.setdefault("dry_run", run.dry_run)
    module = document["module"]
    state = str(module.get("status"))
    if state == "quarantined" and verb != "disable" and not run.dry_run:
        raise Failure(
            "execution_failed",
            f"{name} does not run: {ailment(module)}",
            rows=[("chain", chain_text(document.get("chain") or ()))],
            next=[f"packetflow module show {name}"],
            details={"module": module},
        )
    run.answer(document, lambda out: show_change(out, run, verb, document))
    return Exit.DONE


def settled(run: Invocation, link: Link, module: Mapping[str, Any]) -> Mapping[str, Any]:
    """The module once it neither starts nor restarts. Raises Failure (timeout) with the last state seen."""
    import gevent

    from packetflow.otp.clock import Clock

    clock = Clock()
    end = clock.monotonic() + run.patience
    while module.get("status") in NOT_YET:
        if clock.monotonic() > end:
            raise Failure(
                "timeout",
                f"{module['name']} is still {module.get('status')} after {seconds(run.patience)}",
                next=[f"packetflow module show {module['name']}"],
                details={"module": module},
            )
        gevent.sleep(LOOK_AGAIN)
        module = link.ask("system.module.show", {"name": module["name"]})["module"]
    return module


def show_change(out: Painter, run: Invocation, verb: str, document: Mapping[str, Any]) -> None:
    """What a change did, and the chain as it is now."""
    name = document["module"]["name"]
    state = status_text(document["module"].get("status"))
    if run.dry_run:
        head = (
            f"would be {DONE[verb]}: {name}"
            if document.get("changed", True)
            else f"nothing would change: {name} is {state}"
        )
    elif document.get("changed", True):
        head = f"{DONE[verb]}: {name}, now {state}"
    else:
        head = f"nothing to do: {name} is {state}"
    out.line(head)
    chain = chain_text(document.get("chain") or ())
    show_pairs(out, [("chain", chain or "no modules")])
