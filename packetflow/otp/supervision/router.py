"""Router: a supervised pool of equal workers, and which of them gets a message."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, ClassVar, Literal

from packetflow.otp import calls
from packetflow.otp.errors import NoProcess, SpecError, StartFailed
from packetflow.otp.process import DEAD, Process
from packetflow.otp.ref import Ref
from packetflow.otp.supervision.child_spec import ChildSpec
from packetflow.otp.supervision.children import Child, Refusal, ask, stop_children
from packetflow.otp.supervision.supervisor import Supervisor

Routing = Literal["round_robin", "least_busy", "hash"]
ROUTINGS = ("round_robin", "least_busy", "hash")


class Router(Supervisor):
    """A supervisor of `size` equal workers: `call(Router.route(pool), message)` asks one, `Router.broadcast` tells all.

    routing: "round_robin", in turn; "least_busy", whose mailbox is the shortest, in turn among equals; "hash", the same
    worker for the same key, also after a restart of either, and for most keys after a resize too (jump consistent hashing,
    Lamping and Veach 2014). Workers that are down are passed over; by hash, their messages fail instead.

    The choice is made by the caller: the router's own process sees no message. Workers are restarted one for one. A subclass
    sets the options as class attributes and defines `worker()`; otherwise `Router.start(spec, size=4)`.
    """

    size: ClassVar[int] = 4
    routing: ClassVar[Routing] = "round_robin"

    # ---- starting ---------------------------------------------------------------------------------------------------------

    @classmethod
    def start(  # type: ignore[override]
        cls,
        worker: ChildSpec | None = None,
        *,
        size: int | None = None,
        routing: Routing | None = None,
        **options: Any,
    ) -> Ref:
        """Starts the pool; `worker` is the spec of each. Options as in Supervisor.start, but strategy. Raises SpecError,
        StartFailed, NameTaken."""
        return super().start(cls._plan(worker, size, routing), **options)

    @classmethod
    def child(  # type: ignore[override]
        cls,
        worker: ChildSpec | None = None,
        *,
        size: int | None = None,
        routing: Routing | None = None,
        **options: Any,
    ) -> ChildSpec:
        """The ChildSpec of a pool below another supervisor. Options as in Supervisor.child, but strategy."""
        return super().child(cls._plan(worker, size, routing), **options)

    @classmethod
    def _plan(cls, worker: Any, size: Any, routing: Any) -> tuple[ChildSpec, int, Routing]:
        worker = cls.worker() if worker is None else worker
        size = cls.size if size is None else size
        routing = cls.routing if routing is None else routing
        if not isinstance(worker, ChildSpec):
            raise SpecError("worker", worker, "a ChildSpec")
        if worker.name is not None:
            raise SpecError("worker.name", worker.name, "None: several can't have one name")
        if worker.restart == "temporary" or worker.significant:
            raise SpecError(
                "worker.restart", worker.restart, '"permanent" or "transient", and not significant'
            )
        if routing not in ROUTINGS:
            raise SpecError("routing", routing, '"round_robin", "least_busy" or "hash"')
        return worker, _check_size(size), routing

    @classmethod
    def worker(cls) -> ChildSpec:
        """The spec of each worker; a subclass gives it."""
        raise SpecError("worker", None, "a ChildSpec, or a subclass that defines worker()")

    def children(self, *arguments: Any) -> Iterable[ChildSpec]:
        """As many workers as there should be, with the numbers from 0 as their ids."""
        ((worker, size, routing),) = arguments
        self._worker: ChildSpec = worker
        self._routing: Routing = routing
        self._pool: list[Child] = []
        self._next = 0
        return [worker.numbered(number, worker.arguments) for number in range(size)]

    def init(self, *arguments: Any, **options: Any) -> Any:
        """Starts the workers."""
        super().init(*arguments, **options)
        self._pool = self.list_children()

    def handle_call(self, request: Any, caller: Any) -> Any:
        """As a supervisor; that nobody runs is told to who asks from another node."""
        try:
            return super().handle_call(request, caller)
        except NoProcess as error:
            return Refusal(error)

    # ---- sending ----------------------------------------------------------------------------------------------------------

    @staticmethod
    def broadcast(pool: Ref, message: Any) -> int:
        """`cast` to every worker that runs. Returns to how many."""
        workers = Router.workers(pool)
        for worker in workers:
            calls.cast(worker, message)
        return len(workers)

    @staticmethod
    def route(pool: Ref, key: str | bytes | int | None = None) -> Ref:
        """Whose turn it is: the worker for the next message, with this key for "hash". Send it one, and ask again for the next.

        Raises NoProcess if no worker runs, or with "hash" the key's own does not; SpecError for a key that does not go with
        the routing.
        """
        router = _near(pool)
        if router is None:
            return ask(pool, ("route", key), 5.0)  # type: ignore[no-any-return]
        return router._on_route(key)

    @staticmethod
    def workers(pool: Ref) -> list[Ref]:
        """The workers that run, in the order of their numbers."""
        router = _near(pool)
        if router is None:
            return ask(pool, ("workers",), 5.0)  # type: ignore[no-any-return]
        return router._on_workers()

    @staticmethod
    def resize(pool: Ref, size: int, timeout: float | None = None) -> None:
        """Starts or stops workers until there are `size`; those with the highest numbers go, in order. Raises SpecError,
        StartFailed."""
        ask(pool, ("resize", _check_size(size)), timeout)

    # ---- in the router's own turn, or read by callers near it ----------------------------------------------------------------

    def _on_route(self, key: str | bytes | int | None) -> Ref:
        pool = self._pool
        if self._routing == "hash":
            child = pool[jump_hash(key, len(pool))]
            if child.process is None or child.process.current is DEAD:
                raise NoProcess(self.ref if child.process is None else child.process.ref)
            return child.process.ref
        if key is not None:
            raise SpecError("key", key, f'None with routing="{self._routing}"')
        best: Process | None = None
        least = 0
        size = len(pool)
        for offset in range(size):
            place = (self._next + offset) % size
            process = pool[place].process
            if process is None or process.current is DEAD:
                continue
            load = 0 if process.current is None else 1 + len(process.mailbox or ())
            if best is None or load < least:
                best, least, chosen = process, load, place
                if load == 0 or self._routing == "round_robin":
                    break
        if best is None:
            raise NoProcess(self.ref)
        self._next = (chosen + 1) % size
        return best.ref

    def _on_workers(self) -> list[Ref]:
        processes = [child.process for child in self._pool]
        return [process.ref for process in processes if process is not None and process.current is not DEAD]

    def _on_upgrade(self, specs: object, given: dict[str, Any]) -> None:
        if specs is not None:
            raise SpecError("children", specs, "none: a router has its workers; resize it")
        super()._on_upgrade(specs, given)

    def _on_resize(self, size: int) -> None:
        while len(self._pool) > size:
            child = self._pool.pop()  # nobody is routed to it from here on
            stop_children(self.ref, [child], together=False)
            self._children.pop(child.spec.id, None)
        while len(self._pool) < size:
            number = len(self._pool)
            try:
                self._on_start_child(self._worker.numbered(number, self._worker.arguments))
            except StartFailed:
                self._pool = self.list_children()
                raise
            self._pool.append(self._children[number])


def jump_hash(key: str | bytes | int | None, size: int) -> int:
    """The number from 0 to size-1 for a key: the same everywhere and always; from n to n+1, 1 of n+1 keys moves.

    Raises SpecError for a key that is no text, bytes or whole number.
    """
    if isinstance(key, bool) or not isinstance(key, str | bytes | int):
        raise SpecError("key", key, 'a text, bytes or a whole number with routing="hash"')
    raw = key if isinstance(key, bytes) else str(key).encode("utf-8", "surrogatepass")
    state = int.from_bytes(blake2b(raw, digest_size=8).digest(), "little")
    found, jump = -1, 0
    while jump < size:
        found = jump
        state = (state * 2862933555777941757 + 1) & 0xFFFFFFFFFFFFFFFF
        jump = int((found + 1) * (1 << 31) / ((state >> 33) + 1))
    return found


def _near(pool: Ref) -> Router | None:
    """The router itself, where it lives here. Raises NoProcess if it is dead, SpecError if it is none."""
    process = pool._process
    if process.current is DEAD:
        remote = process.scheduler.system.remote
        if remote is not None and remote.reaches(pool):
            return None
        raise NoProcess(pool)
    process.scheduler.check_thread()
    if not isinstance(process.server, Router):
        raise SpecError("pool", pool, "the ref of a Router")
    return process.server


def _check_size(size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise SpecError("size", size, "a whole number from 1")
    return size
