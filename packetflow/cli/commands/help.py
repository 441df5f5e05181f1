"""`packetflow help`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from packetflow.cli.exits import MEANING, OF_CODE, Exit, exit_of
from packetflow.cli.failures import Failure
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.meanings import CODES
from packetflow.cli.nearest import nearest
from packetflow.cli.screen.painter import Painter
from packetflow.cli.screen.table import show_pairs, wrap


@leaf("help", document="packetflow.cli.documents:Help", examples=["help not_found", "help module list"])
@click.argument("topic", nargs=-1)
def help_(run: Invocation, topic: Sequence[str]) -> None:
    """Explains a command, an error code or an exit code.

    Without a topic it shows all commands and the exit codes.
    """
    words = list(topic)
    if len(words) == 1 and (words[0] in CODES or words[0] in OF_CODE):
        explain_code(run, words[0])
    elif len(words) == 1 and words[0] in {str(int(exit)) for exit in Exit}:
        explain_exit(run, Exit(int(words[0])))
    else:
        explain_command(run, words)


def explain_code(run: Invocation, code: str) -> None:
    """An error code: why it comes, what helps, the exit it leads to."""
    why, helps = CODES.get(code, ("", ""))
    exit = exit_of(code)
    document = {"topic": code, "why": why, "helps": helps, "exit": int(exit)}

    def show(out: Painter) -> None:
        for line in wrap(f"{code}: {why}", out.width):
            out.line(line)
        show_pairs(out, [("helps", helps), ("exit", f"{int(exit)}, {MEANING[exit]}")])

    run.answer(document, show)


def explain_exit(run: Invocation, exit: Exit) -> None:
    """An exit code: what it means, and the error codes that lead to it."""
    codes = [code for code, leads in OF_CODE.items() if leads is exit]
    document = {"topic": str(int(exit)), "why": MEANING[exit], "codes": codes, "exit": int(exit)}

    def show(out: Painter) -> None:
        out.line(f"exit {int(exit)}: {MEANING[exit]}")
        if codes:
            show_pairs(out, [("codes", ", ".join(codes))])

    run.answer(document, show)


def explain_command(run: Invocation, words: Sequence[str]) -> None:
    """A command's help; of the whole program without words, with the exit codes."""
    from packetflow.cli.lazy import LazyGroup
    from packetflow.cli.tree import root

    width = min(run.out.width or 100, 100)
    program = root()
    context = context_of(program, "packetflow", None, width)
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, LazyGroup) else None
        if command is None:
            known = [*(group.list_commands(context) if isinstance(group, LazyGroup) else ()), *CODES]
            near = nearest(word, known)
            raise Failure(
                "not_found",
                f'no help on "{" ".join(words)}"',
                rows=[("nearest", ", ".join(near))] if near else [],
                next=["packetflow help"],
            )
        context = context_of(command, word, context, width)
    text = context.command.get_help(context)
    if not words:
        text += "\n\nExit codes:\n" + "\n".join(
            f"  {int(exit):>3}  {meaning}" for exit, meaning in MEANING.items()
        )
    run.answer({"topic": " ".join(words), "text": text}, lambda out: out.line(text))


def context_of(command: click.Command, word: str, parent: click.Context | None, width: int) -> click.Context:
    """The context in which a command's help reads as when it is asked with --help."""
    settings = {**command.context_settings, "terminal_width": width, "max_content_width": width}
    return click.Context(command, info_name=word, parent=parent, **settings)
