"""The log: JSON or console by where it goes, a logger of its own for each node, standard records passed on."""

from __future__ import annotations

import io
import json
import logging

import pytest

from packetflow.otp.clock import Clock
from packetflow.telemetry.logs import StandardHandler, make_logger


def test_json_lines_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    make_logger(Clock(), stream=out, node="a").info("hello", answer=42)
    line = json.loads(out.getvalue())
    assert (line["event"], line["answer"], line["level"], line["node"]) == ("hello", 42, "info", "a")
    assert line["time"].endswith("Z")


def test_two_loggers_share_no_settings() -> None:
    first, second = io.StringIO(), io.StringIO()
    make_logger(Clock(), stream=first, level="error").info("quiet")
    make_logger(Clock(), stream=second, level="debug", format="console").info("loud")
    assert first.getvalue() == ""
    assert "loud" in second.getvalue()
    assert "\x1b" not in second.getvalue()


def test_an_exception_is_told_in_full() -> None:
    out = io.StringIO()
    try:
        raise ValueError("odd")
    except ValueError as error:
        make_logger(Clock(), stream=out).error("failed", exc_info=error)
    assert "ValueError" in out.getvalue()
    assert "odd" in out.getvalue()
    json.loads(out.getvalue())


def test_records_of_the_standard_library_are_passed_on() -> None:
    out = io.StringIO()
    handler = StandardHandler(make_logger(Clock(), stream=out))
    handler.emit(logging.LogRecord("packetflow.otp", logging.WARNING, "", 0, "a %s", ("child died",), None))
    line = json.loads(out.getvalue())
    assert (line["event"], line["level"], line["logger"]) == ("a child died", "warning", "packetflow.otp")


@pytest.mark.parametrize("format", ["json", "console"])
def test_a_traceback_shows_no_variables_since_they_hold_payloads(format: str) -> None:
    out = io.StringIO()

    def fail(card: str) -> None:
        raise ValueError("odd")

    try:
        fail("4111" * 4)
    except ValueError as error:
        make_logger(Clock(), stream=out, format=format).error("failed", exc_info=error)
    assert "ValueError" in out.getvalue()
    assert "4111411141114111" not in out.getvalue()
