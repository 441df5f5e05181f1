"""TaskSupervisor: tasks below a supervisor, so that they end with it. Elixir's Task.Supervisor."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from greenlet import GreenletExit, getcurrent

from packetflow.otp.answers import Exited, Ok
from packetflow.otp.errors import TooManyChildren
from packetflow.otp.process import DEAD, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.signals import die
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart
from packetflow.otp.supervision.children import Child, ask
from packetflow.otp.supervision.dynamic_supervisor import DynamicSupervisor
from packetflow.otp.tasks.start import check_function, launch, name_of
from packetflow.otp.tasks.stream import stream
from packetflow.otp.tasks.task import Task, make, start_supervised
from packetflow.otp.tasks.waiting import USUAL

if TYPE_CHECKING:
    from packetflow.otp.system import System

V = TypeVar("V")
Shutdown = float | Literal["brutal_kill", "infinity"] | None


class TaskSupervisor(DynamicSupervisor):
    """A DynamicSupervisor whose children are tasks. When it ends they end, each in its own time.

    The asked-for task starts in the supervisor's turn: these methods wait for that, and raise what `call` raises, and
    TooManyChildren where `max_children` run already. What awaits, yields and shuts down is on the Task.
    """

    @classmethod
    def start(  # type: ignore[override]
        cls,
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        name: str | None = None,
        system: System | None = None,
    ) -> Ref:
        """Starts one without tasks. Raises SpecError, NameTaken."""
        return super().start(
            max_children=max_children,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            name=name,
            system=system,
        )

    @classmethod
    def child(  # type: ignore[override]
        cls,
        *,
        id: Hashable = None,
        name: str | None = None,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        restart: Restart = "permanent",
        shutdown: Shutdown = None,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a task supervisor below another supervisor. Raises SpecError."""
        return super().child(
            id=id,
            name=name,
            max_children=max_children,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            restart=restart,
            shutdown=shutdown,
            backoff=backoff,
        )

    @staticmethod
    def start_child(  # type: ignore[override]
        supervisor: Ref,
        function: Callable[..., Any],
        *arguments: Any,
        restart: Restart = "temporary",
        shutdown: Shutdown = None,
        backoff: Backoff | None = None,
    ) -> Ref:
        """Starts a task that nobody awaits, and starts it again as `restart` says. Returns its ref. Raises SpecError."""
        check_function(function)
        context = getcurrent().gr_context
        spec = ChildSpec(
            start_supervised,
            function,
            arguments,
            None if context is None else context.copy(),
            id=name_of(function),
            restart=restart,
            shutdown=shutdown,
            start_timeout=None,
            backoff=backoff,
        )
        return ask(supervisor, ("start_child", spec), None)  # type: ignore[no-any-return]

    @staticmethod
    def async_(
        supervisor: Ref, function: Callable[..., V], *arguments: Any, shutdown: Shutdown = None
    ) -> Task[V]:
        """`Task.async_` below the supervisor: linked with the calling actor, and ended with either."""
        return _begin(supervisor, function, arguments, True, shutdown)

    @staticmethod
    def async_nolink(
        supervisor: Ref, function: Callable[..., V], *arguments: Any, shutdown: Shutdown = None
    ) -> Task[V]:
        """The same without the link: its failure is seen where it is awaited, and it goes on when its owner ends."""
        return _begin(supervisor, function, arguments, False, shutdown)

    @staticmethod
    def async_stream(
        supervisor: Ref,
        items: Iterable[Any],
        function: Callable[..., V],
        *arguments: Any,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = USUAL,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
        shutdown: Shutdown = None,
    ) -> Generator[Ok[V] | Exited, None, None]:
        """`Task.async_stream` with its tasks below the supervisor. See `stream.stream` for the options."""
        return stream(
            _below(supervisor, function, shutdown),
            items,
            function,
            arguments,
            linked=True,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )

    @staticmethod
    def async_stream_nolink(
        supervisor: Ref,
        items: Iterable[Any],
        function: Callable[..., V],
        *arguments: Any,
        max_concurrency: int | None = None,
        ordered: bool = True,
        timeout: float | None = USUAL,
        on_timeout: Literal["exit", "kill_task"] = "exit",
        zip_input_on_exit: bool = False,
        shutdown: Shutdown = None,
    ) -> Generator[Ok[V] | Exited, None, None]:
        """The same without links: a task that dies is an outcome, Exited, whoever consumes it."""
        return stream(
            _below(supervisor, function, shutdown),
            items,
            function,
            arguments,
            linked=False,
            max_concurrency=max_concurrency,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            zip_input_on_exit=zip_input_on_exit,
        )

    @staticmethod
    def children(supervisor: Ref, timeout: float | None = None) -> list[Ref]:
        """The tasks that run, in the order of their start."""
        children = DynamicSupervisor.which_children(supervisor, timeout)
        return [child.ref for child in children if child.ref is not None]

    # ---- in the supervisor's turn ----------------------------------------------------------------------------------------

    def _on_start_task(self, task: Task[Any], spec: ChildSpec, kept: bool) -> bool:
        owner = task.owner
        if isinstance(owner, Process) and owner.current is DEAD:
            return False  # it was killed while it waited for its task
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise TooManyChildren(spec.id, self._max_children)
        process = launch(task, self._process.scheduler, self._process, kept)
        child = Child(spec)
        child.hold(process)
        self._children[process.number] = child
        return True


def _begin(
    supervisor: Ref,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    linked: bool,
    shutdown: Shutdown,
) -> Task[Any]:
    me = getcurrent()
    caller = me.process if me.__class__ is Worker else None
    owner = me if caller is None else caller
    task = make(function, arguments, owner, linked and caller is not None, me.gr_context)
    _start(supervisor, task, _spec(function, shutdown), kept=linked)
    return task


def _below(supervisor: Ref, function: Callable[..., Any], shutdown: Shutdown) -> Callable[[Task[Any]], None]:
    spec = _spec(function, shutdown)

    def start(task: Task[Any]) -> None:
        _start(supervisor, task, spec, kept=True)

    return start


def _start(supervisor: Ref, task: Task[Any], spec: ChildSpec, kept: bool) -> None:
    try:
        if not ask(supervisor, ("start_task", task, spec, kept), None):
            raise GreenletExit  # the one who asked is dead, and still running
    except BaseException:
        if task.target is not None:
            task.linked = False
            die(task.target, "shutdown")  # the one who asked gave up: nobody will ever hold the task
        raise


def _spec(function: Callable[..., Any], shutdown: Shutdown) -> ChildSpec:
    check_function(function)
    name = name_of(function)
    return _known_spec(name, shutdown) if isinstance(shutdown, Hashable) else _make_spec(name, shutdown)


def _make_spec(name: str, shutdown: Shutdown) -> ChildSpec:
    return ChildSpec(start_supervised, id=name, restart="temporary", shutdown=shutdown, start_timeout=None)


# A spec is checked with care, and one that is never used to restart anything can serve all tasks of its function.
_known_spec = lru_cache(maxsize=256, typed=True)(_make_spec)
