"""Masks card numbers, e-mail addresses and phone numbers in requests and responses."""

from __future__ import annotations

import fnmatch
from typing import Annotated, Any, Literal

from pydantic import Field

from packetflow import Change, Context, Intercept, Module, Request, Response, Transform

from .copying import changed
from .masking import Kind, masker

# No letter or digit, nothing that stands between digits or in an address: a masked text must stay as it is.
Mask = Annotated[str, Field(pattern=r"^[^\s\w.%+@()/\u2010-\u2015-]$")]


class PiiRedaction(Module):
    """Masks in every string, however deep, of the payload on the way in and of the value on the way out."""

    redacts = True

    class Config(Module.Config):
        """redact: what to mask. directions: where. mask: the character that stands for a masked one.

        skip: names of fields to leave alone (at any depth), by pattern of capability.
        """

        redact: tuple[Kind, ...] = ("card", "email", "phone")
        directions: tuple[Literal["request", "response"], ...] = ("request", "response")
        skip: Annotated[dict[str, tuple[str, ...]], Field(default_factory=dict)]
        mask: Mask = "*"

    def init(self, config: Config) -> None:
        """Compile what is looked for."""
        self._mask = masker(config.redact, config.mask)
        self._skipped: dict[str, frozenset[str]] = {}

    def handle_request(self, request: Request, context: Context) -> Intercept | None:
        """Mask the payload; a request with nothing to mask goes on as it is."""
        if "request" not in self.config.directions:
            return None
        skip = self._skip(request.capability)
        updates: dict[str, Any] = {}
        for name, value in request.payload.items():
            if name not in skip:
                new = changed(value, self._mask, skip)
                if new is not value:
                    updates[name] = new
        return Intercept(request.with_payload(**updates)) if updates else None

    def handle_response(self, response: Response, context: Context) -> Transform | None:
        """Mask the value. An error is left as it is: it says to the caller what the caller sent."""
        if response.error is not None or "response" not in self.config.directions:
            return None
        new = changed(response.value, self._mask, self._skip(context.capability))
        return Transform(response.with_value(new)) if new is not response.value else None

    def handle_item(self, item: Any, context: Context) -> Change | None:
        """Mask an item of a stream; each for itself, so what is split over two of them is not found."""
        if "response" not in self.config.directions:
            return None
        new = changed(item, self._mask, self._skip(context.capability))
        return Change(new) if new is not item else None

    def _skip(self, capability: str) -> frozenset[str]:
        found = self._skipped.get(capability)
        if found is None:
            names: set[str] = set()
            for pattern, fields in self.config.skip.items():
                if fnmatch.fnmatchcase(capability, pattern):
                    names.update(fields)
            found = self._skipped[capability] = frozenset(names)
        return found
