"""Random producers, readers, cancels, kills and losses against a plain model: no item lost, doubled or out of order, one end
each, and nothing left in flight."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import gevent
import pytest
import structlog
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from packetflow import Client, Context, capability
from packetflow.errors import RequestError
from packetflow.otp.clock import Clock
from packetflow.transports.tcp import TcpListener
from packetflow.wire.limits import Limits
from tests.node.passing import Passing
from tests.node.test_streams import nothing_is_left
from tests.transports.peers import until

TURN, NAP = 0.0, 0.0005
begun: Counter[int] = Counter()
ended: Counter[int] = Counter()
made: Counter[int] = Counter()


@capability("random.leaf")
def leaf_of(number: int, pause: float | None) -> int:
    """Give it back."""
    rest(pause)
    return number


@capability("random.inner")
def inner(items: int, pause: float | None) -> Iterator[int]:
    """Count."""
    for number in range(items):
        rest(pause)
        yield number


@capability("random.stream")
def numbers(
    key: int, pauses: list[float | None], nested: str, fail_at: int | None, context: Context
) -> Iterator[int]:
    """Count, with pauses, by requests and streams of its own."""
    begun[key] += 1
    source = (
        context.call("random.inner", {"items": len(pauses), "pause": None}) if nested == "stream" else None
    )
    try:
        for number, pause in enumerate(pauses):
            if number == fail_at:
                raise ValueError("at random")
            rest(pause)
            made[key] += 1
            if source is not None:
                yield next(source)
            elif nested == "request":
                yield context.call("random.leaf", {"number": number, "pause": pause})
            else:
                yield number
    finally:
        try:
            rest(pauses[0] if pauses else None)  # a cancel may strike here too
        finally:
            ended[key] += 1


def rest(pause: float | None) -> None:
    if pause is not None:
        gevent.sleep(pause)


class Plan(NamedTuple):
    """What one reader does with one stream."""

    way: str
    pauses: list[float | None]
    nested: str
    fail_at: int | None
    take: int
    pace: float | None
    end: str


PAUSES = st.sampled_from([None, None, TURN, NAP])
PLANS = st.builds(
    Plan,
    way=st.sampled_from(["process", "tcp"]),
    pauses=st.lists(PAUSES, max_size=12),
    nested=st.sampled_from(["", "", "request", "stream"]),
    fail_at=st.one_of(st.none(), st.none(), st.integers(0, 12)),
    take=st.integers(0, 14),
    pace=PAUSES,
    end=st.sampled_from(["all", "close", "drop", "kill", "cancel", "lose"]),
)


class Reading:
    """One reader at work."""

    def __init__(self, key: int, plan: Plan, passing: Passing, address: str) -> None:
        self.key, self.plan = key, plan
        self.passing, self.address = passing, address
        self.items: list[int] = []
        self.error: RequestError | None = None
        self.complete = False
        self.client: Client | None = None

    def run(self) -> None:
        plan = self.plan
        payload = {"key": self.key, "pauses": plan.pauses, "nested": plan.nested, "fail_at": plan.fail_at}
        try:
            if plan.way == "process":
                stream = self.passing("random.stream", payload).unwrap()
            else:
                self.client = Client(f"tcp://{self.address}", concurrency="gevent")
                stream = self.client.stream("random.stream", payload)
            self.read(stream)
        except RequestError as error:
            self.error = error
        finally:
            stream = None
            if self.client is not None:
                self.client.close()

    def read(self, stream: Any) -> None:
        for item in stream:
            self.items.append(item)
            if len(self.items) > self.plan.take and self.plan.end != "all":
                break
            rest(self.plan.pace)
        else:
            self.complete = True
            return
        if self.plan.end == "close":
            stream.close()
            assert list(stream) == [], "nothing comes after its end"
        elif self.plan.end == "lose" and self.client is not None:
            channel = self.client._channel
            assert channel is not None
            channel.sock.close()
        # drop: the stream is let go, or its connection is

    def wait_until_made(self, moment: int, greenlet: gevent.Greenlet[..., None]) -> None:
        """Until the generator has made so many items, as far as it will."""
        until(lambda: greenlet.ready() or made[self.key] >= min(moment, len(self.plan.pauses)))

    def check(self) -> None:
        plan = self.plan
        assert self.items == list(range(len(self.items))), "lost, doubled or out of order"
        whole = len(plan.pauses) if plan.fail_at is None else min(len(plan.pauses), plan.fail_at)
        assert len(self.items) <= whole
        interrupted = plan.end in ("kill", "cancel")
        if self.complete:
            assert len(self.items) == whole
            assert plan.fail_at is None or plan.fail_at >= len(plan.pauses)
        elif self.error is not None and plan.end == "kill" and plan.nested == "request":
            assert (
                self.error.code == "execution_failed"
            )  # a kill that strikes an inner request is that one's crash
        elif self.error is not None and self.error.code == "execution_failed":
            assert len(self.items) == whole == plan.fail_at, "an error comes after all items before it"
        elif plan.end == "all":
            pytest.fail(f"neither its end nor its error came: {self.error!r}")
        elif not interrupted:
            assert self.error is None
            assert len(self.items) == plan.take + 1
        assert begun[self.key] == ended[self.key] <= 1, "each generator that began cleaned up, once"
        assert made[self.key] >= len(self.items)


@settings(
    max_examples=200,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(PLANS, min_size=1, max_size=6), st.lists(st.integers(0, 12), min_size=6, max_size=6))
def test_whatever_happens_items_are_a_prefix_and_nothing_is_left(
    plans: list[Plan], moments: list[int]
) -> None:
    for counter in (begun, ended, made):
        counter.clear()
    passing = Passing([leaf_of, inner, numbers])
    passing.door.log = structlog.wrap_logger(
        structlog.ReturnLogger(), processors=[]
    )  # failures are part of the game
    listener = TcpListener(passing.door, Clock(), Limits(), port=0, sweep=0.02)
    listener.start()
    readings = [Reading(key, plan, passing, listener.address) for key, plan in enumerate(plans)]
    greenlets = [gevent.spawn(reading.run) for reading in readings]
    for reading, greenlet, moment in zip(readings, greenlets, moments, strict=False):
        if reading.plan.end not in ("kill", "cancel"):
            continue
        reading.wait_until_made(moment, greenlet)
        if reading.plan.end == "kill":
            greenlet.kill()
        else:
            for waiting, call in list(passing.door.in_flight.items()):
                if call.capability == "random.stream":
                    passing.door.cancel(waiting)
    gevent.joinall(greenlets, timeout=20)
    assert all(greenlet.ready() for greenlet in greenlets)
    for greenlet in greenlets:
        assert greenlet.exception is None, greenlet.exception
    del greenlet, greenlets
    gc.collect(1)
    until(lambda: not passing.door.streams)
    until(lambda: not listener.connections)
    nothing_is_left(passing.door)
    cancelled_all = any(plan.end == "cancel" for plan in plans)
    for reading in readings:
        if cancelled_all and reading.error is not None and reading.error.code == "cancelled":
            assert reading.items == list(range(len(reading.items)))
            assert begun[reading.key] == ended[reading.key] <= 1
        else:
            reading.check()
    listener.close()
