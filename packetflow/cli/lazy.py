"""Groups that know their commands by name and one line, and import a command only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click

from packetflow.cli.failures import usage
from packetflow.cli.nearest import HABITS, nearest


@dataclass(frozen=True)
class Leaf:
    """Where a command is: `package.module:attribute`, and its one-line help."""

    where: str
    line: str
    hidden: bool = False


@dataclass(frozen=True)
class Branch:
    """A noun and its verbs. default: the verb that a word which is none of them belongs to (`trace 4f2a`).

    takes: what that word is, for the help.
    """

    line: str
    leaves: Mapping[str, Leaf]
    default: str = ""
    takes: str = ""


@dataclass(frozen=True)
class Section:
    """A part of the root's help."""

    title: str
    entries: Mapping[str, Leaf | Branch] = field(default_factory=dict)


class LazyGroup(click.Group):
    """A click group over a table of leaves and branches."""

    def __init__(
        self, name: str, entries: Mapping[str, Leaf | Branch], default: str = "", **more: Any
    ) -> None:
        super().__init__(name, **more)
        self.entries = entries
        self.default = default

    def list_commands(self, context: click.Context) -> list[str]:
        """The words of the group, in the table's order."""
        return [
            word for word, entry in self.entries.items() if not (isinstance(entry, Leaf) and entry.hidden)
        ]

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        if isinstance(entry, Branch):
            return LazyGroup(
                cmd_name, entry.leaves, entry.default, help=entry.line, no_args_is_help=not entry.default
            )
        module, _, attribute = entry.where.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.where} is no command")
        return command

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        """Puts the default verb in where the first word is none of the group's."""
        if self.default and (not args or (args[0] not in self.entries and args[0] not in ("--help", "-h"))):
            args = [self.default, *args]
        return super().parse_args(context, args)

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command of the first word; a word that is none gets its nearest, and nothing is run."""
        word = args[0]
        command = self.get_command(context, word)
        if command is None and not word.startswith("-"):
            raise unknown_word(self, context, word)
        if command is None:
            return super().resolve_command(context, args)
        return word, command, args[1:]

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The words with their lines, from the table: nothing is imported."""
        rows = [(word, self.entries[word].line) for word in self.list_commands(context)]
        with formatter.section("Commands"):
            formatter.write_dl(rows, col_max=16)


class RootGroup(LazyGroup):
    """`packetflow` itself: its help shows sections."""

    def __init__(self, sections: Sequence[Section], **more: Any) -> None:
        entries = {word: entry for section in sections for word, entry in section.entries.items()}
        super().__init__("packetflow", entries, **more)
        self.sections = sections

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Each section with its words; the verbs of a noun stand beside it."""
        for section in self.sections:
            with formatter.section(section.title):
                rows = []
                for word, entry in section.entries.items():
                    if isinstance(entry, Branch):
                        shown = [verb for verb, leaf in entry.leaves.items() if not leaf.hidden]
                        verbs = ", ".join([entry.takes, *shown] if entry.takes else shown)
                        rows.append((word, f"{entry.line}: {verbs}" if verbs else entry.line))
                    else:
                        rows.append((word, entry.line))
                formatter.write_dl(rows, col_max=16)


def unknown_word(group: LazyGroup, context: click.Context, word: str) -> Exception:
    """The failure for a word that the group does not have: what is near, by letters or by habit."""
    path = [part for part in context.command_path.split(" ")[1:] if part]
    words = group.list_commands(context)
    found = nearest(word, words)
    habit = HABITS.get(word.lower(), "")
    if habit.split(" ")[0] in words and habit not in found:
        found.insert(0, habit)
    if not found and isinstance(group, RootGroup):
        verb = habit or word
        found = [
            f"{noun} {verb}"
            for noun, entry in group.entries.items()
            if isinstance(entry, Branch) and verb in entry.leaves
        ]
    commands = [" ".join(["packetflow", *path, name]) for name in found]
    within = f' in "{" ".join(path)}"' if path else ""
    rows = [("nearest", ", ".join(found))] if found else [("known", ", ".join(words))]
    return usage(
        f'unknown command "{word}"{within}',
        rows=rows,
        next=commands or [" ".join(["packetflow", *path, "--help"])],
    )
