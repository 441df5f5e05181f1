"""Plans as data: what TOML, JSON and YAML hold, read with all faults at once, each with its key and, from a file, its place.

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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from packetflow.capabilities.conditions import ConditionError, Expression
from packetflow.composition.nodes import (
    Branch,
    Cel,
    CircuitBreaker,
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
    below,
)
from packetflow.composition.plan import DEEPEST, MOST_NODES, Composition
from packetflow.composition.serving import WORDS
from packetflow.composition.waiting import Approval, StateMachine, Transition, WaitFor
from packetflow.documents.document import Document
from packetflow.documents.faults import Fault, KeyPath, Place, nearest, path_text, render, value_text
from packetflow.otp.errors import PacketFlowError

T = TypeVar("T")

FORMAT = 1  # of plans as data; a file may say `format = 1`
TOP = ("format", "id", "intent", "version", "requires", "provides", "timeout", "tags", "durable", "run_ttl",
       "steps", "plan")  # fmt: skip
STEP = ("inputs", "outputs", "timeout", "compensate", "key", "name")
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
    "state_machine": ("states", "max_events", "name"),
    "approval": ("subject", "deadline", "on_timeout", "escalate_to", "outputs", "name"),
}
NEEDED: Mapping[str, tuple[str, ...]] = {
    "loop": ("max_iterations",), "map_reduce": ("over",), "circuit_breaker": ("key",),
    "state_machine": ("states",),
}  # fmt: skip
SEVERAL: Mapping[str, type[Several]] = {
    "pipeline": Pipeline,
    "saga": Saga,
    "parallel": Parallel,
    "race": Race,
}
# The fields of nodes that are called otherwise in data; "" stands for the key of the node's kind.
KEYS: Mapping[str, str] = {
    "while_": "while", "capability": "", "steps": "", "body": "", "map": "", "seconds": "", "cases": "",
    "event": "", "who": "", "initial": "",
}  # fmt: skip
CONDITIONS = ("over", "while", "break_when", "retry_when", "partition", "match")
ABSENT_BY_DEFAULT = ("timeout", "limit", "combine", "after", "deadline")
NODES = ("compensate", "otherwise", "fallback", "reduce")


@dataclass(frozen=True, slots=True)
class Plan:
    """A composition as it was read. ways: for the place of each node (as `walk` names it), the way to it in the data."""

    composition: Composition
    ways: Mapping[str, KeyPath]
    document: Document | None = None

    def fault(self, place: str, message: str) -> Fault:
        """What is wrong with a node, where it was written."""
        way = self.ways.get(place, ())
        if self.document is None:
            return Fault(message, "", key=path_text(way))
        return Fault.at(self.document.at(way), message, key=path_text(way))


def from_data(data: object) -> Composition:
    """The composition that plain data means. Raises PlanError with all faults, each with its key."""
    return read_data(data).composition


def read_data(data: object, document: Document | None = None) -> Plan:
    """The same, with where each node was found. document: the file that the data was read from. Raises PlanError."""
    reader = _Reader(document)
    found = reader.composition(data)
    if found is None or reader.faults:
        faults = tuple(reader.faults)
        raise PlanError(render(faults) if document else "; ".join(map(told, faults)), faults)
    return Plan(found, reader.ways, document)


def told(fault: Fault) -> str:
    """A fault of data in a line: `steps[1].limt: unknown key of parallel; nearest limit`."""
    words = [f"{fault.key or 'plan'}: {fault.message}"]
    words += [f"given {fault.given}"] if fault.given else []
    words += [f"nearest {fault.nearest}"] if fault.nearest else []
    words += [f"expected {fault.expected}"] if fault.expected else []
    return "; ".join(words)


class _TooMany(Exception):
    """The data has more nodes than a plan may have: nothing more of it is read."""


class _Reader:
    """Goes through the data once. way: the keys to where it is; place: what `walk` will call the node there."""

    def __init__(self, document: Document | None) -> None:
        self.faults: list[Fault] = []
        self.ways: dict[str, KeyPath] = {}
        self._document = document
        self._nodes = 0

    # ---- faults -------------------------------------------------------------------------------------------------------

    def fault(self, way: KeyPath, message: str, *, at_key: bool = False, **more: str) -> None:
        """One thing that is wrong. more: given, expected, nearest."""
        key = path_text(way)
        if self._document is None:
            self.faults.append(Fault(message, "", key=key, **more))  # type: ignore[arg-type]  # texts, all of them
        else:
            place = self._document.key_at(way) if at_key else self._document.at(way)
            self.faults.append(Fault.at(place, message, key=key, **more))  # type: ignore[arg-type]  # texts, all of them

    def wrong(self, way: KeyPath, given: object, expected: str) -> None:
        """That a value is not what belongs there."""
        self.fault(way, "wrong value", given=value_text(given), expected=expected)

    def keys(self, table: Mapping[str, Any], known: tuple[str, ...], way: KeyPath, what: str) -> None:
        """A fault for each key that has no meaning here."""
        for key in table:
            if key not in known:
                near = nearest(str(key), known)
                expected = "" if near else ", ".join(known)
                self.fault(
                    (*way, str(key)), f"unknown key of {what}", at_key=True, nearest=near, expected=expected
                )

    def no_null(self, table: Mapping[str, Any], keys: tuple[str, ...], way: KeyPath) -> None:
        """A fault for each of the keys that is null: what is absent is left out."""
        for key in keys:
            if key in table and table[key] is None:
                self.wrong((*way, key), None, "a value, or no such key")

    def make(self, way: KeyPath, kind: str, data: Mapping[str, Any], build: Callable[[], T]) -> T | None:
        """What `build` makes; None, and a fault where the field stands that it refuses."""
        try:
            return build()
        except PlanError as error:
            key = KEYS.get(error.field, error.field) or kind
            self.fault((*way, key) if error.field and key in data else way, str(error))
        except PacketFlowError as error:
            self.fault(way, str(error))
        return None

    def condition(self, way: KeyPath, given: object) -> bool:
        """Whether it is CEL; if not, a fault, where in it if that is known."""
        if not isinstance(given, str):
            self.wrong(way, given, "a CEL text, such as total > 100")
            return False
        try:
            Expression(given)
        except ConditionError as error:
            self.fault(way, str(error))
            last = self.faults[-1]
            start = last.excerpt.find(given, max(last.column - 1, 0)) if last.line and error.line == 1 else -1
            if 0 <= start < last.end:
                column = start + error.column
                place = Place(last.file, last.line, column, column + 1, last.excerpt)
                self.faults[-1] = Fault.at(place, last.message, key=last.key)
            return False
        return True

    # ---- a composition ------------------------------------------------------------------------------------------------

    def composition(self, data: object) -> Composition | None:
        """The whole of it."""
        if not isinstance(data, Mapping):
            self.fault(
                (), "no composition", given=value_text(data), expected="a table with id, intent and steps"
            )
            return None
        self.keys(data, TOP, (), "a composition")
        version = data.get("format", FORMAT)
        if version != FORMAT or isinstance(version, bool):
            self.wrong(("format",), version, f"{FORMAT}, the format that this node reads")
        for key in ("id", "intent"):
            if key not in data:
                self.fault((key,), f"{key} is missing", expected="a text")
            elif not isinstance(data[key], str):
                self.wrong((key,), data[key], "a text")
        given = {key: self._types(data[key], key) for key in ("requires", "provides") if key in data}
        self.no_null(data, ("timeout", "run_ttl"), ())
        if not isinstance(data.get("durable", False), bool):
            self.wrong(("durable",), data["durable"], "true or false")
        tags = data.get("tags", [])
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            self.wrong(("tags",), tags, "a list of texts")
        body = None
        if ("steps" in data) == ("plan" in data):
            self.fault(
                (),
                "both steps and plan" if "steps" in data else "no steps",
                expected="steps (a pipeline), or plan (any node)",
            )
        else:
            key = "steps" if "steps" in data else "plan"
            try:
                body = self.node(data[key], (key,), "", 0)
            except _TooMany:
                self.fault((), f"more than {MOST_NODES:,} nodes")
        if body is None or self.faults:
            return None
        return self.make((), "", data, lambda: self._made(data, body, given, tuple(tags)))

    def _made(
        self, data: Mapping[str, Any], body: Node, types: Mapping[str, dict[str, str]], tags: tuple[str, ...]
    ) -> Composition:
        made = Composition(
            data["id"], data["intent"], body, types.get("requires", {}), types.get("provides"),
            data.get("version", "1.0.0"), data.get("timeout"), tags, data.get("durable", False), data.get("run_ttl"),
        )  # fmt: skip
        made.definition  # noqa: B018 - what can't be served is a fault of this file
        return made

    def _types(self, given: object, key: str) -> dict[str, str]:
        if not isinstance(given, Mapping):
            self.wrong((key,), given, "a table of names and their types")
            return {}
        for name, word in given.items():
            if not isinstance(word, str) or word.removesuffix("?") not in WORDS:
                near = nearest(word.removesuffix("?"), WORDS) if isinstance(word, str) else ""
                self.fault(
                    (key, name), "no type", given=value_text(word), nearest=near,
                    expected=f"one of {', '.join(WORDS)}, with ? behind it where it may be left out",
                )  # fmt: skip
        return dict(given)

    # ---- nodes --------------------------------------------------------------------------------------------------------

    def node(self, data: Any, way: KeyPath, place: str, depth: int) -> Node | None:
        """The node that data means; None, and a fault, if it is none."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise _TooMany
        if depth > DEEPEST:
            self.fault(way, f"more than {DEEPEST} nodes deep")
            return None
        self.ways[place] = way
        if isinstance(data, str):
            return self.make(way, "", {}, lambda: Step(data))
        if isinstance(data, list):
            return self._several(Pipeline, "pipeline", data, {}, way, way, place, depth)
        if not isinstance(data, Mapping):
            self.fault(
                way, "no node", given=value_text(data),
                expected='a capability\'s id, a list of nodes, or a table such as { step = "a.b" }',
            )  # fmt: skip
            return None
        kinds = [key for key in KINDS if key in data]
        if len(kinds) != 1:
            near = "" if kinds else next((found for key in data if (found := nearest(str(key), KINDS))), "")
            what = f"says both {' and '.join(kinds)}" if kinds else "does not say what it is"
            self.fault(way, what, nearest=near, expected="" if near else f"one of {', '.join(KINDS)}")
            return None
        kind = kinds[0]
        before = len(self.faults)
        self.keys(data, (kind, *KINDS[kind]), way, kind)
        for key in NEEDED.get(kind, ()):
            if key not in data:
                self.fault(way, f"a {kind} needs {key}")
        if "name" in data and (not isinstance(data["name"], str) or not data["name"]):
            self.wrong((*way, "name"), data["name"], "a text")
        for key in CONDITIONS:
            if key in data and key in KINDS[kind]:
                self.condition((*way, key), data[key])
        if kind in ("step", "subflow") and "key" in data:
            self.condition((*way, "key"), data["key"])
        self.no_null(data, ABSENT_BY_DEFAULT, way)
        made = self._of_kind(kind, data, way, place, depth)
        return made if len(self.faults) == before else None

    def _of_kind(
        self, kind: str, data: Mapping[str, Any], way: KeyPath, place: str, depth: int
    ) -> Node | None:
        options: dict[str, Any] = {KEYS_BACK.get(key, key): data[key] for key in KINDS[kind] if key in data}
        here, given = (*way, kind), data[kind]
        for key in NODES:
            if key in options and not (key == "reduce" and options[key] in MapReduce.REDUCERS):
                options[key] = self.node(options[key], (*way, key), below(place, key), depth + 1)
        undo = options.get("compensate")
        if undo is not None and not isinstance(undo, Step):
            self.fault((*way, "compensate"), f"a {undo.kind}", expected="one step")
        if kind in SEVERAL:
            if not isinstance(given, list):
                self.wrong(here, given, "a list of nodes")
                return None
            return self._several(SEVERAL[kind], kind, given, options, way, here, place, depth)
        outputs = options.get("outputs", {})
        if not isinstance(outputs, Mapping):
            self.wrong((*way, "outputs"), outputs, "a table of fields and names")
            return None
        if kind in ("step", "subflow"):
            options["inputs"] = self._inputs(options.get("inputs", {}), (*way, "inputs"))
            return self.make(
                way, kind, data, lambda: (Subflow if kind == "subflow" else Step)(given, **options)
            )
        if kind == "sleep":
            return self.make(way, kind, data, lambda: Sleep(given, **options))
        if kind == "wait_for":
            return self.make(way, kind, data, lambda: WaitFor(given, **options))
        if kind == "state_machine":
            return self._machine(given, data, options, way, place, depth)
        if kind == "approval":
            return self.make(way, kind, data, lambda: Approval(given, **options))
        if kind == "branch":
            return self._branch(given, data, options, way, place, depth)
        body = self.node(given, here, below(place, "map" if kind == "map_reduce" else "body"), depth + 1)
        if body is None or any(key in options and options[key] is None for key in NODES):
            return None
        if any(key not in data for key in NEEDED.get(kind, ())):
            return None
        if kind == "map_reduce":
            return self.make(way, kind, data, lambda: MapReduce(map=body, **options))
        return self.make(way, kind, data, lambda: WITH_BODY[kind](body=body, **options))

    def _several(
        self, kind: type[Several], word: str, data: list[Any], options: dict[str, Any],
        way: KeyPath, here: KeyPath, place: str, depth: int,
    ) -> Node | None:  # fmt: skip
        """way: of the node; here: of the list of its steps."""
        steps = [
            self.node(each, (*here, number), below(place, number), depth + 1)
            for number, each in enumerate(data)
        ]
        good = tuple(step for step in steps if step is not None)
        if len(good) < len(steps):
            return None
        return self.make(
            way, word, {word: data, **options} if here != way else {}, lambda: kind(good, **options)
        )

    def _inputs(self, given: object, way: KeyPath) -> dict[str, Any]:
        if not isinstance(given, Mapping):
            self.wrong(way, given, "a table of parameters and what each gets")
            return {}
        return {name: self._input(value, (*way, name)) for name, value in given.items()}

    def _input(self, value: Any, way: KeyPath) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, Mapping) and set(value) == {"value"}:
            self._check_value(value["value"], (*way, "value"))
            return Value(value["value"])
        if isinstance(value, Mapping) and set(value) == {"cel"}:
            return Cel(value["cel"]) if self.condition((*way, "cel"), value["cel"]) else ""
        self.wrong(way, value, 'the name of something in the scope, { value = ... } or { cel = "..." }')
        return ""

    def _check_value(self, given: object, way: KeyPath) -> None:
        """TOML has dates, and a payload has none."""
        ahead = [(given, way)]
        while ahead:
            value, here = ahead.pop()
            if len(here) - len(way) > DEEPEST:
                self.fault(way, f"more than {DEEPEST} deep")
                return
            if isinstance(value, Mapping):
                ahead += [(item, (*here, key)) for key, item in value.items()]
            elif isinstance(value, list):
                ahead += [(item, (*here, number)) for number, item in enumerate(value)]
            elif not isinstance(value, str | int | float | None):
                self.wrong(here, value, 'a text, such as "2026-01-31": payloads have no dates')

    def _machine(
        self,
        given: Any,
        data: Mapping[str, Any],
        options: dict[str, Any],
        way: KeyPath,
        place: str,
        depth: int,
    ) -> Node | None:
        states = options.get("states")
        if not isinstance(states, Mapping) or not all(isinstance(ways, list) for ways in states.values()):
            self.wrong(
                (*way, "states"), states, "a list of ways out for each state, such as { on = [], off = [] }"
            )
            return None
        made: dict[str, tuple[Transition, ...]] = {}
        for name, ways in states.items():
            found = []
            for number, one in enumerate(ways):
                at = (*way, "states", name, number)
                if not isinstance(one, Mapping) or not {"event", "to"} <= one.keys():
                    self.wrong(at, one, "event, to, and perhaps when and do")
                    continue
                self.keys(one, ("event", "to", "when", "do"), at, "a way out")
                done = None
                if "do" in one:
                    done = self.node(one["do"], (*at, "do"), below(place, f"{name}.{number}"), depth + 1)
                if "when" not in one or self.condition((*at, "when"), one["when"]):
                    found.append(Transition(one["event"], one["to"], one.get("when"), done))
            made[str(name)] = tuple(found)
        options["states"] = made
        return self.make(way, "state_machine", data, lambda: StateMachine(given, **options))

    def _branch(
        self,
        given: Any,
        data: Mapping[str, Any],
        options: dict[str, Any],
        way: KeyPath,
        place: str,
        depth: int,
    ) -> Node | None:
        here = (*way, "branch")
        if not isinstance(given, list) or not all(isinstance(case, Mapping) for case in given):
            self.wrong(here, given, 'cases, such as [{ when = "total > 100", then = "sales.approve" }]')
            return None
        cases: list[tuple[Any, Node]] = []
        for number, case in enumerate(given):
            at = (*here, number)
            self.keys(case, ("when", "then"), at, "a case")
            if "when" not in case or "then" not in case:
                self.fault(at, "half a case", expected="when (a condition) and then (a node)")
                continue
            holds = self.condition((*at, "when"), case["when"])
            then = self.node(case["then"], (*at, "then"), below(place, number), depth + 1)
            if holds and then is not None:
                cases.append((case["when"], then))
        if len(cases) < len(given):
            return None
        return self.make(way, "branch", data, lambda: Branch(tuple(cases), **options))


KEYS_BACK: Mapping[str, str] = {"while": "while_"}
WITH_BODY: Mapping[str, Callable[..., Node]] = {
    "retry": Retry, "circuit_breaker": CircuitBreaker, "hedge": Hedge, "loop": Loop,
}  # fmt: skip
