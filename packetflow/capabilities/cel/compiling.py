"""A tree to a function: closures, one a node, so that an evaluation looks nothing up but the values.

A closure takes a frame: a list of the scope's `get`, the work that is left, and a place for each comprehension's variable.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from packetflow.capabilities.cel import values
from packetflow.capabilities.cel.faults import Fault
from packetflow.capabilities.cel.functions import FUNCTIONS
from packetflow.capabilities.cel.tree import (
    Binary,
    Call,
    Choice,
    Comprehension,
    Field,
    Has,
    Index,
    ListOf,
    Literal,
    Logic,
    MapOf,
    Name,
    Node,
    Unary,
    children,
)
from packetflow.capabilities.cel.values import MISSING, PLAIN, fields_of, is_list, kind_of_thing, plain

Frame: TypeAlias = list[Any]
Evaluate: TypeAlias = Callable[[Frame], Any]
# What is known of the names: each with what is known of its fields, or None.
Names: TypeAlias = Mapping[str, "Names | None"]

# What one evaluation may do: nodes evaluated for items of comprehensions, items compared, 64 characters handled. Some 50 ms.
STEPS = 300_000
SCOPE, LEFT, VARIABLES = 0, 1, 2
# What is looked at item by item, or 64 characters at once: as a shift.
SIZED: Mapping[type, int] = {str: 6, bytes: 6, list: 0, dict: 0}


class Compiler:
    """Compiles one tree. slots: how many variables a frame must hold. used: the scope's names that it reads, and where."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._variables: list[str] = []
        self.slots = 0
        self.used: dict[str, int] = {}

    def compile(self, node: Node) -> Evaluate:
        """The function of a node. Raises Fault for what can be seen to be wrong."""
        match node:
            case Literal(value=value):
                return lambda frame: value
            case Name():
                return self._name(node)
            case Field():
                return self._field(node)
            case Has():
                return self._has(node)
            case Index():
                return self._index(node)
            case Call():
                return self._call(node)
            case Unary():
                return self._unary(node)
            case Binary():
                return self._binary(node)
            case Logic():
                return self._logic(node)
            case Choice():
                return self._choice(node)
            case ListOf(items=items):
                parts = [self.compile(item) for item in items]
                return lambda frame: [part(frame) for part in parts]
            case MapOf():
                return self._map(node)
            case Comprehension():
                return self._comprehension(node)

    # ---- names and fields -------------------------------------------------------------------------------------------------

    def _name(self, node: Name) -> Evaluate:
        name = node.name
        if name in self._variables:
            # The innermost of that name.
            slot = VARIABLES + len(self._variables) - 1 - self._variables[::-1].index(name)
            return lambda frame: frame[slot]
        self.used.setdefault(name, node.at)

        def read(frame: Frame) -> Any:
            value = frame[SCOPE](name)
            return value if value.__class__ in PLAIN else plain(value)

        return read

    def _known_fields(self, node: Node) -> Names | None:
        """What is known of a node's fields; None if nothing."""
        match node:
            case Name(name=name) if name not in self._variables:
                return self._names.get(name)
            case Field(of=of, name=name):
                outer = self._known_fields(of)
                return None if outer is None else outer.get(name)
        return None

    def _check_field(self, of: Node, name: str, at: int) -> bool:
        """Whether the field is declared. Raises Fault if others are."""
        known = self._known_fields(of)
        if known is None:
            return False
        if name not in known:
            raise Fault(f"{name!r} is no field of {words_of(of)}{meant(name, known)}", at)
        return True

    def _field(self, node: Field) -> Evaluate:
        declared = self._check_field(node.of, node.name, node.at)
        of, name, at = self.compile(node.of), node.name, node.at

        def read(frame: Frame) -> Any:
            value = of(frame)
            if value.__class__ is dict:
                found = value.get(name, MISSING)
                if found.__class__ in PLAIN:
                    return found
                if found is not MISSING:
                    return plain(found)
            else:
                if value is None:
                    raise Fault(f"null has no field {name!r}; ask `!= null` first", at)
                found = located(values.field, at, value, name)
                if found is not MISSING:
                    return found
            if declared:  # a name that some path may set is null when it is absent (design ruling 36)
                return None
            raise Fault(f"there is no {name!r}; has(...) asks for it", at)

        return read

    def _has(self, node: Has) -> Evaluate:
        self._check_field(node.of, node.name, node.at)
        of, name, at = self.compile(node.of), node.name, node.at

        def there(frame: Frame) -> bool:
            value = of(frame)
            if value is None:
                return False
            found = located(values.field, at, value, name)
            return found is not MISSING and found is not None

        return there

    def _index(self, node: Index) -> Evaluate:
        of, key, at = self.compile(node.of), self.compile(node.key), node.at

        def read(frame: Frame) -> Any:
            value, index = of(frame), key(frame)
            if is_list(value):
                if index.__class__ is not int or not 0 <= index < len(value):
                    problem = (
                        "the index is outside of the list"
                        if index.__class__ is int
                        else "a list's index is an int"
                    )
                    raise Fault(problem, at)
                return plain(value[index])
            fields = fields_of(value)
            if fields is None:
                raise Fault(
                    f"{kind_of_thing(value)} has nothing to look up{values.null_hint(values.kind(value))}", at
                )
            if index.__hash__ is None or index not in fields:
                raise Fault("there is no such key", at)
            return plain(fields[index])

        return read

    # ---- functions and operators ------------------------------------------------------------------------------------------

    def _call(self, node: Call) -> Evaluate:
        name, at = node.name, node.at
        function = FUNCTIONS.get(name)
        if function is None or not (function.method if node.method else function.plain):
            if function is not None:
                better = f"value.{name}(...)" if function.method else f"{name}(value)"
                raise Fault(f"write {better}", at)
            raise Fault(f"there is no function {name!r}{meant(name, FUNCTIONS)}", at)
        count = len(node.arguments)
        if not function.least <= count <= function.most:
            expected = (
                function.least if function.least == function.most else f"{function.least} or {function.most}"
            )
            raise Fault(f"{name}() works on {expected} values, got {count}", at)
        call = function.call
        parts = [self.compile(argument) for argument in node.arguments]
        if name == "matches":
            # Loads the library now and not in a request, and looks at the pattern if it is written here.
            pattern = node.arguments[1]
            located(call, at, "", pattern.value if isinstance(pattern, Literal) else "")
        elif all(isinstance(argument, Literal) for argument in node.arguments):
            constant = located(call, at, *(part([]) for part in parts))
            return lambda frame: constant

        def called(frame: Frame) -> Any:
            given = [part(frame) for part in parts]
            if given[0].__class__ is str:
                charge(frame, len(given[0]) >> 6, at)
            return located(call, at, *given)

        return called

    def _unary(self, node: Unary) -> Evaluate:
        of, at = self.compile(node.of), node.at
        if node.operator == "-":
            return lambda frame: located(values.negative, at, of(frame))

        def negated(frame: Frame) -> bool:
            return not truth(of(frame), "'!'", at)

        return negated

    def _binary(self, node: Binary) -> Evaluate:
        left, right, at = self.compile(node.left), self.compile(node.right), node.at
        match node.operator:
            case "==" | "!=":
                return self._equality(left, right, node.operator == "==", at)
            case "in":
                operate: Callable[[Any, Any], Any] = values.contains
            case "<" | "<=" | ">" | ">=":
                operate = values.compare(node.operator)
            case _:
                operate = values.arithmetic(node.operator)

        def operated(frame: Frame) -> Any:
            one, other = left(frame), right(frame)
            shift = SIZED.get(other.__class__)
            if shift is not None:
                charge(frame, len(other) >> shift, at)
            try:
                return operate(one, other)
            except Fault as fault:
                if fault.at < 0:
                    fault.at = at
                raise

        return operated

    @staticmethod
    def _equality(left: Evaluate, right: Evaluate, wanted: bool, at: int) -> Evaluate:
        equal = values.equal

        def compared(frame: Frame) -> bool:
            one, other = left(frame), right(frame)
            shift = SIZED.get(other.__class__)
            if shift is not None:
                charge(frame, len(other) >> shift, at)
            return bool(equal(one, other)) is wanted

        return compared

    def _logic(self, node: Logic) -> Evaluate:
        parts = [(self.compile(part), part.at) for part in node.parts]
        word, decides = f"'{node.operator}'", node.operator == "||"

        def decided(frame: Frame) -> bool:
            failed: Fault | None = None
            for part, at in parts:
                try:
                    value = part(frame)
                    if value is not True and value is not False:
                        truth(value, word, at)
                except Fault as fault:
                    # As CEL has it: what another part decides is decided, whatever is wrong with this one.
                    failed = failed or fault
                else:
                    if value is decides:
                        return bool(decides)
            if failed is not None:
                raise failed
            return not decides

        return decided

    def _choice(self, node: Choice) -> Evaluate:
        test, at = self.compile(node.test), node.at
        then, otherwise = self.compile(node.then), self.compile(node.otherwise)
        return lambda frame: then(frame) if truth(test(frame), "'?'", at) else otherwise(frame)

    def _map(self, node: MapOf) -> Evaluate:
        pairs = [(self.compile(key), self.compile(value), key.at) for key, value in node.items]

        def made(frame: Frame) -> dict[Any, Any]:
            result: dict[Any, Any] = {}
            for key, value, at in pairs:
                name = key(frame)
                if name.__class__ not in (str, int, bool):
                    raise Fault(f"a map's key is a string, an int or a bool, got {kind_of_thing(name)}", at)
                if name in result:
                    raise Fault("the map has a key twice", at)
                result[name] = value(frame)
            return result

        return made

    # ---- comprehensions ---------------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension) -> Evaluate:
        over, at, kind = self.compile(node.over), node.at, node.kind
        self._variables.append(node.variable)
        slot = VARIABLES + len(self._variables) - 1
        self.slots = max(self.slots, len(self._variables))
        test = None if node.test is None else self.compile(node.test)
        then = None if node.then is None else self.compile(node.then)
        self._variables.pop()
        word = f"{kind}()"
        weight = sum(count(part) for part in (node.test, node.then) if part is not None)

        def items_of(frame: Frame) -> Iterable[Any]:
            value = over(frame)
            items = value if is_list(value) else fields_of(value)
            if items is None:
                hint = values.null_hint(values.kind(value))
                raise Fault(f"{word} expects a list or a map, got {kind_of_thing(value)}{hint}", at)
            charge(frame, len(items) * weight, at)
            return items

        def holding(frame: Frame) -> Iterable[Any]:
            """The items for which the test holds, each put in its place."""
            for item in items_of(frame):
                frame[slot] = item if item.__class__ in PLAIN else plain(item)
                if test is None or truth(test(frame), word, at):
                    yield frame[slot]

        def quantified(frame: Frame) -> bool:
            """all and exists are && and || over the items, in errors too."""
            decides = kind == "exists"
            failed: Fault | None = None
            for item in items_of(frame):
                frame[slot] = item if item.__class__ in PLAIN else plain(item)
                try:
                    if truth(test(frame), word, at) is decides:  # type: ignore[misc]  # these two have a test
                        return decides
                except Fault as fault:
                    if frame[LEFT] < 0:
                        raise
                    failed = failed or fault
            if failed is not None:
                raise failed
            return not decides

        match kind:
            case "all" | "exists":
                return quantified
            case "exists_one":
                return lambda frame: sum(1 for _ in holding(frame)) == 1
            case "filter":
                return lambda frame: list(holding(frame))
            case _:
                assert then is not None, "the parser gives map() what it makes"
                made = then
                return lambda frame: [made(frame) for _ in holding(frame)]


def charge(frame: Frame, work: int, at: int) -> None:
    """Take from the work that is left. Raises Fault if there is none."""
    frame[LEFT] -= work
    if frame[LEFT] < 0:
        raise Fault("that is too much work for a condition", at)


def located(call: Callable[..., Any], at: int, *arguments: Any) -> Any:
    """Call; a Fault gets the place."""
    try:
        return call(*arguments)
    except Fault as fault:
        if fault.at < 0:
            fault.at = at
        raise


def truth(value: Any, word: str, at: int) -> bool:
    """A bool as it is; anything else is a Fault, as in CEL: nothing counts as true."""
    if value is True or value is False:
        return bool(value)
    raise Fault(f"{word} expects true or false, got {kind_of_thing(value)}", at)


def is_yes_or_no(node: Node) -> bool:
    """Whether a node may give true or false: false if it surely does not."""
    match node:
        case Literal(value=value):
            return isinstance(value, bool)
        case Unary(operator=operator):
            return operator == "!"
        case Binary(operator=operator):
            return operator not in "+-*/%"
        case Comprehension(kind=kind):
            return kind not in ("map", "filter")
        case ListOf() | MapOf():
            return False
        case Call(name=name):
            return name in ("bool", "dyn", "contains", "startsWith", "endsWith", "matches")
        case Choice():
            return is_yes_or_no(node.then) and is_yes_or_no(node.otherwise)
    return True


def meant(word: str, known: Iterable[str]) -> str:
    """`; the nearest is ...`, or what there is."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if near:
        return f"; the nearest is {near[0]!r}"
    shown = ", ".join(names[:12])
    return f"; known: {shown}{', ...' if len(names) > 12 else ''}" if names else ""


def words_of(node: Node) -> str:
    """A path as it is written: `payload.customer`."""
    match node:
        case Name(name=name):
            return name
        case Field(of=of, name=name):
            return f"{words_of(of)}.{name}"
    return "it"


def count(root: Node) -> int:
    """How many nodes a tree has."""
    total = 0
    row: list[Node] = [root]
    while row:
        total += len(row)
        row = [child for node in row for child in children(node)]
    return total
