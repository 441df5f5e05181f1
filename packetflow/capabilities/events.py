"""Events and who hears of them: topics of one node, with subscribers in its process.

Each subscriber has a line of its own, so that a slow one delays nobody; what does not fit into it is dropped, the newest
first, and counted. An event is lost with the node: what must not be goes through a durable run's outbox.
"""

from __future__ import annotations

import fnmatch
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import gevent

QUEUE = 1_000  # events that wait for one subscriber


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. id: begins with the request's trace. data: what `emit` says. time: in UTC."""

    id: str
    topic: str
    data: Any
    time: datetime
    capability: str
    principal: str
    tenant: str = ""


class Subscription:
    """One subscriber. `cancel()` ends it. delivered, failed, dropped: counts of events."""

    def __init__(self, topics: Topics, pattern: str, function: Callable[[Event], object], queue: int) -> None:
        self.pattern = pattern
        self.delivered = self.failed = self.dropped = 0
        self._topics = topics
        self._function = function
        self._waiting: deque[Event] = deque()
        self._queue = queue
        self._running: gevent.Greenlet[..., None] | None = None

    def cancel(self) -> None:
        """No further event; those that wait are forgotten. Twice is once."""
        self._topics.forget(self)
        self._waiting.clear()

    def put(self, event: Event) -> None:
        """Deliver an event soon."""
        if len(self._waiting) >= self._queue:
            self.dropped += 1
            if self.dropped == 1:
                self._topics.log.warning("a subscriber is too slow: events are dropped", pattern=self.pattern)
            return
        self._waiting.append(event)
        if self._running is None:
            self._running = gevent.spawn(self._deliver)

    def _deliver(self) -> None:
        try:
            while self._waiting:
                event = self._waiting.popleft()
                try:
                    self._function(event)
                except Exception as error:
                    self.failed += 1
                    self._topics.log.error(
                        "a subscriber failed", topic=event.topic, id=event.id, exc_info=error
                    )
                else:
                    self.delivered += 1
        finally:
            self._running = None

    def close(self) -> None:
        """End what is under way."""
        self._waiting.clear()
        if self._running is not None:
            self._running.kill(block=False)


class Topics:
    """The topics of one node. log: where faults of subscribers go."""

    def __init__(self, log: Any) -> None:
        self.log = log
        self._subscriptions: tuple[Subscription, ...] = ()

    def subscribe(
        self, pattern: str, function: Callable[[Event], object], queue: int = QUEUE
    ) -> Subscription:
        """Have function(event) called for each event whose topic the pattern covers (`orders.*`), in order, one at a time."""
        made = Subscription(self, pattern, function, queue)
        self._subscriptions = (*self._subscriptions, made)
        return made

    def publish(self, event: Event) -> None:
        """Hand an event to its subscribers; never waits."""
        for subscription in self._subscriptions:
            if fnmatch.fnmatchcase(event.topic, subscription.pattern):
                subscription.put(event)

    def forget(self, subscription: Subscription) -> None:
        """No event for it any more."""
        self._subscriptions = tuple(one for one in self._subscriptions if one is not subscription)

    def __iter__(self) -> Any:
        return iter(self._subscriptions)

    def close(self) -> None:
        """End all subscribers."""
        subscriptions, self._subscriptions = self._subscriptions, ()
        for subscription in subscriptions:
            subscription.close()
