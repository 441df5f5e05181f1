"""Topics: subscribers get events in order, and none waits for another."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import gevent
import structlog
from gevent.event import Event as Gate

from packetflow.capabilities.events import Event, Topics


def event(number: int, topic: str = "orders.placed") -> Event:
    return Event(str(number), topic, number, datetime.now(UTC), "order.place", "ana")


def until(condition: Any) -> None:
    with gevent.Timeout(5):
        while not condition():
            gevent.sleep(0.001)


def test_a_subscriber_gets_the_events_of_its_topics_in_order() -> None:
    topics = Topics(structlog.get_logger())
    got: list[Any] = []
    subscription = topics.subscribe("orders.*", lambda one: got.append(one.data))
    for number in range(100):
        topics.publish(event(number))
        topics.publish(event(-number, "tickets.opened"))
    until(lambda: len(got) == 100)
    assert got == list(range(100))
    subscription.cancel()
    topics.publish(event(100))
    gevent.sleep(0)
    assert len(got) == 100


def test_a_slow_one_delays_nobody_and_loses_what_does_not_fit() -> None:
    topics = Topics(structlog.get_logger())
    gate, quick = Gate(), []
    slow = topics.subscribe("*", lambda one: gate.wait(), queue=10)
    topics.subscribe("*", quick.append)
    for number in range(50):
        topics.publish(event(number))
        gevent.sleep(0)
    until(lambda: len(quick) == 50)
    assert slow.dropped == 50 - 11  # one is with it, ten wait
    gate.set()
    until(lambda: slow.delivered == 11)


def test_one_that_fails_gets_the_next_event_all_the_same() -> None:
    topics = Topics(structlog.get_logger())
    got: list[int] = []

    def fussy(one: Event) -> None:
        got.append(one.data)
        if one.data == 0:
            raise ValueError("not this one")

    subscription = topics.subscribe("*", fussy)
    topics.publish(event(0))
    topics.publish(event(1))
    until(lambda: got == [0, 1])
    until(lambda: (subscription.failed, subscription.delivered) == (1, 1))


def test_nothing_is_left_running_at_the_end() -> None:
    topics = Topics(structlog.get_logger())
    ended: list[bool] = []

    def endless(one: Event) -> None:
        try:
            Gate().wait()
        finally:
            ended.append(True)

    topics.subscribe("*", endless)
    topics.publish(event(0))
    gevent.sleep(0)
    topics.close()
    until(lambda: ended)
