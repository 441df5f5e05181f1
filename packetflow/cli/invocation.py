"""One run of a command: what was asked of every command (`--json`, `--node`, ...), and the ways to answer."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from packetflow.cli.failures import Failure, usage
from packetflow.cli.screen.painter import Painter, is_terminal, painter_for
from packetflow.cli.screen.table import show_pairs

if TYPE_CHECKING:
    from packetflow.cli.link import Link

PATIENCE = 30.0  # seconds a command waits for a node that answers, unless --timeout says otherwise


class Invocation:
    """What a command needs to know and to say.

    out: data, on stdout. err: talk, on stderr. timeout: seconds, None where not given. yes, dry_run, no_wait are false
    for commands that do not offer them.
    """

    def __init__(
        self,
        *,
        node: str | None = None,
        json: bool = False,
        timeout: float | None = None,
        color: str = "auto",
        quiet: bool = False,
        verbose: int = 0,
        dry_run: bool = False,
        yes: bool = False,
        no_wait: bool = False,
    ) -> None:
        self.node = node
        self.json = json
        self.timeout = timeout
        self.color = color
        self.quiet = quiet
        self.verbose = verbose
        self.dry_run = dry_run
        self.yes = yes
        self.no_wait = no_wait
        self.out = painter_for(sys.stdout, color, os.environ)
        self.err = painter_for(sys.stderr, color, os.environ)

    @property
    def patience(self) -> float:
        """Seconds to wait for an answer."""
        return PATIENCE if self.timeout is None else self.timeout

    def answer(self, document: Mapping[str, Any], show: Callable[[Painter], None]) -> None:
        """The command's result: the document under --json, else what `show` writes."""
        if self.json:
            self.write_json(document)
        else:
            show(self.out)
        self.out.flush()

    def write_json(self, document: Any) -> None:
        """One JSON document on stdout: indented for a person, a line in a pipe."""
        indent = 2 if self.out.terminal else None
        self.out.stream.write(json.dumps(document, ensure_ascii=False, indent=indent, default=str) + "\n")
        self.out.flush()

    def say(self, text: str) -> None:
        """A line of talk; none under --json or -q."""
        if not (self.json or self.quiet):
            self.err.line(text)
            self.err.flush()

    def next(self, *commands: str) -> None:
        """What to run next, as talk on a terminal."""
        if self.err.terminal:
            self.say(self.err.paint("next: " + "; ".join(commands), "dim"))

    def confirm(self, question: str) -> None:
        """Asks the person, unless --yes. Raises Failure without a terminal (exit 2, naming --yes) or for a no."""
        if self.yes or self.dry_run:
            return
        if self.json or not is_terminal(sys.stdin) or not self.err.terminal:
            raise usage(f"this needs consent, and nobody can be asked: {question}", next=["add --yes"])
        self.err.stream.write(f"{question} [y/N] ")
        self.err.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise Failure("cancelled", "nothing was changed")

    def link(self, greenlets: bool = False) -> Link:
        """The connection to the node that --node, PACKETFLOW_NODE or the project names; Failure if there is none.

        greenlets: several of them will use it at once.
        """
        from packetflow.cli.link import open_link

        return open_link(self, greenlets)

    def ask(self, capability: str, payload: Mapping[str, Any] | None = None) -> Any:
        """One question to the node, the connection closed afterwards. Raises Failure."""
        with self.link() as link:
            return link.ask(capability, payload or {})


def show_failure(failure: Failure, err: Painter) -> None:
    """A failure as lines for people."""
    if failure.text:
        err.stream.write(failure.text.rstrip("\n") + "\n")
    else:
        err.line(f"{err.paint(failure.code, 'red', 'bold')}: {failure.message}")
        show_pairs(err, failure.rows)
    for line in next_lines(failure.next, err):
        err.line(line)
    err.flush()


def next_lines(commands: Sequence[str], err: Painter) -> list[str]:
    """`next: a; b`, a line each where they do not fit one."""
    if not commands:
        return []
    together = "  next: " + "; ".join(commands)
    if err.width is None or len(together) <= err.width:
        return [err.paint(together, "dim")]
    return [err.paint(f"  next: {command}", "dim") for command in commands]
