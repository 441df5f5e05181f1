"""Plans as data: what TOML and JSON hold, read with all faults at once and written so that it reads the same again.

    id = "ship.order"
    intent = "Take, pay, send"
    requires = { order = "string", total = "number" }

    [[steps]]                                   # a pipeline; or `plan = ...`, any one node
    step = "stock.take"
    compensate = "stock.put_back"

    [[steps]]
    branch = [{ when = "total > 100", then = "sales.approve" }]

A node is a text (the step of that capability), a list (a pipeline), or a table with the key of its kind.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from packetflow.capabilities.conditions import ConditionError
from packetflow.composition.nodes import (
    Branch,
    Cel,
    CircuitBreaker,
    Fault,
    Hedge,
    Loop,
    MapReduce,
    Node,
    Parallel,
    Pipeline,
    PlanError,
    Race,
    Retry,
    Saga,
    Several,
    Sleep,
    Step,
    Subflow,
    Value,
)
from packetflow.composition.plan import DEEPEST, Composition
from packetflow.composition.waiting import Approval, WaitFor

TOP = ("id", "intent", "version", "requires", "provides", "timeout", "tags", "durable", "run_ttl",
       "steps", "plan")  # fmt: skip
STEP = ("inputs", "outputs", "timeout", "compensate", "name")
# The key of each kind, and the others that it may have. `while` and `over` are a loop's.
KINDS: Mapping[str, tuple[str, ...]] = {
    "step": STEP,
    "subflow": STEP,
    "pipeline": ("name",),
    "saga": ("attempts", "name"),
    "parallel": ("partial_failure", "limit", "timeout", "combine", "name"),
    "race": ("name",),
    "branch": ("otherwise", "name"),
    "loop": ("over", "while", "max_iterations", "item", "break_when", "delay", "name"),
    "map_reduce": ("over", "reduce", "item", "concurrency", "chunk", "attempts", "partition", "most", "name"),
    "retry": ("attempts", "delay", "factor", "maximum", "jitter", "retry_when", "fallback", "name"),
    "circuit_breaker": ("key", "threshold", "recovery", "trials", "name"),
    "hedge": ("after", "attempts", "name"),
    "sleep": ("name",),
    "wait_for": ("match", "timeout", "outputs", "name"),
    "approval": ("subject", "deadline", "on_timeout", "escalate_to", "outputs", "name"),
}
NEEDED: Mapping[str, tuple[str, ...]] = {
    "loop": ("max_iterations",), "map_reduce": ("over",), "circuit_breaker": ("key",), "hedge": ("after",),
}  # fmt: skip
SEVERAL: Mapping[str, type[Several]] = {
    "pipeline": Pipeline,
    "saga": Saga,
    "parallel": Parallel,
    "race": Race,
}


# ---- reading ------------------------------------------------------------------------------------------------------------


def read_file(path: Path) -> Composition:
    """The composition in a TOML or JSON file. Raises PlanError, which names the file and has all faults."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise PlanError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PlanError(f"{path}: not UTF-8 at byte {error.start + 1}") from error
    try:
        data = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if path.suffix == ".json" else "TOML"
        raise PlanError(f"{path}: not {kind}: {error}") from error
    try:
        return from_data(data)
    except PlanError as error:
        faults = error.faults or (Fault("", str(error)),)
        raise PlanError("\n".join(f"{path}: {fault}" for fault in faults), faults) from None


def from_data(data: object) -> Composition:
    """The composition that plain data means. Raises PlanError with all faults, each with its place in the data."""
    reader = _Reader()
    if not isinstance(data, Mapping):
        raise PlanError(f"expected a table with id, intent and steps, got {type(data).__name__}")
    reader.keys(data, TOP, "", "a composition")
    if ("steps" in data) == ("plan" in data):
        reader.fault("", "expected one of steps (a pipeline) and plan (any node)")
        body = None
    else:
        key = "steps" if "steps" in data else "plan"
        body = reader.node(data[key], key, 0)
    for key in ("id", "intent"):
        if not isinstance(data.get(key), str):
            reader.fault(key, f"is {_shown(data.get(key))}; expected a text")
    for key in ("requires", "provides"):
        if key in data and not isinstance(data[key], Mapping):
            reader.fault(key, f"is {_shown(data[key])}; expected a table of names and their types")
    if body is not None and not reader.faults:
        made: Composition | None = reader.make("", lambda: _composition(data, body))
        if made is not None:
            return made
    raise PlanError("; ".join(map(str, reader.faults)), tuple(reader.faults))


def _composition(data: Mapping[str, Any], body: Node) -> Composition:
    provides = data.get("provides")
    made = Composition(
        data["id"], data["intent"], body, dict(data.get("requires", {})), None if provides is None else dict(provides),
        data.get("version", "1.0.0"), data.get("timeout"), tuple(data.get("tags", ())),
        data.get("durable", False), data.get("run_ttl"),
    )  # fmt: skip
    made.definition  # noqa: B018 - what can't be served is a fault of this file
    return made


class _Reader:
    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, place: str, message: str) -> None:
        self.faults.append(Fault(place, message))

    def keys(self, table: Mapping[str, Any], known: tuple[str, ...], place: str, what: str) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"nearest {near[0]}" if near else f"expected {', '.join(known)}"
                self.fault(_in(place, key), f"unknown key of {what}; {hint}")

    def make(self, place: str, build: Callable[[], Any]) -> Any:
        """What `build` makes; None, and a fault, if it refuses."""
        try:
            return build()
        except (PlanError, ConditionError) as error:
            self.fault(place, str(error))
        except (TypeError, ValueError) as error:
            self.fault(place, f"{error}")
        return None

    def node(self, data: Any, place: str, depth: int) -> Node | None:
        if depth > DEEPEST:
            self.fault(place, f"more than {DEEPEST} nodes deep")
            return None
        if isinstance(data, str):
            return self.make(place, lambda: Step(data))  # type: ignore[no-any-return]
        if isinstance(data, list):
            return self._several(Pipeline, data, {}, place, depth)
        if not isinstance(data, Mapping):
            self.fault(
                place,
                f"is {_shown(data)}; expected a step, a list of steps, or a table such as {{ step = ... }}",
            )
            return None
        kinds = [key for key in KINDS if key in data]
        # A step may have a timeout, and retry may fall back: the key that stands for the kind is the one that is no option.
        if len(kinds) != 1:
            near = [found for key in data for found in difflib.get_close_matches(str(key), list(KINDS), n=1)]
            hint = f"nearest {near[0]}" if near and not kinds else f"expected one of {', '.join(KINDS)}"
            self.fault(
                place, f"{'says both ' + ' and '.join(kinds) if kinds else 'does not say what it is'}; {hint}"
            )
            return None
        kind = kinds[0]
        self.keys(data, (kind, *KINDS[kind]), place, kind)
        missing = [key for key in NEEDED.get(kind, ()) if key not in data]
        for key in missing:
            self.fault(place, f"a {kind} needs {key}")
        options = {key: value for key, value in data.items() if key != kind and key in KINDS[kind]}
        if missing:
            return None
        return self._of_kind(kind, data[kind], options, place, depth)

    def _of_kind(self, kind: str, data: Any, options: dict[str, Any], place: str, depth: int) -> Node | None:
        here = _in(place, kind)
        if kind in SEVERAL:
            if not isinstance(data, list):
                self.fault(here, f"is {_shown(data)}; expected a list of nodes")
                return None
            return self._several(SEVERAL[kind], data, options, here, depth)
        if kind in ("step", "subflow"):
            return self._step(Subflow if kind == "subflow" else Step, data, options, place, depth)
        if kind == "branch":
            return self._branch(data, options, place, depth)
        if kind == "sleep":
            return self.make(here, lambda: Sleep(data, **options))  # type: ignore[no-any-return]
        if kind == "wait_for":
            return self.make(here, lambda: WaitFor(data, **options))  # type: ignore[no-any-return]
        if kind == "approval":
            return self.make(here, lambda: Approval(data, **options))  # type: ignore[no-any-return]
        body = self.node(data, here, depth + 1)
        for key in ("fallback", "reduce"):
            if key in options and not (key == "reduce" and options[key] in MapReduce.REDUCERS):
                options[key] = self.node(options[key], _in(place, key), depth + 1)
                if options[key] is None:
                    return None
        if body is None:
            return None
        if "while" in options:
            options["while_"] = options.pop("while")
        classes: dict[str, Any] = {
            "retry": Retry,
            "circuit_breaker": CircuitBreaker,
            "hedge": Hedge,
            "loop": Loop,
        }
        if kind == "map_reduce":
            return self.make(place, lambda: MapReduce(map=body, **options))  # type: ignore[no-any-return]
        return self.make(place, lambda: classes[kind](body=body, **options))  # type: ignore[no-any-return]

    def _several(
        self, kind: type[Several], data: list[Any], options: dict[str, Any], place: str, depth: int
    ) -> Node | None:
        steps = [self.node(each, f"{place}[{number}]", depth + 1) for number, each in enumerate(data)]
        if any(step is None for step in steps):
            return None
        return self.make(place, lambda: kind(tuple(steps), **options))  # type: ignore[arg-type, no-any-return]

    def _step(
        self, kind: type[Step], data: Any, options: dict[str, Any], place: str, depth: int
    ) -> Node | None:
        inputs = options.pop("inputs", {})
        if not isinstance(inputs, Mapping):
            self.fault(_in(place, "inputs"), f"is {_shown(inputs)}; expected a table")
            return None
        given = {name: self._input(value, f"{_in(place, 'inputs')}.{name}") for name, value in inputs.items()}
        undo = options.pop("compensate", None)
        if undo is not None:
            undo = self.node(undo, _in(place, "compensate"), depth + 1)
            if not isinstance(undo, Step):
                if undo is not None:
                    self.fault(_in(place, "compensate"), f"is a {undo.kind}; expected one step")
                return None
        if any(value is None for value in given.values()):
            return None
        return self.make(place, lambda: kind(data, inputs=given, compensate=undo, **options))  # type: ignore[no-any-return]

    def _input(self, value: Any, place: str) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping) and set(value) == {"value"}:
            return Value(value["value"])
        if isinstance(value, Mapping) and set(value) == {"cel"}:
            return self.make(place, lambda: Cel(value["cel"]))
        self.fault(place, f'is {_shown(value)}; expected a name, {{ value = ... }} or {{ cel = "..." }}')
        return None

    def _branch(self, data: Any, options: dict[str, Any], place: str, depth: int) -> Node | None:
        here = _in(place, "branch")
        if not isinstance(data, list) or not all(isinstance(case, Mapping) for case in data):
            self.fault(
                here,
                f'is {_shown(data)}; expected cases such as [{{ when = "total > 100", then = "sales.approve" }}]',
            )
            return None
        cases: list[tuple[Any, Any]] = []
        for number, case in enumerate(data):
            at = f"{here}[{number}]"
            self.keys(case, ("when", "then"), at, "a case")
            if "when" not in case or "then" not in case:
                self.fault(at, "expected when (a condition) and then (a node)")
                continue
            cases.append((case["when"], self.node(case["then"], f"{at}.then", depth + 1)))
        if "otherwise" in options:
            options["otherwise"] = self.node(options["otherwise"], _in(place, "otherwise"), depth + 1)
        if (
            len(cases) < len(data)
            or any(then is None for _, then in cases)
            or options.get("otherwise", 0) is None
        ):
            return None
        return self.make(here, lambda: Branch(tuple(cases), **options))  # type: ignore[no-any-return]


def _in(place: str, key: object) -> str:
    return f"{place}.{key}" if place else str(key)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


# ---- writing ------------------------------------------------------------------------------------------------------------


def to_data(plan: Composition) -> dict[str, Any]:
    """A composition as plain data, which `from_data` reads as the same. Raises PlanError where it holds Python functions or types
    that have no word."""
    data: dict[str, Any] = {"id": plan.id, "intent": plan.intent, "version": plan.version}
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
               "who": node.kind}.get(each.name, each.name)  # fmt: skip
        if key != node.kind and (value == each.default or (isinstance(value, Mapping) and not value)):
            continue
        data[key] = _plain(value, node)
    # The key that says what it is stands first.
    return {node.kind: data.pop(node.kind), **data}


def _plain(value: Any, node: Node) -> Any:
    if isinstance(value, Node):
        return node_to_data(value)
    if isinstance(value, Value):
        return {"value": value.value}
    if isinstance(value, Cel):
        return {"cel": value.text}
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


def _word(given: Any, what: str) -> str:
    from packetflow.composition.serving import WORDS

    if isinstance(given, str):
        return given
    for word, hint in WORDS.items():
        if given is hint:
            return word
    raise PlanError(f"{what} is {given!r}, which has no word in a file; expected one of {', '.join(WORDS)}")
