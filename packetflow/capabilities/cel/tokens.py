"""Text to tokens: names, operators and literals, with their places."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from packetflow.capabilities.cel.faults import Fault

INT64 = 2**63
UINT64 = 2**64

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n\f]+|//[^\n]*)
  | (?P<string>(?:[rR][bB]?|[bB][rR]?)?(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
  | (?P<float>\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+|\.\d+(?:[eE][+-]?\d+)?)
  | (?P<int>0[xX][0-9a-fA-F]+[uU]?|\d+[uU]?)
  | (?P<name>[_a-zA-Z][_a-zA-Z0-9]*)
  | (?P<operator>&&|\|\||[=!<>]=|[-+*/%!<>?:.,()\[\]{}])
    """,
    re.VERBOSE | re.DOTALL,
)
# A raw string ends at its first quote: a backslash is nothing special in it.
_RAW = re.compile(r"([rR][bB]?|[bB][rR])(\"\"\".*?\"\"\"|'''.*?'''|\"[^\"\n]*\"|'[^'\n]*')", re.DOTALL)
_ESCAPE = re.compile(
    r"""\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))""",
    re.DOTALL,
)
_SIMPLE = {
    "a": "\a",
    "b": "\b",
    "f": "\f",
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "v": "\v",
    "\\": "\\",
    "'": "'",
    '"': '"',
    "`": "`",
    "?": "?",
}


class Token(NamedTuple):
    """kind: `name`, `operator`, `literal` or `end`. value: the word, or the literal's value."""

    kind: str
    value: Any
    at: int


def tokens(text: str) -> Iterator[Token]:
    """The tokens of a text, the last of kind `end`. Raises Fault."""
    at = 0
    while at < len(text):
        found = _RAW.match(text, at)
        if found is not None:
            prefix, body = found.groups()
            quotes = 3 if body[:3] in ('"""', "'''") else 1
            inner = body[quotes:-quotes]
            yield Token("literal", inner.encode() if "b" in prefix.lower() else inner, at)
            at = found.end()
            continue
        found = _TOKEN.match(text, at)
        if found is None:
            raise Fault(_unknown(text, at), at)
        kind, word = found.lastgroup, found.group()
        if kind == "string":
            yield Token("literal", _string(word, at), at)
        elif kind == "float":
            yield Token("literal", float(word), at)
        elif kind == "int":
            yield Token("literal", _int(word, at), at)
        elif kind != "space":
            yield Token(str(kind), word, at)
        at = found.end()
    yield Token("end", "the end", at)


def _unknown(text: str, at: int) -> str:
    sign = text[at]
    if sign in "\"'":
        return "a string that does not end"
    if sign in "&|":
        return f"{sign!r} stands alone; expected {sign * 2!r}"
    if sign == "=":
        return "'=' stands alone; expected '==' to compare"
    return f"{sign!r} is not part of an expression"


def _int(word: str, at: int) -> int:
    unsigned = word[-1] in "uU"
    digits = word.rstrip("uU")
    value = int(digits, 16) if digits[:2] in ("0x", "0X") else int(digits)
    # 2^63 itself is right behind a minus; the parser knows.
    if value > INT64 and not (unsigned and value < UINT64):
        raise Fault(f"the number {word[:24]} needs more than 64 bits", at)
    return value


def _string(word: str, at: int) -> str | bytes:
    is_bytes = word[0] in "bB"
    body = word[1:] if is_bytes else word
    quotes = 3 if body[:3] in ('"""', "'''") else 1
    start = at + is_bytes + quotes
    inner = body[quotes:-quotes]
    if "\\" not in inner:
        return inner.encode() if is_bytes else inner
    parts: list[bytes] = []
    last = 0
    for found in _ESCAPE.finditer(inner):
        parts.append(inner[last : found.start()].encode("utf-8", "surrogatepass"))
        parts.append(_escaped(found, is_bytes, start + found.start()))
        last = found.end()
    parts.append(inner[last:].encode("utf-8", "surrogatepass"))
    joined = b"".join(parts)
    return joined if is_bytes else joined.decode("utf-8", "surrogatepass")


def _escaped(found: re.Match[str], is_bytes: bool, at: int) -> bytes:
    low, high, short, long, octal, simple = found.groups()
    if simple is not None:
        if simple not in _SIMPLE:
            raise Fault(f"\\{simple} is no escape; write \\\\ for a backslash, or a raw string r'...'", at)
        return _SIMPLE[simple].encode()
    number = int(octal, 8) if octal else int(low or high or short or long, 16)
    if is_bytes and not (short or long):
        return bytes([number])
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        raise Fault(f"{found.group()} is no character", at)
    return chr(number).encode()
