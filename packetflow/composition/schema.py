"""The JSON Schema (2020-12) of plans as data, for editors and for programs that write plans: `docs/plan.schema.json` is its text.

It says what `data.py` reads, as far as a schema can: that CEL texts are CEL, and that names are unique, it can't.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from packetflow.capabilities.checks import ID, VERSION
from packetflow.capabilities.contract import DIALECT
from packetflow.composition.data import FORMAT, KINDS, NEEDED
from packetflow.composition.nodes import MapReduce
from packetflow.composition.serving import WORDS

Schema = Mapping[str, Any]

NODE: Schema = {"$ref": "#/$defs/node"}
NODES: Schema = {"type": "array", "items": NODE, "minItems": 1}
STEP: Schema = {
    "type": "string", "pattern": f"^{ID.pattern}(@.*)?$", "description": "A capability's id, such as ticket.open@2.",
}  # fmt: skip
CONDITION: Schema = {"type": "string", "description": "A CEL text over the scope (https://cel.dev)."}
COUNT: Schema = {"type": "integer", "minimum": 1}
SECONDS: Schema = {"type": "number", "exclusiveMinimum": 0, "description": "Seconds."}
FROM_ZERO: Schema = {"type": "number", "minimum": 0}
PRINCIPALS: Schema = {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1}
NAME: Schema = {"type": "string", "pattern": "^[^\\W\\d]\\w*$"}

# What stands at the key of each kind.
OF_KIND: Mapping[str, Schema] = {
    "step": STEP, "subflow": STEP, "pipeline": NODES, "saga": NODES, "parallel": NODES, "race": NODES,
    "branch": {"type": "array", "items": {"$ref": "#/$defs/case"}, "minItems": 1},
    "loop": NODE, "map_reduce": NODE, "retry": NODE, "circuit_breaker": NODE, "hedge": NODE, "sleep": SECONDS,
    "wait_for": {"type": "string", "minLength": 1, "description": "An event's name, such as payment.received."},
    "state_machine": {**NAME, "description": "The state that it begins in."},
    "approval": {**PRINCIPALS, "description": "Who may decide."},
}  # fmt: skip
# What stands at the other keys. `retry` counts its delay from 0, as `loop` does.
OPTIONS: Mapping[str, Schema] = {
    "name": {"type": "string", "minLength": 1, "description": "What people call it; unique among its siblings."},
    "inputs": {
        "type": "object", "additionalProperties": {"$ref": "#/$defs/input"}, "description": "What each parameter is to be.",
    },
    "outputs": {
        "type": "object", "additionalProperties": NAME, "description": "Under which name each field goes into the scope.",
    },
    "timeout": SECONDS, "compensate": NODE, "attempts": COUNT,
    "partial_failure": {"enum": ["fail", "continue"]}, "limit": COUNT, "combine": {"enum": ["list", "merge"]},
    "otherwise": NODE, "over": CONDITION, "while": CONDITION, "max_iterations": COUNT, "item": NAME, "break_when": CONDITION,
    "delay": FROM_ZERO, "reduce": {"anyOf": [{"enum": list(MapReduce.REDUCERS)}, NODE]}, "concurrency": COUNT, "chunk": COUNT,
    "partition": CONDITION, "most": COUNT, "factor": {"type": "number", "minimum": 1}, "maximum": FROM_ZERO,
    "jitter": {"type": "number", "minimum": 0, "maximum": 1},
    "retry_when": CONDITION, "fallback": NODE, "key": {"type": "string", "minLength": 1}, "threshold": COUNT,
    "recovery": SECONDS, "trials": COUNT, "after": SECONDS, "match": CONDITION, "subject": {"type": "string"},
    "states": {
        "type": "object", "propertyNames": NAME,
        "additionalProperties": {"type": "array", "items": {"$ref": "#/$defs/transition"}},
    },
    "max_events": COUNT, "deadline": SECONDS, "on_timeout": {"enum": ["reject", "approve", "escalate"]},
    "escalate_to": PRINCIPALS,
}  # fmt: skip


def plan_schema() -> dict[str, Any]:
    """The schema of a whole plan."""
    types = {
        "type": "object",
        "propertyNames": NAME,
        "additionalProperties": {"enum": [word + mark for word in WORDS for mark in ("", "?")]},
    }
    properties: dict[str, Any] = {
        "format": {"const": FORMAT}, "id": {"type": "string", "pattern": f"^{ID.pattern}$"},
        "intent": {"type": "string", "minLength": 1}, "version": {"type": "string", "pattern": f"^{VERSION.pattern}$"},
        "requires": types, "provides": types, "timeout": SECONDS, "tags": {"type": "array", "items": {"type": "string"}},
        "durable": {"type": "boolean", "description": "Each step's result is stored before the next begins."},
        "run_ttl": {**SECONDS, "description": "Seconds after which a durable run is ended."},
        "steps": NODES, "plan": NODE,
    }  # fmt: skip
    return {
        "$schema": DIALECT,
        "title": "A PacketFlow composition",
        "type": "object",
        "properties": properties,
        "required": ["id", "intent"],
        "oneOf": [{"required": ["steps"]}, {"required": ["plan"]}],
        "additionalProperties": False,
        "$defs": {
            "node": {"anyOf": [STEP, NODES, *({"$ref": f"#/$defs/{kind}"} for kind in KINDS)]},
            "case": _table({"when": CONDITION, "then": NODE}, ["when", "then"]),
            "transition": _table(
                {"event": {"type": "string", "minLength": 1}, "to": NAME, "when": CONDITION, "do": NODE},
                ["event", "to"],
            ),
            "input": {
                "anyOf": [
                    {"type": "string", "description": "The name of something in the scope."},
                    _table({"value": {}}, ["value"]),
                    _table({"cel": CONDITION}, ["cel"]),
                ]
            },
            **{kind: _kind(kind) for kind in KINDS},
        },
    }


def schema_text() -> str:
    """The schema as it is published."""
    return json.dumps(plan_schema(), indent=2) + "\n"


def _kind(kind: str) -> dict[str, Any]:
    properties = {kind: OF_KIND[kind], **{key: OPTIONS[key] for key in KINDS[kind]}}
    table = _table(properties, [kind, *NEEDED.get(kind, ())])
    if kind == "loop":
        table["oneOf"] = [{"required": ["over"]}, {"required": ["while"]}]
    return table


def _table(properties: Schema, required: list[str]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": required,
        "additionalProperties": False,
    }
