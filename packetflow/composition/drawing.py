"""Plans as pictures: an indented tree for a terminal, and Mermaid for pages that draw it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packetflow.composition.nodes import Branch, Cel, Condition, Loop, MapReduce, Node, Several, Step, Value
from packetflow.composition.plan import Composition, shown

# ---- text ---------------------------------------------------------------------------------------------------------------


def as_text(plan: Composition | Node) -> str:
    """The tree, a line a node: what it does, then its place where people may need it."""
    node = plan.body if isinstance(plan, Composition) else plan
    return "\n".join(_lines(node, "", "", ""))


def _lines(node: Node, lead: str, first: str, rest: str) -> Iterator[str]:
    yield f"{first}{lead}{told(node)}"
    below = [*_below(node)]
    for number, (word, child) in enumerate(below):
        last = number == len(below) - 1
        yield from _lines(child, word, rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))


def _below(node: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(node, Branch):
        for condition, then in node.cases:
            yield f"if {condition_text(condition)}: ", then
        if node.otherwise is not None:
            yield "otherwise: ", node.otherwise
    elif isinstance(node, Several):
        for step in node.steps:
            yield "", step
    else:
        for part, child in node.children:
            yield {"body": "", "map": "each: ", "reduce": "then: "}.get(part, f"{part}: "), child


def told(node: Node) -> str:
    """A node in a line."""
    match node:
        case Step():
            takes = [f"{name}={_input(value)}" for name, value in node.inputs.items()]
            gives = [f"{name} as {to}" for name, to in node.outputs.items()]
            own = f" {node.name} =" if node.name else ""
            more = f" ({', '.join(takes)})" if takes else ""
            return f"{node.kind}{own} {node.capability}{more}" + (f" -> {', '.join(gives)}" if gives else "")
        case Branch():
            return "branch"
        case Loop():
            what = f"over {node.over}" if node.over is not None else f"while {condition_text(node.while_)}"
            ends = f", until {condition_text(node.break_when)}" if node.break_when is not None else ""
            return f"loop {what}{ends}, at most {node.max_iterations:,}"
        case MapReduce():
            how = node.reduce if isinstance(node.reduce, str) else "a step"
            return f"map_reduce over {node.over}, {node.concurrency} at once, reduced by {how}"
        case _:
            return shown(node)


def _input(value: Any) -> str:
    if isinstance(value, Value):
        return repr(value.value)
    return f"`{value.text}`" if isinstance(value, Cel) else str(value)


def condition_text(condition: Condition | None) -> str:
    """A condition as people read it; a Python function by its name."""
    if isinstance(condition, str):
        return condition
    return f"{getattr(condition, '__name__', 'a function')}(scope)"


# ---- Mermaid ------------------------------------------------------------------------------------------------------------


class _Drawing:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0

    def box(self, text: str, shape: str = "[]") -> str:
        self._count += 1
        name = f"n{self._count}"
        opening, closing = {
            "[]": ('["', '"]'),
            "{}": ('{"', '"}'),
            "()": ('(["', '"])'),
            "o": ('(("', '"))'),
        }[shape]
        self.lines.append(f"    {name}{opening}{_escaped(text)}{closing}")
        return name

    def arrow(self, start: str, end: str, word: str = "") -> None:
        self.lines.append(f"    {start} -->" + (f'|"{_escaped(word)}"|' if word else "") + f" {end}")

    def node(self, node: Node, before: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Draws a node behind what comes before it: (where from, the arrow's word). Returns what comes before the next."""
        if isinstance(node, Branch):
            test = self._joined("branch", before, "{}")
            ends = []
            for condition, then in node.cases:
                ends += self.node(then, [(test, condition_text(condition))])
            return ends + (
                self.node(node.otherwise, [(test, "otherwise")])
                if node.otherwise is not None
                else [(test, "else")]
            )
        if isinstance(node, Several) and node.kind in ("pipeline", "saga"):
            for step in node.steps:
                before = self.node(step, before)
            return before
        if isinstance(node, Several):
            fork = self._joined(shown(node), before, "o")
            ends = [end for step in node.steps for end in self.node(step, [(fork, "")])]
            return [(self._joined("all" if node.kind == "parallel" else "first", ends, "o"), "")]
        if isinstance(node, Step):
            here = self._joined(told(node), before, "[]")
            if node.compensate is not None:
                undo = self.box(f"undo: {node.compensate.label}")
                self.lines.append(f"    {here} -.-> {undo}")
            return [(here, "")]
        below = node.children
        if not below:
            return [(self._joined(told(node), before, "()"), "")]
        head = self._joined(told(node), before, "()")
        ends = [(head, "")]
        for part, child in below:
            if part == "fallback":
                ends += self.node(child, [(head, "fallback")])
                continue
            ends = self.node(child, ends)
        if isinstance(node, Loop):
            for end, word in ends:
                self.arrow(end, head, word or "again")
            return [(head, "done")]
        return ends

    def _joined(self, text: str, before: list[tuple[str, str]], shape: str) -> str:
        name = self.box(text, shape)
        for start, word in before:
            self.arrow(start, name, word)
        return name


def as_mermaid(plan: Composition | Node) -> str:
    """A flowchart in Mermaid's language."""
    drawing = _Drawing()
    title = plan.id if isinstance(plan, Composition) else "start"
    start = drawing.box(title, "()")
    ends = drawing.node(plan.body if isinstance(plan, Composition) else plan, [(start, "")])
    end = drawing.box("end", "()")
    for name, word in ends:
        drawing.arrow(name, end, word)
    return "\n".join(["flowchart TD", *drawing.lines]) + "\n"


def _escaped(text: str) -> str:
    return (
        " ".join(text.split())
        .replace("#", "#35;")  # Mermaid's own way of writing a character by its number
        .replace("&", "&amp;")
        .replace('"', "&quot;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("`", "'")
    )
