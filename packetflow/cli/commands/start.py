"""`packetflow start`: a node in the foreground, until a signal or `packetflow stop` ends it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import is_terminal

if TYPE_CHECKING:
    from packetflow.node.config import LoadedConfig


@leaf(
    "start",
    document="packetflow.cli.documents:Start",
    examples=[
        "start",
        "start config/node.toml --set http.port=8080 --try 'ticket.open customer_id=C-1001 text=hi'",
    ],
)
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("--watch", is_flag=True, help="Reload when a file of the project changes.")
@click.option(
    "--try", "request", metavar="'ID k=v ...'", help="Send this request when ready, and show its way."
)
@click.option(
    "--without", multiple=True, metavar="NAME", help="Leave this module out; `all` leaves out every one."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Serve by N processes on the same ports [node.workers].",
)
@click.option("--detach", is_flag=True, help="Run in the background; return when it is ready.")
@click.option(
    "--set", "sets", multiple=True, metavar="KEY=VALUE", help="A setting, over file and environment."
)
def start(
    run: Invocation,
    config: Path | None,
    watch: bool,
    request: str | None,
    without: Sequence[str],
    workers: int | None,
    detach: bool,
    sets: Sequence[str],
) -> int:
    """Runs a node here, in the foreground.

    CONFIG is its file; without it the project's config/node.toml, in this folder or above, or the defaults. Ctrl-C and
    SIGTERM drain (twice: end at once), SIGHUP reloads. Exit 2 if the configuration is faulty.
    """
    if workers is not None:
        sets = [*sets, f"node.workers={workers}"]
    if detach:
        return in_background(run, config, watch, request, without, sets)
    # First of all: whatever is imported after this finds the patched modules.
    from gevent import monkey

    monkey.patch_all()
    from packetflow.cli.starting.settings import check_without, load_settings

    loaded = load_settings(config, sets)
    check_without(loaded, without)
    from packetflow.cli.starting.foreground import Wishes, run_node

    wishes = Wishes(request=request, without=without, watch=watch or loaded.config.node.watch)
    return run_node(run, loaded, wishes, at_terminal=is_terminal(sys.stdin))


def in_background(
    run: Invocation,
    config: Path | None,
    watch: bool,
    request: str | None,
    without: Sequence[str],
    sets: Sequence[str],
) -> int:
    """Starts the node as a process of its own; returns when it is ready, or fails with what it failed with."""
    from packetflow.cli.starting.banner import show_banner
    from packetflow.cli.starting.detach import start_detached
    from packetflow.cli.starting.settings import check_without, load_settings

    loaded = load_settings(config, sets)  # faults are told here, not in a log
    check_without(loaded, without)
    words = [str(config)] if config is not None else []
    words += [part for word in sets for part in ("--set", word)]
    words += [part for name in without for part in ("--without", name)]
    words += ["--watch"] if watch else []
    document = start_detached(words, loaded.config.node.data_folder, run.patience)
    if run.json:
        run.write_json(document)
    else:
        show_banner(run.err, document, document["ready_in"], "", background=True)
        run.say(f"  log      {document['log']}")
    if request is not None:
        try_in_background(run, loaded, request)
    return 0


def try_in_background(run: Invocation, loaded: LoadedConfig, request: str) -> None:
    """--try for a node that runs in another process: the same request, by its admin socket."""
    from packetflow.cli.finding import of_data_folder
    from packetflow.cli.link import Link
    from packetflow.cli.starting.trial import try_request

    with Link(of_data_folder(loaded.config.node.data_folder, "node.data_folder"), run.patience) as link:
        try_request(run, link, request)
