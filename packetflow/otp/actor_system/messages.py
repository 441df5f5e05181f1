"""What the actors of an ActorSystem say to each other: Message and Response, and what an actor is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from packetflow.otp.errors import SpecError

if TYPE_CHECKING:
    from packetflow.otp.actor_system.system import Send

D = TypeVar("D")


class Message(NamedTuple("Message", [("id", str), ("type", str), ("payload", Any)])):
    """What an actor is sent. id: the sender's, unique as far as the sender cares. type: what kind. payload: anything.

    Raises SpecError if id or type is no text, or empty.
    """

    __slots__ = ()

    def __new__(cls, id: str, type: str, payload: Any = None) -> Message:
        """Checks what it is made of."""
        for field, value in (("id", id), ("type", type)):
            if not isinstance(value, str) or not value:
                raise SpecError(f"message.{field}", value, "a text that is not empty")
        return super().__new__(cls, id, type, payload)


class Response(
    NamedTuple("Response", [("success", bool), ("data", Any), ("error", str | None), ("code", str | None)])
):
    """What an actor answers. success: whether it did. data: what it gives. error: why not, for people. code: for programs.

    Raises SpecError if success is no truth value, a failure has no error, or a success has an error or a code.
    """

    __slots__ = ()

    def __new__(
        cls, success: bool, data: Any = None, error: str | None = None, code: str | None = None
    ) -> Response:
        """Checks what it is made of."""
        if success is True:
            if error is not None or code is not None:
                raise SpecError("response.error", error or code, "None with success=True")
        elif success is not False:
            raise SpecError("response.success", success, "True or False")
        elif not isinstance(error, str) or not error:
            raise SpecError("response.error", error, "a text that says why, with success=False")
        elif code is not None and not isinstance(code, str):
            raise SpecError("response.code", code, "a text, or None")
        return super().__new__(cls, success, data, error, code)


class Actor(Protocol):
    """Anything that can be sent a message: an actor, a whole ActorSystem, a member seen from outside."""

    def send(self, message: Message, /) -> Response:
        """Takes a message and answers it."""


Receive: TypeAlias = Callable[[Message], Response]
"""An actor may also be just the function that would be its `send`."""

ActorFactory: TypeAlias = Callable[[D, "Send"], Actor | Receive]
"""Makes an actor of its data and of `send`, and of nothing else. Called again for a restart, with the same data."""
