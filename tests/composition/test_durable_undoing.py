"""What is undone in a durable run: as in memory, and with keys by which the other side tells once more from once again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from packetflow import Context, capability
from packetflow.composition.building import composition, pipeline, retry, step
from packetflow.composition.nodes import Value
from packetflow.testing import World, simulate
from packetflow.wire.errors import Unavailable
from tests.composition import desk
from tests.composition.test_undoing import *  # noqa: F403 - its tests, run again

# The run goes on when the request is out of time, so nothing is undone for that.
del test_what_is_undone_has_time_of_its_own  # noqa: F821
del test_a_strand_that_is_cancelled_is_undone_in_order_before_those_around_it  # noqa: F821
# Its steps are seen in the trace of the run, and not in that of the request.
del test_what_is_undone_is_seen_in_the_trace_of_the_run  # noqa: F821
# A node that stops leaves the run to the next start.
del test_what_a_node_that_stops_ends_is_undone  # noqa: F821


@pytest.fixture(autouse=True)
def durable() -> Iterator[None]:
    """Every composition of these tests is durable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(desk, "composition", partial(composition, durable=True))
        yield


def test_a_step_that_was_undone_is_asked_for_with_another_key_and_one_that_failed_with_the_same() -> None:
    """Given a retry whose second step fails, when it is tried again, then what was undone is done once more."""

    def program(world: World) -> list[tuple[str, str | None]]:
        asked: list[tuple[str, str | None]] = []

        @capability("test.note")
        def note(word: str, context: Context) -> None:
            """Note who asks with which key, and fail two times at b."""
            asked.append((word, context.idempotency_key))
            if word == "b" and sum(one == "b" for one, _ in asked) < 3:
                raise Unavailable("not yet")

        def do(word: str, **options: Any) -> Any:
            return step("test.note", inputs={"word": Value(word)}, **options)

        body = pipeline(do("a", compensate=do("undo a")), do("b"))
        plan = retry(body, attempts=3, delay=0.0)
        node = world.node(capabilities=[note, composition("test.plan", "x", plan, durable=True)])
        assert node.request("test.plan", {}).ok
        return asked

    asked = simulate(program, 1).value
    assert [word for word, _ in asked] == ["a", "b", "undo a", "a", "b", "undo a", "a", "b"]
    keys = {word: [key for one, key in asked if one == word] for word in ("a", "b", "undo a")}
    assert None not in keys["a"]
    assert len(set(keys["a"])) == 3
    assert len(set(keys["b"])) == 1
    assert len(set(keys["undo a"])) == 2
