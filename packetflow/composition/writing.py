"""Plans written as plain data, and as TOML, JSON and YAML: so that they read the same again (`data.py`)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from packetflow.composition.data import FORMAT
from packetflow.composition.nodes import Branch, Cel, Node, Pipeline, PlanError, Step, Value
from packetflow.composition.plan import DEEPEST, Composition
from packetflow.composition.serving import WORDS
from packetflow.composition.waiting import Transition
from packetflow.documents.yaml import write_yaml

Language = Literal["toml", "json", "yaml"]
BARE = re.compile(r"[A-Za-z0-9_-]+")


def to_data(plan: Composition) -> dict[str, Any]:
    """A composition as plain data, which `from_data` reads as the same. Raises PlanError where it holds Python functions or types
    that have no word."""
    data: dict[str, Any] = {"format": FORMAT, "id": plan.id, "intent": plan.intent, "version": plan.version}
    for key in ("requires", "provides"):
        given = getattr(plan, key)
        if given is not None and (given or key == "provides"):
            data[key] = {name: _word(value, f"{key} {name}") for name, value in given.items()}
    if plan.timeout is not None:
        data["timeout"] = plan.timeout
    if plan.tags:
        data["tags"] = list(plan.tags)
    if plan.durable:
        data["durable"] = True
    if plan.run_ttl is not None:
        data["run_ttl"] = plan.run_ttl
    data["plan"] = node_to_data(plan.body)
    return data


def node_to_data(node: Node) -> Any:
    """A node as plain data. Raises PlanError where it holds Python functions."""
    if isinstance(node, Step) and node == Step(node.capability) and type(node) is Step:
        return node.capability
    if isinstance(node, Pipeline) and node == Pipeline(node.steps):
        return [node_to_data(step) for step in node.steps]
    data: dict[str, Any] = {}
    for each in fields(node):
        value = getattr(node, each.name)
        key = {"while_": "while", "capability": node.kind, "steps": node.kind, "body": node.kind, "map": node.kind,
               "seconds": node.kind, "cases": node.kind, "event": node.kind,
               "who": node.kind, "initial": node.kind}.get(each.name, each.name)  # fmt: skip
        if key != node.kind and (value == each.default or (isinstance(value, Mapping) and not value)):
            continue
        data[key] = _plain(value, node)
    # The key that says what it is stands first.
    return {node.kind: data.pop(node.kind), **data}


def _plain(value: Any, node: Node) -> Any:
    if isinstance(value, Node):
        return node_to_data(value)
    if isinstance(value, Value):
        return {"value": _data(value.value, node, 0)}
    if isinstance(value, Cel):
        return {"cel": value.text}
    if isinstance(value, Transition):
        told = {"event": value.event, "to": value.to, "when": value.when, "do": value.do}
        return {key: _plain(item, node) for key, item in told.items() if item is not None}
    if isinstance(value, Mapping):
        return {name: _plain(item, node) for name, item in value.items()}
    if isinstance(node, Branch) and isinstance(value, tuple):
        return [{"when": _plain(condition, node), "then": node_to_data(then)} for condition, then in value]
    if isinstance(value, tuple):
        return [_plain(item, node) for item in value]
    if callable(value):
        raise PlanError(
            f"a {node.kind} has a Python function as its condition; expected a CEL text, which can be written out"
        )
    return value


def _data(value: Any, node: Node, depth: int) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if depth < DEEPEST and isinstance(value, list | tuple):
        return [_data(item, node, depth + 1) for item in value]
    if depth < DEEPEST and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _data(item, node, depth + 1) for key, item in value.items()}
    raise PlanError(
        f"{node.label} is given a {type(value).__name__}, which can't be written out; expected texts, numbers, booleans, "
        f"null, and lists and mappings of them, at most {DEEPEST} deep"
    )


def _word(given: Any, what: str) -> str:
    if isinstance(given, str):
        return given
    for word, hint in WORDS.items():
        if given is hint:
            return word
    raise PlanError(f"{what} is {given!r}, which has no word in a file; expected one of {', '.join(WORDS)}")


def written(plan: Composition, language: Language) -> str:
    """A composition as the text of a file, which `read_file` reads as the same. Raises PlanError, as `to_data` does."""
    return write_data(to_data(plan), language)


def write_data(data: Mapping[str, Any], language: Language) -> str:
    """What `to_data` made as the text of a file. Raises PlanError where TOML can't say it: it has no null."""
    if language == "json":
        return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    shown = _steps_first(data)
    if language == "yaml":
        return write_yaml(shown)
    lines = [f"{_key(key)} = {_inline(value, key)}" for key, value in shown.items() if key != "steps"]
    for step in shown.get("steps", ()):
        table = step if isinstance(step, Mapping) else {"step" if isinstance(step, str) else "pipeline": step}
        lines += ["", "[[steps]]", *(f"{_key(key)} = {_inline(value, key)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def _steps_first(data: Mapping[str, Any]) -> dict[str, Any]:
    """A plan that is a plain pipeline as its steps, which people read more easily."""
    if isinstance(data.get("plan"), list):
        return {"steps" if key == "plan" else key: value for key, value in data.items()}
    return dict(data)


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _inline(value: Any, where: str) -> str:
    """A value on one line of TOML."""
    if value is None:
        raise PlanError(f"{where}: null, which TOML has no word for; write the plan as JSON or YAML")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_inline(item, where) for item in value)}]"
    if isinstance(value, Mapping):
        pairs = [f"{_key(str(key))} = {_inline(item, str(key))}" for key, item in value.items()]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    return repr(value)  # numbers: Python writes them as TOML does, inf and nan included
