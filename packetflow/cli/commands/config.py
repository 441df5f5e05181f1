"""`packetflow config check`, `show` and `schema`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.finding import shown
from packetflow.cli.invocation import Invocation
from packetflow.cli.leaf import leaf
from packetflow.cli.screen.painter import Painter, columns
from packetflow.cli.screen.table import Column, plain, show_table

DOCUMENTS = "packetflow.cli.documents:"


@leaf(
    "check",
    document=DOCUMENTS + "ConfigChecked",
    examples=["config check", "config check config/production.toml --json"],
)
@click.argument("config", required=False, type=click.Path(path_type=Path))
def check(run: Invocation, config: Path | None) -> int:
    """All faults of a configuration at once, each with file, line, what was given and what was expected.

    CONFIG is a file; without it the project's is checked. Nothing is started, a running node is untouched. Exit 6 if
    there is an error.
    """
    from packetflow.cli.starting.settings import faults_of
    from packetflow.node.config import render

    file = existing(config)
    faults = faults_of(file)
    errors = [fault for fault in faults if fault.severity == "error"]
    document = {
        "valid": not errors,
        "file": shown(file) if file is not None else None,
        "faults": [fault.as_dict() for fault in faults],
    }

    def show(out: Painter) -> None:
        if faults:
            out.stream.write(
                render(faults, "a running node is untouched" if errors else "a node would start") + "\n"
            )
        else:
            out.line(f"{document['file'] or 'no file: the defaults'}: no faults")

    run.answer(document, show)
    return Exit.BAD_NEWS if errors else Exit.DONE


def existing(config: Path | None) -> Path | None:
    """The file to look at: the one named, which must exist, else the project's. Raises Failure."""
    import os

    from packetflow.cli.finding import chosen_config

    if config is None:
        return chosen_config(os.environ, Path.cwd())
    if not config.is_file():
        raise Failure("not_found", f"no such file: {config}", next=["packetflow config check"])
    return config


@leaf("show", document=DOCUMENTS + "ConfigShown", examples=["config show", "config show --origin http"])
@click.argument("section", required=False)
@click.option(
    "--config", "file", type=click.Path(path_type=Path), metavar="FILE", help="This file [the project's]."
)
@click.option("--origin", is_flag=True, help="Where each value comes from, with its line.")
@click.option("--live", is_flag=True, help="What the running node has, instead of what the file says.")
def show(run: Invocation, section: str | None, file: Path | None, origin: bool, live: bool) -> None:
    """Every setting, with its default where nothing is set; SECTION shows a part: http, modules, limits.frame."""
    if live or run.node is not None:
        document = run.ask("system.config")
    else:
        from packetflow.cli.starting.settings import load_settings
        from packetflow.node.config.show import nested

        loaded = load_settings(existing(file))
        document = {
            "file": shown(loaded.file) if loaded.file is not None else None,
            "values": nested(loaded),
            "origins": dict(loaded.origins),
        }
    rows = list(settings(document["values"], document["origins"]))
    if section is not None:
        part = [row for row in rows if within(row["key"], section)]
        if not part:
            from packetflow.cli.nearest import nearest

            near = nearest(
                section, sorted({word for row in rows for word in (row["key"], row["key"].split(".")[0])})
            )
            raise Failure(
                "not_found",
                f'no setting "{section}"',
                rows=[("nearest", ", ".join(near))] if near else [],
                next=["packetflow config show"],
            )
        rows = part
        document = {
            "file": document["file"],
            "values": picked(document["values"], section),
            "origins": {key: text for key, text in document["origins"].items() if within(key, section)},
        }
    run.answer(document, lambda out: show_settings(out, rows, origin))


def within(key: str, section: str) -> bool:
    """Whether a dotted key is the section or lies in it."""
    return key == section or key.startswith((f"{section}.", f"{section}["))


def picked(values: Mapping[str, Any], section: str) -> dict[str, Any]:
    """The nested values of one section, still nested; a part of a list is shown as the whole list."""
    names = section.partition("[")[0].split(".")
    out: dict[str, Any] = {}
    at: dict[str, Any] = out
    source: Any = values
    for place, name in enumerate(names):
        if not isinstance(source, Mapping) or name not in source:
            break
        source = source[name]
        last = place == len(names) - 1 or not isinstance(source, Mapping)
        at[name] = source if last else {}
        if last:
            break
        at = at[name]
    return out


def settings(
    values: Mapping[str, Any], origins: Mapping[str, str], lead: str = ""
) -> Iterator[dict[str, Any]]:
    """Each setting as a row: dotted key, value, where it comes from. Modules stand by their names, as in origins."""
    for name, value in values.items():
        key = f"{lead}.{name}" if lead else str(name)
        if isinstance(value, Mapping) and value:
            yield from settings(value, origins, key)
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for place, item in enumerate(value):
                named = item.get("name")
                step = f".{named}" if isinstance(named, str) else f"[{place}]"
                yield from settings(item, origins, key + step)
        else:
            yield {"key": key, "value": value, "origin": origin_of(key, origins)}


def origin_of(key: str, origins: Mapping[str, str]) -> str:
    """Where a setting was written; what is set as a whole counts for its parts."""
    while key:
        if key in origins:
            return origins[key]
        key = key.rpartition(".")[0]
    return "default"


def show_settings(out: Painter, rows: Sequence[Mapping[str, Any]], origin: bool) -> None:
    """Settings as `key = value`, on a terminal and in a pipe; as a table where origins are asked for."""
    if origin or not out.terminal:
        layout = [Column("KEY", "key"), Column("VALUE", "value", shrink=True)]
        show_table(out, [*layout, Column("ORIGIN", "origin", shrink=True)], rows)
        return
    room = max((columns(row["key"]) for row in rows), default=0)
    for row in rows:
        text = f"{row['key']:<{room}}  {plain(row['value'])}"
        set_by_someone = row["origin"] != "default"
        out.line(out.paint(out.cut(text, out.width or 10_000), "bold") if set_by_someone else text)


@leaf(
    "schema", document=DOCUMENTS + "ConfigSchema", examples=["config schema", "config schema modules --json"]
)
@click.argument("section", required=False)
def schema(run: Invocation, section: str | None) -> None:
    """What may be set, as JSON Schema (2020-12); SECTION is a part of it: http, modules, modules.match."""
    from packetflow.node.config import json_schema

    try:
        document = json_schema(section)
    except KeyError as error:
        raise Failure("not_found", str(error.args[0]), next=["packetflow config schema"]) from error
    run.answer(document, lambda out: run.write_json(document))
