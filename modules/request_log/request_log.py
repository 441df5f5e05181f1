"""One structured line per request, at its response. Watches only: it has no request hook, so a fault of its own fails nobody."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, Field

from packetflow import Context, Module, Response

SHOWN = 200  # characters of a field's value


class RequestLog(Module):
    """Logs capability, principal, outcome, duration and trace id; the level follows from the outcome."""

    class Config(Module.Config):
        """sample: the share of good, quick requests that are logged; failed and slow ones always are.

        slow: seconds from which a good request is a warning; None for never. fields: which fields of an answer (or of an
        error's details) are logged too; none by default, since answers hold what people would not want in a log.
        """

        sample: Annotated[float, Field(ge=0, le=1)] = 1.0
        slow: Annotated[float, Field(gt=0)] | None = 1.0
        fields: tuple[str, ...] = ()

    def handle_response(self, response: Response, context: Context) -> None:
        """Write the line, unless the request is good, quick and not of the sample."""
        config = self.config
        error = response.error
        duration = context.duration
        slow = config.slow is not None and duration >= config.slow
        if error is not None:
            level = "error" if error.status >= 500 else "warning"  # the node's own fault, or the caller's
        elif slow:
            level = "warning"
        elif _share_of(context.id) < config.sample:
            level = "info"
        else:
            return
        line: dict[str, Any] = {
            "capability": context.capability,
            "principal": context.principal,
            "outcome": "ok" if error is None else error.code,
            "duration": round(duration, 6),
            "trace": context.id,
        }
        if context.tenant:
            line["tenant"] = context.tenant
        if slow:
            line["slow"] = True
        if config.fields:
            line["fields"] = _chosen(response.value if error is None else error.details, config.fields)
        getattr(self.log, level)("request", **line)


def _share_of(trace_id: str) -> float:
    """A number in [0, 1) that a trace id always has, so that all nodes and modules of one trace agree on the sample."""
    return int(trace_id[:8], 16) / 2**32


def _chosen(value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The fields of these names that a mapping, model or dataclass has; long and nested values as cut text."""
    found: Mapping[str, Any]
    if isinstance(value, Mapping):
        found = value
    elif isinstance(value, BaseModel):
        found = dict(value)
    elif dataclasses.is_dataclass(value):
        found = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    else:
        return {}
    return {name: _shown(found[name]) for name in names if name in found}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = str(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
