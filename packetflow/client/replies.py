"""What a request comes back with: a `Reply`; and a request under way: a `Pending`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from packetflow.wire.errors import RequestError, error_from_dict
from packetflow.wire.stream import Progress, progress_from_dict

if TYPE_CHECKING:
    from packetflow.client.channel import Channel
    from packetflow.client.concurrency import Gate


class Reply:
    """The answer to a request: a value or a typed error, never both.

    trace_id: finds it by `packetflow trace`; empty if the node never saw it. execution_time: seconds on the node. deprecated:
    what to use instead of this capability; None if nothing speaks against it.
    """

    __slots__ = ("deprecated", "error", "execution_time", "trace_id", "value")

    def __init__(
        self,
        value: Any = None,
        error: RequestError | None = None,
        trace_id: str = "",
        execution_time: float = 0.0,
    ) -> None:
        self.value = value
        self.error = error
        self.trace_id = trace_id
        self.execution_time = execution_time
        self.deprecated: str | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None

    def unwrap(self) -> Any:
        """The value. Raises the error if there is one."""
        if self.error is not None:
            raise self.error
        return self.value

    def __repr__(self) -> str:
        what = repr(self.value) if self.error is None else f"{self.error.code}: {self.error}"
        return f"<Reply {what[:80]} trace {self.trace_id[:8]}>"


class Watched:
    """Something that callers wait for. gates: those that they wait at, while somebody else reads the socket for them."""

    __slots__ = ("gates",)

    def __init__(self) -> None:
        self.gates: list[Gate] | None = None

    def ready(self) -> bool:
        """Whether it is there."""
        raise NotImplementedError


class Window(Watched):
    """The requests of one `map` that are under way: by id, oldest first; and those that are done."""

    __slots__ = ("finished", "open")

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[int, Pending] = {}
        self.finished: deque[Pending] = deque()

    def ready(self) -> bool:
        """Whether any is done."""
        return bool(self.finished)


class Pending(Watched):
    """A request under way. Its answer is read when somebody waits: for this one or another of the same client.

    deadline: when the client gives it up (monotonic seconds); None: never.
    """

    __slots__ = ("channel", "deadline", "id", "index", "key", "reply_", "window")

    def __init__(self, deadline: float | None, window: Window | None = None, index: int = 0) -> None:
        super().__init__()
        self.id = 0
        self.channel: Channel | None = None
        self.deadline = deadline
        self.window = window
        self.index = index
        self.key: str | None = None
        self.reply_: Reply | None = None

    def ready(self) -> bool:
        """Whether the answer is there."""
        return self.reply_ is not None

    def take_item(self, item: Any, size: int) -> None:
        """An item of a stream has come: of no use to a request that wants one value."""

    def take_progress(self, data: Any) -> None:
        """A word about how far it is has come: of no use to a request that does not listen."""

    @property
    def done(self) -> bool:
        """Whether the answer is there; takes a look, but does not wait."""
        if self.reply_ is None and self.channel is not None:
            self.channel.look()
        return self.reply_ is not None

    def reply(self, timeout: float | None = None) -> Reply:
        """Wait for the answer. timeout: seconds to wait at most, beside the request's own.

        Raises wire's Timeout if it is not there by then; the request goes on, and may be waited for again.
        """
        if self.reply_ is None and self.channel is not None:
            return self.channel.await_reply(self, timeout)
        assert self.reply_ is not None
        return self.reply_

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value. Raises the request's typed error; and Timeout as `reply` does."""
        return self.reply(timeout).unwrap()

    def cancel(self) -> None:
        """Ask the node to end it. Its answer is then `cancelled`, unless it was done already."""
        if self.reply_ is None and self.channel is not None:
            self.channel.cancel(self)


class Followed(Pending):
    """A request under way whose caller listens to its progress."""

    __slots__ = ("_listener", "_progress")

    def __init__(self, deadline: float | None, listener: Callable[[Progress], None] | None) -> None:
        super().__init__(deadline)
        self._listener = listener
        self._progress: Progress | None = None  # the latest that the listener was not told

    def ready(self) -> bool:
        """Whether there is anything to be seen to."""
        return self.reply_ is not None or self._progress is not None

    def take_progress(self, data: Any) -> None:
        """A word about how far it is has come."""
        if self._listener is not None:
            self._progress = progress_from_dict(data)

    def tell(self) -> None:
        """Tell the listener what is new, in the greenlet or thread that waits for the answer."""
        latest, self._progress = self._progress, None
        if latest is not None and self._listener is not None:
            self._listener(latest)

    def reply(self, timeout: float | None = None) -> Reply:
        """Wait for the answer, and tell how far it is meanwhile."""
        while self.reply_ is None and self.channel is not None:
            if not self.channel.wait(self, self.deadline):
                self.channel.give_up(self)
            self.tell()
        assert self.reply_ is not None
        return self.reply_


class End(Reply):
    """The end of a stream. value: the number of items that the node has sent."""

    __slots__ = ()


def end_of(message: dict[str, Any]) -> End:
    """What a `stream_end` holds."""
    payload = message.get("payload")
    told = payload if isinstance(payload, dict) else {}
    failed = told.get("error")
    reply = reply_of(message, False)
    error = None if failed is None else error_from_dict(failed if isinstance(failed, dict) else {})
    return End(told.get("items"), error, reply.trace_id, reply.execution_time)


def reply_of(message: dict[str, Any], failed: bool) -> Reply:
    """The reply that a message holds."""
    context, metadata = message.get("context"), message.get("metadata")
    reply = Reply()
    if context.__class__ is dict:
        reply.trace_id = context.get("trace_id") or ""
    if metadata.__class__ is dict:
        reply.execution_time = (metadata.get("execution_time") or 0.0) / 1000.0
        reply.deprecated = metadata.get("deprecated")
    payload = message.get("payload")
    if failed:
        reply.error = error_from_dict(payload if isinstance(payload, dict) else {})
    else:
        reply.value = payload
    return reply
