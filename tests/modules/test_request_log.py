from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from packetflow.errors import ExecutionFailed, NotFound
from packetflow.intelligence.module import overrides
from packetflow.wire.values import Response
from tests.modules.starting import StandInContext, loaded, started


class Ticket(BaseModel):
    id: str
    text: str


def good(value: Any = None) -> Response:
    return Response(value, None, None)


def test_a_good_request_is_one_line_with_who_what_how_long_and_the_trace() -> None:
    log = started("request_log")
    assert log.handle_response(good({"id": "T-1"}), StandInContext()) is None
    assert log.lines.entries == [
        {
            "event": "request",
            "log_level": "info",
            "capability": "ticket.open",
            "principal": "ana",
            "outcome": "ok",
            "duration": 0.002,
            "trace": "0f" * 16,
        }
    ]


@pytest.mark.parametrize(
    ("error", "level"), [(NotFound("no ticket T-9"), "warning"), (ExecutionFailed("it raised"), "error")]
)
def test_the_level_tells_the_callers_faults_from_the_nodes(error: Any, level: str) -> None:
    log = started("request_log")
    log.handle_response(Response(None, error, None), StandInContext())
    (line,) = log.lines.entries
    assert (line["log_level"], line["outcome"]) == (level, error.code)


def test_a_slow_request_is_a_warning() -> None:
    log = started("request_log", slow=0.5)
    log.handle_response(good(), StandInContext(duration=0.5))
    (line,) = log.lines.entries
    assert (line["log_level"], line["outcome"], line["slow"]) == ("warning", "ok", True)


def test_nothing_of_an_answer_is_logged_unless_its_field_is_listed() -> None:
    log = started("request_log")
    log.handle_response(good(Ticket(id="T-1", text="my card number is ...")), StandInContext())
    assert "T-1" not in str(log.lines.entries)
    assert "card number" not in str(log.lines.entries)


def test_listed_fields_of_models_mappings_and_error_details_are_logged_and_cut_short() -> None:
    log = started("request_log", fields=["id", "model_dump", "ticket"])
    log.handle_response(good(Ticket(id="T" * 300, text="x")), StandInContext())
    log.handle_response(good({"id": 7, "text": "x"}), StandInContext())
    log.handle_response(Response(None, NotFound("no", {"ticket": "T-9"}), None), StandInContext())
    assert [line["fields"] for line in log.lines.entries] == [
        {"id": "T" * 200 + "..."},
        {"id": 7},
        {"ticket": "T-9"},
    ]


def test_the_sample_is_a_share_of_the_traces_and_keeps_every_failure() -> None:
    log = started("request_log", sample=0.25)
    for number in range(256):
        context = StandInContext(id=f"{number:02x}" + "0" * 30)
        log.handle_response(good(), context)
        log.handle_response(Response(None, NotFound("no"), None), context)
    outcomes = [line["outcome"] for line in log.lines.entries]
    assert (outcomes.count("ok"), outcomes.count("not_found")) == (64, 256)


def test_it_only_watches_so_its_faults_fail_no_request() -> None:
    assert not overrides(loaded("request_log").cls, "handle_request")


def test_a_misspelt_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="sampel"):
        started("request_log", sampel=0.5)
