"""A channel: bounded, in order, again where it makes sense, and nothing is lost silently."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
import structlog

from packetflow.notices.channel import Channel
from packetflow.notices.notice import NotDelivered, Notice
from packetflow.otp.clock import Clock


class Elsewhere:
    """Takes notices, or says what it is told to say."""

    def __init__(self, *says: Exception | None) -> None:
        self.says = list(says)
        self.got: list[str] = []

    def deliver(self, notice: Notice) -> None:
        said = self.says.pop(0) if self.says else None
        if said is not None:
            raise said
        self.got.append(notice.id)

    def where(self) -> str:
        return "elsewhere"


Make = Callable[..., Channel]


@pytest.fixture
def make() -> Iterator[Make]:
    running: list[Any] = []

    def made(delivery: Any, begin: bool = True, **more: Any) -> Channel:
        log = structlog.wrap_logger(structlog.PrintLogger(io.StringIO()))
        channel = Channel("ops", delivery, Clock(), log, **{"first_wait": 0.001, **more})
        if begin:
            running.append(gevent.spawn(channel.run))
        return channel

    yield made
    gevent.killall(running)


def until(condition: Callable[[], Any]) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.001)


def notices(count: int) -> list[Notice]:
    return [Notice(str(number), "text") for number in range(count)]


def test_notices_arrive_in_order_and_one_that_failed_is_tried_again_first(make: Make) -> None:
    there = Elsewhere(None, NotDelivered("down"), NotDelivered("down"))
    channel = make(there)
    for one in notices(4):
        channel.put(one)
    until(lambda: channel.sent == 4)
    assert there.got == ["0", "1", "2", "3"]
    assert (channel.retried, channel.failed, channel.failing) == (2, 0, False)


def test_what_is_refused_for_good_or_too_often_is_given_up_and_the_line_goes_on(make: Make) -> None:
    there = Elsewhere(NotDelivered("no such hook", again=False), *[NotDelivered("down")] * 3)
    channel = make(there, attempts=3)
    for one in notices(3):
        channel.put(one)
    until(lambda: channel.sent == 1)
    assert there.got == ["2"]
    assert channel.failed == 2


def test_while_it_fails_it_says_so(make: Make) -> None:
    channel = make(Elsewhere(NotDelivered("down", after=30.0)))
    channel.put(notices(1)[0])
    until(lambda: channel.failing)
    assert channel.as_data()["last_error"] == "down"
    assert len(channel) == 1


def test_what_does_not_fit_is_dropped_and_counted(make: Make) -> None:
    channel = make(Elsewhere(), begin=False, queue=3)
    for one in notices(10):
        channel.put(one)
    assert (len(channel), channel.dropped) == (3, 7)


def test_a_delivery_that_hangs_is_given_up_after_its_time(make: Make) -> None:
    class Hanging(Elsewhere):
        def deliver(self, notice: Notice) -> None:
            gevent.sleep(60)

    channel = make(Hanging(), timeout=0.01, attempts=2)
    channel.put(notices(1)[0])
    until(lambda: channel.failed == 1)
    assert "no answer within 0.01 s" in str(channel.last_error)


def test_a_fault_of_the_delivery_itself_stops_nobody_behind_it(make: Make) -> None:
    there = Elsewhere(ZeroDivisionError("a bug"))
    channel = make(there, attempts=1)
    for one in notices(2):
        channel.put(one)
    until(lambda: channel.sent == 1)
    assert there.got == ["1"]


def test_one_that_was_killed_goes_on_with_what_waits(make: Make) -> None:
    there = Elsewhere()
    channel = make(there, begin=False)
    for one in notices(2):
        channel.put(one)
    first = gevent.spawn(channel.run)
    gevent.sleep(0)
    first.kill()
    channel.put(Notice("2", "text"))
    second = gevent.spawn(channel.run)
    until(lambda: channel.sent == 3)
    second.kill()
    assert there.got == ["0", "1", "2"]


def test_at_the_end_what_waits_gets_some_time_and_the_rest_is_counted(make: Make) -> None:
    channel = make(Elsewhere())
    channel.put(notices(1)[0])
    channel.close(5.0)
    assert (channel.sent, channel.dropped) == (1, 0)
    stuck = make(Elsewhere(), begin=False)
    for one in notices(3):
        stuck.put(one)
    stuck.close(0.01)
    assert stuck.dropped == 3
    stuck.put(notices(1)[0])
    assert stuck.dropped == 4
