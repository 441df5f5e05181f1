"""A step's idempotency key: two steps of one key are one, in memory and durably."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from packetflow import Context, capability
from packetflow.composition.building import composition, pipeline, step
from packetflow.composition.nodes import PlanError
from packetflow.wire.errors import Conflict, ExecutionFailed

from .durable import Place


def paying(place: Place) -> list[Callable[..., Any]]:
    @capability("pay.send")
    def send(order: str, total: int, context: Context) -> dict[str, int]:
        """Pay."""
        place.done.append(str(context.idempotency_key))
        return {"paid": total}

    return [send]


def plan(id: str, key: str, durable: bool) -> Any:
    body = pipeline(step("pay.send", key=key), step("pay.send", key=key, name="again"))
    return composition(id, "Pay", body, requires={"order": str, "total": int}, durable=durable)


@pytest.mark.parametrize("durable", [False, True])
def test_one_key_is_one_payment_whoever_asks_again(place: Place, durable: bool) -> None:
    node = place.node(plan("test.pay", "order", durable), more=paying(place))
    for _ in range(2):
        assert node.call("test.pay", {"order": "o-1", "total": 5}) == {"paid": 5}
    assert node.call("test.pay", {"order": "o-2", "total": 6}) == {"paid": 6}
    assert place.done == ["o-1", "o-2"]
    with pytest.raises(Conflict, match="was used with another payload"):
        node.call("test.pay", {"order": "o-1", "total": 9})


@pytest.mark.parametrize("durable", [False, True])
def test_what_is_no_key_is_refused(place: Place, durable: bool) -> None:
    node = place.node(plan("test.none", "order == 'x'", durable), more=paying(place))
    with pytest.raises(ExecutionFailed, match="expected a text of 1 to 256 characters, or a number"):
        node.call("test.none", {"order": "o", "total": 1})
    assert place.done == []


def test_a_key_over_what_is_not_there_is_found_before_the_run(place: Place) -> None:
    node = place.node(plan("test.wrong", "ordr", False), more=paying(place))
    (row,) = node.call("system.flows")["flows"]
    assert "nearest order" in row["faults"][0]
    with pytest.raises(PlanError, match="expected a CEL text"):
        step("pay.send", key=5)  # type: ignore[arg-type]
