from __future__ import annotations

import pytest

from packetflow.wire.errors import ProtocolError, TooLarge
from packetflow.wire.limits import Limits, inspect

LIMITS = Limits(depth=3, string=8, collection=4)


@pytest.mark.parametrize(
    "value",
    [1, "x" * 8, b"x" * 8, {"a": {"b": {"c": 1}}}, [[[1]]], [1, 2, 3, 4], {"aé": "éééé"}, None, 1.5],
)
def test_what_keeps_every_bound_passes(value: object) -> None:
    inspect(value, LIMITS)


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        ({"a": {"b": {"c": []}}}, "depth"),
        ([[[[]]]], "depth"),
        (["x" * 9], "string"),
        (["é" * 5], "string"),
        ({"x" * 9: 1}, "string"),
        ([b"x" * 9], "string"),
        ([1] * 5, "collection"),
        ({"a": dict.fromkeys("abcde")}, "collection"),
    ],
)
def test_what_passes_a_bound_names_it(value: object, limit: str) -> None:
    with pytest.raises(TooLarge) as caught:
        inspect(value, LIMITS)
    assert caught.value.details == {"limit": limit, "allowed": getattr(LIMITS, limit)}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_are_not_finite_are_refused(number: float) -> None:
    with pytest.raises(ProtocolError):
        inspect({"a": [number]}, LIMITS)
