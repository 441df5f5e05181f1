"""Masks: what is secret by name is hidden wherever it stands, and what is shown is plain data and bounded."""

from __future__ import annotations

import json
from collections import namedtuple
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr

from packetflow.telemetry.changes import difference
from packetflow.telemetry.masking import HIDDEN, NOTHING, Mask, secret_fields
from packetflow.wire.values import make_request


class Card(BaseModel):
    number: str = Field(alias="cardNumber")
    holder: str


@dataclass
class Owner:
    name: str
    pin: str


class Colour(Enum):
    RED = "red"


Pair = namedtuple("Pair", "pin other")


def test_fields_are_hidden_by_name_at_any_depth_in_any_case_and_by_alias() -> None:
    mask = Mask(["PIN", "cardnumber"])
    value = {
        "Pin": "1",
        "cards": [Card(cardNumber="4111", holder="ana")],
        "owner": Owner("ana", "2"),
        "pair": Pair("3", "4"),
        "deep": {"a": [[{"pin": "5"}]]},
    }
    assert mask(value) == {
        "Pin": HIDDEN,
        "cards": [{"number": HIDDEN, "holder": "ana"}],
        "owner": {"name": "ana", "pin": HIDDEN},
        "pair": {"pin": HIDDEN, "other": "4"},
        "deep": {"a": [[{"pin": HIDDEN}]]},
    }


def test_a_path_hides_a_field_below_another_only() -> None:
    mask = Mask(["customer.phone"])
    assert mask({"phone": "1", "customer": {"phone": "2"}, "x": {"customer": {"phone": "3"}}}) == {
        "phone": "1",
        "customer": {"phone": HIDDEN},
        "x": {"customer": {"phone": HIDDEN}},
    }
    assert mask({"phone": "2"}, "customer") == {"phone": HIDDEN}


def test_what_is_shown_is_plain_data() -> None:
    value = {
        "when": date(2026, 1, 31), "span": timedelta(seconds=90), "price": Decimal("0.10"), "id": UUID(int=0), "c": Colour.RED,
        "bytes": b"abc", "set": {1}, "nan": float("nan"), "key": SecretStr("s"), "other": object(),
    }  # fmt: skip
    shown = NOTHING(value)
    assert json.loads(json.dumps(shown, allow_nan=False)) == {
        "when": "2026-01-31", "span": "90s", "price": "0.10", "id": str(UUID(int=0)), "c": "red",
        "bytes": "<3 bytes>", "set": [1], "nan": "nan", "key": HIDDEN, "other": "<object>",
    }  # fmt: skip


def test_what_is_shown_is_bounded() -> None:
    deep: Any = "end"
    for _ in range(60):
        deep = {"in": deep}
    shown = NOTHING(
        {
            "text": "x" * 5_000,
            "list": list(range(500)),
            "table": {str(n): n for n in range(500)},
            "deep": deep,
        }
    )
    assert len(shown["text"]) < 1_100
    assert shown["list"][-1] == "... 400 more"
    assert shown["table"]["..."] == "400 more"
    assert "..." in json.dumps(shown["deep"])


names = st.sampled_from(["pin", "Pin", "name", "card", "x"])
values = st.recursive(
    st.text(alphabet="ab", max_size=3) | st.integers(),
    lambda inner: st.dictionaries(names, inner, max_size=4) | st.lists(inner, max_size=4),
    max_leaves=12,
)


@given(values)
def test_no_secret_is_ever_shown(value: Any) -> None:
    def planted(part: Any, secret: bool) -> Any:
        if isinstance(part, dict):
            return {key: planted(item, secret or key.lower() == "pin") for key, item in part.items()}
        if isinstance(part, list):
            return [planted(item, secret) for item in part]
        return "SECRET" if secret else part

    assert "SECRET" not in json.dumps(Mask(["pin"])(planted(value, False)))


def test_masks_go_together() -> None:
    both = Mask(["a"]) | Mask(["b.c"]) | NOTHING
    assert both == Mask(["b.c", "a"])
    assert not NOTHING
    assert (Mask() | Mask(whole=True))("x") == HIDDEN


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"properties": {"a": {"writeOnly": True}, "b": {"format": "password"}, "c": {}}}, Mask(["a", "b"])),
        ({"properties": {"a": {"items": {"writeOnly": True}}}}, Mask(["a"])),
        ({"properties": {"a": {"anyOf": [{"writeOnly": True}, {"type": "null"}]}}}, Mask(["a"])),
        (
            {
                "$ref": "#/$defs/N",
                "$defs": {"N": {"properties": {"next": {"$ref": "#/$defs/N"}, "k": {"writeOnly": True}}}},
            },
            Mask(["k"]),
        ),
        ({"writeOnly": True}, Mask(whole=True)),
        ({"type": "string"}, NOTHING),
    ],
)
def test_the_secret_fields_of_a_contract_are_found(schema: dict[str, Any], expected: Mask) -> None:
    assert secret_fields(schema) == expected


def test_changes_in_a_trace_are_masked_too() -> None:
    old = make_request("a.b", {"pin": "1", "card": {"number": "4111"}, "x": 1}, None)
    new = make_request("a.b", {"pin": "2", "x": 2, "added": {"pin": "3", "y": 1}}, None)
    rows = difference(old, new, mask=Mask(["pin", "card.number"]))
    assert "4111" not in str(rows)
    assert {row["path"]: (row["before"], row["after"]) for row in rows} == {
        "pin": (HIDDEN, HIDDEN),
        "card": ("{'number': '***'}", "(removed)"),
        "x": ("1", "2"),
        "added": ("(absent)", "{'pin': '***', 'y': 1}"),
    }
