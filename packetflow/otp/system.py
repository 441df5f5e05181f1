"""System: where names live. Several in one process are strangers to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol, overload
from weakref import WeakValueDictionary

from gevent.hub import get_hub

from packetflow.otp import calls, requests, signals
from packetflow.otp.clock import Clock
from packetflow.otp.errors import NameTaken, NoProcess, SpecError
from packetflow.otp.process import DEAD, Nobody, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.scheduler import Scheduler
from packetflow.otp.signals import Monitor
from packetflow.otp.threads import get_ident, run_in_thread_of
from packetflow.otp.timers import Timer
from packetflow.otp.via import Name, Target, Via

if TYPE_CHECKING:
    from packetflow.otp.pools.threads import ThreadPool
    from packetflow.otp.ref import M, R
    from packetflow.otp.registry.registry import Registry


class Remote(Protocol):
    """How other nodes are reached. Set `System.remote` to one; until then they are nobody."""

    def reaches(self, ref: Ref) -> bool:
        """Whether this ref is of a node that can be asked."""

    def call(self, ref: Ref, message: Any, timeout: float | None) -> Any:
        """As `call`."""

    def tell(self, ref: Ref, kind: str, message: Any) -> None:
        """As `cast` and `send`: `kind` says which."""


class System:
    """A world of actors in this thread: its names, its clock, its scheduler.

    name: the node part of its refs. incarnation: a number that no earlier start of this node had; random by default.
    It belongs to the thread that made it; `from_thread` is the way in from others.
    """

    def __init__(
        self, name: str = "local", clock: Clock | None = None, incarnation: int | None = None
    ) -> None:
        self.name = name
        # A simulated loop brings its own.
        loop = get_hub().loop
        make_scheduler: type[Scheduler] = getattr(loop, "scheduler_class", Scheduler)
        self.clock = clock or Clock()
        chance = getattr(loop, "chance", SystemRandom)
        self.incarnation = chance().getrandbits(32) if incarnation is None else incarnation
        self.remote: Remote | None = None
        self.registries: WeakValueDictionary[str, Registry] = WeakValueDictionary()  # see Registry.named
        self._late = self._send_late  # bound once, for every timer
        self.scheduler = make_scheduler(self, self.clock.monotonic)
        self._threads: ThreadPool | None = None

    # ---- names ---------------------------------------------------------------------------------------------------------

    def whereis(self, name: Name) -> Ref | None:
        """Who holds a name; None if nobody does. Never somebody dead."""
        if isinstance(name, Via):
            return name.whereis(self)
        holder = self.scheduler.names.get(name)
        return None if holder is None else holder.ref

    def register(self, name: str, ref: Ref) -> None:
        """Gives a process a name; it loses it when it dies. Raises NameTaken, NoProcess, SpecError for what is no name;
        ValueError if it has another."""
        process = ref._process
        if not isinstance(name, str) or not name:
            raise SpecError("name", name, "a text that is not empty")
        holder = self.scheduler.names.get(name)
        if holder is not None:
            raise NameTaken(name, holder.ref)
        if process.current is DEAD or process.scheduler is not self.scheduler:
            raise NoProcess(ref)
        if process.name is not None:
            raise ValueError(f"{ref} has the name {process.name!r} already")
        process.name = name
        self.scheduler.names[name] = process

    def unregister(self, name: str) -> None:
        """Takes a name back. Raises NoProcess if nobody holds it."""
        holder = self.scheduler.names.pop(name, None)
        if holder is None:
            raise NoProcess(name)
        holder.name = None

    def names(self) -> list[str]:
        """All names that are held, sorted."""
        return sorted(self.scheduler.names)

    def find(self, target: Target) -> Ref:
        """The ref for a ref or a name. Raises NoProcess if nobody holds the name."""
        if isinstance(target, Ref):
            return target
        ref = self.whereis(target)
        if ref is None:
            raise NoProcess(target)
        return ref

    def ref_from(self, key: tuple[str, int, int]) -> Ref:
        """The ref that `Ref.key()` described, which may be dead or on another node by now."""
        node, incarnation, number = key
        if node == self.name and incarnation == self.incarnation:
            process = self.scheduler.processes.get(number)
            if process is not None:
                return process.ref
        nobody = Nobody.__new__(Nobody)
        ref = Ref(node, number, incarnation, nobody)
        nobody.__init__(self.scheduler, ref)  # type: ignore[misc]
        return ref

    # ---- asking and telling, by name or ref ----------------------------------------------------------------------------

    @overload
    def call(self, target: Ref[M, R], message: M, timeout: float | None = ...) -> R: ...

    @overload
    def call(self, target: str | Via, message: Any, timeout: float | None = ...) -> Any: ...

    def call(self, target: Target, message: Any, timeout: float | None = 5.0) -> Any:
        """`call`, also by name. Raises NoProcess at once if nobody holds it, and else what `call` raises."""
        kind = target.__class__
        if kind is str:
            holder = self.scheduler.names.get(target)  # type: ignore[arg-type]
            if holder is None:
                raise NoProcess(target)
            return calls.call(holder.ref, message, timeout)
        if kind is not Ref and isinstance(target, Via):
            ref = target.whereis(self)
            if ref is None:
                raise NoProcess(target)
            return calls.call(ref, message, timeout)
        return calls.call(target, message, timeout)  # type: ignore[arg-type]

    @overload
    def cast(self, target: Ref[M, Any], message: M) -> None: ...

    @overload
    def cast(self, target: str | Via, message: Any) -> None: ...

    def cast(self, target: Target, message: Any) -> None:
        """`cast`, also by name; nobody of that name: nothing happens."""
        ref = target if isinstance(target, Ref) else self.whereis(target)
        if ref is not None:
            calls.cast(ref, message)

    @overload
    def send(self, target: Ref[M, Any], message: M, block: bool = ...) -> None: ...

    @overload
    def send(self, target: str | Via, message: Any, block: bool = ...) -> None: ...

    def send(self, target: Target, message: Any, block: bool = False) -> None:
        """`send`, also by name; nobody of that name: nothing happens."""
        ref = target if isinstance(target, Ref) else self.whereis(target)
        if ref is not None:
            calls.send(ref, message, block)

    def send_request(self, target: Target, message: Any, *, as_message: bool = False) -> requests.RequestId:
        """`send_request`, also by name; nobody of that name: the response is NoProcess."""
        if isinstance(target, Ref):
            return requests.send_request(target, message, as_message=as_message)
        ref = self.whereis(target)
        if ref is None:
            nobody = self.ref_from((self.name, self.incarnation, 0))._process
            return requests.request_failed(target, NoProcess(target), nobody)
        return requests.send_request(ref, message, as_message=as_message)

    def multi_call(
        self, names: Iterable[str], message: Any, timeout: float | None = 5.0
    ) -> tuple[dict[str, Any], list[str]]:
        """Calls several servers at once, by their names. Returns the answers by name, and the names of those that gave
        none within `timeout` seconds, because nobody holds the name or because they died or were too slow."""
        wanted = list(dict.fromkeys(names))
        held = {name: holder.ref for name in wanted if (holder := self.scheduler.names.get(name)) is not None}
        answers, _ = requests.multi_call(held.values(), message, timeout)
        replies = {name: answers[ref] for name, ref in held.items() if ref in answers}
        return replies, [name for name in wanted if name not in replies]

    def abcast(self, names: Iterable[str], message: Any) -> None:
        """`cast` to several servers by their names. Never waits, never fails."""
        for name in names:
            self.cast(name, message)

    def send_after(self, delay: float, target: Target, message: Any) -> Timer:
        """Sends a message in `delay` seconds, to whoever holds the name then. `Timer.cancel()` tells the time left.

        Raises SpecError for a delay that is no finite number from 0.
        """
        scheduler = self.scheduler
        if get_ident() != scheduler.thread:
            scheduler.check_thread()
        try:
            known = 0.0 <= delay < 1e18
        except TypeError:
            known = False
        if known:
            return scheduler.timers.at(scheduler.monotonic() + delay, self._late, (target, message))
        raise SpecError("delay", delay, "a number of seconds from 0")

    def _send_late(self, late: tuple[Target, Any]) -> None:
        target, message = late
        self.send(target, message)

    def monitor(self, target: Target) -> Monitor:
        """`monitor`, also by name; nobody of that name: a Down at once, with "noproc"."""
        if isinstance(target, Ref):
            return signals.monitor(target)
        ref = self.whereis(target)
        if ref is not None:
            return signals.monitor(ref)
        watch = Monitor(target, None, signals.current_process())
        watch.tell("noproc")
        return watch

    def stop_process(self, target: Target, reason: object = "normal", timeout: float | None = None) -> None:
        """`stop`, also by name."""
        calls.stop(self.find(target), reason, timeout)

    # ---- offloaded work --------------------------------------------------------------------------------------------------

    @property
    def threads(self) -> ThreadPool:
        """The pool that `offload` uses where none is named: eight threads, made when first asked for, closed by `shutdown`."""
        if self._threads is None:
            from packetflow.otp.pools.threads import ThreadPool

            self.scheduler.check_thread()
            self._threads = ThreadPool(name=f"the threads of {self.name}")
        return self._threads

    # ---- the whole -----------------------------------------------------------------------------------------------------

    def processes(self) -> list[Ref]:
        """Everybody who lives here, in the order of their start."""
        return [process.ref for process in self.scheduler.processes.values()]

    def lingering(self) -> list[tuple[Ref, str]]:
        """Who was killed and whose greenlet has not ended yet, with the line where it is."""
        return [(process.ref, _line(worker)) for worker, process in self.scheduler.lingering.items()]

    def shutdown(self, timeout: float = 5.0) -> None:
        """Stops everybody, the last started first, each in order; who takes longer than `timeout` seconds is killed."""
        self.scheduler.check_may_wait()
        for process in reversed(list(self.scheduler.processes.values())):
            if not _is_child(process):
                calls.stop_or_kill(process, "shutdown", timeout)
        for process in reversed(list(self.scheduler.processes.values())):
            calls.stop_or_kill(process, "shutdown", timeout)
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.close(timeout)
        self.scheduler.close()

    def from_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Runs a function in a greenlet of this system's thread, and waits for it in the calling one.

        For native threads, such as `system.from_thread(system.stop_process, "counter")`; `call`, `cast` and `send` need no
        help. Raises what the function raises, ThreadGone if the system's thread has ended. Context variables go along.
        Where the calling thread runs greenlets, the others of them go on. In the system's own thread it is an ordinary call.
        """
        if self.scheduler.thread == get_ident():
            return function(*arguments)
        return run_in_thread_of(self.scheduler, function, arguments)

    def __repr__(self) -> str:
        return f"<System {self.name} with {len(self.scheduler.processes)} processes>"


def _line(worker: Worker) -> str:
    frame = worker.gr_frame
    # The innermost frames are gevent's waiting; the one of interest is the last outside of it.
    while frame is not None and frame.f_back is not None and "gevent" in frame.f_globals.get("__name__", ""):
        frame = frame.f_back
    if frame is None:
        return "not begun"
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"


def _is_child(process: Process) -> bool:
    return process.parent is not None and process.parent.current is not DEAD
