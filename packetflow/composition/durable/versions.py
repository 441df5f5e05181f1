"""Whether a run can go on with the capabilities that the node has now (design ruling 34)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pydantic_core import from_json

from packetflow.composition.durable.plans import StoredPlan
from packetflow.composition.nodes import Step
from packetflow.composition.plan import walk
from packetflow.storage.runs.records import FORMAT, KINDS, Entry, Loaded, RunRow
from packetflow.wire.errors import Unavailable

Contract = Callable[[str], "tuple[str, Any, Any] | None"]  # version, requires, provides


def contracts_of(capabilities: Iterable[str], contract: Contract) -> dict[str, Any]:
    """What a plan's capabilities are now, as it is stored with a run."""
    found = {name: contract(name) for name in sorted(capabilities)}
    return {
        name: {"version": one[0], "requires": _fields(one[1]), "provides": _fields(one[2])}
        for name, one in found.items()
        if one is not None
    }


def check_readable(loaded: Loaded) -> None:
    """Raises Unavailable for a run that a later version wrote: this one would read it wrongly."""
    row = loaded.row
    if row.format > FORMAT:
        raise Unavailable(
            f"run {row.id[:8]} is stored in format {row.format}, this node reads {FORMAT}; start it with the version of "
            "PacketFlow that wrote it, or a later one",
            {"run": row.id, "format": row.format},
        )
    for entry in loaded.entries:
        if entry.kind not in KINDS:
            raise Unavailable(
                f"run {row.id[:8]} has an event {entry.kind!r} at {entry.place or 'its plan'}, which this version does not "
                f"know (it knows {', '.join(KINDS)}); start the node with a later version of PacketFlow, or fork the run",
                {"run": row.id, "place": entry.place},
            )


def unfit(row: RunRow, plan: StoredPlan, entries: Iterable[Entry], contract: Contract) -> None:
    """Raises Unavailable, naming step and reason, if a step that has not ended can't be asked for as the plan does."""
    ended = {entry.place for entry in entries if entry.kind == "done"}
    began: Mapping[str, Any] = from_json(row.contracts)
    for place, node in walk(plan.node):
        if not isinstance(node, Step) or place in ended:
            continue
        now = contract(node.capability)
        reason = None
        if now is None:
            reason = "is no longer there"
        elif node.capability in began:
            reason = _misfit(began[node.capability], _fields(now[1]), _fields(now[2]))
        if reason is not None:
            raise Unavailable(
                f"run {row.id[:8]} of {row.composition} is stranded at {place or 'its step'}: {node.capability} {reason}",
                {"run": row.id, "place": place, "capability": node.capability},
            )


def _fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "needed": sorted(schema.get("required", ())),
        "fields": {name: _bare(one) for name, one in schema.get("properties", {}).items()},
        "type": schema.get("type"),
    }


def _bare(schema: Any) -> Any:
    """A schema without what is for people."""
    if isinstance(schema, Mapping):
        return {
            key: _bare(item) for key, item in schema.items() if key not in ("title", "description", "default")
        }
    return [_bare(item) for item in schema] if isinstance(schema, list) else schema


def _misfit(began: Mapping[str, Any], requires: Mapping[str, Any], provides: Mapping[str, Any]) -> str | None:
    """Why what the plan gives and takes does not fit any more; wider input and narrower output do."""
    old, new = began["requires"], requires
    for name in new["needed"]:
        if name not in old["needed"]:
            return f"requires {name!r} now"
    for name, schema in old["fields"].items():
        if name not in new["fields"]:
            return f"takes no {name!r} any more"
        if (
            schema != new["fields"][name]
            and new["fields"][name] != {}
            and not _wider(schema, new["fields"][name])
        ):
            return f"takes another {name!r} now"
    old, new = began["provides"], provides
    if old["type"] != new["type"]:
        return "answers with another type now"
    for name, schema in old["fields"].items():
        if name not in new["fields"]:
            return f"gives no {name!r} any more"
        if schema != new["fields"][name] and not _wider(new["fields"][name], schema):
            return f"gives another {name!r} now"
    return None


def _wider(narrow: Any, wide: Any) -> bool:
    """Whether all that fits the first surely fits the second."""
    if narrow == wide or wide == {} or (narrow, wide) == ({"type": "integer"}, {"type": "number"}):
        return True
    return isinstance(wide, Mapping) and any(_wider(narrow, one) for one in wide.get("anyOf", ()))
