"""PartitionSupervisor: the same child several times, each for its part of the keys (Elixir's `PartitionSupervisor`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from packetflow.otp.errors import NoProcess, SpecError, StartFailed
from packetflow.otp.process import DEAD, Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import GenServer, _scheduler
from packetflow.otp.start import start_process
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart, Strategy
from packetflow.otp.supervision.children import Child, ask, stop_children
from packetflow.otp.supervision.supervisor import Supervisor
from packetflow.otp.via import Name, Target, Via, locate

if TYPE_CHECKING:
    from packetflow.otp.system import System

Arguments = Callable[[tuple[Any, ...], int], tuple[Any, ...]]


class PartitionSupervisor(Supervisor):
    """Starts a child per partition; the child's id is its number, from 0. A key leads to one of them.

    A whole number leads to partition `abs(key) % partitions`, everything else there where its hash does: the same one as
    long as this program runs and the number of partitions stays. A restarted child keeps its partition.
    """

    _count = 0  # partitions to which keys lead
    _specs: Sequence[ChildSpec] = ()  # of every partition, also of those that were taken away

    # ---- starting and asking -------------------------------------------------------------------------------------------

    @classmethod
    def start(  # type: ignore[override]
        cls,
        child: ChildSpec | type[GenServer],
        *,
        partitions: int | None = None,
        with_arguments: Arguments | None = None,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        name: Name | None = None,
        system: System | None = None,
        timeout: float | None = None,
    ) -> Ref:
        """Starts one with its children, in the order of their partitions. Returns when all of them run.

        child: what each partition is, or a class that needs no arguments. partitions: how many, by default as many as there
        are processors. with_arguments: called with the child's arguments and a partition, returns that one's arguments.
        The rest is as in Supervisor.start. Raises SpecError, StartFailed, NameTaken.
        """
        arguments = _partitioned(child, partitions, with_arguments)
        options = cls._given_options(strategy, max_restarts, max_seconds)
        ref = start_process(_scheduler(system), cls, arguments, options, name, timeout)
        assert ref is not None  # a supervisor never ignores
        return ref

    @classmethod
    def child(  # type: ignore[override]
        cls,
        child: ChildSpec | type[GenServer],
        *,
        partitions: int | None = None,
        with_arguments: Arguments | None = None,
        id: Hashable = None,
        name: Name | None = None,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        significant: bool = False,
        start_timeout: float | None = None,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a partition supervisor below another supervisor; its id is its name. Raises SpecError."""
        return ChildSpec(
            cls,
            *_partitioned(child, partitions, with_arguments),
            id=id,
            name=name,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            start_timeout=start_timeout,
            backoff=backoff,
            options=cls._given_options(strategy, max_restarts, max_seconds),
        )

    @classmethod
    def _given_options(
        cls, strategy: Strategy | None, max_restarts: int | None, max_seconds: float | None
    ) -> dict[str, Any]:
        options = {"strategy": strategy, "max_restarts": max_restarts, "max_seconds": max_seconds}
        given = {option: value for option, value in options.items() if value is not None}
        cls._options(given)
        return given

    @staticmethod
    def ref_for(supervisor: Target, key: Any) -> Ref:
        """The child to which a key leads, read in place. Raises NoProcess if it does not run now, or nothing does."""
        at = locate(supervisor)
        ref = _routed(at, key)
        if ref is None:
            raise NoProcess(PartitionVia(at, key))
        return ref

    @staticmethod
    def via(supervisor: Target, key: Any) -> PartitionVia:
        """A name for the child to which a key leads: `system.call(PartitionSupervisor.via("pools", key), message)`.

        It is resolved anew each time; where supervisor is a name, it may be restarted meanwhile. It can't be given to a
        process that starts.
        """
        return PartitionVia(supervisor, key)

    @staticmethod
    def partitions(supervisor: Target) -> int:
        """How many partitions there are, read in place. Raises NoProcess."""
        at = locate(supervisor)
        server = at._process.server
        if not isinstance(server, PartitionSupervisor):
            raise NoProcess(at) if at._process.current is DEAD else _no_partitions(at)
        return server._count

    @staticmethod
    def resize(supervisor: Target, partitions: int, timeout: float | None = None) -> int:
        """Stops the last partitions, or starts them again, so that there are so many. Returns how many there were.

        Keys lead elsewhere then. Raises SpecError below 0 or above the number it was started with; StartFailed, and then
        nothing has changed.
        """
        return ask(supervisor, ("resize", partitions), timeout)  # type: ignore[no-any-return]

    # ---- the life of the supervisor -------------------------------------------------------------------------------------

    def children(
        self,
        child: ChildSpec | type[GenServer],
        partitions: int | None = None,
        with_arguments: Arguments | None = None,
    ) -> Iterable[ChildSpec]:
        """The specification of each partition."""
        child, partitions, with_arguments = _partitioned(child, partitions, with_arguments)
        self._specs = [_specify(child, partition, with_arguments) for partition in range(partitions)]
        self._count = partitions
        return self._specs

    def route(self, key: Any) -> Process | None:
        """The process to which a key leads, if it lives."""
        count = self._count
        if not count:
            return None
        child = self._children.get((abs(key) if isinstance(key, int) else hash(key)) % count)
        process = None if child is None else child.process
        return None if process is None or process.current is DEAD else process

    def _start_one(self, child: Child) -> None:
        if child.spec.id < self._count:  # type: ignore[operator]
            super()._start_one(child)

    def _on_start_child(self, spec: ChildSpec) -> Ref | None:
        raise SpecError("child", spec, "none: a partition supervisor has its partitions; resize it")

    def _on_restart_child(self, child: Hashable) -> Ref | None:
        if isinstance(child, int) and self._count <= child < len(self._specs):
            raise SpecError("child", child, f"a partition below {self._count}; resize it to have more")
        return super()._on_restart_child(child)

    def _on_delete_child(self, child: Hashable) -> None:
        raise SpecError("child", child, "none: a partition supervisor keeps its partitions; resize it")

    def _on_upgrade(self, specs: object, given: dict[str, Any]) -> None:
        if specs is not None:
            raise SpecError("children", specs, "none: a partition supervisor has its partitions; resize it")
        super()._on_upgrade(specs, given)

    def _on_resize(self, partitions: Any) -> int:
        most = len(self._specs)
        if isinstance(partitions, bool) or not isinstance(partitions, int) or not 0 <= partitions <= most:
            raise SpecError("partitions", partitions, f"a whole number from 0 to {most}")
        before = self._count
        if partitions < before:
            self._count = partitions  # no key leads to one that is being stopped
            leaving = [self._children.get(each) for each in reversed(range(partitions, before))]
            stop_children(self.ref, [child for child in leaving if child is not None], together=False)
        elif partitions > before:
            self._grow(before, partitions)
        return before

    def _grow(self, before: int, partitions: int) -> None:
        for each in range(before, partitions):
            if each not in self._children:  # it was temporary, and has ended
                self._children[each] = Child(self._specs[each])
        self._children = dict(sorted(self._children.items()))
        fresh = [self._children[each] for each in range(before, partitions)]
        for child in fresh:
            try:
                super()._start_one(child)
            except StartFailed:
                stop_children(self.ref, reversed(fresh), together=False)
                raise
        self._count = partitions


class PartitionVia(Via):
    """A key of a partition supervisor as a name."""

    __slots__ = ("key", "supervisor")

    def __init__(self, supervisor: Target, key: Any) -> None:
        hash(key)  # better here than when it is used
        self.supervisor = supervisor
        self.key = key

    def whereis(self, system: System | None) -> Ref | None:
        """The child to which the key leads."""
        at = self.supervisor
        try:
            ref = at if isinstance(at, Ref) else locate(at) if system is None else system.find(at)
        except NoProcess:
            return None
        return _routed(ref, self.key)

    def take(self, process: Process) -> None:
        """Refuses: who belongs to a partition is its supervisor's to say."""
        raise SpecError(
            "name", self, "a text, or what a registry's via(key) gives; this one is for calling only"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartitionVia):
            return NotImplemented
        return bool(self.supervisor == other.supervisor and self.key == other.key)

    def __hash__(self) -> int:
        return hash((self.supervisor, self.key))

    def __repr__(self) -> str:
        return f"{self.supervisor}[{self.key!r}]"


def _routed(supervisor: Ref, key: Any) -> Ref | None:
    server = supervisor._process.server
    if isinstance(server, PartitionSupervisor):
        process = server.route(key)
        return None if process is None else process.ref
    if supervisor._process.current is DEAD:
        return None
    raise _no_partitions(supervisor)


def _no_partitions(ref: Ref) -> SpecError:
    return SpecError("supervisor", ref, "a PartitionSupervisor")


def _partitioned(child: Any, partitions: Any, with_arguments: Any) -> tuple[ChildSpec, int, Arguments | None]:
    """The arguments of a partition supervisor's `init`. Raises SpecError."""
    if isinstance(child, type) and issubclass(child, GenServer):
        child = ChildSpec(child)
    if not isinstance(child, ChildSpec):
        raise SpecError("child", child, "a ChildSpec, or a class that needs no arguments")
    if child.name is not None:
        raise SpecError("child.name", child.name, "None: the partitions can't share one; reach them by a key")
    if child.significant:
        raise SpecError("child.significant", True, "False: a partition supervisor has no auto_shutdown")
    if partitions is None:
        partitions = os.cpu_count() or 1
    if isinstance(partitions, bool) or not isinstance(partitions, int) or partitions < 1:
        raise SpecError("partitions", partitions, "a whole number from 1, or None for one a processor")
    if with_arguments is not None and not callable(with_arguments):
        raise SpecError("with_arguments", with_arguments, "a function of (arguments, partition), or None")
    return child, partitions, with_arguments


def _specify(child: ChildSpec, partition: int, with_arguments: Arguments | None) -> ChildSpec:
    arguments = child.arguments
    if with_arguments is not None:
        given = with_arguments(arguments, partition)
        if not isinstance(given, tuple | list):
            raise SpecError("with_arguments", given, "a function that returns a tuple of arguments")
        arguments = tuple(given)
    return child.numbered(partition, arguments)
