"""Agent: a server that is nothing but a state, read and changed by functions (Elixir's `Agent`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from packetflow.otp import calls
from packetflow.otp.answers import Reply
from packetflow.otp.errors import NoProcess
from packetflow.otp.server import GenServer
from packetflow.otp.via import Target, locate


class Agent(GenServer):
    """Keeps a state. The functions given to it run in the agent, one at a time: long ones keep everybody else waiting.

    `Agent.start(0)` begins with a value, `Agent.start(load, path)` with what a function returns: whatever is callable is
    called, in the agent, before `start` returns. Under a supervisor: `ChildSpec(Agent, 0, name="counter")`; a restart
    begins anew. What a function raises ends the agent, and whoever waits for it gets ServerExited with that as its cause.
    An agent is named as every server is (inside of an actor also by a text).
    """

    def init(self, *initial: Any, **keywords: Any) -> None:
        """Begins with a value, or with what a function returns for the other arguments."""
        if not initial:
            raise TypeError("an Agent needs something to begin with: a value or a function")
        begin, *arguments = initial
        if callable(begin):
            self.state = begin(*arguments, **keywords)
        elif arguments or keywords:
            raise TypeError(f"an Agent got arguments for {begin!r}, which is no function")
        else:
            self.state = begin

    @staticmethod
    def get(agent: Target, function: Callable[..., Any], *arguments: Any, timeout: float | None = 5.0) -> Any:
        """What `function(state, *arguments)` returns. The state itself is handed out: don't change it.

        Raises what `call` raises; after a timeout the agent goes on.
        """
        return calls.call(locate(agent), ("get", _checked(function), arguments), timeout)

    @staticmethod
    def update(
        agent: Target, function: Callable[..., Any], *arguments: Any, timeout: float | None = 5.0
    ) -> None:
        """Makes `function(state, *arguments)` the new state. Returns when it is."""
        calls.call(locate(agent), ("update", _checked(function), arguments), timeout)

    @staticmethod
    def get_and_update(
        agent: Target, function: Callable[..., Any], *arguments: Any, timeout: float | None = 5.0
    ) -> Any:
        """The function returns (value, new state): the value is handed out. Anything else ends the agent."""
        return calls.call(locate(agent), ("get_and_update", _checked(function), arguments), timeout)

    @staticmethod
    def cast(agent: Target, function: Callable[..., Any], *arguments: Any) -> None:  # type: ignore[override]
        """As `update`, but doesn't wait, and doesn't fail where nobody is there."""
        _checked(function)
        try:
            ref = locate(agent)
        except NoProcess:
            return
        calls.cast(ref, (function, arguments))

    @staticmethod
    def stop(agent: Target, reason: object = "normal", timeout: float | None = None) -> None:
        """Stops it in order. Returns when it is dead."""
        calls.stop(locate(agent), reason, timeout)

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Reads or changes the state."""
        kind, function, arguments = request
        result = function(self.state, *arguments)
        if kind == "get":
            return Reply(result)
        if kind == "update":
            self.state = result
            return None
        if not isinstance(result, tuple) or len(result) != 2:
            raise TypeError(f"{function!r} returned {result!r}; get_and_update wants (value, new state)")
        value, self.state = result
        return Reply(value)

    def handle_cast(self, message: Any) -> None:
        """Changes the state."""
        function, arguments = message
        self.state = function(self.state, *arguments)


def _checked(function: Any) -> Any:
    if not callable(function):
        raise TypeError(f"an Agent is asked with a function of its state, not {function!r}")
    return function
