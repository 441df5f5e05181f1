"""What differs between two requests or responses, in words for a trace: cut short, and hidden where a module hides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.wire.values import Request, Response

SHOWN = 200
HIDDEN = "***"


def difference(
    old: Request | Response, new: Request | Response, *, hide: bool = False
) -> list[dict[str, str]]:
    """The changed places as [{path, before, after}]. hide: show `***` for values."""
    rows: list[dict[str, str]] = []
    if isinstance(old, Request) and isinstance(new, Request):
        if old.capability != new.capability:
            rows.append({"path": "capability", "before": old.capability, "after": new.capability})
        _compare(dict(old.payload), dict(new.payload), "", rows, hide)
        _compare(dict(old.hints), dict(new.hints), "hints", rows, hide)
        if old.intent != new.intent:
            _compare(old.intent, new.intent, "intent", rows, hide)
    elif isinstance(old, Response) and isinstance(new, Response):
        if new.error is not None:
            rows.append({"path": "error", "before": _show(old.error, hide), "after": _show(new.error, hide)})
        else:
            _compare(_plain(old.value), _plain(new.value), "", rows, hide)
    return rows


def _plain(value: Any) -> Any:
    fields = getattr(value, "__dict__", None)
    return dict(fields) if fields is not None and not isinstance(value, type) else value


def _compare(old: Any, new: Any, path: str, rows: list[dict[str, str]], hide: bool) -> None:
    old, new = _plain(old), _plain(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in new:
                rows.append({"path": place, "before": _show(old[key], hide), "after": "(removed)"})
            elif key not in old:
                rows.append({"path": place, "before": "(absent)", "after": _show(new[key], hide)})
            else:
                _compare(old[key], new[key], place, rows, hide)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            _compare(before, after, f"{path}[{index}]", rows, hide)
    elif old is not new and old != new:
        rows.append({"path": path or "value", "before": _show(old, hide), "after": _show(new, hide)})


def _show(value: Any, hide: bool) -> str:
    if hide:
        return HIDDEN
    text = repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
