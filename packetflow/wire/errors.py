"""The typed errors that a request can end with: the same at every door.

    PacketFlowError
    └─ RequestError                 code, message, details, retry_after
       ├─ ValidationFailed          the input does not fit the contract
       ├─ ProtocolError             what came is not a message
       ├─ Unauthenticated  Forbidden  NotFound  Conflict  TooLarge
       ├─ Rejected                  a module refused; details["reason"] is its word
       ├─ RateLimited  Overloaded  Unavailable      later: retry_after says when
       ├─ Cancelled  Timeout
       └─ ContractViolated  ExecutionFailed  Internal    the node's or the capability's own fault

`STATUS` is the one table that maps them to HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.otp.errors import PacketFlowError


class RequestError(PacketFlowError):
    """Why a request has no value.

    message: for people. details: for programs. retry_after: seconds after which trying again makes sense.
    """

    status: int = 500

    def __init__(
        self, message: str, details: Mapping[str, Any] | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, Any] = details if details is not None else {}
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """The error as it crosses a wire: code, message, and what else there is."""
        out: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            out["details"] = dict(self.details)
        if self.retry_after is not None:
            out["retry_after"] = self.retry_after
        return out


class ValidationFailed(RequestError):
    """The input does not fit the contract: details["faults"] has a path for each fault."""

    code, status = "validation_failed", 400


class ProtocolError(RequestError):
    """What came over the wire is not a message of the protocol."""

    code, status = "protocol_error", 400


class Unauthenticated(RequestError):
    """Nobody vouches for the caller."""

    code, status = "unauthenticated", 401


class Forbidden(RequestError):
    """The caller is known and may not."""

    code, status = "forbidden", 403


class NotFound(RequestError):
    """No such thing; details["nearest"] has the nearest names."""

    code, status = "not_found", 404


class Conflict(RequestError):
    """It contradicts what is there already."""

    code, status = "conflict", 409


class TooLarge(RequestError):
    """A limit of size, depth or count was passed."""

    code, status = "too_large", 413


class Rejected(RequestError):
    """A module refused: details["module"] names it, details["reason"] is its word."""

    code, status = "rejected", 422


class RateLimited(RequestError):
    """The caller asks too often."""

    code, status = "rate_limited", 429


class Cancelled(RequestError):
    """The caller gave up, or the node ends."""

    code, status = "cancelled", 499


class ContractViolated(RequestError):
    """The capability answered what it had not promised: its own fault."""

    code, status = "contract_violated", 500


class ExecutionFailed(RequestError):
    """The capability raised."""

    code, status = "execution_failed", 500


class Internal(RequestError):
    """A fault of the node."""

    code, status = "internal", 500


class Unavailable(RequestError):
    """What is needed is down for now."""

    code, status = "unavailable", 503


class Overloaded(RequestError):
    """More is under way than the node takes."""

    code, status = "overloaded", 503


class Timeout(RequestError):
    """Not done in time."""

    code, status = "timeout", 504


BY_CODE: Mapping[str, type[RequestError]] = {
    kind.code: kind
    for kind in (
        ValidationFailed,
        ProtocolError,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        TooLarge,
        Rejected,
        RateLimited,
        Cancelled,
        ContractViolated,
        ExecutionFailed,
        Internal,
        Unavailable,
        Overloaded,
        Timeout,
    )
}

STATUS: Mapping[str, int] = {code: kind.status for code, kind in BY_CODE.items()}


def error_from_dict(data: Mapping[str, Any]) -> RequestError:
    """The error that `RequestError.as_dict` wrote; an unknown code becomes `Internal` and keeps its word in details."""
    code = str(data.get("code", "internal"))
    kind = BY_CODE.get(code)
    details = dict(data.get("details") or {})
    if kind is None:
        kind, details = Internal, {**details, "code": code}
    return kind(str(data.get("message", code)), details, data.get("retry_after"))
