"""Plans as SVG: a plan is a tree, so its picture is laid out by a recursion; and the states of a run's nodes laid over it.

What follows stands below, what is at once or a choice stands side by side, what is done again stands in a frame. The picture is
text for everybody: it has a title and a description for screen readers, each node tells itself, and no state is a colour alone.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from packetflow.composition.drawing import as_text, condition_text, told
from packetflow.composition.nodes import Branch, Node, PlanError, Race, Retry, Saga, Several, Step, Subflow
from packetflow.composition.plan import Composition, check_bounds, walk

LINE = 18  # the height of a line of text; all lengths are CSS pixels
LETTER = 7.3  # the width of a letter of 12 px in the monospaced fonts that are asked for, and a bit
LONGEST = 56  # letters of a line; what is longer is cut, and whole in the node's title
PAD = 14
GAP = 30  # between what follows each other
SIDE = 28  # between what stands side by side
BEND = 8  # the radius of a line's corners
MARGIN = 24

# How a state of a node is shown: a sign and a class. Other words are shown as they are.
STATES: Mapping[str, tuple[str, str]] = {
    "done": ("✓", "good"),
    "running": ("▶", "live"),
    "waiting": ("‖", "wait"),
    "failed": ("✗", "bad"),
    "compensated": ("↺", "wait"),
    "cancelled": ("⊘", "wait"),
    "skipped": ("○", "faint"),
}

STYLE = """
text{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1f2733}
.ground{fill:#fbfcfe}.box{fill:#fff;stroke:#8a97a8;stroke-width:1.2}.step{fill:#eef4ff;stroke:#3f6fd1}
.frame{fill:#6b7a90;fill-opacity:.06;stroke:#8a97a8;stroke-dasharray:5 4}.undo{fill:#fff7ea;stroke:#b7791f;stroke-dasharray:4 3}
.line{fill:none;stroke:#66758a;stroke-width:1.4}.dashed{stroke-dasharray:4 3}.tip{fill:#66758a}.bar{fill:#66758a}
.word{fill:#fff;stroke:#c7cfda}.quiet{fill:#56637a}.name{font-weight:600}
.good{fill:#e3f6e8;stroke:#23803b}.live{fill:#dcebff;stroke:#1257c4;stroke-width:2}.wait{fill:#fff3d6;stroke:#9a6b00}
.bad{fill:#fde4e4;stroke:#bb1f2d;stroke-width:2}.faint{fill:#f2f4f7;stroke:#b3bcc8}
@media (prefers-color-scheme:dark){
text{fill:#e6ebf3}.ground{fill:#12161d}.box{fill:#1b212b;stroke:#76849a}.step{fill:#17253f;stroke:#6f9bf0}
.frame{fill:#9fb0c8;fill-opacity:.06;stroke:#6b788c}.undo{fill:#2c2414;stroke:#d3a049}
.line{stroke:#8d9bb0}.tip,.bar{fill:#8d9bb0}.word{fill:#1b212b;stroke:#3d4858}.quiet{fill:#a7b3c5}
.good{fill:#14301d;stroke:#5fc77d}.live{fill:#132f5a;stroke:#7db0ff}.wait{fill:#352a0d;stroke:#e0b050}
.bad{fill:#401a1e;stroke:#ff8088}.faint{fill:#1a1f27;stroke:#4a5464}
}
""".strip()

Paint = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the picture. axis: where its line comes in above and goes out below. paint(x, y): its left upper corner."""

    width: float
    height: float
    axis: float
    paint: Paint


def as_svg(plan: Composition | Node, states: Mapping[str, str] | None = None) -> str:
    """A picture of a plan. states: the state of nodes by place (`done`, `running`, `waiting`, `failed`, ...), as of a run.

    Raises PlanError for a plan with more nodes than plans may have, or a state of a node that is not there.
    """
    body = plan.body if isinstance(plan, Composition) else plan
    name, intent = (plan.id, plan.intent) if isinstance(plan, Composition) else ("plan", body.label)
    check_bounds(body, name)
    there = {place for place, _ in walk(body)}
    for place in states or {}:
        if place not in there:
            raise PlanError(f"{name} has no node at {place!r}, so there is no state of it to show")
    return _Picture(states or {}).whole(name, intent, body)


class _Picture:
    def __init__(self, states: Mapping[str, str]) -> None:
        self._states = states
        self._parts: list[str] = []

    def whole(self, name: str, intent: str, body: Node) -> str:
        row = [self._box((name,), "box", bold=True), self._node(body, ""), self._box(("end",), "box")]
        block = self._in_order(row)
        width, height = block.width + 2 * MARGIN, block.height + 2 * MARGIN
        block.paint(MARGIN, MARGIN)
        size = f'width="{width:.0f}" height="{height:.0f}"'
        shape = f'{size} viewBox="0 0 {width:.0f} {height:.0f}"'
        title, told_whole = f"{name}: {intent}", as_text(body)
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {shape} role="img" aria-labelledby="title desc">',
                f'<title id="title">{_text(title)}</title>',
                f'<desc id="desc">{_text(told_whole)}</desc>',
                f"<style>{STYLE}</style>",
                f'<rect class="ground" {size}/>',
                *self._parts,
                "</svg>\n",
            ]
        )

    # ---- nodes --------------------------------------------------------------------------------------------------------

    def _node(self, node: Node, place: str) -> _Block:
        below = {part: f"{place}/{part}" if place else part for part, _ in node.children}
        match node:
            case Step():
                return self._step(node, place, below)
            case Branch():
                ways = [
                    self._worded(self._node(then, below[str(number)]), condition_text(condition))
                    for number, (condition, then) in enumerate(node.cases)
                ]
                if node.otherwise is not None:
                    ways.append(self._worded(self._node(node.otherwise, below["otherwise"]), "otherwise"))
                else:
                    ways.append(self._word("otherwise nothing"))
                head = self._box((node.name or "which holds first?",), "box", place, node, round_=17)
                return self._side_by_side(head, ways, None)
            case Saga():
                steps = [self._node(step, below[str(n)]) for n, step in enumerate(node.steps)]
                return self._framed(told(node), self._in_order(steps), place, node)
            case Several() if node.kind == "pipeline":
                steps = [self._node(step, below[str(n)]) for n, step in enumerate(node.steps)]
                inner = self._in_order(steps)
                return (
                    self._framed(told(node), inner, place, node)
                    if node.name or place in self._states
                    else inner
                )
            case Several():
                head = self._box((told(node),), "box", place, node, round_=17)
                ways = [self._node(step, below[str(n)]) for n, step in enumerate(node.steps)]
                last = self._word("the first that ends well") if isinstance(node, Race) else self._bar()
                return self._side_by_side(head, ways, last)
            case _ if not node.children:
                return self._box((told(node),), "box", place, node, round_=17)
            case _:
                return self._around(node, place, below)

    def _step(self, step: Step, place: str, below: Mapping[str, str]) -> _Block:
        lines = [step.label] if step.name is None else [f"{step.name}", step.capability]
        takes, _, gives = told(step).rpartition(step.capability)[2].partition(" -> ")
        lines += [takes.strip()] if takes.strip() else []
        lines += [f"→ {gives}"] if gives else []
        if isinstance(step, Subflow):
            lines.append("a composition")
        box = self._box(lines, "step", place, step, bold=True)
        if step.compensate is None:
            return box
        undo = self._box([f"↺ {step.compensate.label}"], "undo", below["compensate"], step.compensate)

        def paint(x: float, y: float) -> None:
            box.paint(x, y)
            undo.paint(x + box.width + SIDE, y)
            middle = y + min(box.height, undo.height) / 2
            self._path([(x + box.width, middle), (x + box.width + SIDE, middle)], "line dashed")
            if box.height < undo.height:
                self._path([(x + box.axis, y + box.height), (x + box.axis, y + undo.height)], "line")

        width = box.width + SIDE + undo.width
        return _Block(width, max(box.height, undo.height), box.axis, paint)

    def _around(self, node: Node, place: str, below: Mapping[str, str]) -> _Block:
        """A loop, a retry and what else does something with a body: a frame; what stands in for the body is beside it."""
        children = dict(node.children)
        inside = [self._node(child, below[part]) for part, child in children.items() if part != "fallback"]
        frame = self._framed(told(node), self._in_order(inside), place, node)
        if not isinstance(node, Retry) or node.fallback is None:
            return frame
        head = self._word("if all of them fail")
        other = self._in_order([head, self._node(node.fallback, below["fallback"])])
        word = head.width
        width, height = frame.width + SIDE + other.width, max(frame.height, other.height) + GAP

        def paint(x: float, y: float) -> None:
            frame.paint(x, y)
            beside = x + frame.width + SIDE
            other.paint(beside, y)
            way = y + (LINE + 4) / 2
            self._path([(x + frame.width, way), (beside + other.axis - word / 2, way)], "line dashed")
            self._path([(x + frame.axis, y + frame.height), (x + frame.axis, y + height)], "line")
            turn = y + height - GAP / 2
            self._path(
                [
                    (beside + other.axis, y + other.height),
                    (beside + other.axis, turn),
                    (x + frame.axis, turn),
                ],
                "line dashed",
            )

        return _Block(width, height, frame.axis, paint)

    # ---- layout -------------------------------------------------------------------------------------------------------

    def _in_order(self, blocks: Sequence[_Block]) -> _Block:
        axis = max(block.axis for block in blocks)
        width = axis + max(block.width - block.axis for block in blocks)
        height = sum(block.height for block in blocks) + GAP * (len(blocks) - 1)

        def paint(x: float, y: float) -> None:
            for number, block in enumerate(blocks):
                if number:
                    self._arrow([(x + axis, y - GAP), (x + axis, y)])
                block.paint(x + axis - block.axis, y)
                y += block.height + GAP

        return _Block(width, height, axis, paint)

    def _side_by_side(self, head: _Block, blocks: Sequence[_Block], last: _Block | None) -> _Block:
        across = sum(block.width for block in blocks) + SIDE * (len(blocks) - 1)
        axes, left = [], 0.0
        for block in blocks:
            axes.append(left + block.axis)
            left += block.width + SIDE
        axis = (axes[0] + axes[-1]) / 2
        ends = [head] if last is None else [head, last]
        shift = max(0.0, *(block.axis - axis for block in ends))
        axis += shift
        width = max(across + shift, *(axis + block.width - block.axis for block in ends))
        tallest = max(block.height for block in blocks)
        ending = 0.0 if last is None else last.height
        height = head.height + GAP + tallest + GAP + ending

        def paint(x: float, y: float) -> None:
            head.paint(x + axis - head.axis, y)
            top, bottom = y + head.height + GAP, y + head.height + GAP + tallest
            for block, at in zip(blocks, axes, strict=True):
                here = x + shift + at
                self._arrow(
                    [(x + axis, top - GAP), (x + axis, top - GAP / 2), (here, top - GAP / 2), (here, top)]
                )
                block.paint(here - block.axis, top)
                turn = bottom + GAP / 2
                self._path(
                    [(here, top + block.height), (here, turn), (x + axis, turn), (x + axis, bottom + GAP)],
                    "line",
                )
            if last is not None:
                last.paint(x + axis - last.axis, bottom + GAP)

        return _Block(width, height, axis, paint)

    def _worded(self, block: _Block, word: str) -> _Block:
        """A block with a word on the line that leads to it."""
        return self._in_order([self._word(word), block])

    def _word(self, word: str) -> _Block:
        return self._box((word,), "word", round_=11)

    def _framed(self, head: str, inner: _Block, place: str, node: Node) -> _Block:
        lines, kind = self._lines([head], place, "frame")
        room = LINE * len(lines) + 2 * PAD
        width = max(inner.width, *map(_wide, lines)) + 2 * PAD
        axis = inner.axis + (width - inner.width) / 2
        height = room + inner.height + PAD

        def paint(x: float, y: float) -> None:
            self._open(place, node)
            self._rect(x, y, width, height, kind, 10)
            for number, line in enumerate(lines):
                self._write(
                    x + PAD,
                    y + PAD / 2 + LINE * (number + 1) - 5,
                    line,
                    "quiet name" if number == 0 else "quiet",
                )
            self._path([(x + axis, y + room - GAP / 2), (x + axis, y + room)], "line")
            inner.paint(x + axis - inner.axis, y + room)
            self._path([(x + axis, y + room + inner.height), (x + axis, y + height)], "line")
            self._parts.append("</g>")

        return _Block(width, height, axis, paint)

    def _box(
        self,
        given: Sequence[str],
        kind: str,
        place: str = "",
        node: Node | None = None,
        *,
        bold: bool = False,
        round_: float = 6,
    ) -> _Block:
        lines, kind = (
            self._lines(given, place, kind) if node is not None else ([_cut(line) for line in given], kind)
        )
        low = kind == "word"
        width = max(map(_wide, lines)) + 2 * PAD
        height = LINE * len(lines) + (4 if low else PAD)

        def paint(x: float, y: float) -> None:
            self._open(place, node)
            self._rect(x, y, width, height, kind, round_)
            for number, line in enumerate(lines):
                style = "name" if bold and number == 0 else "" if number == 0 else "quiet"
                self._write(
                    x + width / 2,
                    y + (height - LINE * len(lines)) / 2 + LINE * number + 13,
                    line,
                    style,
                    True,
                )
            self._parts.append("</g>")

        return _Block(width, height, width / 2, paint)

    def _bar(self) -> _Block:
        """Where what was at once is one again."""
        return _Block(64, 5, 32, lambda x, y: self._rect(x, y, 64, 5, "bar", 2.5))

    def _lines(self, given: Sequence[str], place: str, kind: str) -> tuple[list[str], str]:
        """What is written on a node, its state included, and the class that shows it."""
        lines = [_cut(line) for line in given]
        state = self._states.get(place)
        if state is None:
            return lines, kind
        sign, shown = STATES.get(state, ("•", kind))
        return [*lines, _cut(f"{sign} {state}")], shown

    # ---- SVG ------------------------------------------------------------------------------------------------------------

    def _open(self, place: str, node: Node | None) -> None:
        title = "" if node is None else f"<title>{_text(place or 'plan')}: {_text(told(node))}</title>"
        self._parts.append(f"<g>{title}")

    def _rect(self, x: float, y: float, width: float, height: float, kind: str, round_: float) -> None:
        self._parts.append(
            f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{round_:g}"/>'
        )

    def _write(self, x: float, y: float, line: str, style: str, middle: bool = False) -> None:
        more = (f' class="{style}"' if style else "") + (' text-anchor="middle"' if middle else "")
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}"{more}>{_text(line)}</text>')

    def _arrow(self, points: list[tuple[float, float]]) -> None:
        (x, y) = points[-1]
        self._path([*points[:-1], (x, y - 5)], "line")
        self._parts.append(
            f'<path class="tip" d="M{x - 4:.1f} {y - 7:.1f}L{x:.1f} {y:.1f}L{x + 4:.1f} {y - 7:.1f}Z"/>'
        )

    def _path(self, points: list[tuple[float, float]], kind: str) -> None:
        """A line of upright and level parts, whose corners are round."""
        drawn = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            radius = min(BEND, _far(before, corner) / 2, _far(corner, after) / 2)
            (ax, ay), (bx, by) = _towards(corner, before, radius), _towards(corner, after, radius)
            drawn += f"L{ax:.1f} {ay:.1f}Q{corner[0]:.1f} {corner[1]:.1f} {bx:.1f} {by:.1f}"
        self._parts.append(f'<path class="{kind}" d="{drawn}L{points[-1][0]:.1f} {points[-1][1]:.1f}"/>')


def _far(one: tuple[float, float], other: tuple[float, float]) -> float:
    return abs(one[0] - other[0]) + abs(one[1] - other[1])


def _towards(start: tuple[float, float], end: tuple[float, float], length: float) -> tuple[float, float]:
    whole = _far(start, end)
    part = length / whole if whole else 0.0
    return start[0] + (end[0] - start[0]) * part, start[1] + (end[1] - start[1]) * part


def _wide(line: str) -> float:
    """How much room a line takes: a letter of Chinese, Japanese or Korean, or an emoji, takes that of two."""
    return LETTER * sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in line)


def _cut(line: str) -> str:
    line = " ".join(line.split())
    if _wide(line) <= LETTER * LONGEST:
        return line
    while _wide(line) > LETTER * (LONGEST - 1):
        line = line[:-1]
    return line + "…"


def _text(text: str) -> str:
    """What XML can hold: no control characters, and nothing that it would take for its own."""
    kept = "".join(
        c if c in "\n\t" or (c.isprintable() and not 0xD800 <= ord(c) < 0xE000) else "\ufffd" for c in text
    )
    return escape(kept, quote=True)
