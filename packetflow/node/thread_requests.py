"""Requests that blocking capabilities make from their threads: passed in the node's own thread, and ended with the request
on whose behalf they are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from packetflow.capabilities.context import Context
from packetflow.otp.threads import get_ident
from packetflow.wire.errors import Cancelled
from packetflow.wire.values import Metadata, Response

if TYPE_CHECKING:
    from packetflow.node.door import Door


def _no_way(function: Callable[..., Any], *arguments: Any) -> Any:
    raise RuntimeError("this door has no node, so a request can't be made from another thread")


class ThreadRequests:
    """Of one door. crossing: runs a function in a greenlet of the node's thread and waits for it in the calling one."""

    __slots__ = ("_asking", "_door", "crossing", "thread")

    def __init__(self, door: Door) -> None:
        self._door = door
        self._asking: dict[Context, set[greenlet]] = {}
        self.thread = get_ident()
        self.crossing: Callable[..., Any] = _no_way

    def request(
        self, parent: Context, capability: str, payload: Mapping[str, Any] | None, metadata: Metadata
    ) -> Response:
        """Pass a request, asked from another thread than the node's."""
        response: Response = self.crossing(self._here, parent, capability, payload, metadata)
        return response

    def _here(
        self, parent: Context, capability: str, payload: Mapping[str, Any] | None, metadata: Metadata
    ) -> Response:
        if parent.greenlet is None or parent.interrupt is not None:
            return Response(None, Cancelled(f"the request of {parent.capability} has ended"), None)
        me = getcurrent()
        asking = self._asking.setdefault(parent, set())
        asking.add(me)
        try:
            return self._door.request(capability, payload, parent.session, metadata, parent=parent)
        finally:
            asking.discard(me)
            if not asking:
                self._asking.pop(parent, None)

    def end(self, parent: Context) -> None:
        """Cancel what threads still ask on behalf of this request."""
        for waiting in list(self._asking.get(parent, ())):
            self._door.cancel(waiting, Cancelled(f"the request of {parent.capability} has ended"))
