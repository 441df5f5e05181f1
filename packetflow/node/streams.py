"""The door's part in streams: which are open, who owns them, what a request leaves behind at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gevent.hub import get_hub
from pydantic import ValidationError

from packetflow.capabilities.context import Context, set_field
from packetflow.intelligence.chain import Hooks
from packetflow.intelligence.gate import Gate
from packetflow.node.admission import Admission
from packetflow.node.detours import Detours
from packetflow.node.open_stream import OpenStream
from packetflow.node.outside_requests import OutsideRequests
from packetflow.node.routes import Routes, StreamRoute
from packetflow.otp.clock import Clock
from packetflow.otp.threads import door_of, get_ident
from packetflow.telemetry.traces import Traces
from packetflow.wire.errors import Cancelled, RequestError, Unavailable
from packetflow.wire.stream import Progress, Stream
from packetflow.wire.values import Response

PATIENCE = 300.0  # seconds that a stream waits for its reader
ENDING = 5.0  # seconds that a generator may take to clean up, before it is broken off there too


class Streams(Detours):
    """Opens streams and ends them.

    patience: seconds that an open stream waits for its reader to ask for the next item. ending: seconds that its generator
    has to clean up.
    """

    admission: Admission
    outside: OutsideRequests
    traces: Traces

    def __init__(self, routes: Routes, clock: Clock) -> None:
        super().__init__(routes, clock)
        self.patience = PATIENCE
        self.ending = ENDING
        self.monotonic = clock.monotonic
        self._owned: dict[Context, list[OpenStream]] = {}
        self._thread = get_ident()
        # Has the hub run a function soon, from any thread.
        self.post: Callable[..., None] = door_of(get_hub()).post

    # ---- opening ----------------------------------------------------------------------------------------------------------

    def open_stream(self, call: Context, items: Iterator[Any]) -> Stream:
        """The stream of a request whose capability gave these items, of which nothing has run yet. Makes the first one."""
        parent = call.parent
        if parent is not None and parent.greenlet is None and parent not in self.streams:
            raise Cancelled(f"{call.capability}: the request that asks for this stream has ended")
        making = self.streams[call] = OpenStream(self, call, items)
        self.unsettled.add(call)
        if parent is not None:
            self._owned.setdefault(parent, []).append(making)
            self.unsettled.add(parent)
        stream = Stream(making)
        making.begin()
        return stream

    def item_hooks(self, call: Context) -> Hooks:
        """The hooks that the items of a stream pass: of the modules that its response passes (design ruling 3)."""
        route: StreamRoute = call.route
        if call.stages is route.stages:
            return route.items
        entered = {gate for gate, _ in self._entered(call)}
        return tuple(pair for pair in route.items if pair[0] in entered)

    # ---- the end of a request, and of a stream ----------------------------------------------------------------------------

    def settle(self, call: Context, response: Response) -> None:
        """A request that has something to see to at its end: it was interrupted, is a stream, or owns streams."""
        if call not in self.unsettled:
            return
        self.unsettled.discard(call)
        self.forget_interrupt(call)
        making = self.streams.get(call)
        if making is not None:
            making.settle(response.error, self.item_hooks(call) if response.error is None else ())
        else:
            self.end_owned(call)

    def end_owned(self, call: Context) -> None:
        """End the streams that a request has asked for and not read to their end."""
        for making in self._owned.pop(call, ()):
            making.close(Cancelled("the request that asked for this stream has ended"))

    def stream_ended(self, making: OpenStream) -> None:
        """Bookkeeping: the stream is no longer under way, its trace is whole, its errors are counted."""
        call = making.call
        self.forget_interrupt(call)
        self.unsettled.discard(call)
        if self.streams.get(call) is making:
            del self.streams[call]
        siblings = self._owned.get(call.parent) if call.parent is not None else None
        if siblings is not None and making in siblings:
            siblings.remove(making)
        if making.open:
            call.stamps.append(self.monotonic())
            self.note(call, "streamed", making.facts(), back=1)
            if call.route.effects is not None:
                call.route.effects.ended(call, making.facts(), making.error)
            if making.error is not None:
                self._count_failure(call, making.error)
            self.traces.over(call)
        making.release()

    def _count_failure(self, call: Context, error: RequestError) -> None:
        error.__traceback__ = error.__context__ = error.__cause__ = None
        set_field(call, "error", error)
        if not isinstance(
            error, Cancelled
        ):  # whoever reads a stream without an end has to leave it some time
            call.route.registered.errors += 1
        self.traces.add_notable(call)

    def end_replaced(self) -> bool:
        """End the streams of capabilities that are not served any more: what those need is about to be closed.

        Returns whether there was one.
        """
        found = False
        for making in list(self.streams.values()):
            registered = making.call.route.registered
            definition = registered.definition
            if self.routes.catalogue.find(f"{definition.id}@{definition.version}") is not registered:
                gone = Unavailable(
                    f"{definition.id} was replaced while it streamed; ask again", retry_after=0.0
                )
                making.close_soon(gone)
                found = True
        return found

    def end_streams(self, reason: RequestError) -> None:
        """End every stream that nobody reads at this moment; the others are found among the requests in flight."""
        for making in list(self.streams.values()):
            if making.is_idle:
                making.close_soon(reason)

    # ---- what an open stream asks of the door -----------------------------------------------------------------------------

    def contract_violated(self, call: Context, failure: ValidationError) -> RequestError:
        """The error of an item that does not fit."""
        raise NotImplementedError

    def crashed(self, call: Context, failure: BaseException) -> RequestError:
        """The error of a generator that raised."""
        raise NotImplementedError

    def module_fault(self, call: Context, gate: Gate, crash: BaseException, noted: bool) -> None:
        """A module's fault with an item. Raises the error that ends the stream if `on_error` says so."""
        self.fault(call, gate, crash, back=0 if noted else None)

    # ---- other threads ----------------------------------------------------------------------------------------------------

    def tell(self, call: Context, told: Callable[[Progress], None], progress: Progress) -> None:
        """Tell a caller how far its request is, in the door's own thread."""
        if get_ident() == self._thread:
            self._told(call, told, progress)
        else:
            self.post(self._told, call, told, progress)

    def _told(self, call: Context, told: Callable[[Progress], None], progress: Progress) -> None:
        try:
            told(progress)
        except Exception as failure:  # the listener's own fault, and the request goes on
            self.log.error("who listens to progress failed", trace=call.id[:8], exc_info=failure)
