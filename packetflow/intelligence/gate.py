"""The gate in front of a module: who may enter a hook now, what becomes of a request when the module is down, and its counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Literal

from gevent.hub import Waiter, get_hub

from packetflow.capabilities.context import Call
from packetflow.intelligence.answers import Reject
from packetflow.intelligence.module import HOOKS, Module, overrides

OnError = Literal["skip", "fail", "reject"]
RUNNING, STARTING, RESTARTING, QUARANTINED, DISABLED = (
    "running",
    "starting",
    "restarting",
    "quarantined",
    "disabled",
)

REQUEST, PLAN, RESPONSE, ITEM = HOOKS


def _no_loop(coroutine: Any) -> Any:
    coroutine.close()
    raise RuntimeError("there is no asyncio loop behind this gate")


class Gate:
    """A module's place in the chain. Immutable settings, the live instance, and who is inside.

    The fast way in is written out in the door: `busy` is free, take it. Only who comes while a hook is blocked gets to
    `enter`. limit: how many may be inside at once; 0 means any number.
    """

    __slots__ = (
        "busy",
        "changed",
        "errors",
        "handled",
        "last_error",
        "limit",
        "match",
        "module",
        "name",
        "on_error",
        "on_fault",
        "order",
        "priority",
        "queue",
        "redacts",
        "rejected",
        "response_priority",
        "run_async",
        "running",
        "scope",
        "sees_items",
        "status",
        "timeout",
    )

    def __init__(
        self,
        name: str,
        cls: type[Module],
        *,
        match: Any,
        priority: int = 500,
        response_priority: int | None = None,
        scope: str = "all",
        timeout: float = 1.0,
        on_error: OnError | None = None,
        limit: int = 1,
    ) -> None:
        self.name = name
        self.priority = priority
        self.response_priority = priority if response_priority is None else response_priority
        self.match = match
        self.scope = scope
        self.timeout = timeout
        # A module that only watches may be passed over; one that decides must not fail open (design ruling 10).
        watches = not overrides(cls, REQUEST) and not overrides(cls, PLAN)
        self.on_error: OnError = on_error or ("skip" if watches else "fail")
        self.limit = limit
        self.redacts = cls.redacts
        self.sees_items = overrides(cls, ITEM)
        self.order = 0
        self.module: Module | None = None
        self.status = STARTING
        self.on_fault: Callable[[Gate, str, bool], None] | None = None
        self.run_async: Callable[[Any], Any] = _no_loop
        self.busy: Call | None = None
        self.running = 0
        self.queue: deque[tuple[Call, Waiter[None]]] | None = None
        self.handled = self.changed = self.rejected = self.errors = 0
        self.last_error: str | None = None

    # ---- entering and leaving: nobody else runs between two statements unless one of them waits -------------------------

    def enter(self, call: Call) -> None:
        """The slow way in: waits in order until there is room. A request that this module makes itself passes at once."""
        if self._is_inside(call) or self.limit == 0 or self.running + 1 < self.limit:
            self.running += 1
            return
        if self.queue is None:
            self.queue = deque()
        waiter: Waiter[None] = Waiter()
        place = (call, waiter)
        self.queue.append(place)
        try:
            waiter.get()
        except BaseException:
            if self.queue is not None and place in self.queue:  # else it was let in already
                self.queue.remove(place)
                self.running += 1  # the door's `leave` after a fault takes it back
            raise

    def _is_inside(self, call: Call) -> bool:
        up: Call | None = call.parent
        while up is not None:
            if up is self.busy:
                return True
            up = up.parent
        return False

    def leave(self, call: Call) -> None:
        """The slow way out: hands the place to who waits longest."""
        if self.busy is call:
            self.busy = None
        else:
            self.running -= 1
        loop = get_hub().loop
        while self.queue and (self.busy is None or self.running + 1 < self.limit):
            heir, waiter = self.queue.popleft()
            if self.busy is None:
                self.busy = heir
            else:
                self.running += 1
            loop.run_callback(waiter.switch, None)
        if not self.queue:
            self.queue = None

    def is_waiting(self, call: Call) -> bool:
        """Whether this call waits to enter."""
        return self.queue is not None and any(waiting is call for waiting, _ in self.queue)

    # ---- what the chain compiles into a route ------------------------------------------------------------------------

    def hook(self, name: str) -> Callable[[Any, Any], Any] | None:
        """The bound hook, or what stands in for it while the module is down; None if the module has no such hook."""
        if self.module is not None:
            if not overrides(type(self.module), name):
                return None
            hook: Callable[[Any, Any], Any] = getattr(self.module, name)
            return self._awaited(hook) if iscoroutinefunction(hook) else hook
        if self.on_error == "skip" or name == RESPONSE or (name == ITEM and not self.sees_items):
            return None
        return self._refuse

    def _awaited(self, hook: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """An `async def` hook, run on the node's asyncio loop while the request's greenlet waits."""
        run = self.run_async

        def waits(thing: Any, context: Any) -> Any:
            return run(hook(thing, context))

        return waits

    def _refuse(self, thing: Any, context: Any) -> Reject:
        code = "unavailable" if self.on_error == "fail" else "rejected"
        return Reject(self.status, f"module {self.name} is {self.status}", code=code)

    def __repr__(self) -> str:
        return f"<Gate {self.name} {self.priority} {self.status}>"
