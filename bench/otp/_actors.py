"""Ordinary servers for the benches, written as anybody would write them; the peers have the same."""

from __future__ import annotations

from typing import Any

from packetflow.otp import GenServer


class Echo(GenServer):
    """Answers with what it was asked."""

    def init(self, state: Any) -> None:
        self.state = state

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request

    def handle_cast(self, message: Any) -> None:
        pass


def resident() -> int:
    """Bytes of resident memory of this process."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
