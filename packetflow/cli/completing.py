"""Completion: the scripts for shells, and the answer when one asks. Ids come from the node in 200 ms, or not at all."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any, NoReturn

import click

from packetflow.cli.exits import Exit
from packetflow.cli.failures import Failure
from packetflow.cli.lazy import LazyGroup

PATIENCE = 0.2  # seconds for everything that a completion does with a node

# The scripts hand over the words up to the cursor, one a line, and get a candidate a line: word, tab, what it is.
SCRIPTS: Mapping[str, str] = {
    "bash": """\
_packetflow_complete() {
    local IFS=$'\\n' line
    COMPREPLY=()
    while read -r line; do
        COMPREPLY+=("${line%%$'\\t'*}")
    done < <(printf '%s\\n' "${COMP_WORDS[@]:1:COMP_CWORD}" | _PACKETFLOW_COMPLETE=bash packetflow 2>/dev/null)
    if [ ${#COMPREPLY[@]} -eq 0 ]; then
        compopt -o default
    elif [[ ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace
    fi
}
complete -o nosort -F _packetflow_complete packetflow 2>/dev/null || complete -F _packetflow_complete packetflow
""",
    "zsh": """\
#compdef packetflow
_packetflow() {
    local -a found
    local line word about
    while IFS=$'\\t' read -r word about; do
        found+=("${word//:/\\\\:}:${about}")
    done < <(printf '%s\\n' "${(@)words[2,$CURRENT]}" | _PACKETFLOW_COMPLETE=zsh packetflow 2>/dev/null)
    if [[ ${found[1]} == *=:* ]]; then
        _describe -V packetflow found -S ''
    elif (( ${#found} )); then
        _describe -V packetflow found
    else
        _files
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _packetflow "$@"
else
    compdef _packetflow packetflow
fi
""",
    "fish": """\
function __packetflow_complete
    set -l words (commandline -opc) (commandline -ct)
    printf '%s\\n' $words[2..-1] | _PACKETFLOW_COMPLETE=fish packetflow 2>/dev/null
end
complete -c packetflow -f -a '(__packetflow_complete)'
complete -c packetflow -n 'test (count (__packetflow_complete)) -eq 0' -F
""",
}

# What stands for ids, by the command's path and the name of its argument or option.
ASKED: Mapping[tuple[str, str], str] = {
    ("call", "id"): "capability",
    ("call", "fields"): "field",
    ("stream", "id"): "capability",
    ("stream", "fields"): "field",
    ("capability show", "id"): "capability",
    ("capability remove", "id"): "capability",
    ("chain show", "id"): "capability",
    ("module show", "name"): "module",
    ("module enable", "name"): "module",
    ("module disable", "name"): "module",
    ("module reload", "name"): "module",
    ("module restart", "name"): "module",
    ("job show", "id"): "job",
    ("job cancel", "id"): "job",
    ("flow show", "id"): "flow",
    ("flow run", "id"): "flow",
    ("flow run", "fields"): "field",
    **{(f"flow {verb}", "id"): "run" for verb in ("inspect", "cancel", "resume", "retry", "fork", "replay")},
    **{(f"flow {verb}", "id"): "waiting run" for verb in ("approve", "reject")},
    ("flow signal", "to"): "waiting run",
    ("flow runs", "before"): "run",
    ("flow runs", "composition"): "flow",
    ("trace", "id"): "trace",
    ("trace show", "id"): "trace",
}


def complete(shell: str) -> int:
    """Answers a shell: reads the words from stdin, writes candidates. Never talks, never fails loudly."""
    words = sys.stdin.read().split("\n")[:-1] or [""]
    for word, about in candidates(words[:-1], words[-1]):
        sys.stdout.write(f"{word}\t{about}\n")
    return int(Exit.DONE)


def candidates(before: Sequence[str], begun: str) -> list[tuple[str, str]]:
    """The words that may stand at the cursor, each with what it is. before: the words in front of it."""
    from packetflow.cli.tree import root

    command: click.Command = root()
    context = click.Context(command, info_name="packetflow")
    path: list[str] = []
    rest = list(before)
    while isinstance(command, LazyGroup):
        word = rest[0] if rest else ""
        found = command.get_command(context, word)
        if found is not None:
            path.append(rest.pop(0))
        elif command.default and (rest or begun.startswith("-")):
            word = command.default
            found = command.get_command(context, word)
        elif not rest:
            return group_words(command, context, begun)
        if found is None:
            return []
        command = found
        context = click.Context(command, info_name=word, parent=context)
    return leaf_words(command, context, path, rest, begun)


def group_words(group: LazyGroup, context: click.Context, begun: str) -> list[tuple[str, str]]:
    """A group's verbs; of one with a default verb also that one's ids."""
    words = [
        (word, group.entries[word].line) for word in group.list_commands(context) if word.startswith(begun)
    ]
    if group.default and group.name:
        words += ids(ASKED.get((group.name, "id"), ""), begun, ())
    return words


def leaf_words(
    command: click.Command, context: click.Context, path: Sequence[str], rest: Sequence[str], begun: str
) -> list[tuple[str, str]]:
    """Options, an option's values, or ids."""
    options = {
        flag: option
        for option in command.get_params(context)
        if isinstance(option, click.Option)
        for flag in option.opts
    }
    waiting = options.get(rest[-1]) if rest else None
    if waiting is not None and not waiting.is_flag and not waiting.count:
        if isinstance(waiting.type, click.Choice):
            return [(str(word), "") for word in waiting.type.choices if str(word).startswith(begun)]
        return ids(ASKED.get((" ".join(path), str(waiting.name)), ""), begun, rest)
    if begun.startswith("-"):
        given = set(rest)
        return [
            (flag, option.help or "")
            for flag, option in options.items()
            if flag.startswith(begun) and flag.startswith("--") and (flag not in given or option.multiple)
        ]
    place = sum(
        1 for index, word in enumerate(rest) if is_argument(word, rest[index - 1] if index else "", options)
    )
    arguments = [
        parameter for parameter in command.get_params(context) if isinstance(parameter, click.Argument)
    ]
    if arguments and arguments[-1].nargs == -1:
        place = min(place, len(arguments) - 1)
    if place < len(arguments):
        argument = arguments[place]
        if isinstance(argument.type, click.Choice):
            return [(str(word), "") for word in argument.type.choices if str(word).startswith(begun)]
        kind = ASKED.get((" ".join(path), str(argument.name)), "")
        return fields(rest, begun) if kind == "field" else ids(kind, begun, rest)
    return []


def is_argument(word: str, before: str, options: Mapping[str, click.Option]) -> bool:
    """Whether a word is neither an option nor an option's value."""
    owner = options.get(before)
    return not word.startswith("-") and (owner is None or owner.is_flag or bool(owner.count))


def ids(kind: str, begun: str, rest: Sequence[str]) -> list[tuple[str, str]]:
    """Ids that begin so: from the node, in time, or none."""
    if kind == "capability":
        rows = ask("system.catalogue", {}, rest).get("capabilities") or ()
        found = [(str(row["id"]), str(row.get("intent") or "")) for row in rows]
    elif kind == "module":
        rows = ask("system.modules", {}, rest).get("modules") or ()
        found = [(str(row["name"]), str(row.get("status") or "")) for row in rows]
    elif kind == "flow":
        rows = ask("system.flows", {}, rest).get("flows") or ()
        found = [(str(row["id"]), str(row.get("intent") or "")) for row in rows]
    elif kind in ("run", "waiting run"):
        only = {"state": "waiting"} if kind != "run" else {}
        rows = ask("system.runs", {"limit": 20, **only}, rest).get("runs") or ()
        found = [(str(row["id"])[:8], f"{row['composition']} {row['state']}") for row in rows]
    elif kind == "trace":
        rows = ask("system.traces", {"limit": 20}, rest).get("traces") or ()
        found = [
            ("last", "the last request"),
            *((str(row["id"])[:8], str(row["capability"])) for row in rows),
        ]
    elif kind == "job":
        rows = ask("job.list", {"limit": 20}, rest).get("jobs") or ()
        found = [
            ("last", "the job that was started last"),
            *((str(row["id"])[:8], f"{row['capability']} {row['status']}") for row in rows),
        ]
    else:
        return []
    return [
        (word, about.replace("\n", " ").replace("\t", " ")) for word, about in found if word.startswith(begun)
    ]


def fields(rest: Sequence[str], begun: str) -> list[tuple[str, str]]:
    """The fields of the capability being called, those not given yet."""
    if "=" in begun:
        return []
    id = next((word for word in rest if not word.startswith("-")), "")
    properties = (ask("system.capability", {"id": id}, rest).get("requires") or {}).get("properties") or {}
    given = {word.partition("=")[0].rstrip(":") for word in rest}
    return [
        (f"{name}=", str(field.get("description") or field.get("type") or ""))
        for name, field in properties.items()
        if name not in given and name.startswith(begun)
    ]


def ask(capability: str, payload: Mapping[str, object], rest: Sequence[str]) -> Mapping[str, Any]:
    """A node's answer within PATIENCE; nothing if there is none. The process ends when the time is over.

    rest: the words of the command line, for its --node.
    """
    node = next((after for word, after in itertools.pairwise(rest) if word == "--node"), None)

    def late(number: int, frame: FrameType | None) -> NoReturn:
        os._exit(Exit.DONE)

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        from packetflow.cli.invocation import Invocation

        answer: Mapping[str, Any] = Invocation(node=node, timeout=PATIENCE).ask(capability, payload)
    except Failure:
        return {}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return answer
