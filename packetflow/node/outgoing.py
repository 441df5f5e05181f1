"""What leaves a request by way of the outbox: events for who subscribed, notices for channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from gevent.event import Event as Signal

from packetflow.notices.channel import Channel
from packetflow.notices.notice import Notice
from packetflow.storage.dead_letters import DeadLetter
from packetflow.storage.outbox import Event

if TYPE_CHECKING:
    from packetflow.node.publisher import Events
    from packetflow.node.stores import Stores

LINE = "channel:"  # before a channel's name, in the outbox
NOTICE = "notice"  # the kind of a dead letter


def event_of(channel: str, notice: Notice) -> Event:
    """A notice as it waits in the outbox."""
    body = {"text": notice.text, "subject": notice.subject, "about": dict(notice.about)}
    return Event(notice.id, channel, body, str(notice.about.get("trace", "")), line=LINE + channel)


def notice_of(event: Event) -> Notice:
    """The same as a channel delivers it."""
    body: Mapping[str, Any] = event.payload
    return Notice(event.id, body["text"], body["subject"], body["about"])


class OutboxLine:
    """The notices of a channel in the node's outbox: delivered at least once, over the ends of nodes; what was tried often
    enough is a dead letter."""

    def __init__(self, channel: str, stores: Callable[[], Stores]) -> None:
        self.name = LINE + channel
        self._channel = channel
        self._stores = stores
        self._filled = Signal()
        self._first: Event | None = None
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, item: Notice) -> None:
        """See Line. Waits until it is stored."""
        self._stores().outbox.put([event_of(self._channel, item)])
        self.wake()

    def took(self) -> None:
        """One is about to be put in with other things."""
        self._count += 1

    def first(self) -> tuple[Notice, int] | None:
        """See Line."""
        stores = self._stores()
        if not stores.has_anything:
            self._count = 0
            return None
        found = stores.outbox.due(1, self.name)
        self._count = stores.outbox.waiting().get(self.name, 0)
        if not found:
            return None
        self._first = found[0]
        return notice_of(self._first), self._first.attempts

    def wait(self) -> None:
        """See Line."""
        self._filled.wait()
        self._filled.clear()

    def wake(self) -> None:
        """See Line."""
        self._filled.set()

    def done(self, item: Notice) -> None:
        """See Line."""
        self._stores().outbox.delivered([item.id])
        self._count = max(0, self._count - 1)

    def missed(self, item: Notice, why: str) -> None:
        """See Line. The channel itself waits, so that the order is kept."""
        self._stores().outbox.failed(item.id, why, 0.0)

    def give_up(self, item: Notice, why: str, tries: int) -> None:
        """See Line."""
        event = self._first
        assert event is not None, "the channel delivers what it got from here"
        letter = DeadLetter(
            item.id, NOTICE, self._channel, event.payload, "unavailable", why, {"attempts": tries},
            principal=str(item.about.get("principal", "")), origin=event.origin,
        )  # fmt: skip
        self._stores().bury(item.id, letter)
        self._count = max(0, self._count - 1)


class Outgoing:
    """Puts what a request gives away into the outbox, in one write. channels: by name; a notice that finds no room in its
    channel is dropped and counted there."""

    def __init__(self, events: Events, channels: Mapping[str, Channel]) -> None:
        self._events = events
        self._channels = channels
        for channel in channels.values():
            if isinstance(channel.line, OutboxLine):
                events.lines[channel.line.name] = channel.line.wake

    def put(self, events: Sequence[Event]) -> None:
        """Store them. Raises StorageUnavailable, Overloaded, Unencodable; then none is stored."""
        self._events.put([event for event in events if self._has_room(event)])

    def _has_room(self, event: Event) -> bool:
        channel = self._channels.get(event.line.removeprefix(LINE)) if event.line else None
        if channel is None:
            return True
        if not channel.takes():
            return False
        if isinstance(channel.line, OutboxLine):
            channel.line.took()
        return True
