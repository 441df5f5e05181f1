"""A notice: a text on its way to a channel, and why one was not delivered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from packetflow.otp.errors import PacketFlowError


@dataclass(frozen=True, slots=True)
class Notice:
    """A text for a channel. id: stays the same when it is sent again. about: what it is about, as plain data."""

    id: str
    text: str
    subject: str = ""
    about: Mapping[str, Any] = field(default_factory=dict)


class NotDelivered(PacketFlowError):
    """A notice did not arrive. again: whether it makes sense to try again. after: the other side's wish, in seconds."""

    code = "unavailable"

    def __init__(self, message: str, again: bool = True, after: float | None = None) -> None:
        super().__init__(message)
        self.again = again
        self.after = after
