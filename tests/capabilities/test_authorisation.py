"""Rules: what they ask for, what is left of them for some roles, and what is no rule."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from packetflow.capabilities.authorisation import (
    CONTEXT,
    Allowed,
    Denied,
    Rule,
    RuleError,
    all_of,
    any_of,
    not_,
    roles,
    rule,
)
from packetflow.capabilities.conditions import ConditionError
from packetflow.capabilities.contract import DefinitionError
from packetflow.capabilities.definition import Capability

ANA = {**dict.fromkeys(CONTEXT), "principal": "ana", "user_id": "ana", "roles": ["agent"]}


def is_met(given: Rule, payload: Any, who: dict[str, Any] = ANA) -> bool:
    return given.refusal(payload, who, None) is None


def test_a_condition_over_payload_and_context_decides() -> None:
    own = rule("payload.user_id == context.user_id")
    assert own.by_payload
    assert is_met(own, {"user_id": "ana"})
    assert own.refusal({"user_id": "bo"}, ANA, None) == "payload.user_id == context.user_id"


def test_a_function_decides_and_must_say_true_or_false() -> None:
    def small(payload: Any, context: Any) -> bool:
        """Small amounts only."""
        return payload["amount"] < 10  # type: ignore[no-any-return]

    assert is_met(rule(small), {"amount": 5})
    assert rule(small).refusal({"amount": 50}, ANA, None) == "small (Small amounts only.)"
    for odd in (1, "yes", None, [1]):
        with pytest.raises(TypeError, match="expected True or False"):
            rule(lambda payload, context, odd=odd: odd).refusal({}, ANA, None)


def test_what_is_left_for_some_roles_means_what_the_whole_meant() -> None:
    """For every rule of two levels, roles and payload: the rest decides as the whole does."""
    leaves = [
        roles("agent"),
        roles("admin", "boss"),
        rule("payload.n > 1"),
        rule("context.principal == 'ana'"),
    ]
    pairs = [make(a, b) for make in (all_of, any_of) for a, b in product(leaves, repeat=2)]
    rules = [
        *leaves,
        *pairs,
        *(not_(one) for one in (*leaves, *pairs)),
        *(all_of(one, not_(leaves[0])) for one in pairs),
    ]
    for one, had, number in product(rules, [[], ["agent"], ["admin"], ["agent", "boss"]], [0, 2]):
        who = {**ANA, "roles": had}
        left = one.for_roles(frozenset(had))
        assert is_met(left, {"n": number}, who) is is_met(one, {"n": number}, who), (one, had, number)
        if not one.by_payload and "context" not in one.words:
            assert isinstance(left, Allowed | Denied), one


def test_a_refusal_names_the_part_that_was_not_met() -> None:
    both = all_of(roles("agent"), "payload.n > 1")
    assert both.refusal({"n": 0}, ANA, None) == "payload.n > 1"
    assert both.refusal({"n": 2}, {**ANA, "roles": []}, None) == "the role agent"
    either = any_of(roles("admin", "boss"), "payload.n > 1")
    assert either.refusal({"n": 0}, ANA, None) == "one of the roles admin, boss or payload.n > 1"


def test_a_part_that_fails_does_not_open_what_another_part_closes() -> None:
    broken = rule("payload.n.x > 1")
    for one in (
        broken,
        not_(broken),
        all_of(roles("agent"), broken),
        any_of(roles("admin"), broken),
        not_(any_of(broken)),
    ):
        with pytest.raises(Exception, match="has no fields"):
            one.refusal({"n": 1}, ANA, None)
    assert is_met(any_of(broken, roles("agent")), {"n": 1})


async def later(payload: Any, context: Any) -> bool:
    return True


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: roles(), "expected one or more names"),
        (lambda: roles(""), "expected one or more names"),
        (lambda: rule(3), "is no rule"),
        (lambda: rule(dict), "is no rule"),
        (lambda: rule(later), "not async"),
        (lambda: rule(lambda payload: True), r"takes \(payload, context\)"),
        (lambda: all_of(), "is empty"),
        (lambda: any_of(None), "is no rule"),
    ],
)
def test_what_is_no_rule_is_refused(make: Any, told: str) -> None:
    with pytest.raises(RuleError, match=told):
        make()


def show(user_id: str) -> str:
    """Show."""
    return user_id


@pytest.mark.parametrize(
    ("authorize", "told"),
    [
        ("payload.usr_id == context.user_id", "'usr_id' is no field of payload; the nearest is 'user_id'"),
        ("payload.user_id == context.user", "'user' is no field of context; the nearest is 'user_id'"),
        ("payload.user_id ==", "expected a value, but it ends"),
        ("payload.user_id + 'x'", "a condition is true or false"),
        (all_of(roles("a"), "payload.no == 1"), "'no' is no field of payload"),
        (7, "is no rule"),
    ],
)
def test_a_wrong_rule_fails_at_the_definition_with_its_line(authorize: Any, told: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        Capability("user.show", show, authorize=authorize)
    assert told in str(caught.value)
    assert f"{__file__}:" in str(caught.value)


def test_a_text_that_is_no_condition_is_refused_where_it_is_written() -> None:
    with pytest.raises(ConditionError, match="names 'paylod', which nothing gives"):
        rule("paylod.x == 1")
