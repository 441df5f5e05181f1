"""Pictures of plans: nothing covers anything else, every node tells itself, and no state is a colour alone."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings

from packetflow.composition.building import branch, composition, loop, pipeline, race, retry, step, subflow
from packetflow.composition.drawing import as_mermaid, as_text
from packetflow.composition.nodes import Node, PlanError, Step, Value
from packetflow.composition.picture import LETTER, STATES, as_svg
from packetflow.composition.plan import walk

from .plans import nodes

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def boxes(root: ElementTree.Element, *, frames: bool) -> list[tuple[Box, list[str]]]:
    """Each box (or each frame) with what is written in it."""
    found = []
    for group in root.iter(f"{SVG}g"):
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        if ("frame" in rect.attrib["class"]) == frames:
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            texts = [text.text or "" for text in group.findall(f"{SVG}text")]
            found.append(((x, y, x + width, y + height), texts))
    return found


def apart(one: Box, other: Box) -> bool:
    return one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]


def inside(one: Box, other: Box) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one[2] <= other[2] and one[3] <= other[3]


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_no_box_covers_another_and_every_text_fits(plan: Node) -> None:
    root = parsed(as_svg(plan))
    whole = (0.0, 0.0, float(root.attrib["width"]), float(root.attrib["height"]))
    plain, frames = boxes(root, frames=False), boxes(root, frames=True)
    for number, (box, texts) in enumerate(plain):
        assert inside(box, whole)
        assert all(apart(box, other) for other, _ in plain[number + 1 :])
        assert all(apart(box, frame) or inside(box, frame) for frame, _ in frames)
        assert all(len(text) * LETTER <= box[2] - box[0] for text in texts)
    for number, (frame, _) in enumerate(frames):
        assert inside(frame, whole)
        for other, _ in frames[number + 1 :]:
            assert apart(frame, other) or inside(frame, other) or inside(other, frame)


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_every_node_tells_itself_by_its_place(plan: Node) -> None:
    told = {title.text.partition(":")[0] for title in parsed(as_svg(plan)).iter(f"{SVG}title") if title.text}
    for place, node in walk(plan):
        # A pipeline without a name is the order of its steps, and no box.
        if node.kind != "pipeline":
            assert (place or "plan") in told


def test_it_has_a_title_and_a_description_for_who_can_not_see_it() -> None:
    made = composition("shop.order", "Take & send", pipeline("stock.take", branch("total > 5", then="a.b")))
    root = parsed(as_svg(made))
    assert root.attrib["role"] == "img"
    ids = root.attrib["aria-labelledby"].split()
    named = {element.attrib["id"]: element.text for element in root if "id" in element.attrib}
    assert [named[id] for id in ids] == ["shop.order: Take & send", as_text(made)]


def test_a_state_is_a_word_and_a_sign_beside_its_colour() -> None:
    plan = pipeline("a.one", "a.two", loop("a.three", over="x", max_iterations=5), race("a.four", "a.five"))
    states = {"0": "done", "1": "failed", "2": "running", "2/body": "waiting", "3": "skipped", "3/0": "odd"}
    svg = as_svg(plan, states)
    for place, state in states.items():
        sign, kind = STATES.get(state, ("•", "step"))
        title = re.escape(f"{place}: ")
        assert re.search(rf'<title>{title}[^<]*</title>\n<rect class="{kind}"', svg), place
        assert f">{sign} {state}</text>" in svg
    assert "done" not in as_svg(plan)


def test_a_state_of_no_node_is_refused() -> None:
    with pytest.raises(PlanError, match="no node at '7'"):
        as_svg(pipeline("a.one"), {"7": "done"})


def test_what_a_plan_says_is_text_and_nothing_else() -> None:
    hostile = "</text><script>alert(1)</script>&\x00\x1b[31m\ud800"
    svg = as_svg(pipeline(step("a.b", inputs={"x": Value(hostile)}, name=hostile)), {"0": hostile})
    root = parsed(svg)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "style", "rect", "path", "g", "text",
    }  # fmt: skip
    svg.encode()


def test_long_and_wide_letters_have_room() -> None:
    plan = pipeline(step("a.b", name="注文を受ける" * 3), step("a.b", name="w" * 500))
    found = [(box, texts) for box, texts in boxes(parsed(as_svg(plan)), frames=False) if len(texts) == 2]
    (wide, _), (cut, texts) = found
    assert wide[2] - wide[0] >= LETTER * 2 * 18
    assert texts[0].endswith("…")
    assert cut[2] - cut[0] < 600


def test_what_undoes_a_step_and_what_stands_in_for_it_are_seen() -> None:
    svg = as_svg(
        pipeline(step("a.do", compensate=Step("a.undo")), retry("a.b", fallback="a.c"), subflow("a.flow"))
    )
    for text in ("↺ a.undo", "if all of them fail", "a.c", "a composition"):
        assert f">{text}</text>" in svg


def test_a_plan_that_is_too_deep_is_refused_before_it_is_drawn() -> None:
    deep: Node = Step("a.b")
    for _ in range(10_000):
        deep = pipeline(deep)
    with pytest.raises(PlanError, match="100 nodes deep"):
        as_svg(deep)


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_as_text_it_has_a_line_a_node(plan: Node) -> None:
    assert len(as_text(plan).splitlines()) == sum(1 for _ in walk(plan))


ARROW = re.compile(r"    (n\d+) (-->|-\.->)(\|\"[^\"]*\"\|)? (n\d+)")
BOX = re.compile(r'    (n\d+)(\["|\{"|\(\["|\(\(")[^"]*("\]|"\}|"\]\)|"\)\))')


@settings(max_examples=100, deadline=None)
@given(nodes)
def test_every_line_of_mermaid_is_a_box_or_an_arrow_between_boxes(plan: Node) -> None:
    first, *lines = as_mermaid(plan).splitlines()
    assert first == "flowchart TD"
    defined = {found[1] for line in lines if (found := BOX.fullmatch(line))}
    arrows = [found for line in lines if (found := ARROW.fullmatch(line))]
    assert len(defined) + len(arrows) == len(lines)
    assert {end for found in arrows for end in (found[1], found[4])} == defined
