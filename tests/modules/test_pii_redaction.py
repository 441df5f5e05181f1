from __future__ import annotations

import copy
import dataclasses
from collections import OrderedDict, UserDict
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel, ValidationError, computed_field

from packetflow.errors import NotFound
from packetflow.wire.values import Response, make_request
from tests.modules.starting import StandInContext, loaded, part, started

CARD, MASKED = "4111 1111 1111 1111", "**** **** **** 1111"
changed = part(started("pii_redaction"), "copying").changed


class Kind(StrEnum):
    NUMBER = "4111111111111111"


class Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")

    text: str
    count: int = 1


def line(**fields: Any) -> Line:
    return Line.model_validate(fields)


class Lines(RootModel[list[Line]]):
    def __iter__(self) -> Any:
        return iter(self.root)


class Order(BaseModel):
    note: str

    @computed_field  # type: ignore[prop-decorator]
    @cached_property
    def shout(self) -> str:
        return self.note.upper()


class Pair(NamedTuple):
    left: str
    right: int


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    label: str
    tags: list[str]
    size: int = dataclasses.field(default=3, init=False)


@dataclasses.dataclass
class Counted:
    text: str
    made: int = 0

    def __post_init__(self) -> None:
        self.made += 1


def ask(module: Any, capability: str = "ticket.open", **payload: Any) -> Any:
    return module.handle_request(make_request(capability, payload), StandInContext(capability))


def answer(module: Any, value: Any, capability: str = "ticket.open") -> Any:
    return module.handle_response(Response(value, None, None), StandInContext(capability))


def test_a_request_goes_on_masked_and_the_one_that_came_is_as_it_was() -> None:
    module = started("pii_redaction")
    request = make_request("ticket.open", {"customer_id": "C-1001", "text": f"my card {CARD} was stolen"})
    intercepted = module.handle_request(request, StandInContext())
    assert dict(intercepted.request.payload) == {
        "customer_id": "C-1001",
        "text": f"my card {MASKED} was stolen",
    }
    assert request.payload["text"] == f"my card {CARD} was stolen"


def test_a_request_and_a_response_with_nothing_to_mask_go_on_untouched() -> None:
    module = started("pii_redaction")
    assert ask(module, text="my card was stolen", lines=[{"n": 1}]) is None
    assert answer(module, [line(text="nothing")]) is None


def test_a_response_is_masked_and_keeps_its_model() -> None:
    module = started("pii_redaction")
    given = line(text=f"to ana@example.com, {CARD}", extra="+49 30 1234567")
    (masked,) = answer(module, [given]).response.value
    assert masked == line(text=f"to a***@example.com, {MASKED}", extra="+** ** *******")
    assert given == line(text=f"to ana@example.com, {CARD}", extra="+49 30 1234567")


def test_an_error_passes_as_it_is() -> None:
    module = started("pii_redaction")
    assert module.handle_response(Response(None, NotFound(CARD), None), StandInContext()) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([CARD, 7, None], [MASKED, 7, None]),
        ((CARD, [b"4111111111111111"]), (MASKED, [b"4111111111111111"])),
        ({CARD}, {MASKED}),
        (frozenset({CARD}), frozenset({MASKED})),
        (Pair(CARD, 1), Pair(MASKED, 1)),
        ({"a": {"b": [CARD]}, CARD: 1}, {"a": {"b": [MASKED]}, CARD: 1}),
        (OrderedDict(a=CARD), OrderedDict(a=MASKED)),
        (MappingProxyType({"a": CARD}), {"a": MASKED}),
        (UserDict(a=CARD), {"a": MASKED}),
        (line(text=CARD, more=[CARD]), line(text=MASKED, more=[MASKED])),
        (Lines([line(text=CARD)]), Lines([line(text=MASKED)])),
        (Point(CARD, [CARD]), Point(MASKED, [MASKED])),
        ({"card": Kind.NUMBER, "text": CARD}, {"card": Kind.NUMBER, "text": MASKED}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_strings_are_masked_in_a_copy_of_the_same_type(value: Any, expected: Any) -> None:
    module = started("pii_redaction")
    before = copy.deepcopy(value) if not isinstance(value, MappingProxyType) else dict(value)
    masked = answer(module, value).response.value
    assert masked == expected
    assert type(masked) is type(expected)
    assert value == before


def test_a_copied_dataclass_is_not_initialised_again() -> None:
    masked = changed(Counted(CARD), lambda text: MASKED if text == CARD else text)
    assert (masked.text, masked.made) == (MASKED, 1)


def test_a_copied_model_remembers_nothing_that_it_had_computed() -> None:
    module = started("pii_redaction")
    order = Order(note="to ana@example.com")
    assert order.shout == "TO ANA@EXAMPLE.COM"
    assert answer(module, order).response.value.model_dump() == {
        "note": "to a***@example.com",
        "shout": "TO A***@EXAMPLE.COM",
    }


NESTED = st.recursive(
    st.one_of(st.text(max_size=8), st.just(CARD), st.integers(), st.none()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=4),
        st.builds(Line, text=st.sampled_from(["", CARD]), more=inner),
        st.builds(Counted, text=st.sampled_from(["", CARD])),
    ),
)


@given(NESTED)
def test_nothing_that_it_got_is_ever_changed(value: Any) -> None:
    before = copy.deepcopy(value)
    masked = changed(value, lambda text: MASKED if text == CARD else text)
    assert value == before
    assert (masked is value) == (masked == value)
    assert CARD not in repr(masked)


def test_directions_say_which_way_is_masked() -> None:
    inward = started("pii_redaction", directions=["request"])
    assert (ask(inward, text=CARD) is not None, answer(inward, CARD)) == (True, None)
    outward = started("pii_redaction", directions=["response"])
    assert (ask(outward, text=CARD), answer(outward, CARD) is not None) == (None, True)


def test_fields_can_be_left_alone_by_capability() -> None:
    module = started("pii_redaction", skip={"customer.*": ["email"], "customer.lookup": ["phone"]})
    value = {
        "email": "ana@example.com",
        "phone": "+49 30 1234567",
        "all": [{"email": "ben@example.com"}],
        "note": CARD,
    }
    assert answer(module, value, "customer.lookup").response.value == {**value, "note": MASKED}
    assert ask(module, "customer.lookup", email="ana@example.com") is None
    assert answer(module, value).response.value["email"] == "a***@example.com"


def test_what_it_touches_is_hidden_in_traces() -> None:
    assert loaded("pii_redaction").cls.redacts


@pytest.mark.parametrize("mask", ["", "**", "0", "a", "X", "_", "@", ".", " ", "-"])
def test_a_mask_that_could_be_part_of_what_it_hides_is_refused(mask: str) -> None:
    with pytest.raises(ValidationError, match="mask"):
        started("pii_redaction", mask=mask)
