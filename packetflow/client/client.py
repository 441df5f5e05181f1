"""The client: requests to a node over tcp or its Unix socket, from threads or greenlets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from packetflow.client.channel import Channel, NotSent, lost
from packetflow.client.concurrency import Address, Mode, Side, side_of
from packetflow.client.replies import Followed, Pending, Reply, Window
from packetflow.client.streams import FIRST, ClientStream, Feed
from packetflow.otp.clock import Clock
from packetflow.wire.codec import Unencodable
from packetflow.wire.errors import RequestError, Timeout, ValidationFailed
from packetflow.wire.stream import Progress

DEFAULT_PORT = 7420
# Seconds beyond a request's timeout in which the node's own word about it may still come.
GRACE = 1.0
MILLISECONDS = 1000.0


class Client:
    """A node as a program sees it.

        with Client("tcp://127.0.0.1:7420") as desk:
            ticket = desk.call("ticket.open", {"customer_id": "C-1001", "text": "hi"})

    url: "tcp://host:port" or "unix:///path/admin.sock". timeout: seconds that a request may take unless it says
    otherwise; None: as long as the node allows. connect_timeout: seconds for connection and handshake. heartbeat: seconds
    of silence after which a waiting client says a word. concurrency: "threads" or "gevent"; by default gevent if the
    program's sockets are patched by it, else threads.

    It connects with the first request, and again after the connection was lost. A request that may have reached the node
    is sent again only if it has an idempotency key and the node keeps such keys. One client serves any number of threads
    (or, with gevent, greenlets of one thread); all share a connection.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float | None = 30.0,
        connect_timeout: float = 5.0,
        heartbeat: float = 15.0,
        concurrency: Mode | Side | None = None,
        clock: Clock | None = None,
        software: str = "packetflow-python",
    ) -> None:
        self.url = url
        self.timeout = timeout
        self.connect_timeout = connect_timeout
        self._address = address_of(url)
        self._side = side_of(concurrency)
        self._monotonic = (clock or Clock()).monotonic
        self._heartbeat = heartbeat
        self._software = software
        self._channel: Channel | None = None
        self._connecting = self._side.lock()
        self._closed = False

    # ---- requests -----------------------------------------------------------------------------------------------------

    def call(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Any:
        """The value of a request. Raises its typed error (`packetflow.wire.errors`). The arguments are those of `request`."""
        return self.request(
            capability, payload, timeout=timeout, idempotency_key=idempotency_key, progress=progress
        ).unwrap()

    def request(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Reply:
        """The whole answer; whatever goes wrong is its `error`, also that no node can be reached.

        capability: its id, or id@version. timeout: seconds, instead of the client's. progress: told now and then how far the
        request is, while this waits.
        """
        pending = self._begin(capability, payload, timeout, idempotency_key, progress=progress)
        reply = pending.reply()
        while self._may_repeat(pending, reply):
            again = self._begin(capability, payload, timeout, idempotency_key, pending.deadline, progress)
            reply = again.reply()
            pending.deadline, pending.channel = None, None  # one repetition is enough
        return reply

    def submit(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Pending:
        """Send a request and don't wait: `.result()` does. Blocks only while the node takes no more at once."""
        return self._begin(capability, payload, timeout, idempotency_key)

    def stream(
        self,
        capability: str,
        payload: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> ClientStream:
        """The items of a streaming capability, as they come. Whatever goes wrong is raised by the iteration.

        timeout: seconds that each item may take to come; None: as long as the node allows (the client's own timeout does
        not count here, a stream may be quiet for long). progress: as for `request`.
        """
        wait = None if timeout is None else timeout + GRACE
        feed = Feed(None if wait is None else self._monotonic() + wait, progress)
        metadata = metadata_of(timeout, None)
        metadata["credit"] = FIRST
        if progress is not None:
            metadata["progress"] = True
        self._launch(feed, capability, payload, metadata)
        return ClientStream(feed, wait, self._monotonic)

    def map(
        self,
        requests: Iterable[tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], str]],
        *,
        concurrency: int = 32,
        timeout: float | None = None,
    ) -> Iterator[tuple[int, Reply]]:
        """Send many requests, `concurrency` at a time, and yield (index, reply) as they finish, by this one caller.

        requests: (capability, payload) or (capability, payload, idempotency key); read as needed. What is under way is
        cancelled if the iteration is left early.
        """
        window = Window()
        source = enumerate(requests)
        exhausted = False
        part = max(1, concurrency // 4)
        try:
            while True:
                while not exhausted and len(window.open) + len(window.finished) < concurrency:
                    exhausted = not self._fill(window, source, concurrency, timeout)
                if window.finished:
                    # Only a part before the window is filled again: the node works while the caller sees to its answers.
                    for _ in range(min(len(window.finished), part)):
                        done = window.finished.popleft()
                        assert done.reply_ is not None
                        yield done.index, done.reply_
                elif window.open:
                    self._await_any(window)
                elif exhausted:
                    return
        finally:
            for pending in list(window.open.values()):
                if pending.channel is not None:
                    pending.channel.abandon(pending, Reply())

    def heartbeat(self, timeout: float = 5.0) -> float:
        """Seconds that a word to the node and back takes now. Raises Unavailable or Timeout."""
        begun = self._monotonic()
        pending = Pending(begun + timeout)
        channel = self._connected()
        id = channel.claim(pending)
        self._send(channel, pending, channel._envelope.encode({"type": "heartbeat", "id": id}))
        pending.result()
        return self._monotonic() - begun

    def connect(self) -> Self:
        """Connect now rather than with the first request. Raises Unavailable, or the node's refusal."""
        self._connected()
        return self

    def close(self) -> None:
        """End the connection; what is under way is `cancelled`. The client can't be used afterwards."""
        with self._connecting:
            self._closed = True
            if self._channel is not None:
                self._channel.close()
                self._channel = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client {self.url}>"

    # ---- within -------------------------------------------------------------------------------------------------------

    def _connected(self) -> Channel:
        channel = self._channel
        if channel is not None and channel.usable:
            return channel
        with self._connecting:
            channel = self._channel
            if channel is not None and channel.usable:
                return channel  # another caller was faster
            if self._closed:
                raise lost(self.url, "the client is closed", False)
            self._channel = channel = Channel(
                self._side,
                self.url,
                self._address,
                self._monotonic,
                timeout=self.connect_timeout,
                heartbeat=self._heartbeat,
                software=self._software,
            )
            return channel

    def _begin(
        self,
        capability: str,
        payload: Mapping[str, Any] | None,
        timeout: float | None,
        key: str | None,
        deadline: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Pending:
        """A request on its way; one that could not be sent is done already, with the error."""
        if timeout is None:
            timeout = self.timeout
        if deadline is None and timeout is not None:
            deadline = self._monotonic() + timeout + GRACE
        pending = Pending(deadline) if progress is None else Followed(deadline, progress)
        pending.key = key
        metadata = metadata_of(timeout, key)
        if progress is not None:
            metadata["progress"] = True
        return self._launch(pending, capability, payload, metadata)

    def _launch(
        self,
        pending: Pending,
        capability: str,
        payload: Mapping[str, Any] | None,
        metadata: dict[str, Any],
    ) -> Pending:
        for attempt in (1, 2):
            try:
                channel = self._connected()
                id = channel.claim(pending)
                self._send(
                    channel, pending, self._encoded(channel, pending, id, capability, payload, metadata)
                )
            except NotSent as error:
                # A connection that broke as it was used for the first time since long: a new one decides.
                if attempt == 2:
                    pending.reply_ = Reply(
                        error=lost(self.url, f"{self.url} closes connections: {error}", False)
                    )
            except RequestError as error:
                pending.reply_ = Reply(error=error)
                break
            else:
                break
        return pending

    @staticmethod
    def _encoded(
        channel: Channel,
        pending: Pending,
        id: int,
        capability: str,
        payload: Mapping[str, Any] | None,
        metadata: dict[str, Any],
    ) -> bytes:
        try:
            return channel.encode(id, capability, payload, metadata)
        except Unencodable as error:
            channel.drop(pending)
            raise ValidationFailed(f"{capability}: the payload can't be sent: {error}") from error
        except BaseException:
            channel.drop(pending)
            raise

    @staticmethod
    def _send(channel: Channel, pending: Pending, data: bytes) -> None:
        try:
            channel.send(data, pending.deadline)
        except BaseException:
            channel.drop(pending)
            pending.reply_ = (
                None  # if the connection broke meanwhile it holds that; it was not sent, so it may go again
            )
            raise

    def _may_repeat(self, pending: Pending, reply: Reply) -> bool:
        error, channel = reply.error, pending.channel
        if error is None or error.code != "unavailable" or pending.key is None or channel is None:
            return False
        return "idempotency" in channel.features and bool(error.details.get("sent"))

    def _fill(
        self,
        window: Window,
        source: Iterator[tuple[int, tuple[str, Mapping[str, Any]] | tuple[str, Mapping[str, Any], str]]],
        concurrency: int,
        timeout: float | None,
    ) -> bool:
        """Send as many as there is place for, in one write. False if there are no more."""
        if timeout is None:
            timeout = self.timeout
        deadline = None if timeout is None else self._monotonic() + timeout + GRACE
        batch: list[tuple[Pending, bytes]] = []
        channel: Channel | None = None
        more = True
        while len(window.open) + len(window.finished) < concurrency:
            item = next(source, None)
            if item is None:
                more = False
                break
            index, request = item
            pending = Pending(deadline, window, index)
            pending.key = request[2] if len(request) == 3 else None
            try:
                if channel is None:
                    channel = self._connected()
                if len(channel.pendings) >= channel.most:
                    self._send_batch(channel, batch)
                id = channel.claim(pending)
                metadata = metadata_of(timeout, pending.key)
                window.open[index] = pending
                batch.append((pending, self._encoded(channel, pending, id, request[0], request[1], metadata)))
            except (RequestError, NotSent) as error:
                self._failed(window, pending, error)
                channel = None if isinstance(error, NotSent) else channel
        if channel is not None:
            self._send_batch(channel, batch)
        return more

    def _send_batch(self, channel: Channel, batch: list[tuple[Pending, bytes]]) -> None:
        if not batch:
            return
        sent = list(batch)
        batch.clear()
        try:
            channel.send(b"".join(data for _, data in sent), sent[0][0].deadline)
        except (NotSent, Timeout) as error:
            for pending, _ in sent:
                channel.drop(pending)
                if pending.reply_ is None and pending.window is not None:
                    self._failed(pending.window, pending, error)

    def _failed(self, window: Window, pending: Pending, error: RequestError | NotSent) -> None:
        if isinstance(error, NotSent):
            # How much of a batch had left is not known here, so nothing of it is sent again.
            text = f"the connection to {self.url} was lost; the request may have been executed"
            error = lost(self.url, text, True)
        window.open.pop(pending.index, None)
        pending.reply_ = Reply(error=error)
        window.finished.append(pending)

    def _await_any(self, window: Window) -> None:
        oldest = next(iter(window.open.values()))
        channel = oldest.channel
        assert channel is not None
        if not channel.wait(window, oldest.deadline):
            channel.give_up(oldest)


def metadata_of(timeout: float | None, key: str | None) -> dict[str, Any]:
    """A request's metadata as it is sent. timeout: seconds."""
    metadata: dict[str, Any] = {}
    if timeout is not None:
        metadata["timeout"] = timeout * MILLISECONDS
    if key is not None:
        metadata["idempotency_key"] = key
    return metadata


def address_of(url: str) -> Address:
    """Where a url leads: (host, port), or a socket's path. Raises ValueError for what is neither."""
    parts = urlsplit(url)
    if parts.scheme == "tcp" and parts.hostname:
        return parts.hostname, parts.port or DEFAULT_PORT
    if parts.scheme == "unix" and parts.path:
        return unquote(parts.path)
    raise ValueError(f'expected "tcp://host:port" or "unix:///path/admin.sock", got {url!r}')
