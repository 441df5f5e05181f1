"""What tries again, and what stops trying: retry and circuit_breaker."""

from __future__ import annotations

from typing import Any

import gevent

from packetflow.composition.engine import compile_node, condition
from packetflow.composition.flow import Flow, Run, Scope, may_go_on
from packetflow.composition.nodes import CircuitBreaker, Retry, below
from packetflow.otp.clock import Clock
from packetflow.wire.errors import RequestError, Unavailable


def retry(node: Retry, place: str) -> Run:
    """See Retry."""
    body = compile_node(node.body, below(place, "body"))
    fallback = None if node.fallback is None else compile_node(node.fallback, below(place, "fallback"))
    decides = None if node.retry_when is None else condition(node.retry_when, place)

    def may_pass(error: RequestError, attempt: int) -> bool:
        if decides is None:
            return error.code in Retry.CODES
        told = {"code": error.code, "message": error.message, "details": dict(error.details)}
        return decides({"error": told, "attempt": attempt})

    def run(scope: Scope, flow: Flow) -> Any:
        delay = node.delay
        for attempt in range(1, node.attempts + 1):
            own = dict(scope)
            mark = len(flow.done)
            try:
                value = body(own, flow)
            except RequestError as error:
                again = attempt < node.attempts and may_pass(error, attempt)
                if not (again or fallback) or not may_go_on(flow, mark, error):
                    raise
                if again:
                    wait = min(delay, node.maximum) * (1.0 - node.jitter * flow.engine.chance.random())
                    gevent.sleep(max(wait, error.retry_after or 0.0))
                    delay *= node.factor
                    continue
                assert fallback is not None
                return fallback(scope, flow)
            scope.update(own)
            return value
        raise AssertionError("a retry has at least one attempt")

    return run


class Breaker:
    """One circuit: closed, open until a time, or half-open with trials under way."""

    __slots__ = (
        "_clock",
        "failures",
        "key",
        "open_until",
        "opened",
        "recovery",
        "threshold",
        "trials",
        "trying",
    )

    def __init__(self, node: CircuitBreaker, clock: Clock) -> None:
        self.key = node.key
        self.threshold = node.threshold
        self.recovery = node.recovery
        self.trials = node.trials
        self._clock = clock
        self.failures = 0  # in a row
        self.open_until: float | None = None
        self.trying = 0
        self.opened = 0  # times

    @property
    def state(self) -> str:
        """closed, open or half_open."""
        if self.open_until is None:
            return "closed"
        return "open" if self._clock.monotonic() < self.open_until else "half_open"

    def enter(self) -> bool:
        """Whether this is a trial. Raises Unavailable while it is open, or as many try as may."""
        if self.open_until is None:
            return False
        left = self.open_until - self._clock.monotonic()
        if left > 0:
            raise Unavailable(f"the circuit {self.key!r} is open", {"circuit": self.key}, retry_after=left)
        if self.trying >= self.trials:
            raise Unavailable(
                f"the circuit {self.key!r} is half open, and is being tried",
                {"circuit": self.key},
                retry_after=1.0,
            )
        self.trying += 1
        return True

    def failed(self) -> None:
        """One more in a row."""
        self.failures += 1
        if self.failures >= self.threshold or self.open_until is not None:
            self.open_until = self._clock.monotonic() + self.recovery
            self.opened += 1

    def worked(self) -> None:
        """It is closed."""
        self.failures = 0
        self.open_until = None


def circuit_breaker(node: CircuitBreaker, place: str) -> Run:
    """See CircuitBreaker."""
    body = compile_node(node.body, below(place, "body"))

    def run(scope: Scope, flow: Flow) -> Any:
        engine = flow.engine
        breaker = engine.breakers.get(node.key)
        if breaker is None:
            breaker = engine.breakers[node.key] = Breaker(node, engine.clock)
        trial = breaker.enter()
        try:
            value = body(scope, flow)
        except RequestError as error:
            # What the caller did wrong says nothing of the one who was asked.
            if error.code in Retry.CODES:
                breaker.failed()
            elif trial:
                breaker.worked()
            raise
        finally:
            if trial:
                breaker.trying -= 1
        breaker.worked()
        return value

    return run
