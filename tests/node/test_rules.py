"""Rules at the one door: refused with the rule's words and nothing of the payload, asked again of what a module changed."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from packetflow import Context, Intercept, Module, Node, capability
from packetflow.capabilities.authorisation import all_of, any_of, roles

RUN: list[Any] = []


@capability("user.show", authorize="payload.user_id == context.user_id")
def show(user_id: str, note: str = "") -> str:
    """Show a user."""
    RUN.append(user_id)
    return user_id


@capability("user.purge", authorize=roles("admin"))
def purge() -> str:
    """Purge."""
    return "purged"


@capability("user.acme", authorize="context.tenant == 'acme'")
def acme() -> str:
    """For one tenant."""
    return "acme"


@capability("user.pay", authorize=all_of(roles("payer"), any_of("payload.amount < 100", roles("boss"))))
def pay(amount: int) -> int:
    """Pay."""
    return amount


def broken(payload: Any, context: Context) -> bool:
    raise LookupError(f"secret {payload['text']}")


@capability("user.broken", authorize=broken)
def guarded(text: str) -> str:
    """Guarded by a rule that fails."""
    RUN.append(text)
    return text


@capability("user.ask")
def ask(context: Context, user_id: str) -> str:
    """Ask on the caller's behalf."""
    return str(context.call("user.show", {"user_id": user_id}))


class Redirect(Module):
    """Makes of every note another user's request, and of `purge me` a purge."""

    def handle_request(self, request: Any, context: Any) -> Any:
        if request.payload.get("note") == "bo":
            return Intercept(request.with_payload(user_id="bo"))
        if request.payload.get("note") == "purge":
            return Intercept(request.with_capability("user.purge", {}))
        return None


@pytest.fixture
def node() -> Iterator[Node]:
    RUN.clear()
    functions: list[Callable[..., Any]] = [show, purge, acme, pay, guarded, ask]
    made = Node(capabilities=functions, modules=[Redirect], log_stream=io.StringIO())
    with made:
        yield made


def refused(node: Node, id: str, payload: dict[str, Any] | None = None, **who: Any) -> Any:
    error = node.request(id, payload, session=node.session("ana", **who)).error
    assert error is not None
    assert error.code == "forbidden"
    return error


def test_a_condition_over_the_payload_decides(node: Node) -> None:
    ana = node.session("ana")
    assert node.call("user.show", {"user_id": "ana"}, session=ana) == "ana"
    error = refused(node, "user.show", {"user_id": "mallory"})
    assert str(error) == "user.show needs payload.user_id == context.user_id"
    assert error.details == {"capability": "user.show", "rule": "payload.user_id == context.user_id"}
    assert "mallory" not in str(error.as_dict())
    assert RUN == ["ana"]


def test_roles_decide_before_the_payload_is_looked_at(node: Node) -> None:
    assert node.call("user.purge", session=node.session(roles=["admin"])) == "purged"
    assert str(refused(node, "user.purge", {"unknown": 1})) == "user.purge needs the role admin"


def test_rules_go_together(node: Node) -> None:
    def can(amount: int, *had: str) -> bool:
        return node.request("user.pay", {"amount": amount}, session=node.session(roles=had)).ok

    assert [can(5), can(5, "payer"), can(500, "payer"), can(500, "payer", "boss"), can(500, "boss")] == [
        False, True, False, True, False,
    ]  # fmt: skip


def test_a_rule_that_fails_denies_and_its_error_stays_here(node: Node) -> None:
    error = refused(node, "user.broken", {"text": "hush"})
    assert error.details["reason"] == "rule_failed"
    assert "hush" not in str(error.as_dict())
    assert RUN == []


def test_what_a_module_changed_is_asked_for_again(node: Node) -> None:
    refused(node, "user.show", {"user_id": "ana", "note": "bo"})
    refused(node, "user.show", {"user_id": "ana", "note": "purge"})
    assert RUN == []


def test_requests_on_the_way_of_others_are_asked_for_as_their_caller(node: Node) -> None:
    assert node.call("user.ask", {"user_id": "ana"}, session=node.session("ana")) == "ana"
    refused(node, "user.ask", {"user_id": "bo"})


def test_the_rule_takes_away_and_never_gives(node: Node) -> None:
    error = refused(node, "user.purge", grants=["other.*"], roles=["admin"])
    assert "is not granted to you" in str(error)


def test_the_catalogue_shows_what_a_caller_may_call(node: Node) -> None:
    def seen(**who: Any) -> dict[str, bool]:
        rows = node.catalogue(node.session("ana", **who))["capabilities"]
        names = {row["id"]: row.get("conditional", False) for row in rows}
        return {id.removeprefix("user."): given for id, given in names.items() if id.startswith("user.")}

    assert seen() == {"ask": False, "broken": True, "show": True}
    assert seen(roles=["admin"]) == {"ask": False, "broken": True, "purge": False, "show": True}
    assert seen(roles=["payer"])["pay"] is True
    assert seen(roles=["payer", "boss"])["pay"] is False
    assert seen(tenant="acme")["acme"] is False
    assert node.describe(node.session("ana"), "user.purge") is None
    shown = node.describe(node.session("ana", roles=["admin"]), "user.purge")
    assert shown is not None
    assert shown["authorize"] == "the role admin"


def test_a_misspelling_names_nothing_that_the_caller_may_not_know(node: Node) -> None:
    error = node.request("user.purg", session=node.session("ana")).error
    assert error is not None
    assert "user.purge" not in error.details["nearest"]
    error = node.request("user.purg", session=node.session("ana", roles=["admin"])).error
    assert error is not None
    assert "user.purge" in error.details["nearest"]


def test_sessions_of_other_roles_share_no_scope(node: Node) -> None:
    scopes = {node.session("ana", roles=had).scope_id for had in ([], ["a"], ["b"], ["a", "b"])}
    assert len(scopes) == 4
