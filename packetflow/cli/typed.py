"""Fields from the command line and from CSV cells, typed by a capability's contract (JSON Schema)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from packetflow.cli.failures import usage

Schema = Mapping[str, Any]
KINDS = ("null", "boolean", "integer", "number", "array", "object", "string")
SAID = {
    "null": "null",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "array": "a JSON array",
    "object": "a JSON object",
    "string": "text",
}


class NotThatType(ValueError):
    """A text that a field's type does not allow; the message says what was expected."""


def resolve(schema: Any, root: Schema) -> Schema:
    """The schema behind `$ref` (within the document)."""
    seen = 0
    while isinstance(schema, Mapping) and isinstance(schema.get("$ref"), str) and seen < 20:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target.get(part, {}) if isinstance(target, Mapping) else {}
        schema, seen = target, seen + 1
    return schema if isinstance(schema, Mapping) else {}


def alternatives(schema: Any, root: Schema) -> list[Schema]:
    """The schemas of which one has to fit: the members of anyOf and oneOf, else the schema itself."""
    schema = resolve(schema, root)
    for word in ("anyOf", "oneOf"):
        members = schema.get(word)
        if isinstance(members, list):
            return [one for member in members for one in alternatives(member, root)]
    whole = schema.get("allOf")
    if isinstance(whole, list) and len(whole) == 1:
        return alternatives(whole[0], root)
    return [schema]


def kinds(schema: Any, root: Schema) -> list[str]:
    """The JSON types that a schema allows; all of them if it does not say."""
    found: set[str] = set()
    for one in alternatives(schema, root):
        named = one.get("type")
        if isinstance(named, str):
            found.add(named)
        elif isinstance(named, list):
            found.update(named)
        elif "const" in one or "enum" in one:
            found.update(
                kind_of(value)
                for value in [*one.get("enum", []), *([one["const"]] if "const" in one else [])]
            )
        else:
            return list(KINDS)
    return [kind for kind in KINDS if kind in found]


def kind_of(value: Any) -> str:
    """The JSON type of a value."""
    if value is None:
        return "null"
    for type_, kind in (
        (bool, "boolean"),
        (int, "integer"),
        (float, "number"),
        (str, "string"),
        (list, "array"),
    ):
        if isinstance(value, type_):
            return kind
    return "object"


def parse(text: str, schema: Any, root: Schema) -> Any:
    """The value that a text means for a schema. Raises NotThatType.

    Text stays text where the contract wants text; elsewhere null, booleans, numbers, arrays and objects are read as
    JSON writes them. The contract's finer rules (lengths, ranges) are the node's to check.
    """
    allowed = kinds(schema, root)
    if len(allowed) == len(KINDS):
        return guess(text)
    for kind in allowed:
        try:
            return PARSERS[kind](text)
        except ValueError:
            continue
    raise NotThatType(f"expected {' or '.join(SAID[kind] for kind in allowed)}, given {text!r}")


def guess(text: str) -> Any:
    """The value of a text whose type nobody knows: JSON if it is JSON, else text."""
    try:
        return strict_json(text)
    except ValueError:
        return text


def strict_json(text: str) -> Any:
    """A JSON value. Raises ValueError, also for NaN, a key given twice, and what is nested too deeply."""
    try:
        return json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if error.lineno > 1 else f"column {error.colno}"
        raise ValueError(f"{error.msg} at {place}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None


def refuse_constant(word: str) -> Any:
    """NaN and the infinities are Python's, not JSON's."""
    raise ValueError(f"{word} is not JSON")


def unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are all different; ValueError names one that is not."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"key {key!r} is given twice")
            seen.add(key)
    return fields


def _null(text: str) -> None:
    if text != "null":
        raise ValueError


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _of(*types: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        value = strict_json(text)
        if not isinstance(value, types) or isinstance(value, bool):
            raise ValueError
        return value

    return read


PARSERS: Mapping[str, Callable[[str], Any]] = {
    "null": _null,
    "boolean": _boolean,
    "integer": _of(int),
    "number": _of(int, float),
    "array": _of(list),
    "object": _of(dict),
    "string": str,
}


def fields_of(words: Sequence[str], schema: Schema | None, read_stdin: Callable[[], str]) -> dict[str, Any]:
    """The payload that `k=v`, `k:=json`, `k=@file` and `k=-` make. schema: the contract, None if it is not known.

    A field of a list may be given several times. Raises Failure (usage) with all faults at once.
    """
    root: Schema = schema or {}
    properties = root.get("properties")
    known = properties if isinstance(properties, Mapping) else {}
    payload: dict[str, Any] = {}
    faults: list[tuple[str, str]] = []
    for word in words:
        name, sign, text = word.partition("=")
        as_json = name.endswith(":")
        name = name[:-1] if as_json else name
        if not sign or not name:
            faults.append((word, "expected FIELD=VALUE, FIELD:=JSON, FIELD=@FILE or FIELD=-"))
            continue
        wanted = known.get(name, {})
        try:
            value = value_of(text, as_json, wanted, root, read_stdin)
        except (NotThatType, OSError, UnicodeDecodeError) as error:
            faults.append((name, str(error)))
            continue
        if name not in payload:
            payload[name] = value
        elif isinstance(payload[name], list) and isinstance(value, list):
            payload[name].extend(value)
        else:
            faults.append((name, "given twice"))
    if faults:
        raise usage("these fields can't be read", rows=faults)
    return payload


def value_of(text: str, as_json: bool, schema: Any, root: Schema, read_stdin: Callable[[], str]) -> Any:
    """The value of one field's text."""
    if as_json:
        try:
            return strict_json(text)
        except ValueError as error:
            raise NotThatType(f"expected JSON after :=, {error}") from None
    if text == "-":
        text = read_stdin()
    elif text.startswith("@@"):
        text = text[1:]  # a text that begins with @
    elif text.startswith("@") and len(text) > 1:
        text = Path(text[1:]).read_text(encoding="utf-8")
    if kinds(schema, root) == ["array"] and not text.lstrip().startswith("["):
        # One item of a list: `tags=a tags=b`.
        items: Any = next((one.get("items") for one in alternatives(schema, root) if "items" in one), {})
        return [parse(text, items or {}, root)]
    return parse(text, schema, root)
