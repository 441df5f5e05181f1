"""Runs that go on after their end, or on another plan: what of a journal is forgotten when a run begins again at a step.

What comes later in the plan is forgotten, what is beside it is not. A step that was undone is run again, with all that came
after it, and with new keys: whoever honours the old ones would answer with what has been undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packetflow.composition.durable.strands import OCCURRENCE, within
from packetflow.composition.nodes import Loop, Node, Pipeline, Retry, Saga, Step, below
from packetflow.composition.plan import walk
from packetflow.composition.waiting import StateMachine
from packetflow.storage.runs.records import Change, Drop, Entry, Forget
from packetflow.wire.errors import NotFound, ValidationFailed

REPEATED = ("body", "map", "reduce")  # the parts of nodes that run them several times
PART = re.compile(r"([^/\[(!]+)((?:\[\d+\]|\(\d+\))*)")
ONE = re.compile(r"\[\d+\]|\(\d+\)")
MARKS = (
    "",
    "!",
    "!since",
    "!over",
    "!won",
    "!alone",
)  # behind a place: what is written of a node besides what is below it


def start_of(body: Node, step: str) -> str:
    """The place of a step that people name: by its place, as `inspect` shows it, by its name, or by its capability.

    Raises NotFound, with what there is; ValidationFailed for one that is several, or that occurs several times.
    """
    nodes = dict(walk(body))
    static = OCCURRENCE.sub("", step)
    if static in nodes:
        _check_occurrences(nodes, step)
        return step
    named = [
        place
        for place, node in nodes.items()
        if "compensate" not in place.split("/")
        and (step == node.label or (isinstance(node, Step) and step == node.capability))
    ]
    if not named:
        there = sorted({node.label for place, node in nodes.items() if isinstance(node, Step)})
        raise NotFound(
            f"the plan has no step {step!r}; expected a place, a name or a capability", {"candidates": there}
        )
    if len(named) > 1:
        raise ValidationFailed(
            f"{step!r} stands at {len(named)} places of the plan; expected one of them",
            {"candidates": named, "faults": []},
        )
    _check_occurrences(nodes, named[0])
    return named[0]


def _check_occurrences(nodes: dict[str, Node], place: str) -> None:
    here = ""
    parts = [(name, marks) for name, marks in PART.findall(place)]
    for number, (name, marks) in enumerate(parts):
        here = below(here, name)
        last = number == len(parts) - 1
        node = nodes[here]
        repeated = (
            not last
            and _repeats(node)
            and (isinstance(node, StateMachine) or parts[number + 1][0] in REPEATED)
        )
        if repeated and not marks:
            raise ValidationFailed(
                f"{place} lies in the {nodes[here].kind} at {here}, which runs it several times; expected the whole, "
                f"{here}, or one of them, such as {here}[0]",
                {"faults": []},
            )


def _repeats(node: Node) -> bool:
    return isinstance(node, Loop | Retry | StateMachine) or node.kind in ("map_reduce", "hedge")


def forgotten(
    body: Node, entries: Sequence[Entry], start: str | None, failure: str = ""
) -> tuple[list[Change], bool]:
    """What is forgotten of a journal so that the run begins again at `start`; and whether something of it had been undone.

    start: None for where it failed. failure: the place that its error names.
    """
    undone = [str(one[0]) for entry in entries if entry.kind == "undo" for one in entry.body["undos"]]
    changes: list[Change] = [
        Forget(entry.place) for entry in entries if entry.kind == "undo" or entry.place.endswith("!")
    ]
    starts = undone if start is None else [*undone, start]
    changes += [Drop(place) for place in starts]
    if start is None and any(entry.place == failure for entry in entries):
        changes += [Forget(failure + mark) for mark in (*MARKS, "!escalated")]
        starts = [*undone, failure]
    nodes = dict(walk(body))
    for place in dict.fromkeys(starts):
        changes += _behind(nodes, entries, place)
    return changes, bool(undone)


def _behind(nodes: dict[str, Node], entries: Sequence[Entry], place: str) -> list[Change]:
    """What comes after a place, and what is written of the nodes that it lies in."""
    changes: list[Change] = []
    outer, static = "", ""
    for name, marks in PART.findall(place):
        node = nodes.get(static)
        changes += [Forget(outer + mark) for mark in MARKS]
        if isinstance(node, Pipeline | Saga) and name.isdigit():
            changes += [Drop(below(outer, later)) for later in range(int(name) + 1, len(node.steps))]
        outer, static = below(outer, name), below(static, name)
        for mark in ONE.findall(marks):
            changes += [Forget(outer + one) for one in MARKS]
            if isinstance(nodes.get(static), Loop | Retry | StateMachine):
                changes += _later(entries, outer, mark)
            outer += mark
    return changes


def _later(entries: Iterable[Entry], outer: str, mark: str) -> list[Change]:
    """Later iterations or attempts than this one."""
    least, opening = int(mark[1:-1]), outer + mark[0]
    found: set[str] = set()
    for entry in entries:
        if entry.place.startswith(opening):
            one = ONE.match(entry.place, len(outer))
            if one is not None and int(one[0][1:-1]) > least:
                found.add(outer + one[0])
    return [Drop(one) for one in sorted(found)]


def kept(entries: Iterable[Entry], changes: Iterable[Change]) -> list[Entry]:
    """What is left of a journal."""
    exact = {change.place for change in changes if isinstance(change, Forget)}
    roots = [change.place for change in changes if isinstance(change, Drop)]
    return [
        entry
        for entry in entries
        if entry.place not in exact and not any(within(entry.place, root) for root in roots)
    ]
