"""Publisher: gives the events of the outbox to who subscribed, at least once, and puts away what nobody takes for good."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import gevent

from packetflow.otp import GenServer, System, send
from packetflow.storage.dead_letters import DeadLetter
from packetflow.storage.outbox import Event, Outbox
from packetflow.wire.errors import RequestError, Timeout

if TYPE_CHECKING:
    from packetflow.node.stores import Stores

PUBLISHER = "publisher"
LOOK = "look"
ATTEMPTS = 10  # deliveries of an event that fail, before it is a dead letter
FIRST_WAIT, LONGEST_WAIT = 1.0, 300.0  # seconds between two of them: doubled each time
PATIENCE = 30.0  # seconds that a subscriber may take for an event
AGAIN = 5.0  # seconds until the next look, when the outbox can't be read or written now
SHOWN = 500  # characters of an error that are kept


@dataclass(frozen=True, slots=True)
class Subscription:
    """topics: a pattern such as `order.*`. receive: gets each event; what it raises is tried again later."""

    name: str
    topics: str
    receive: Callable[[Event], object]

    def wants(self, event: Event) -> bool:
        """Whether the event is of its topics."""
        return fnmatchcase(event.topic, self.topics)


class Events:
    """The node's events as its own program sees them: `node.events`."""

    def __init__(self, system: System, new_id: Callable[[], str], outbox: Callable[[], Outbox]) -> None:
        self._system = system
        self._new_id = new_id
        self._outbox = outbox
        self.subscriptions: dict[str, Subscription] = {}
        # Lines of the outbox that others than the publisher take out, and how they are told to look.
        self.lines: dict[str, Callable[[], object]] = {}

    def subscribe(self, name: str, topics: str, receive: Callable[[Event], object]) -> None:
        """Have `receive(event)` called for the outbox's events of these topics (a pattern such as `order.*`).

        At least once each; what it raises is tried again later, at last it is a dead letter. Best before the node's start:
        events of a topic that nobody subscribed to are dropped. A name that is there already is replaced.
        """
        self.subscriptions[name] = Subscription(name, topics, receive)

    def publish(self, topic: str, payload: Any, *, origin: str = "") -> str:
        """Put an event into the outbox; its id. When this returns it is stored, and will reach every subscriber.

        Raises StorageUnavailable, Overloaded, and Unencodable for a payload that is no plain data.
        """
        id = self._new_id()
        self.put([Event(id, topic, payload, origin)])
        return id

    def put(self, events: Sequence[Event]) -> None:
        """Put events into the outbox, all or none. Raises as `publish`."""
        if events:
            self._outbox().put(events)
            self.look(events)

    def look(self, events: Sequence[Event] = ()) -> None:
        """Something was put into the outbox, in a transaction of somebody's: who takes it out looks. events: what; all of it
        may be for the publisher if that is not said."""
        for line in {event.line for event in events}:
            if line in self.lines:
                self.lines[line]()
        if events and all(event.line for event in events):
            return
        publisher = self._system.whereis(PUBLISHER)
        if publisher is not None:
            send(publisher, LOOK)


class Publisher(GenServer):
    """Looks when it is told that something was put, and when something is due again; else it sleeps.

    Events are delivered in the order in which they were put, but one that failed comes later, and the others do not wait.
    """

    def init(
        self,
        stores: Callable[[], Stores],
        subscriptions: dict[str, Subscription],
        log: Any,
        serving: Callable[[], bool],
    ) -> None:
        """stores: the node's, as they are now. subscriptions: the node's, by name. serving: whether the node has started:
        then this one takes the place of another, and looks at once."""
        self._stores = stores
        self._subscriptions = subscriptions
        self._log = log
        self._timer: Any = None
        if serving():
            self.send_after(0.0, LOOK)

    def handle_info(self, message: object) -> None:
        """Deliver what is due."""
        if message != LOOK:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            outbox = self._stores().outbox
            while events := outbox.due():
                delivered = [event.id for event in events if self._deliver(event)]
                if delivered:
                    outbox.delivered(delivered)
            wait = outbox.next_due()
        except RequestError as error:
            self._log.warning("events can't be published now", why=str(error))
            wait = AGAIN
        if wait is not None:
            self._timer = self.send_after(max(wait, 0.001), LOOK)

    def _deliver(self, event: Event) -> bool:
        """Whether every subscriber has taken the event."""
        for subscription in list(self._subscriptions.values()):
            if not subscription.wants(event):
                continue
            alarm = gevent.Timeout(PATIENCE, Timeout(f"{subscription.name} took longer than {PATIENCE:g} s"))
            try:
                with alarm:
                    subscription.receive(event)
            except Exception as error:  # noqa: BLE001 - a subscriber's own code: it is told, and tried again
                self._failed(event, subscription, error)
                return False
        return True

    def _failed(self, event: Event, subscription: Subscription, error: Exception) -> None:
        reason = f"{subscription.name}: {type(error).__name__}: {error}"[:SHOWN]
        attempt = event.attempts + 1
        about = {
            "topic": event.topic,
            "event_id": event.id,
            "subscriber": subscription.name,
            "attempt": attempt,
        }
        if attempt < ATTEMPTS:
            self._log.warning("an event was not taken and will be tried again", **about, why=reason)
            wait = min(FIRST_WAIT * 2.0 ** (attempt - 1), LONGEST_WAIT)
            self._stores().outbox.failed(event.id, reason, wait)
            return
        self._log.error("an event was not taken for good: a dead letter", **about, why=reason)
        letter = DeadLetter(
            event.id,
            "event",
            event.topic,
            event.payload,
            getattr(error, "code", "execution_failed"),
            reason,
            {"attempts": attempt, "subscriber": subscription.name},
            origin=event.origin,
        )
        self._stores().bury(event.id, letter)
