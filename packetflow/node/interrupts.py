"""How a request is ended from outside, and how what an author's code raised is told."""

from __future__ import annotations

from packetflow.capabilities.context import Context
from packetflow.intelligence.gate import Gate
from packetflow.wire.errors import RequestError

SHOWN = 1_000  # characters of an exception's text that are kept


def described(failure: BaseException) -> str:
    """What an author's code raised, in a line: its class and its text, cut short, if it has one that can be read."""
    name = type(failure).__name__
    try:
        text = str(failure)
    except Exception as error:  # noqa: BLE001 - the text is the author's code too
        text = f"(its text can't be read: {type(error).__name__})"
    return f"{name}: {text if len(text) <= SHOWN else text[:SHOWN] + '...'}"


class Interrupt(BaseException):
    """Thrown into a greenlet to end the request `call` with `error`; `except Exception` can't swallow it."""

    def __init__(
        self, call: Context, error: RequestError, gate: Gate | None = None, what: str | None = None
    ) -> None:
        super().__init__(str(error))
        self.what = what  # of a hook that overran: another limit than its own
        self.call = call
        self.error = error
        self.gate = gate  # set if a hook overran its own limit, and not the request
