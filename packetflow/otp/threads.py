"""Which native thread this is, also where gevent has patched `threading`, whose idents are greenlets' then."""

from __future__ import annotations

from collections.abc import Callable

from gevent._hub_local import get_hub_if_exists
from gevent.monkey import get_original

get_ident: Callable[[], int] = get_original("_thread", "get_ident")


def destroy_own_hub() -> None:
    """At the end of a native thread of ours: destroys the hub that somebody's use of gevent may have made for it."""
    hub = get_hub_if_exists()
    if hub is not None:
        hub.destroy(destroy_loop=True)
