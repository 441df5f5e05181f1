"""`packetflow completion`."""

from __future__ import annotations

import click

from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf

WHERE = {
    "bash": 'add to ~/.bashrc: eval "$(packetflow completion bash)"',
    "zsh": 'add to ~/.zshrc, after compinit: eval "$(packetflow completion zsh)"',
    "fish": "write it to ~/.config/fish/completions/packetflow.fish",
}


@leaf(
    "completion",
    document="packetflow.cli.documents:Completion",
    examples=["completion bash", "completion zsh --json"],
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(run: Invocation, shell: str) -> None:
    """The script that completes packetflow's words in your shell.

    Commands and options are always completed; ids of capabilities, modules and traces when a node answers in 200 ms.
    """
    from packetflow.cli.completing import SCRIPTS

    script = SCRIPTS[shell]
    run.answer(
        {"shell": shell, "script": script, "install": WHERE[shell]}, lambda out: out.line(script.rstrip("\n"))
    )
    if run.out.terminal:
        run.say(WHERE[shell])
