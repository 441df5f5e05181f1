"""PoolServer: a pool under a supervisor, so that it ends with the tree; and how `offload` finds it by name."""

from __future__ import annotations

from typing import Any

import gevent

from packetflow.otp.errors import NoProcess, SpecError
from packetflow.otp.pools.pool import Pool
from packetflow.otp.process import Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer
from packetflow.otp.signals import monitor


class PoolServer(GenServer):
    """Owns a pool: `ChildSpec(PoolServer, ProcessPool, name="cpu", options={"size": 2})`.

    Started with the kind of pool and its options. `offload(function, pool="cpu")` finds it; asked by a call for anything it
    answers with the pool's statistics. The pool is closed when it stops, and also when it is killed.
    """

    def init(self, kind: type[Pool], **options: Any) -> None:
        """Makes the pool."""
        if not (isinstance(kind, type) and issubclass(kind, Pool)) or kind is Pool:
            raise SpecError("kind", kind, "ThreadPool or ProcessPool")
        options.setdefault("name", self._process.name)
        self.pool = kind(**options)
        gevent.spawn(_close_after, self.ref, self.pool)

    def handle_call(self, request: Any, caller: Any) -> Any:
        """The pool's statistics."""
        return self.pool.statistics()

    def terminate(self, reason: object) -> None:
        """Closes the pool; what runs has four seconds, less than a supervisor gives by default."""
        self.pool.close(4.0)


def _close_after(ref: Ref, pool: Pool) -> None:
    monitor(ref).wait()
    pool.close(0.0)


def pool_of(owner: Ref | str, asker: Process | None) -> Pool:
    """The pool that a PoolServer owns. Raises NoProcess, or SpecError if it is none."""
    if isinstance(owner, str):
        found = None if asker is None else asker.scheduler.system.whereis(owner)
        if found is None:
            raise NoProcess(owner)
        owner = found
    server = owner._process.server
    if server is None:
        raise NoProcess(owner)
    if not isinstance(server, PoolServer):
        raise SpecError("pool", owner, "a pool, or the ref or name of a PoolServer")
    return server.pool
