"""Envelope: a message that says where it comes from. Actors that need it send it; nobody else pays for it."""

from __future__ import annotations

import random
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from packetflow.otp.clock import Clock
from packetflow.otp.ref import Ref

P = TypeVar("P")
Q = TypeVar("Q")


class Envelope(NamedTuple, Generic[P]):
    """A message with its history. An ordinary value: call, cast and send take it like any other, and no one opens it.

    id: its own. type, payload: what it is and carries. correlation: the id of the first of the conversation. causation: the
    id of the one it answers or follows from; None for the first. trace: what it is part of, told by whoever began it.
    timestamp: when it was made (UTC). reply_to: who wants the answer. The names are those of enterprise integration patterns
    and of event stores.
    """

    id: str
    type: str
    payload: P
    correlation: str
    causation: str | None
    trace: str | None
    timestamp: datetime
    reply_to: Ref | None

    @classmethod
    def first(
        cls, type: str, payload: Q, *, clock: Clock, reply_to: Ref | None = None, trace: str | None = None
    ) -> Envelope[Q]:
        """The first of a conversation. clock: the system's (`system.clock`)."""
        id = _new_id()
        return Envelope(id, type, payload, id, None, trace, clock.utc(), reply_to)

    def follow(self, type: str, payload: Q, *, clock: Clock, reply_to: Ref | None = None) -> Envelope[Q]:
        """One that follows from this one: an answer, or what it leads to. Conversation and trace stay."""
        return Envelope(
            _new_id(), type, payload, self.correlation, self.id, self.trace, clock.utc(), reply_to
        )

    def as_dict(self) -> dict[str, Any]:
        """The same as plain data, the ref by its key and the time as text."""
        data: dict[str, Any] = self._asdict()
        data["timestamp"] = self.timestamp.isoformat()
        data["reply_to"] = None if self.reply_to is None else list(self.reply_to.key())
        return data


def _new_id() -> str:
    return f"{random.getrandbits(128):032x}"
