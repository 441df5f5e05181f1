"""What a hook may answer. None means `Continue`; anything not listed for the hook is the module's fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from packetflow.wire.values import Request, Response


class Continue:
    """Go on as it is. A hook that returns None says the same."""

    __slots__ = ()


class Intercept:
    """From `handle_request`: go on with this request instead.

    What it has become is looked up, authorised and validated again.
    """

    __slots__ = ("request",)

    def __init__(self, request: Request) -> None:
        self.request = request


class Reject:
    """Refuse. The caller gets exactly one typed error that names the module.

    reason: the module's word for programs. message: for people. code: `rejected`, or `rate_limited` where trying later
    helps; retry_after: seconds. details: more for programs.
    """

    __slots__ = ("code", "details", "message", "reason", "retry_after")

    CODES = ("rejected", "rate_limited", "unavailable", "overloaded")

    def __init__(
        self,
        reason: str,
        message: str | None = None,
        *,
        code: str = "rejected",
        retry_after: float | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        if code not in self.CODES:
            raise ValueError(f"code: expected one of {', '.join(self.CODES)}, got {code!r}")
        self.reason = reason
        self.message = message or reason
        self.code = code
        self.retry_after = retry_after
        self.details = dict(details or {})


class Respond:
    """From `handle_request`: answer with this value now and run nothing (a cache). It must fit the contract."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Optimize:
    """From `handle_composition`: run this plan instead."""

    __slots__ = ("plan",)

    def __init__(self, plan: object) -> None:
        self.plan = plan


class Transform:
    """From `handle_response`: answer this response instead. It must still fit the contract, and stay a value."""

    __slots__ = ("response",)

    def __init__(self, response: Response) -> None:
        self.response = response


class Change:
    """From `handle_item`: send this item instead. It must still fit the type of the stream's items."""

    __slots__ = ("item",)

    def __init__(self, item: Any) -> None:
        self.item = item
