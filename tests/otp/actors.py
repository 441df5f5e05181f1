"""Actors for the tests: a puppet that does what a message says, a recorder, and waiting for a condition."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from typing import Any

import gevent
from greenlet import greenlet

from packetflow.otp import GenServer, PacketFlowError


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Lets others run until the condition holds, and returns what it gave."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, "the condition did not come true in time"
        gevent.sleep(0.001)


def workers_alive() -> set[greenlet]:
    """The workers of every system of this process that have not ended."""
    return {
        one
        for one in gc.get_objects()
        if isinstance(one, greenlet) and type(one).__name__ == "Worker" and one
    }


def programs(usual: int) -> int:
    """How many random programs to run: as many as PACKETFLOW_OTP_PROGRAMS says, or as usual."""
    return int(os.environ.get("PACKETFLOW_OTP_PROGRAMS", usual))


class Puppet(GenServer):
    """Does what a message says: each message is a function of the server (for a call: and of the caller)."""

    def init(self, begin: Callable[[Any], Any] | None = None, seen: list[Any] | None = None) -> Any:
        self.seen: list[Any] = [] if seen is None else seen
        return begin(self) if begin is not None else None

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request(self, caller) if callable(request) else request

    def handle_cast(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.seen.append(message)
        return None

    def handle_info(self, message: Any) -> Any:
        if callable(message):
            return message(self)
        self.seen.append(message)
        return None

    def handle_continue(self, argument: Any) -> Any:
        return argument(self) if callable(argument) else self.seen.append(argument)

    def terminate(self, reason: object) -> None:
        self.seen.append(("terminate", reason))


class Trapper(Puppet):
    """A puppet that traps exits."""

    trap_exits = True


def seen(server: Any, caller: Any) -> list[Any]:
    """A request: what the puppet has seen."""
    return list(server.seen)


def crash(error: BaseException) -> Callable[..., Any]:
    """A message of any kind that makes the puppet raise."""

    def raise_it(*_: Any) -> Any:
        raise error

    return raise_it


def failure_of(action: Callable[..., Any], *arguments: Any, **keywords: Any) -> PacketFlowError:
    """What an action raises; it has to raise one of ours."""
    try:
        value = action(*arguments, **keywords)
    except PacketFlowError as error:
        return error
    raise AssertionError(f"it raised nothing and gave {value!r}")
