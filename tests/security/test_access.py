"""Sessions and grants: which capability a pattern covers, and the scope of authority that a cache key begins with."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packetflow.security.access import Grants, Session, matches


@pytest.mark.parametrize(
    ("id", "pattern", "expected"),
    [
        ("ticket.open", "*", True),
        ("ticket.open", "ticket.*", True),
        ("ticket.open", "ticket.open", True),
        ("ticket.open", "tick", False),
        ("ticket.opened", "ticket.open", False),
        ("system.stop", "*", False),
        ("system.stop", "s*", False),
        ("system.stop", "system.*", True),
        ("system.stop", "system.stop", True),
        ("TICKET.open", "ticket.*", False),
    ],
)
def test_patterns(id: str, pattern: str, expected: bool) -> None:
    assert matches(id, pattern) is expected


def test_no_pattern_grants_nothing() -> None:
    assert not Grants([]).allow("ticket.open")


def test_names_that_look_like_separators_make_no_scope_of_another() -> None:
    one, two = Session("", Grants(()), tenant="a\x00b"), Session("b\x00", Grants(()), tenant="a")
    assert one.scope_id != two.scope_id


names = st.text("ab.\x00", max_size=6)


@given(names, names, st.sets(names, max_size=3), names, names, st.sets(names, max_size=3))
def test_a_scope_is_one_tenant_one_principal_one_set_of_rights(
    t1: str, p1: str, g1: set[str], t2: str, p2: str, g2: set[str]
) -> None:
    one, two = Session(p1, Grants(g1), tenant=t1), Session(p2, Grants(g2), tenant=t2)
    assert (one.scope_id == two.scope_id) == ((t1, p1, g1) == (t2, p2, g2))
