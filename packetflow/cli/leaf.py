"""What every leaf has: two examples on top of its help, the options that all commands take, and an Invocation."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Sequence
from typing import Any

import click

from packetflow.cli.failures import Failure
from packetflow.cli.invocation import Invocation
from packetflow.cli.nearest import nearest

EVERYWHERE = ("node", "json", "timeout", "color", "quiet", "verbose")
COMMON = (*EVERYWHERE, "json_schema", "help")
SPAN = re.compile(r"(?P<amount>\d+(\.\d+)?)\s*(?P<unit>ms|s|min|m|h)?")
UNITS = {"ms": 1e-3, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class Span(click.ParamType[float]):
    """A duration: seconds as a number, or `500ms`, `30s`, `5m`, `1h`."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; fails for what is no duration."""
        if isinstance(value, int | float):
            return float(value)
        found = SPAN.fullmatch(str(value).strip())
        if found is None:
            self.fail(f'"{value}" is no duration: give seconds, or 500ms, 30s, 5m', param, ctx)
        return float(found["amount"]) * UNITS[found["unit"]]


class LeafCommand(click.Command):
    """A command whose help opens with examples. A command line without `packetflow` in front, each."""

    def __init__(self, *arguments: Any, examples: Sequence[str], document: str, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.document = document
        self.examples = tuple(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it does, examples, usage, the rest of the text, options."""
        text = inspect.cleandoc(self.help or "")
        first, _, rest = text.partition("\n\n")
        formatter.write_text(first)
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{'':>{formatter.current_indent}}packetflow {example}\n")
        formatter.write_paragraph()
        self.format_usage(ctx, formatter)
        if rest:
            for paragraph in rest.split("\n\n"):
                formatter.write_paragraph()
                with formatter.indentation():
                    formatter.write_text(paragraph)
        self.format_options(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Its own options first, then those that every command takes."""
        own: list[tuple[str, str]] = []
        common: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and isinstance(parameter, click.Option):
                (common if parameter.name in COMMON else own).append(record)
        if own:
            with formatter.section("Options"):
                formatter.write_dl(own)
        with formatter.section("Everywhere"):
            formatter.write_dl(common)


def leaf(
    name: str,
    *,
    document: str,
    examples: Sequence[str],
    changes: Sequence[str] = (),
) -> Callable[[Callable[..., int | None]], LeafCommand]:
    """Makes a function a command. It gets an Invocation first, then its own parameters, and may answer an exit code.

    document: where the shape of its --json document is, as `module:name`. changes: which of `dry_run`, `yes`, `no_wait`
    it offers, if it changes something.
    """

    def decorate(function: Callable[..., int | None]) -> LeafCommand:
        def run(**values: Any) -> int:
            common = {key: values.pop(key) for key in (*EVERYWHERE, *changes)}
            return int(function(Invocation(**common), **values) or 0)

        own = list(reversed(getattr(function, "__click_params__", [])))
        return LeafCommand(
            name,
            examples=examples,
            document=document,
            callback=run,
            params=[*own, *change_options(changes), *common_options()],
            help=function.__doc__,
            context_settings={"help_option_names": ["--help", "-h"]},
        )

    return decorate


def common_options() -> list[click.Option]:
    """The options of every leaf."""
    return [
        click.Option(
            ["--node"], metavar="WHERE", help="Which node: a data folder, a socket, or tcp://host:port."
        ),
        click.Option(["--json"], is_flag=True, help="One JSON document on stdout, failures too."),
        click.Option(
            ["--json-schema"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=show_document_schema,
            help="The JSON Schema of that document.",
        ),
        click.Option(["--timeout"], type=Span(), metavar="SECONDS", help="How long to wait [30]."),
        click.Option(
            ["--color"],
            type=click.Choice(["auto", "always", "never"]),
            default="auto",
            metavar="WHEN",
            help="auto, always or never.",
        ),
        click.Option(["-q", "--quiet"], is_flag=True, help="No talk on stderr but failures."),
        click.Option(["-v", "--verbose"], count=True, help="More: ids, places, timings."),
    ]


def show_document_schema(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    """--json-schema: prints the schema of the command's document and ends, before anything else is looked at."""
    if not wanted or not isinstance(context.command, LeafCommand):
        return
    from pydantic import TypeAdapter

    module, _, name = context.command.document.partition(":")
    schema = TypeAdapter(getattr(importlib.import_module(module), name)).json_schema()
    click.echo(json.dumps(schema, indent=2, ensure_ascii=False))
    context.exit(0)


def change_options(changes: Sequence[str]) -> list[click.Option]:
    """The options of leaves that change something."""
    every = {
        "dry_run": click.Option(["--dry-run"], is_flag=True, help="Show what would happen; change nothing."),
        "yes": click.Option(["--yes"], is_flag=True, help="Do not ask."),
        "no_wait": click.Option(
            ["--no-wait"], is_flag=True, help="Return when it is accepted, not when it is seen."
        ),
    }
    return [every[change] for change in changes]


def usage_failure(error: click.UsageError) -> Failure:
    """click's complaint about a command line, as ours."""
    path = error.ctx.command_path if error.ctx is not None else "packetflow"
    rows: list[tuple[str, str]] = []
    message = error.format_message()
    if (
        isinstance(error, click.BadParameter)
        and error.param is not None
        and isinstance(error.param.type, click.Choice)
    ):
        given = re.search(": '(.*)' is not", message)
        words = [str(choice) for choice in error.param.type.choices]
        if given is not None:
            is_argument = isinstance(error.param, click.Argument)
            name = error.param.name if is_argument else error.param.opts[0]
            message = f'{name} "{given[1]}" is none of {", ".join(words)}'
            rows = [("nearest", word) for word in nearest(given[1], words)[:1]]
    if isinstance(error, click.NoSuchOption):
        message = f'"{path}" has no option {error.option_name}'
        if error.possibilities:
            rows.append(("nearest", ", ".join(sorted(error.possibilities))))
        elif error.ctx is not None and isinstance(error.ctx.command, click.Group):
            rows.append(("note", "options stand after the command: packetflow status --json"))
    return Failure("usage", message[:1].lower() + message[1:].rstrip("."), rows=rows, next=[f"{path} --help"])
