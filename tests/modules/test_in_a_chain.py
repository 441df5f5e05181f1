"""The shipped modules together in front of real capabilities, by the real door."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from packetflow import capability
from tests.modules.starting import HandClock, started
from tests.node.passing import Passing, gate


class Note(BaseModel):
    text: str
    to: str


@capability("note.write")
def write(text: str, to: str = "ben@example.com") -> Note:
    """Write a note."""
    return Note(text=text, to=to)


@pytest.fixture
def modules() -> dict[str, Any]:
    return {
        "request_log": started("request_log", fields=["text", "to"]),
        "rate_limit": started("rate_limit", HandClock(), rate=1, burst=2),
        "pii_redaction": started("pii_redaction", skip={"note.*": ["to"]}),
    }


@pytest.fixture
def ask(modules: dict[str, Any]) -> Passing:
    gates = [gate(modules[name], name, priority) for priority, name in enumerate(modules)]
    return Passing([write], gates)


def test_a_request_is_masked_logged_and_answered(ask: Passing, modules: dict[str, Any]) -> None:
    response = ask("note.write", text="my card is 4111 1111 1111 1111")
    assert response.unwrap() == Note(text="my card is **** **** **** 1111", to="ben@example.com")
    (line,) = modules["request_log"].lines.entries
    assert line["duration"] > 0
    assert {key: line[key] for key in ("capability", "principal", "outcome", "trace", "fields")} == {
        "capability": "note.write",
        "principal": "ana",
        "outcome": "ok",
        "trace": response.trace_id,
        "fields": {"text": "my card is **** **** **** 1111", "to": "ben@example.com"},
    }


def test_what_was_masked_shows_in_no_trace(ask: Passing) -> None:
    response = ask("note.write", text="my card is 4111 1111 1111 1111")
    shown = repr(ask.traces.as_data(response.trace))
    assert "***" in shown
    assert "4111" not in shown


def test_who_asks_too_often_gets_one_typed_error_and_a_line_in_the_log(
    ask: Passing, modules: dict[str, Any]
) -> None:
    responses = [ask("note.write", text="hello") for _ in range(3)]
    error = responses[2].error
    assert error is not None
    assert error.code == "rate_limited"
    assert error.retry_after == pytest.approx(1.0)
    assert error.details["module"] == "rate_limit"
    assert [line["outcome"] for line in modules["request_log"].lines.entries] == ["ok", "ok", "rate_limited"]
