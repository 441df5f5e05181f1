"""The module protocol (seed 004, Layer 5): the class that an author derives from."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from packetflow.capabilities.context import Context
from packetflow.intelligence.answers import (
    Change,
    Continue,
    Intercept,
    Optimize,
    Reject,
    Respond,
    Transform,
)
from packetflow.otp.clock import Clock
from packetflow.wire.values import Request, Response

REQUEST_ANSWERS = (Continue, Intercept, Reject, Respond)
PLAN_ANSWERS = (Continue, Optimize, Reject)
RESPONSE_ANSWERS = (Continue, Transform, Reject)
ITEM_ANSWERS = (Continue, Change, Reject)


class ModuleConfig(BaseModel):
    """The base of a module's configuration: fields with types and defaults; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Module:
    """A Layer 5 module: sees requests, plans and responses, and may change or refuse them.

    Derive from it, give `Config` fields if there is something to set, and override the hooks you need; only those cost
    anything. The hooks run in the greenlet of the request, one message at a time unless the module's entry in the
    configuration says otherwise (`max_concurrency`), and are ended when they overrun its `timeout`. An exception ends
    that hook call; `on_error` decides what becomes of the request. The instance and its state stay.

    Set before `init`: `name` (of this instance), `config`, `clock` (`self.clock.monotonic()`), `log` (a structlog logger).
    """

    class Config(ModuleConfig):
        """What may be set; derive from it."""

    #: Says that the module hides what it touches: those fields show as `***` in traces. A stream that it matches is refused
    #: unless it has `handle_item`.
    redacts: ClassVar[bool] = False

    name: str
    config: Any
    clock: Clock
    log: Any

    def init(self, config: Any) -> None:
        """Called once before the first hook, in the module's own process. Raise to refuse to start: the reason is shown."""

    def handle_request(
        self, request: Request, context: Context
    ) -> Continue | Intercept | Reject | Respond | None:
        """Called with every matching request, in ascending priority. The payload has passed the contract."""

    def handle_composition(self, plan: Any, context: Context) -> Continue | Optimize | Reject | None:
        """Called once with the plan of a composition, in ascending priority, before it runs."""

    def handle_response(self, response: Response, context: Context) -> Continue | Transform | Reject | None:
        """Called with the response, errors too, in descending priority, if the request was entered before.

        A stream is seen at its head only: its value is a `Stream`, which can be refused and not replaced.
        """

    def handle_item(self, item: Any, context: Context) -> Continue | Change | Reject | None:
        """Called with each item of a stream, when it is made, in the order of responses. `Reject` ends the stream."""

    def terminate(self, reason: object) -> None:
        """Called once when the module goes in good order or after a crash of its host; not on a kill."""


HOOKS = ("handle_request", "handle_composition", "handle_response", "handle_item")
CALLBACKS = ("init", *HOOKS, "terminate")


def overrides(cls: type[Module], hook: str) -> bool:
    """Whether the class defines this hook itself."""
    return getattr(cls, hook) is not getattr(Module, hook)
