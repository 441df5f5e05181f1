"""How a strand of a durable run can end besides well or by an error."""

from __future__ import annotations

from packetflow.wire.errors import RequestError


class Parked(Exception):
    """This strand waits for what is stored: an event, a time, a decision. Not an error."""


class Stuck(Exception):
    """The run can't go on. state: what it becomes (`forbidden`; `running` leaves it as it is stored). error: why."""

    def __init__(self, state: str, error: RequestError) -> None:
        super().__init__(str(error))
        self.state = state
        self.error = error
