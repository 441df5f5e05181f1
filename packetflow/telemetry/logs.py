"""A node's structured log: one line an event, for people on a terminal and as JSON elsewhere, each with its trace.

Each node has a logger of its own, so that several nodes in one process don't share settings.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any, Literal, TextIO

import structlog

from packetflow.otp.clock import Clock

# Without the frames' variables: they hold payloads, which are nobody's to read in a log (design ruling 17).
_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
Level = Literal["debug", "info", "warning", "error", "critical"]
Format = Literal["auto", "console", "json"]

# The request that the running greenlet serves, so that every line logged on its way carries its trace. For logging alone:
# rights never come from here (design ruling 6).
CURRENT: ContextVar[Any] = ContextVar("packetflow_request", default=None)


def make_logger(
    clock: Clock, *, level: str = "info", format: str = "auto", stream: TextIO | None = None, **bound: Any
) -> Any:
    """A structlog logger that writes to `stream` (standard error). `auto` is console on a terminal and JSON elsewhere."""
    out = stream if stream is not None else sys.stderr
    terminal = bool(getattr(out, "isatty", bool)())
    as_json = format == "json" or (format == "auto" and not terminal)
    render: Any = (
        structlog.processors.JSONRenderer(default=str)
        if as_json
        else structlog.dev.ConsoleRenderer(
            colors=terminal, pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
        )
    )

    def stamp(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["time"] = clock.utc().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return event

    return structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[
            structlog.processors.add_log_level,
            add_request,
            stamp,
            _TRACEBACKS if as_json else structlog.processors.StackInfoRenderer(),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=False,
        **bound,
    )


def add_request(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put the trace and capability of the request under way into a line, unless it names others."""
    request = CURRENT.get()
    if request is not None:
        event.setdefault("trace", request.id[:8])
        event.setdefault("capability", request.capability)
    return event


class StandardHandler(logging.Handler):
    """Passes the standard library's log records (the supervision runtime's, libraries') to a node's logger."""

    def __init__(self, logger: Any) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        level = min(LEVELS, key=lambda name: abs(LEVELS[name] - record.levelno))
        getattr(self._logger, level)(record.getMessage(), logger=record.name, exc_info=record.exc_info)
