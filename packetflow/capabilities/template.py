"""Texts with places to fill in: `order {value.id} by {context.principal}`. What stands in braces is CEL; `{{` is a brace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from packetflow.capabilities.conditions import ConditionError, ConditionFailed, Expression, Names
from packetflow.otp.errors import PacketFlowError

LONGEST = 20_000  # characters of a filled text


class TemplateError(PacketFlowError):
    """A template that can't be used; the message shows the place."""

    code = "definition"


class Template:
    """A text with places, compiled. Raises TemplateError."""

    __slots__ = ("_parts", "text")

    def __init__(self, text: str, names: Iterable[str] | Names) -> None:
        self.text = text
        self._parts: list[str | Expression] = []
        for literal, code in _split(text):
            if literal:
                self._parts.append(literal)
            if code is not None:
                try:
                    self._parts.append(Expression(code, names))
                except ConditionError as error:
                    raise TemplateError(f"in {{{code}}}: {error.reason}") from error

    def fill(self, scope: Mapping[str, Any]) -> str:
        """The text for these values. A place that can't be filled shows why, in its braces: the rest is worth sending."""
        filled = []
        for part in self._parts:
            if isinstance(part, str):
                filled.append(part)
                continue
            try:
                filled.append(written(part.evaluate(scope)))
            except ConditionFailed as error:
                filled.append(f"{{{part.text}: {error.reason}}}")
        text = "".join(filled)
        return text if len(text) <= LONGEST else text[:LONGEST] + "..."


def written(value: Any) -> str:
    """A value in a text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _split(text: str) -> Iterable[tuple[str, str | None]]:
    """(text before, code in braces) one after the other; the last without code."""
    literal: list[str] = []
    at = 0
    while at < len(text):
        sign = text[at]
        if sign in "{}" and text[at : at + 2] == sign * 2:
            literal.append(sign)
            at += 2
        elif sign == "{":
            end = _closing(text, at)
            yield "".join(literal), text[at + 1 : end].strip()
            literal.clear()
            at = end + 1
        elif sign == "}":
            raise TemplateError(f"a '}}' without its '{{' at {at + 1} of {text!r}; write '}}}}' for a brace")
        else:
            literal.append(sign)
            at += 1
    yield "".join(literal), None


def _closing(text: str, opening: int) -> int:
    depth, quote = 0, ""
    at = opening
    while at < len(text):
        sign = text[at]
        if quote:
            if sign == "\\":
                at += 1
            elif sign == quote:
                quote = ""
        elif sign in "'\"":
            quote = sign
        elif sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
            if not depth:
                return at
        at += 1
    raise TemplateError(f"a '{{' without its '}}' at {opening + 1} of {text!r}; write '{{{{' for a brace")
