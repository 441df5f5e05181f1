"""`packetflow doctor`: what would keep a node from running here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packetflow.cli.exits import Exit
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import pad, wrap
from packetflow.cli.screen.units import count

COLOURS = {"ok": "green", "note": "yellow", "error": "red"}


@leaf("doctor", document="packetflow.cli.documents:Doctor", examples=["doctor", "doctor --json"])
def doctor(run: Invocation) -> int:
    """Looks for what would keep a node from running here.

    Python, libraries, the config, the data folder and its lock, disk, ports, clock, open files. Exit 6 if something would.
    """
    from packetflow.cli.examination import examine

    checks = examine(run)
    errors = sum(check["severity"] == "error" for check in checks)
    document = {"healthy": errors == 0, "errors": errors, "checks": checks}
    run.answer(document, lambda out: show_checks(out, checks, errors))
    return Exit.BAD_NEWS if errors else Exit.DONE


def show_checks(out: Painter, checks: Sequence[Mapping[str, Any]], errors: int) -> None:
    """A line each; what helps stands below what ails."""
    room = max(len(check["name"]) for check in checks)
    for check in checks:
        severity = str(check["severity"])
        head = f"{out.paint(pad(severity, 5), COLOURS[severity])}  {pad(check['name'], room)}  "
        indent = room + 9
        lines = wrap(str(check["what"]), None if out.width is None else out.width - indent)
        out.line(head + lines[0])
        for line in lines[1:]:
            out.line(" " * indent + line)
        if check.get("next"):
            out.line(out.paint(f"{'':{indent}}next: {check['next']}", "dim"))
    out.line("nothing keeps a node from running here" if not errors else count(errors, "error"))
