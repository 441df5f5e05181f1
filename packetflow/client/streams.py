"""A stream as a client reads it: `for item in client.stream("ticket.feed")`. It takes no more than a small window ahead."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from packetflow.client.replies import End, Followed, Reply
from packetflow.wire.errors import Cancelled, ProtocolError, RequestError
from packetflow.wire.stream import Progress

FIRST = 1  # items that may come before the size of any is known
MOST = 64  # items that may be on their way or wait here
# What those may take together, as far as the last ones tell. It fits the kernels' buffers, so that a node is not kept from
# sending while nobody reads here; an item that is larger comes when it is asked for, and not before.
BYTES = 64 * 1024


class Feed(Followed):
    """A stream's side of the connection: the items that have come and were not taken yet."""

    __slots__ = ("granted", "items", "largest")

    def __init__(self, deadline: float | None, listener: Callable[[Progress], None] | None) -> None:
        super().__init__(deadline, listener)
        self.items: deque[Any] = deque()
        self.granted = FIRST  # items that may still come
        self.largest = 0.0  # bytes of the larger ones of the last items

    def ready(self) -> bool:
        """Whether there is anything to be seen to."""
        return bool(self.items) or self.reply_ is not None or self._progress is not None

    def take_item(self, item: Any, size: int) -> None:
        """An item has come. Raises ProtocolError if it was not let come."""
        if self.granted <= 0:
            raise ProtocolError("more items of a stream than were let come")
        self.items.append(item)
        self.granted -= 1
        self.largest = max(size, self.largest * 0.95)

    def wanted(self) -> int:
        """How many more may come now, so that the window is full and the node is asked seldom."""
        if not self.largest:
            return 0
        window = max(1, min(MOST, int(BYTES / max(1.0, self.largest))))
        ahead = self.granted + len(self.items)
        return window - ahead if ahead <= window // 2 else 0


class ClientStream:
    """The items of a streaming capability, as they come.

        with client.stream("ticket.feed") as feed:
            for ticket in feed: ...

    What is no stream is one of one item. Iterating raises the typed error that ended it, after the items before it.
    Leaving the `with` block, or `close()`, asks the node to end it. One caller reads it at a time. trace_id,
    execution_time: when it has ended.
    """

    def __init__(self, feed: Feed, timeout: float | None, monotonic: Callable[[], float]) -> None:
        """timeout: seconds that an item may take to come."""
        self._feed = feed
        self._timeout = timeout
        self._monotonic = monotonic
        self.count = 0
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        feed = self._feed
        channel = feed.channel
        if self._closed:
            raise StopIteration
        while not feed.items:
            if feed.reply_ is not None:
                feed.tell()
                return self._at_the_end(feed.reply_)
            assert channel is not None
            self._ask()
            feed.deadline = None if self._timeout is None else self._monotonic() + self._timeout
            if not channel.wait(feed, feed.deadline):
                channel.give_up(feed)
            feed.tell()
        item = feed.items.popleft()
        self.count += 1
        if feed.reply_ is None and feed.largest <= BYTES:
            self._ask()
        return item

    def _ask(self) -> None:
        feed, channel = self._feed, self._feed.channel
        wanted = feed.wanted()
        if wanted > 0 and channel is not None:
            feed.granted += wanted
            channel.grant(feed, wanted)

    def _at_the_end(self, reply: Reply) -> Any:
        if reply.error is not None:
            raise reply.error
        if isinstance(reply, End) or self.count:
            raise StopIteration
        self.count = 1
        return reply.value

    @property
    def at_hand(self) -> int:
        """The items that have come and can be taken without waiting."""
        return len(self._feed.items)

    @property
    def complete(self) -> bool:
        """Whether every item was read, and there are no more."""
        reply = self._feed.reply_
        if reply is None or reply.error is not None or self._feed.items:
            return False
        return not isinstance(reply, End) or reply.value == self.count

    @property
    def ended(self) -> bool:
        """Whether all of it was read, or it was closed."""
        return self._feed.reply_ is not None and not self._feed.items

    @property
    def error(self) -> RequestError | None:
        """Why it ended, if it was not by its last item."""
        reply = self._feed.reply_
        return None if reply is None else reply.error

    @property
    def trace_id(self) -> str:
        """Finds it by `packetflow trace`; empty until it has ended."""
        reply = self._feed.reply_
        return "" if reply is None else reply.trace_id

    @property
    def execution_time(self) -> float:
        """Seconds that it took on the node; 0 until it has ended."""
        reply = self._feed.reply_
        return 0.0 if reply is None else reply.execution_time

    def close(self) -> None:
        """Read no more: the node is asked to end it. Twice is as good as once."""
        feed = self._feed
        self._closed = True
        if feed.reply_ is None and feed.channel is not None:
            feed.channel.abandon(feed, Reply(error=Cancelled("the stream was closed")))
        feed.items.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        feed = self._feed
        if feed.reply_ is None and feed.channel is not None:
            feed.channel.forsaken.append(feed)  # the next who uses the connection tells the node

    def __repr__(self) -> str:
        return f"<ClientStream after {self.count} items{', ended' if self.ended else ''}>"
