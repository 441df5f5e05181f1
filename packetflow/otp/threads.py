"""Which native thread this is, also where gevent has patched `threading`, whose idents are greenlets' then."""

from __future__ import annotations

from collections.abc import Callable

from gevent.monkey import get_original

get_ident: Callable[[], int] = get_original("_thread", "get_ident")
