"""What the tests of tasks run, and as whom: a plain greenlet, or an actor that traps exits."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

from gevent.event import Event

from packetflow.otp import Ref, Stop, System, call
from tests.otp.actors import Trapper

within: contextvars.ContextVar[str] = contextvars.ContextVar("within", default="nothing")

Run = Callable[[Callable[[], Any]], Any]


def double(number: int) -> int:
    return 2 * number


def boom() -> Any:
    raise ValueError("boom")


def forever() -> None:
    Event().wait()


def wait_or_give(item: Any) -> Any:
    if item is None:
        forever()
    return item


def exits(reason: Any) -> Stop:
    return Stop(reason)


def do(ref: Ref, action: Callable[[Any], Any], timeout: float | None = 5.0) -> Any:
    """Has a puppet do something in its own turn, and gives what came of it."""
    return call(ref, lambda server, caller: action(server), timeout)


def is_alive(ref: Ref | None) -> bool:
    return ref is not None and ref._process.scheduler.processes.get(ref.id) is ref._process


def in_an_actor(system: System) -> Run:
    """Runs a function in the turn of an actor that traps exits, and gives or raises what came of it."""
    owner = Trapper.start(system=system)
    outcome: list[Any] = []

    def attempt(action: Callable[[], Any]) -> None:
        try:
            outcome.append((True, action()))
        except Exception as error:  # noqa: BLE001 - raised again in the test
            outcome.append((False, error))

    def run(action: Callable[[], Any]) -> Any:
        do(owner, lambda server: attempt(action))
        worked, value = outcome.pop()
        if not worked:
            raise value
        return value

    return run
