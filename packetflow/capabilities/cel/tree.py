"""The nodes of an expression. Plain immutable values: what translates conditions (to a store's query) reads them.

`at` is the offset in the text that an error about the node points at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, string, bytes, true, false or null."""

    value: Any
    at: int


@dataclass(frozen=True, slots=True)
class Name:
    """A name of the scope, or a variable of the comprehension around it."""

    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Field:
    """`of.name`."""

    of: Node
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Has:
    """`has(of.name)`: whether it is there, and not null."""

    of: Node
    name: str
    at: int


@dataclass(frozen=True, slots=True)
class Index:
    """`of[key]`."""

    of: Node
    key: Node
    at: int


@dataclass(frozen=True, slots=True)
class Call:
    """`name(arguments)`, or `target.name(arguments)`: then the target is the first argument and `method` is true."""

    name: str
    arguments: tuple[Node, ...]
    method: bool
    at: int


@dataclass(frozen=True, slots=True)
class Unary:
    """`!of` or `-of`."""

    operator: str
    of: Node
    at: int


@dataclass(frozen=True, slots=True)
class Binary:
    """`left operator right`: arithmetic, comparison, `in`."""

    operator: str
    left: Node
    right: Node
    at: int


@dataclass(frozen=True, slots=True)
class Logic:
    """`part && part && ...`, or with `||`."""

    operator: str
    parts: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Choice:
    """`test ? then : otherwise`."""

    test: Node
    then: Node
    otherwise: Node
    at: int


@dataclass(frozen=True, slots=True)
class ListOf:
    """`[item, ...]`."""

    items: tuple[Node, ...]
    at: int


@dataclass(frozen=True, slots=True)
class MapOf:
    """`{key: value, ...}`."""

    items: tuple[tuple[Node, Node], ...]
    at: int


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`over.kind(variable, test)`, kind one of all, exists, exists_one, filter; or `over.map(variable, [test,] then)`."""

    kind: str
    over: Node
    variable: str
    test: Node | None
    then: Node | None
    at: int


Node: TypeAlias = (
    Literal
    | Name
    | Field
    | Has
    | Index
    | Call
    | Unary
    | Binary
    | Logic
    | Choice
    | ListOf
    | MapOf
    | Comprehension
)


def children(node: Node) -> tuple[Node, ...]:
    """The nodes right below one."""
    match node:
        case Field() | Has() | Unary():
            return (node.of,)
        case Index():
            return (node.of, node.key)
        case Call():
            return node.arguments
        case Binary():
            return (node.left, node.right)
        case Logic():
            return node.parts
        case Choice():
            return (node.test, node.then, node.otherwise)
        case ListOf():
            return node.items
        case MapOf():
            return tuple(part for pair in node.items for part in pair)
        case Comprehension():
            return tuple(part for part in (node.over, node.test, node.then) if part is not None)
        case _:
            return ()
