"""What differs between two requests or responses, in words for a trace: cut short, and hidden where a module hides it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.telemetry.masking import HIDDEN, NOTHING, Mask
from packetflow.wire.values import Request, Response

SHOWN = 200


def difference(
    old: Request | Response, new: Request | Response, *, hide: bool = False, mask: Mask = NOTHING
) -> list[dict[str, str]]:
    """The changed places as [{path, before, after}]. hide: show `***` for all values. mask: for these."""
    rows: list[dict[str, str]] = []
    shown = Mask(whole=True) if hide else mask
    if isinstance(old, Request) and isinstance(new, Request):
        if old.capability != new.capability:
            rows.append({"path": "capability", "before": old.capability, "after": new.capability})
        _compare(dict(old.payload), dict(new.payload), "", rows, shown)
        _compare(dict(old.hints), dict(new.hints), "hints", rows, shown)
        if old.intent != new.intent:
            _compare(old.intent, new.intent, "intent", rows, shown)
    elif isinstance(old, Response) and isinstance(new, Response):
        if new.error is not None:
            rows.append(
                {"path": "error", "before": _show(old.error, shown), "after": _show(new.error, shown)}
            )
        else:
            _compare(_plain(old.value), _plain(new.value), "", rows, shown)
    return rows


def _plain(value: Any) -> Any:
    fields = getattr(value, "__dict__", None)
    return dict(fields) if fields is not None and not isinstance(value, type) else value


def _compare(old: Any, new: Any, path: str, rows: list[dict[str, str]], mask: Mask) -> None:
    old, new = _plain(old), _plain(new)
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*old, *(key for key in new if key not in old)]:
            place = f"{path}.{key}" if path else str(key)
            if key not in new:
                rows.append({"path": place, "before": _show(old[key], mask, place), "after": "(removed)"})
            elif key not in old:
                rows.append({"path": place, "before": "(absent)", "after": _show(new[key], mask, place)})
            else:
                _compare(old[key], new[key], place, rows, mask)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            _compare(before, after, f"{path}[{index}]", rows, mask)
    elif old is not new and old != new:
        rows.append(
            {"path": path or "value", "before": _show(old, mask, path), "after": _show(new, mask, path)}
        )


def _show(value: Any, mask: Mask, place: str = "") -> str:
    if mask and mask.hides_place(place):
        return HIDDEN
    text = repr(mask(value, place) if mask and isinstance(value, Mapping | list) else value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
