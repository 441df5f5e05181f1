"""The error of a configuration."""

from __future__ import annotations

from collections.abc import Iterable

from packetflow.documents.faults import Fault, render
from packetflow.otp.errors import PacketFlowError


class ConfigError(PacketFlowError):
    """The configuration has faults; `faults` holds all of them. Its text is what `packetflow config check` shows."""

    code = "validation_failed"

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(faults)
        super().__init__(render(self.faults))
