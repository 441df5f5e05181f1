# cython: annotation_typing=False
"""DynamicSupervisor: children that come and go, each with a spec of its own, in no order."""

from __future__ import annotations

from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Literal

from packetflow.otp.answers import UNSET, Stop, is_orderly
from packetflow.otp.errors import ChildNotFound, SpecError, StartFailed, TooManyChildren
from packetflow.otp.process import Process
from packetflow.otp.ref import Ref
from packetflow.otp.server import _scheduler
from packetflow.otp.start import start_process
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart, check_options, check_spec
from packetflow.otp.supervision.children import (
    Child,
    ChildCount,
    ChildExit,
    ChildInfo,
    Intensity,
    Overseer,
    TryAgain,
    ask,
    report,
    start_child,
    stop_children,
    wants_restart,
)
from packetflow.otp.via import Name, Target

if TYPE_CHECKING:
    from packetflow.otp.system import System


class DynamicSupervisor(Overseer):
    """Starts children on request, and starts them again by their spec; finished ones are forgotten.

    Ids need not be unique: a child is known by its ref, which a restart changes. When it ends, all children end at
    once, each in its own time.
    """

    # ---- starting and asking ----------------------------------------------------------------------------------------------

    @classmethod
    def start(  # type: ignore[override]
        cls,
        *,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: tuple[Any, ...] = (),
        name: Name | None = None,
        system: System | None = None,
    ) -> Ref:
        """Starts one without children. extra_arguments come before each child's own. Raises SpecError, NameTaken."""
        options = cls._options(max_children, max_restarts, max_seconds, extra_arguments)
        ref = start_process(_scheduler(system), cls, (), options, name, None)
        assert ref is not None  # it never ignores
        return ref

    @classmethod
    def child(
        cls,
        *,
        id: Hashable = None,
        name: Name | None = None,
        max_children: int | None = None,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        extra_arguments: tuple[Any, ...] = (),
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a dynamic supervisor below another supervisor. Raises SpecError."""
        options = cls._options(max_children, max_restarts, max_seconds, extra_arguments)
        return ChildSpec(
            cls, id=id, name=name, restart=restart, shutdown=shutdown, backoff=backoff, options=options
        )

    @staticmethod
    def _options(
        max_children: Any = None, max_restarts: Any = 3, max_seconds: Any = 5.0, extra_arguments: Any = ()
    ) -> dict[str, Any]:
        check_options("one_for_one", max_restarts, max_seconds, "never")
        if max_children is not None and (
            isinstance(max_children, bool) or not isinstance(max_children, int) or max_children < 0
        ):
            raise SpecError("max_children", max_children, "a whole number from 0, or None for any number")
        if not isinstance(extra_arguments, tuple):
            raise SpecError("extra_arguments", extra_arguments, "a tuple")
        return {
            "max_children": max_children,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
            "extra_arguments": extra_arguments,
        }

    @staticmethod
    def start_child(supervisor: Target, spec: ChildSpec, timeout: float | None = None) -> Ref | None:
        """Starts a child. Returns its ref, None if it ignored (and is forgotten). Raises SpecError, TooManyChildren,
        StartFailed."""
        return ask(supervisor, ("start_child", spec), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def terminate_child(supervisor: Target, child: Ref, timeout: float | None = None) -> None:
        """Stops a child and forgets it. Raises ChildNotFound."""
        ask(supervisor, ("terminate_child", child), timeout)

    @staticmethod
    def upgrade(
        supervisor: Target,
        *,
        max_children: int | None = UNSET,
        max_restarts: int = UNSET,
        max_seconds: float = UNSET,
        extra_arguments: tuple[Any, ...] = UNSET,
        timeout: float | None = None,
    ) -> None:
        """Gives a running one new options, as a code change of Elixir's does; its children stay, also where
        `max_children` is fewer. Options that are not given stay. Raises SpecError, and then nothing has changed."""
        options = {
            "max_children": max_children,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
            "extra_arguments": extra_arguments,
        }
        given = {option: value for option, value in options.items() if value is not UNSET}
        ask(supervisor, ("upgrade", given), timeout)

    @staticmethod
    def get_childspec(supervisor: Target, child: Ref, timeout: float | None = None) -> ChildSpec:
        """The specification of a child, without its arguments where it is temporary. Raises ChildNotFound."""
        return ask(supervisor, ("get_childspec", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def which_child(supervisor: Target, child: Ref, timeout: float | None = None) -> ChildInfo:
        """One of its children. Raises ChildNotFound."""
        return ask(supervisor, ("which_child", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def which_children(supervisor: Target, timeout: float | None = None) -> list[ChildInfo]:
        """Its children; ref is None while one is being restarted."""
        return ask(supervisor, ("which_children",), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def count_children(supervisor: Target, timeout: float | None = None) -> ChildCount:
        """How many there are."""
        return ask(supervisor, ("count_children",), timeout)  # type: ignore[no-any-return]

    # ---- the life of the supervisor -------------------------------------------------------------------------------------

    def init(self, **options: Any) -> Any:
        """Nobody to start yet."""
        options = self._options(**options)
        self._intensity = Intensity(options["max_restarts"], options["max_seconds"])
        self._take(options)
        # By the number of the ref; that of one being restarted stays its old one until it is back. One that was never
        # restarted is known by its process alone, and its process by the spec: a million of them are half as many objects.
        self._children: dict[int, Child | Process] = {}
        self._last: ChildSpec | None = None

    def _take(self, options: dict[str, Any]) -> None:
        self._effective = options
        self._max_children: int | None = options["max_children"]
        self._extra: tuple[Any, ...] = options["extra_arguments"]
        self._intensity.limit = options["max_restarts"]
        self._intensity.seconds = options["max_seconds"]

    def terminate(self, reason: object) -> None:
        """Stops all children at once."""
        stop_children(self.ref, map(_as_child, self._children.values()), together=True)
        self._children.clear()

    def list_children(self) -> list[Child]:
        """The children in the order of their start."""
        return list(map(_as_child, self._children.values())) if hasattr(self, "_children") else []

    def handle_info(self, message: Any) -> Any:
        """A child died, or one has to be tried again. Exit signals of strangers are ignored, as in OTP."""
        if isinstance(message, ChildExit):
            number = message.process.number
            held = self._children.get(number)
            child = None if held is None else _as_child(held)
            if child is not None and child.process is message.process:
                child.process = None
                child.left = message.left
                if child.spec.restart == "permanent" or not is_orderly(message.reason):
                    report(self.ref, "child_terminated", message.reason, child.spec, message.process.ref)
                if wants_restart(child.spec, message.reason):
                    self._children[number] = child
                    return self._restart(number, child, message.process.started)
                del self._children[number]
        elif isinstance(message, TryAgain):
            child = message.child
            for number, held in self._children.items():
                if held is child and child.process is None:
                    child.alarm = None
                    return self._bring_back(number, child)
        else:
            self.unexpected(message)
        return None

    def _restart(self, number: int, child: Child, started: float) -> Any:
        now = self._process.scheduler.monotonic()
        child.status = "restarting"
        if self._intensity.exceeded(now):
            return self._give_up(child)
        backoff = child.spec.backoff
        if backoff is None:
            return self._bring_back(number, child)
        if now - started >= backoff.reset_after:
            child.failures = 0
        child.status = "backoff"
        child.alarm = self._process.scheduler.timers.after(
            backoff.wait(child.failures), self.try_again, child
        )
        child.failures += 1
        return None

    def _give_up(self, child: Child) -> Stop:
        report(self.ref, "shutdown", "reached_max_restart_intensity", child.spec, None)
        return Stop("shutdown")

    def _bring_back(self, number: int, child: Child) -> Any:
        if child.left and self.must_wait_for_orphans(child):
            return None
        child.status = "restarting"
        try:
            process = start_child(self._process, child.spec, self._extra + child.spec.arguments)
        except StartFailed as error:
            report(self.ref, "start_error", error.reason, child.spec, None)
            now = self._process.scheduler.monotonic()
            if child.spec.backoff is not None:
                return self._restart(number, child, now)
            if self._intensity.exceeded(now):
                return self._give_up(child)
            self.try_again(child)
            return None
        self._children.pop(number, None)
        if process is not None:
            child.hold(process)
            child.restarts += 1
            self._children[process.number] = child
        return None

    # ---- requests -------------------------------------------------------------------------------------------------------

    def _on_start_child(self, spec: ChildSpec) -> Ref | None:
        if isinstance(spec, ChildSpec) and spec.significant:
            raise SpecError("significant", True, "False: a dynamic supervisor has no significant children")
        check_spec(spec, "never")
        if self._max_children is not None and len(self._children) >= self._max_children:
            raise TooManyChildren(spec.id, self._max_children)
        process = start_child(self._process, spec, self._extra + spec.arguments)
        if process is None:
            return None
        process.child = self._shared(spec.without_arguments() if spec.restart == "temporary" else spec)
        self._children[process.number] = process
        return process.address()

    def _shared(self, spec: ChildSpec) -> ChildSpec:
        """One specification for all that were started alike, one after the other."""
        last = self._last
        if last is not None and spec.says_the_same_as(last):
            return last
        self._last = spec
        return spec

    def _on_terminate_child(self, ref: Ref) -> None:
        child = self._named(ref)
        stop_children(self.ref, [child], together=False)
        del self._children[ref.id]

    def _on_upgrade(self, given: dict[str, Any]) -> None:
        self._take(self._options(**{**self._effective, **given}))

    def _named(self, child: Any) -> Child:
        if not isinstance(child, Ref):
            raise SpecError("child", child, "a Ref: a dynamic supervisor knows its children by their refs")
        system = self.system
        held = self._children.get(child.id)
        found = None if held is None else _as_child(held)
        if found is None or child.node != system.name or child.incarnation != system.incarnation:
            raise ChildNotFound(child)
        return found


def _as_child(held: Child | Process) -> Child:
    """A child, where only its process is kept."""
    if isinstance(held, Child):
        return held
    known = held.child
    assert isinstance(known, ChildSpec)
    child = Child(known)
    child.process = held
    child.status = "running"
    return child
