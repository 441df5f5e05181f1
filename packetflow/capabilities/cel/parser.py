"""Tokens to a tree, by CEL's grammar. Size and depth are bounded here, so that whatever comes over the wire may be parsed."""

from __future__ import annotations

from packetflow.capabilities.cel.faults import Fault
from packetflow.capabilities.cel.tokens import INT64, Token, tokens
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

LENGTH = 4_096  # characters of a text
NODES = 1_000
DEPTH = 40  # nested brackets, calls and operators

RELATIONS = ("==", "!=", "<", "<=", ">", ">=", "in")
SUMS = ("+", "-")
PRODUCTS = ("*", "/", "%")
CONSTANTS = {"true": True, "false": False, "null": None}
# Words that CEL keeps for itself or for languages that it is embedded in; none can be a name.
RESERVED = frozenset(
    {
        "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let",
        "loop", "package", "namespace", "return", "var", "void", "while", "in"
    }
)  # fmt: skip
MACROS = ("all", "exists", "exists_one", "filter", "map")


def parse(text: str) -> Node:
    """The tree of an expression. Raises Fault."""
    if len(text) > LENGTH:
        raise Fault(f"the expression has {len(text)} characters; at most {LENGTH} are read", LENGTH)
    return _Parser(text).whole()


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._next: Token = next(self._tokens)
        self._depth = self._nodes = 0

    def whole(self) -> Node:
        if self._next.kind == "end":
            raise Fault("the expression is empty", 0)
        node = self._expression()
        if self._next.kind != "end":
            raise self._unexpected("an operator or the end")
        if _height(node) > DEPTH:
            raise Fault(f"nested too deep; at most {DEPTH} levels are read", node.at)
        return node

    # ---- tokens ---------------------------------------------------------------------------------------------------------

    def _take(self) -> Token:
        token = self._next
        if token.kind != "end":
            self._next = next(self._tokens)
        self._nodes += 1
        if self._nodes > NODES * 2:
            raise Fault(f"the expression has more than {NODES * 2} words", token.at)
        return token

    def _at(self, *words: str) -> bool:
        token = self._next
        return token.kind in ("operator", "name") and token.value in words

    def _accept(self, *words: str) -> Token | None:
        return self._take() if self._at(*words) else None

    def _expect(self, word: str) -> Token:
        if not self._at(word):
            raise self._unexpected(repr(word))
        return self._take()

    def _unexpected(self, expected: str) -> Fault:
        token = self._next
        given = "it ends" if token.kind == "end" else f"got {token.value!r}"
        return Fault(f"expected {expected}, but {given}", token.at)

    # ---- the grammar, from the loosest to the tightest --------------------------------------------------------------------

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > DEPTH:
            raise Fault(f"nested too deep; at most {DEPTH} levels are read", self._next.at)
        node = self._any_of()
        mark = self._accept("?")
        if mark is not None:
            then = self._any_of()
            self._expect(":")
            node = Choice(node, then, self._expression(), mark.at)
        self._depth -= 1
        return node

    def _any_of(self) -> Node:
        parts = [self._all_of()]
        at = self._next.at
        while self._accept("||"):
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Logic("||", tuple(parts), at)

    def _all_of(self) -> Node:
        parts = [self._relation()]
        at = self._next.at
        while self._accept("&&"):
            parts.append(self._relation())
        return parts[0] if len(parts) == 1 else Logic("&&", tuple(parts), at)

    def _relation(self) -> Node:
        node = self._sum()
        while self._at(*RELATIONS):
            operator = self._take()
            node = Binary(operator.value, node, self._sum(), operator.at)
        return node

    def _sum(self) -> Node:
        node = self._product()
        while self._at(*SUMS):
            operator = self._take()
            node = Binary(operator.value, node, self._product(), operator.at)
        return node

    def _product(self) -> Node:
        node = self._unary()
        while self._at(*PRODUCTS):
            operator = self._take()
            node = Binary(operator.value, node, self._unary(), operator.at)
        return node

    def _unary(self) -> Node:
        signs: list[Token] = []
        while self._at("!", "-"):
            if signs and signs[-1].value != self._next.value:
                raise self._unexpected(f"a value behind {signs[-1].value!r}")
            signs.append(self._take())
            if len(signs) > DEPTH:
                raise Fault(f"nested too deep; at most {DEPTH} levels are read", signs[-1].at)
        if signs and signs[-1].value == "-" and self._next.kind == "literal":
            value = self._next.value
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                self._take()
                node = self._members(Literal(-value, signs.pop().at))
            else:
                node = self._members(self._primary())
        else:
            node = self._members(self._primary())
        for sign in reversed(signs):
            node = Unary(sign.value, node, sign.at)
        return node

    def _members(self, node: Node) -> Node:
        while True:
            if self._accept("."):
                name = self._take()
                if name.kind != "name" or name.value in CONSTANTS or name.value == "in":
                    raise Fault(f"expected a name behind '.', but got {name.value!r}", name.at)
                node = self._method(node, name) if self._at("(") else Field(node, name.value, name.at)
            elif self._at("["):
                bracket = self._take()
                key = self._expression()
                self._expect("]")
                node = Index(node, key, bracket.at)
            else:
                return node

    def _primary(self) -> Node:
        token = self._next
        if token.kind == "literal":
            self._take()
            if token.value.__class__ is int and token.value == INT64:
                raise Fault(f"the number {token.value} needs more than 64 bits", token.at)
            return Literal(token.value, token.at)
        if token.kind == "name":
            self._take()
            if token.value in CONSTANTS:
                return Literal(CONSTANTS[token.value], token.at)
            if token.value in RESERVED:
                raise Fault(f"{token.value!r} is a word of the language and can't be a name", token.at)
            if self._at("("):
                return self._function(token)
            return Name(token.value, token.at)
        if self._accept("("):
            node = self._expression()
            self._expect(")")
            return node
        if self._accept("["):
            return ListOf(self._arguments("]"), token.at)
        if self._accept("{"):
            return self._map(token)
        raise self._unexpected("a value")

    def _arguments(self, closing: str) -> tuple[Node, ...]:
        found: list[Node] = []
        while not self._at(closing):
            found.append(self._expression())
            if not self._accept(","):
                break
        self._expect(closing)
        return tuple(found)

    def _map(self, opening: Token) -> Node:
        pairs: list[tuple[Node, Node]] = []
        while not self._at("}"):
            key = self._expression()
            self._expect(":")
            pairs.append((key, self._expression()))
            if not self._accept(","):
                break
        self._expect("}")
        return MapOf(tuple(pairs), opening.at)

    def _function(self, name: Token) -> Node:
        self._expect("(")
        arguments = self._arguments(")")
        if name.value == "has":
            if len(arguments) != 1 or not isinstance(arguments[0], Field):
                raise Fault("has(...) expects one field, such as has(user.email)", name.at)
            return Has(arguments[0].of, arguments[0].name, arguments[0].at)
        return Call(name.value, arguments, False, name.at)

    def _method(self, target: Node, name: Token) -> Node:
        self._expect("(")
        arguments = self._arguments(")")
        if name.value not in MACROS:
            return Call(name.value, (target, *arguments), True, name.at)
        most = 3 if name.value == "map" else 2
        if not 2 <= len(arguments) <= most or not isinstance(arguments[0], Name):
            raise Fault(
                f"{name.value}(...) expects a variable and an expression: xs.{name.value}(x, ...)", name.at
            )
        variable = arguments[0].name
        if name.value != "map":
            return Comprehension(name.value, target, variable, arguments[1], None, name.at)
        test = arguments[1] if len(arguments) == 3 else None
        return Comprehension("map", target, variable, test, arguments[-1], name.at)


def _height(root: Node) -> int:
    """How many nodes stand above each other at most: what evaluation recurses. Without recursing."""
    height = 0
    row: list[Node] = [root]
    while row:
        height += 1
        row = [child for node in row for child in children(node)]
    return height
