"""What a module sees: lists are or, keys are and, `not` leaves out, `*` is not `system.*`."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.intelligence.match import Match
from packetflow.security.access import Grants, Session


def sees(written: Any, id: str, tags: tuple[str, ...] = (), principal: str = "ana", tenant: str = "") -> bool:
    match = Match.of(written)
    session = Session(principal, Grants(["*"]), tenant=tenant)
    return match.capability(id, tags) and match.session(session, id, tags)


EMPTY_NOT = {
    "capabilities": ("*",),
    "tags": (),
    "principals": (),
    "tenants": (),
    "not": {"capabilities": (), "tags": ()},
}


@pytest.mark.parametrize(
    ("written", "id", "more", "expected"),
    [
        (None, "a.b", {}, True),
        (["*"], "a.b", {}, True),
        (["*"], "system.stop", {}, False),
        (["system.*"], "system.stop", {}, True),
        (["x.*", "a.*"], "a.b", {}, True),
        (["x.*"], "a.b", {}, False),
        (EMPTY_NOT, "a.b", {}, True),
        ({"tags": ["money"]}, "a.b", {"tags": ("money", "slow")}, True),
        ({"tags": ["money"]}, "a.b", {"tags": ("slow",)}, False),
        ({"capabilities": ["a.*"], "tags": ["money"]}, "b.b", {"tags": ("money",)}, False),
        ({"principals": ["an*"]}, "a.b", {}, True),
        ({"principals": ["bo"]}, "a.b", {}, False),
        ({"tenants": ["acme"]}, "a.b", {"tenant": "acme"}, True),
        ({"tenants": ["acme"]}, "a.b", {}, False),
        ({"not": {"capabilities": ["a.b"]}}, "a.b", {}, False),
        ({"not": {"capabilities": ["a.b"]}}, "a.c", {}, True),
        ({"not": {"principals": ["ana"]}}, "a.b", {}, False),
        ({"not": {"capabilities": ["a.b"], "principals": ["bo"]}}, "a.b", {}, True),
    ],
)
def test_match(written: Any, id: str, more: dict[str, Any], expected: bool) -> None:
    assert sees(written, id, **more) is expected


def test_a_match_is_shown_as_it_is_written() -> None:
    assert Match.of(["a.*"]).as_data() == ["a.*"]
    table = {"capabilities": ["a.*"], "principals": ["ana"], "not": {"capabilities": ["*"], "tags": ["x"]}}
    assert Match.of(table).as_data() == table
