"""A stream that is open: a request that is under way until its last item was taken, or until somebody ended it.

It has no greenlet of its own. Whoever reads it runs the generator until its next item, so nothing runs ahead of the reader;
the first item alone is made with the request itself, so that what fails before it is an ordinary error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from gevent import spawn
from gevent.timeout import Timeout as GeventTimeout
from greenlet import GreenletExit, getcurrent, greenlet
from pydantic import ValidationError

from packetflow.capabilities.context import Context, set_field
from packetflow.intelligence.answers import Change, Continue, Reject
from packetflow.intelligence.chain import Hook, Hooks
from packetflow.intelligence.gate import Gate
from packetflow.node.interrupts import Interrupt, described
from packetflow.node.routes import STREAM, Stage, StreamRoute
from packetflow.otp.threads import get_ident
from packetflow.telemetry.logs import CURRENT
from packetflow.wire.errors import Cancelled, RequestError, Timeout

if TYPE_CHECKING:
    from packetflow.node.streams import Streams

ABSENT: Any = object()
NOTED = 10  # faults of modules with items that trace and log tell; the others are only counted
# Raised from outside into a greenlet that reads a stream for its own program: told to it, after the stream was ended.
FOREIGN = (GreenletExit, GeventTimeout, KeyboardInterrupt)


class OpenStream:
    """What makes a stream's items, and all that is known of it. `packetflow.wire.stream.Stream` is its reader's side.

    It is attached to the greenlet that reads it, for one item or for as long as a door serves it. Only then it is among the
    requests in flight by greenlet, where cancels and deadlines find it; admission counts it all the time.
    """

    __slots__ = (
        "_admitted",
        "_attached",
        "_check",
        "_closing",
        "_door",
        "_ends_at",
        "_head",
        "_hooks",
        "_items",
        "_limit",
        "_outer",
        "_resting",
        "_returns",
        "_token",
        "call",
        "count",
        "ended",
        "error",
        "first",
        "open",
        "reason",
        "since",
    )

    def __init__(self, door: Streams, call: Context, items: Iterator[Any]) -> None:
        """items: nothing of it has run yet."""
        route: StreamRoute = call.route
        definition = route.registered.definition
        self._door = door
        self.call = call
        self._items = items
        self._check: Callable[[Any], Any] = definition.contract.validate_output
        self._returns = definition.contract.returns
        self._hooks: tuple[tuple[Gate, Hook, tuple[Stage, ...]], ...] = ()
        self._head: Any = ABSENT
        asked = call.metadata.timeout
        self._limit: float = route.timeout if asked is None or asked > route.timeout else asked
        whole = definition.stream_timeout
        self._ends_at: float | None = None if whole is None else call.stamps[0] + whole
        self._attached: greenlet | None = None
        self._outer: Context | None = None
        self._token: Any = None
        self._admitted = False  # it counts among the requests that the node takes at once
        self._closing = False  # a greenlet of its own is about to end it
        self._resting = False  # it is the reader's turn
        self.open = False  # the request was answered with it
        self.ended = False
        self.count = 0
        self.first: float | None = None
        self.error: RequestError | None = None
        self.reason = ""
        self.since = call.stamps[-1]  # when the item under way was asked for

    def __repr__(self) -> str:
        return f"{self.call.route.id} (trace {self.call.id[:8]})"

    @property
    def is_idle(self) -> bool:
        """Whether it is open and nobody reads it at this moment."""
        return self.open and self._attached is None and not self.ended

    def facts(self) -> dict[str, Any]:
        """How it went: items, seconds to the first one, why it ended."""
        return {"items": self.count, "first": self.first, "end": self.reason}

    # ---- the head: within the request, before it is answered --------------------------------------------------------------

    def begin(self) -> None:
        """Make the first item. Raises what the generator raises instead of one."""
        door, call = self._door, self.call
        if call.parent is None:
            self._admitted = True
            door.admission.reserve()
        set_field(call, "deadline", self._bounded(call.deadline))
        self._head = next(self._items, ABSENT)
        if self._head is not ABSENT:
            self.first = door.monotonic() - call.stamps[0]

    def check_head(self) -> None:
        """Check the first item. Raises pydantic's ValidationError."""
        if self._head is not ABSENT and self._head.__class__ is not self._returns:
            self._head = self._check(self._head)

    def settle(self, error: RequestError | None, hooks: Hooks) -> None:
        """The request is answered: with the stream, or with an error, which ends it. hooks: those that each item passes."""
        call = self.call
        if error is not None:
            self._end_alone(error)
            return
        if call.stages[-1] is not STREAM:  # a module has changed its way
            set_field(call, "stages", (*call.stages[: len(call.stamps) - 1], STREAM))
        before = call.stages[:-1]
        self._hooks = tuple((gate, hook, (*before, Stage(gate.name, "item", gate))) for gate, hook in hooks)
        self.open = True
        self._rest()

    # ---- being read -------------------------------------------------------------------------------------------------------

    def attach(self) -> None:
        """From now on the calling greenlet serves it. Raises RuntimeError if another one does."""
        if self._attached is not None:
            raise RuntimeError(f"the stream of {self.call.route.id} is read by another greenlet already")
        door, call, me = self._door, self.call, getcurrent()
        self._attached = me
        self._outer = door.in_flight.get(me)
        door.in_flight[me] = call
        if self._admitted and self._outer is None:
            door.admission.unreserve()  # it is counted by its greenlet
        set_field(call, "greenlet", me)
        self._token = CURRENT.set(call)
        if not door.sweeping:
            door.sweep()

    def detach(self) -> None:
        """It serves it no more."""
        door, call, me = self._door, self.call, self._attached
        if me is None:
            return
        self._attached = None
        CURRENT.reset(self._token)
        set_field(call, "greenlet", None)
        if self._outer is not None:
            door.in_flight[me] = self._outer
            self._outer = None
        else:
            del door.in_flight[me]
            if self._admitted:
                door.admission.reserve()
            elif door.admission.waiting:
                door.admission.leave()
        if not self.ended:
            self._rest()

    def take_alone(self) -> Any:
        """The next item, for a greenlet that is not attached."""
        if self._attached is getcurrent():
            return self.take()
        if self.ended:
            self._raise_end()
        outside = self._door.outside
        if get_ident() != outside.thread:
            return outside.item(self)
        if outside.loop is not None:
            outside.check_wait()
        self.attach()
        try:
            return self.take()
        finally:
            self.detach()

    async def take_awaited(self) -> Any:
        """The next item, for a coroutine. Raises StopAsyncIteration after the last one."""
        return await self._door.outside.next_item(self)

    def take(self) -> Any:
        """The next item. Raises StopIteration after the last one, and the RequestError that ended the stream."""
        if self.ended:
            self._raise_end()
        now = self.since = self._door.monotonic()
        set_field(self.call, "deadline", self._bounded(now + self._limit))
        self._resting = False
        item = self._head
        try:
            if item is not ABSENT:
                self._head = ABSENT
            else:
                item = next(self._items)
                if item.__class__ is not self._returns:
                    item = self._checked(item)
            if self._hooks:
                item = self._through(item)
        except StopIteration:
            self._end(None, "done")
            raise
        except BaseException as failure:  # noqa: BLE001 - it ends the stream, and its reader gets it or its error
            raise self._failed(failure) from None
        self.count += 1
        return item

    def _checked(self, item: Any) -> Any:
        try:
            return self._check(item)
        except ValidationError as misfit:
            raise self._door.contract_violated(self.call, misfit) from misfit

    def wait(self, until: Callable[[], Any]) -> None:
        """Call what waits for the reader. Raises the RequestError that ended the stream meanwhile."""
        if self.ended:
            self._raise_end()
        self._rest()
        try:
            until()
        except BaseException as failure:  # noqa: BLE001 - it ends the stream, and its reader gets it or its error
            raise self._failed(failure) from None

    def _rest(self) -> None:
        door = self._door
        self._resting = True
        set_field(self.call, "deadline", self._bounded(door.monotonic() + door.patience))

    def _bounded(self, deadline: float) -> float:
        if self._ends_at is not None and self._ends_at < deadline:
            deadline = self._ends_at
        parent = self.call.parent
        return deadline if parent is None or deadline < parent.deadline else parent.deadline

    def _raise_end(self) -> None:
        if self.error is not None:
            raise self.error
        raise StopIteration

    # ---- the modules that see each item -----------------------------------------------------------------------------------

    def _through(self, item: Any) -> Any:
        """The item after every `handle_item`. Raises the RequestError that ends the stream."""
        door, call = self._door, self.call
        stages, since = call.stages, call.stamps[-1]
        for gate, hook, stages_inside in self._hooks:
            # While the hook runs, its own limit is the one that counts.
            set_field(call, "stages", stages_inside)
            call.stamps[-1] = door.monotonic()
            try:
                if gate.busy is None:
                    gate.busy = call
                else:
                    gate.enter(call)
                answer = hook(item, call)
            except BaseException as crash:
                gate.leave(call)
                if isinstance(crash, Interrupt) and crash.gate is not gate:
                    raise  # a deadline or a cancel that strikes inside a hook is not the module's fault
                self._fault(gate, crash)
                continue
            finally:
                set_field(call, "stages", stages)
                call.stamps[-1] = since
            gate.leave(call)
            if answer is not None:
                item = self._answered(gate, answer, item)
        return item

    def _answered(self, gate: Gate, answer: Any, item: Any) -> Any:
        kind = answer.__class__
        if kind is Continue:
            return item
        if kind is Reject:
            gate.rejected += 1
            self._note("rejected", f"{gate.name}: {answer.reason}: {answer.message}")
            raise self._door.rejection(gate, answer)
        if kind is not Change:
            self._fault(gate, TypeError(f"handle_item answered {answer!r}; expected one of its answers"))
            return item
        try:
            changed = self._check(answer.item)
        except ValidationError as failure:
            self._fault(gate, self._door.misfit(gate, failure))
            return item
        gate.changed += 1
        return changed

    def _fault(self, gate: Gate, crash: BaseException) -> None:
        self._door.module_fault(self.call, gate, crash, noted=len(self.call.notes or ()) < NOTED)

    def _note(self, what: str, detail: Any) -> None:
        self._door.note(self.call, what, detail)

    # ---- the end ----------------------------------------------------------------------------------------------------------

    def close(self, reason: RequestError | None = None) -> None:
        """End it: the generator cleans up before this returns. A second time nothing happens.

        Where another greenlet reads it, that one is interrupted and gets the error; this does not wait for it.
        """
        if self.ended:
            return
        if get_ident() != self._door.outside.thread:
            self._door.outside.crossing(self.close, reason)
        elif self._attached is getcurrent():
            self._end(reason, "closed")
        elif self._attached is None:
            self._end_alone(reason)
        elif not isinstance(self.call.interrupt, Cancelled):
            self._door.interrupt(self.call, reason or Cancelled("the stream was closed"))

    def _end_alone(self, reason: RequestError | None) -> None:
        self.attach()
        try:
            self._end(reason, "closed")
        finally:
            self.detach()

    def close_soon(self, reason: RequestError | None = None) -> None:
        """The same for who can't wait while the generator cleans up."""
        if not self.ended and not self._closing:
            self._closing = self._attached is None
            spawn(self.close, reason)

    def forsake(self) -> None:
        """Nobody can read it any more, says the garbage collection: in the midst of anything, in any thread."""
        if not self.ended and not self._closing:
            self._door.post(self.close_soon)

    def look(self, now: float) -> None:
        """The sweeper's: end it if its time is over and nobody is there to be interrupted."""
        if self.is_idle and now > self.call.deadline:
            self.close_soon(self.overdue(now))

    def overdue(self, now: float) -> RequestError:
        """The error of a stream whose deadline has passed."""
        name = self.call.capability
        if self.ended:
            return Timeout(f"{name}: it took more than {self._door.ending:.3g} s to clean up")
        if self._ends_at is not None and now >= self._ends_at:
            whole = self._ends_at - self.call.stamps[0]
            return Timeout(
                f"{name}: the stream was not over within {whole:.3g} s; {self.count} items were given"
            )
        if self._resting:
            return Timeout(f"{name}: nobody asked for the next item within {self._door.patience:.3g} s")
        return Timeout(f"{name}: no item within {self._limit:.3g} s; {self.count} were given")

    def _failed(self, failure: BaseException) -> BaseException:
        """End it because of what was raised. Returns what the reader gets."""
        door, call = self._door, self.call
        given: BaseException | None = None
        local = call.session.door == "local" and call.parent is None
        if isinstance(failure, RequestError):
            error: RequestError = failure
        elif isinstance(failure, Interrupt) and failure.call is call:
            error = failure.error
        elif isinstance(failure, Interrupt) or (local and isinstance(failure, FOREIGN)):
            error = Cancelled("who read it was ended")
            given = failure
        else:
            error = door.crashed(call, failure)
        self._end(error, error.code)
        return error if given is None else given

    def _end(self, error: RequestError | None, reason: str) -> None:
        """The one end of every stream, in the greenlet that is attached."""
        if self.ended:
            return
        door, call = self._door, self.call
        self.ended = True
        self.error = error
        self.reason = reason if error is None else error.code
        door.forget_interrupt(call)
        set_field(call, "deadline", door.monotonic() + door.ending)
        close = getattr(self._items, "close", None)
        try:
            door.end_owned(call)
            if close is not None:
                close()
        except BaseException as failure:
            outside = isinstance(failure, Interrupt) and failure.call is not call
            local = call.session.door == "local" and call.parent is None
            if outside or (local and isinstance(failure, FOREIGN)):
                raise
            self._unclean(failure.error if isinstance(failure, Interrupt) else failure)
        finally:
            self._head, self._items = ABSENT, iter(())
            door.stream_ended(self)

    def _unclean(self, failure: BaseException) -> None:
        """The generator failed while it cleaned up: the stream has its end already, so that is told to its author."""
        call = self.call
        call.route.registered.last_error = f"at the end of its stream: {described(failure)}"
        self._note("crashed", f"at its end: {described(failure)}")
        self._door.log.error(
            "stream did not clean up", trace=call.id[:8], capability=call.capability, exc_info=failure
        )

    def release(self) -> None:
        """Give up the place among the requests that the node takes at once."""
        if self._admitted:
            self._admitted = False
            if self._attached is None or self._outer is not None:  # else it goes with the greenlet
                self._door.admission.unreserve()
                self._door.admission.leave()
