"""A capability's rule: asked of each request where the caller's roles don't settle it, and of who wants to see the catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.capabilities.authorisation import Allowed, Denied, Rule, caller_of, context_of
from packetflow.capabilities.catalogue import Registered
from packetflow.capabilities.conditions import ConditionFailed
from packetflow.capabilities.context import Context
from packetflow.node.interrupts import described
from packetflow.node.routes import Route, forbidden
from packetflow.security.access import Session


def authorise(log: Any, call: Context, route: Route, fields: Mapping[str, Any]) -> None:
    """Ask the rule of a capability. Raises Forbidden, which says which rule and nothing of the payload; a rule that fails
    denies."""
    rule = route.rule
    assert rule is not None, "the door asks where there is one"
    try:
        words = rule.refusal(fields, context_of(call), call)
    except Exception as failure:
        log.warning(
            "a rule can't be decided, so it denies", trace=call.id[:8], capability=route.id, rule=rule.words,
            exc_info=None if isinstance(failure, ConditionFailed) else failure,
            why=failure.reason if isinstance(failure, ConditionFailed) else described(failure),
        )  # fmt: skip
        raise forbidden(route.id, rule.words, reason="rule_failed") from None
    if words is not None:
        raise forbidden(route.id, words)


def visible(session: Session, registered: Registered) -> tuple[bool, Rule | None]:
    """Whether a session may know of a capability, and what its rule asks of each request besides."""
    definition = registered.definition
    if not session.grants.allow(definition.id):
        return False, None
    if definition.authorize is None:
        return True, None
    left = definition.authorize.for_roles(session.roles)
    if isinstance(left, Allowed | Denied):
        return isinstance(left, Allowed), None
    if left.by_payload:
        return True, left
    try:
        refused = left.refusal(None, caller_of(session, definition.id, definition.version), None)
    except ConditionFailed:
        return False, None  # as at the call: a rule that can't be decided denies
    return refused is None, None
