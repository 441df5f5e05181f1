"""Filters as callers write them (`--where`): compiled, or refused as the caller's fault with its place."""

from __future__ import annotations

from packetflow.capabilities.cel.searching import Fields, Search
from packetflow.capabilities.conditions import ConditionError
from packetflow.wire.errors import ValidationFailed


def search_of(text: str, fields: Fields) -> Search:
    """The filter. Raises ValidationFailed."""
    try:
        return Search(text, fields)
    except ConditionError as error:
        fault = {"path": "where", "column": error.column, "message": str(error)}
        raise ValidationFailed(f"where: {error}", {"faults": [fault]}) from None
