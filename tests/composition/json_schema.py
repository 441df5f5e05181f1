"""As much of JSON Schema 2020-12 as the schema of plans uses, said plainly; a keyword that it does not know fails the test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TYPES: Mapping[str, Any] = {
    "string": str,
    "object": dict,
    "array": list,
    "integer": int,
    "number": (int, float),
}
SAYS_NOTHING = {"$schema", "title", "description", "$defs"}


def valid(value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    return all(holds(word, value, schema, root) for word in schema if word not in SAYS_NOTHING)


def holds(word: str, value: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    said = schema[word]
    table = value if isinstance(value, dict) else {}
    items = value if isinstance(value, list) else []
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match word:
        case "$ref":
            return valid(value, root["$defs"][said.removeprefix("#/$defs/")], root)
        case "type":
            return (
                isinstance(value, bool)
                if said == "boolean"
                else isinstance(value, TYPES[said]) and not isinstance(value, bool)
            )
        case "enum":
            return any(value == each and type(value) is type(each) for each in said)
        case "const":
            return bool(value == said) and type(value) is type(said)
        case "pattern":
            return not isinstance(value, str) or re.search(said, value) is not None
        case "minLength":
            return not isinstance(value, str) or len(value) >= said
        case "minimum":
            return not number or value >= said
        case "exclusiveMinimum":
            return not number or value > said
        case "items":
            return all(valid(item, said, root) for item in items)
        case "minItems":
            return not isinstance(value, list) or len(items) >= said
        case "required":
            return not isinstance(value, dict) or all(key in table for key in said)
        case "properties":
            return all(valid(table[key], each, root) for key, each in said.items() if key in table)
        case "propertyNames":
            return all(valid(key, said, root) for key in table)
        case "additionalProperties":
            rest = [item for key, item in table.items() if key not in schema.get("properties", {})]
            return not rest if said is False else all(valid(item, said, root) for item in rest)
        case "anyOf":
            return any(valid(value, each, root) for each in said)
        case "oneOf":
            return sum(valid(value, each, root) for each in said) == 1
    raise AssertionError(f"the schema uses {word!r}, which this test does not know")
