"""Traces: a bounded ring, looked up by the first letters, with what modules hide hidden in all of them."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow import Context, Intercept, Module, Transform, capability
from packetflow.otp.clock import Clock
from packetflow.telemetry.traces import Traces, quantile
from tests.node.passing import Passing, gate


@capability("card.show")
def show(card: str, note: str = "") -> dict[str, str]:
    """Show a card."""
    return {"card": card, "note": note}


@capability("card.fail")
def fail() -> str:
    """Fail."""
    raise RuntimeError("no")


class Before(Module):
    """Changes the field before another module hides it."""

    def handle_request(self, request: Any, context: Context) -> Any:
        return Intercept(request.with_payload(card=request.payload["card"] + "!", note="seen"))


class Hides(Module):
    redacts = True

    def handle_request(self, request: Any, context: Context) -> Any:
        return Intercept(request.with_payload(card="****"))

    def handle_response(self, response: Any, context: Context) -> Any:
        return Transform(response.with_value({**response.value, "card": "...."}))


def test_what_a_redacting_module_touched_is_hidden_in_every_note() -> None:
    passing = Passing([show], [gate(Before(), "before", 1), gate(Hides(), "hides", 2)])
    response = passing("card.show", card="4111111111111111")
    text = str(passing.traces.as_data(response.trace))
    assert "4111" not in text
    assert "'note', 'before': \"''\", 'after': \"'seen'\"" in text  # the rest is told


def test_values_can_be_left_out() -> None:
    passing = Passing([show], [gate(Before(), "before", 1)])
    response = passing("card.show", card="x")
    assert "seen" not in str(passing.traces.as_data(response.trace, values=False))


def test_the_ring_is_bounded_and_keeps_failures_longer() -> None:
    passing = Passing([show, fail])
    passing.traces = passing.door.traces = Traces(Clock(), keep=8)
    passing.door._keep = passing.traces.add
    failed = passing("card.fail")
    for _ in range(100):
        passing("card.show", card="x")
    assert len(list(passing.traces)) == 9
    assert passing.traces.find(failed.trace_id[:8]) == [failed.trace]


def test_a_trace_is_found_by_its_first_letters_and_the_last_one_at_once() -> None:
    passing = Passing([show])
    responses = [passing("card.show", card=str(number)) for number in range(5)]
    for response in responses:
        assert passing.traces.find(response.trace_id[:12].upper()) == [response.trace]
    assert passing.traces.last() is responses[-1].trace
    assert passing.traces.find("zzzz") == []


def test_ids_are_w3c_and_differ() -> None:
    passing = Passing([show])
    ids = {passing("card.show", card="x").trace_id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(id) == 32 and set(id) <= set("0123456789abcdef") for id in ids)


def test_a_long_value_is_cut() -> None:
    passing = Passing([show], [gate(Before(), "before", 1)])
    response = passing("card.show", card="x" * 10_000)
    assert len(str(passing.traces.as_data(response.trace))) < 3000


@pytest.mark.parametrize(
    ("values", "share", "expected"), [([], 0.5, None), ([1.0], 0.99, 1.0), ([1.0, 2.0, 3.0], 0.5, 2.0)]
)
def test_quantiles(values: list[float], share: float, expected: float | None) -> None:
    assert quantile(values, share) == expected
