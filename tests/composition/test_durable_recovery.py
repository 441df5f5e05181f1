"""Durable runs when something goes wrong around them: a lost process, a full disk, a damaged file, a clock that jumps."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.event import Event

from packetflow import capability
from packetflow.composition.building import pipeline, step
from packetflow.node.supervision import RUNS
from packetflow.otp import kill

from .durable import Place, flow


def test_a_run_is_taken_up_only_when_what_the_lost_process_had_begun_is_over(place: Place) -> None:
    began, inside, seen = Event(), [0], []

    @capability("work.careful")
    def careful(word: str) -> dict[str, str]:
        """Do it, and tidy up however it ends."""
        inside[0] += 1
        seen.append(inside[0])
        began.set()
        try:
            gevent.sleep(0.2)
        finally:
            gevent.sleep(0.2)
            inside[0] -= 1
        return {"did": word}

    node = place.node(
        flow("test.careful", pipeline(step("work.careful"), step("work.careful"))), more=[careful]
    )
    asking = gevent.spawn(node.request, "test.careful", {"word": "a"})
    began.wait(10)
    lost: Any = node.system.whereis(RUNS)
    kill(lost)
    assert asking.get(timeout=20).value == {"did": "a"}, "who waited for the run hears of its end"
    assert set(seen) == {1}, "a step was run while its first run was not over"
    assert len(seen) == 3
