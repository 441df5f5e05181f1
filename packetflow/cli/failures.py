"""A command's failure: one value that becomes lines on stderr for people, or `{"error": ...}` on stdout for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from packetflow.cli.exits import Exit, exit_of


class Failure(Exception):
    """Why a command does not do what it was asked.

    code: a wire code, or `usage`, `config_invalid`, `finding`, `interrupted`. rows: (label, text) pairs shown aligned
    below the message. next: commands or steps that help. text: if given, shown to people instead of message and rows
    (a rendering that knows its own places, as that of config faults). exit: if it is not what the code says.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        rows: Sequence[tuple[str, str]] = (),
        next: Sequence[str] = (),
        details: Mapping[str, Any] | None = None,
        retry_after: float | None = None,
        trace: str = "",
        text: str = "",
        exit: Exit | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.rows = list(rows)
        self.next = list(next)
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.trace = trace
        self.text = text
        self.exit = exit_of(code) if exit is None else exit

    def document(self) -> dict[str, Any]:
        """The failure as `--json` prints it."""
        error: dict[str, Any] = {"code": self.code, "message": self.message, "exit": int(self.exit)}
        if self.details:
            error["details"] = self.details
        if self.retry_after is not None:
            error["retry_after"] = self.retry_after
        if self.trace:
            error["trace"] = self.trace
        if self.next:
            error["next"] = self.next
        return {"error": error}


def usage(message: str, *, rows: Sequence[tuple[str, str]] = (), next: Sequence[str] = ()) -> Failure:
    """A failure of the command line itself."""
    return Failure("usage", message, rows=rows, next=next)
