"""`packetflow init`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import click

from packetflow.cli.failures import Failure, usage
from packetflow.cli.finding import shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter


@leaf(
    "init",
    document="packetflow.cli.documents:Init",
    examples=["init desk", "init desk --dry-run"],
    changes=("dry_run",),
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
def init(run: Invocation, folder: Path) -> None:
    """Writes a project that runs: a config, two capabilities, a module, and a test of them.

    Nothing that is there is overwritten.
    """
    from packetflow.cli.project import files_of, node_name

    files = files_of(node_name(folder))
    there = [name for name in files if (folder / name).exists()]
    if there:
        raise usage(
            f"{folder} holds {'these' if len(there) > 1 else 'this'} already",
            rows=[("", name) for name in there],
            next=["give another folder"],
        )
    if not run.dry_run:
        try:
            for name, text in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise Failure("usage", f"{error.filename}: {error.strerror}") from error
    document = {"folder": str(folder), "files": list(files), "dry_run": run.dry_run}
    run.answer(document, lambda out: show_files(out, folder, files))
    if not run.dry_run:
        run.next(f"cd {folder}", "packetflow start --try 'guest.sign name=Ana message=hello'")


def show_files(out: Painter, folder: Path, names: Iterable[str]) -> None:
    """A path a line."""
    for name in names:
        out.line(shown(folder / name))
