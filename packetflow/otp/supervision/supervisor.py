# cython: annotation_typing=False
"""Supervisor: keeps children that are known beforehand running, in their order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from packetflow.otp.answers import IGNORE, Stop, is_orderly
from packetflow.otp.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    SpecError,
    StartFailed,
)
from packetflow.otp.ref import Ref
from packetflow.otp.server import _scheduler
from packetflow.otp.start import start_process
from packetflow.otp.supervision.child_spec import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    Strategy,
    check_options,
    check_spec,
    check_specs,
)
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


class Supervisor(Overseer):
    """Starts its children in order, starts them again when they die, and stops them in reverse order.

    Either `Supervisor.start([ChildSpec(...), ...], strategy=...)`, or a subclass that defines `children(...)` and the
    options as class attributes, and is itself what a ChildSpec starts. More than `max_restarts` within `max_seconds`
    end it with "shutdown".
    """

    strategy: ClassVar[Strategy] = "one_for_one"
    max_restarts: ClassVar[int] = 3
    max_seconds: ClassVar[float] = 5.0
    auto_shutdown: ClassVar[AutoShutdown] = "never"

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        check_options(cls.strategy, cls.max_restarts, cls.max_seconds, cls.auto_shutdown)

    def children(self, *arguments: Any) -> Iterable[ChildSpec]:
        """The children to start with. A subclass makes them from what it was started with, or returns IGNORE: this
        supervisor is not started, and that is no fault."""
        (specs,) = arguments
        return specs  # type: ignore[no-any-return]

    # ---- starting and asking ------------------------------------------------------------------------------------------

    @classmethod
    def start(  # type: ignore[override]
        cls,
        *arguments: Any,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
        name: Name | None = None,
        system: System | None = None,
        timeout: float | None = None,
    ) -> Ref:
        """Starts one with its children; `Supervisor.start(children, ...)`. Returns when all of them run.

        Raises SpecError before anything is started; StartFailed with the reason of the child that did not start, after
        those before it were stopped; NameTaken. Only a subclass whose `children` returned IGNORE gives None here.
        """
        arguments, options = cls._given(arguments, strategy, max_restarts, max_seconds, auto_shutdown)
        return start_process(  # type: ignore[return-value]
            _scheduler(system), cls, arguments, options, name, timeout
        )

    @classmethod
    def child(
        cls,
        *arguments: Any,
        id: Hashable = None,
        name: Name | None = None,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        significant: bool = False,
        start_timeout: float | None = None,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a supervisor below another one. Raises SpecError. start_timeout: none by default, its
        children have theirs."""
        arguments, options = cls._given(arguments, strategy, max_restarts, max_seconds, auto_shutdown)
        return ChildSpec(
            cls,
            *arguments,
            id=id,
            name=name,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            start_timeout=start_timeout,
            backoff=backoff,
            options=options,
        )

    @classmethod
    def _given(
        cls,
        arguments: tuple[Any, ...],
        strategy: Any,
        max_restarts: Any,
        max_seconds: Any,
        auto_shutdown: Any,
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        # What was given, checked before anything starts; what was not is the class's, also after a change of its code.
        given = {
            "strategy": strategy,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
            "auto_shutdown": auto_shutdown,
        }
        given = {option: value for option, value in given.items() if value is not None}
        effective = cls._options(given)
        if cls.children is Supervisor.children:
            specs = arguments[0] if len(arguments) == 1 else arguments
            arguments = (check_specs(specs, effective["auto_shutdown"]),)
        return arguments, given

    @classmethod
    def _options(cls, given: dict[str, Any]) -> dict[str, Any]:
        options = {
            "strategy": cls.strategy,
            "max_restarts": cls.max_restarts,
            "max_seconds": cls.max_seconds,
            "auto_shutdown": cls.auto_shutdown,
            **given,
        }
        check_options(**options)
        return options

    @staticmethod
    def start_child(supervisor: Target, spec: ChildSpec, timeout: float | None = None) -> Ref | None:
        """Adds a child and starts it. Returns its ref, None if it ignored (its spec is kept).

        Raises SpecError; AlreadyStarted, AlreadyPresent if the id is there; StartFailed, and then no spec is kept.
        """
        return ask(supervisor, ("start_child", spec), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def terminate_child(supervisor: Target, child: Hashable, timeout: float | None = None) -> None:
        """Stops a child and keeps its spec (a temporary one's is dropped). Raises ChildNotFound."""
        ask(supervisor, ("terminate_child", child), timeout)

    @staticmethod
    def restart_child(supervisor: Target, child: Hashable, timeout: float | None = None) -> Ref | None:
        """Starts a child that is not running. Raises ChildNotFound, ChildRunning, ChildRestarting, StartFailed."""
        return ask(supervisor, ("restart_child", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def delete_child(supervisor: Target, child: Hashable, timeout: float | None = None) -> None:
        """Drops the spec of a child that is not running. Raises ChildNotFound, ChildRunning, ChildRestarting."""
        ask(supervisor, ("delete_child", child), timeout)

    @staticmethod
    def upgrade(
        supervisor: Target,
        children: Iterable[ChildSpec] | None = None,
        *,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        max_seconds: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
        timeout: float | None = None,
    ) -> None:
        """Gives a running supervisor new specifications and options, as OTP's code change of a supervisor does.

        A child whose id is known goes on under its new specification, which counts from its next start; a new one is
        there and not started (`restart_child` starts it); one that is not named stays, after the others. Options that
        are not given stay. Raises SpecError, and then nothing has changed.
        """
        options = {
            "strategy": strategy,
            "max_restarts": max_restarts,
            "max_seconds": max_seconds,
            "auto_shutdown": auto_shutdown,
        }
        given = {option: value for option, value in options.items() if value is not None}
        ask(supervisor, ("upgrade", children, given), timeout)

    @staticmethod
    def check_childspecs(children: Iterable[ChildSpec], auto_shutdown: AutoShutdown = "never") -> None:
        """Whether these may be the children of one supervisor. Raises SpecError, which names the field."""
        check_options("one_for_one", 0, 1, auto_shutdown)
        check_specs(children, auto_shutdown)

    @staticmethod
    def get_childspec(supervisor: Target, child: Hashable, timeout: float | None = None) -> ChildSpec:
        """The specification of a child, without its arguments where it is temporary. Raises ChildNotFound."""
        return ask(supervisor, ("get_childspec", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def which_child(supervisor: Target, child: Hashable, timeout: float | None = None) -> ChildInfo:
        """One of its children. Raises ChildNotFound."""
        return ask(supervisor, ("which_child", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def which_children(supervisor: Target, timeout: float | None = None) -> list[ChildInfo]:
        """Its children, in the order of their start."""
        return ask(supervisor, ("which_children",), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def count_children(supervisor: Target, timeout: float | None = None) -> ChildCount:
        """How many there are."""
        return ask(supervisor, ("count_children",), timeout)  # type: ignore[no-any-return]

    # ---- the life of the supervisor ---------------------------------------------------------------------------------------

    def init(self, *arguments: Any, **options: Any) -> Any:
        """Starts the children in order; one that fails has those before it stopped, and is why this one fails."""
        specs = self.children(*arguments)
        if specs is IGNORE:
            return IGNORE
        self._explicit = options
        options = self._options(options)
        # What a subclass was started with, for the children of the class that may follow it.
        self._arguments = () if type(self).children is Supervisor.children else arguments
        self._strategy: Strategy = options["strategy"]
        self._auto_shutdown: AutoShutdown = options["auto_shutdown"]
        self._intensity = Intensity(options["max_restarts"], options["max_seconds"])
        self._children: dict[Hashable, Child] = {}
        for spec in self._prepared(check_specs(specs, self._auto_shutdown)):
            self._children[spec.id] = Child(spec)
        try:
            self._start_all(list(self._children.values()))
        except StartFailed:
            stop_children(self.ref, reversed(self._children.values()), together=False)
            raise
        return None

    def terminate(self, reason: object) -> None:
        """Stops the children in reverse order."""
        stop_children(self.ref, reversed(list(self._children.values())), together=False)

    def code_change(self, old_version: object, state: dict[str, Any]) -> None:
        """Takes the children over, and then its own `children` and options, as `upgrade` does."""
        self.__dict__.update(state)
        specs = None
        if type(self).children is not Supervisor.children:
            specs = self.children(*self._arguments)
        if specs is not IGNORE:
            self._upgrade(specs, self._options(self._explicit))

    def list_children(self) -> list[Child]:
        """The children in the order of their start."""
        return list(self._children.values()) if hasattr(self, "_children") else []

    def handle_info(self, message: Any) -> Any:
        """A child died, or one has to be tried again. Exit signals of strangers are ignored, as in OTP."""
        if isinstance(message, ChildExit):
            child = message.process.child
            if isinstance(child, Child) and child.process is message.process:
                child.left = message.left
                return self._judge(child, message.reason)
        elif isinstance(message, TryAgain):
            child = message.child
            if child.status in ("restarting", "backoff") and self._children.get(child.spec.id) is child:
                child.alarm = None
                return self._bring_back(child)
        else:
            self.unexpected(message)
        return None

    def _prepared(self, specs: Sequence[ChildSpec]) -> Sequence[ChildSpec]:
        """What a kind of supervisor does before the first child is started."""
        return specs

    def _start_all(self, children: Sequence[Child]) -> None:
        for child in children:
            try:
                self._start_one(child)
            except StartFailed as error:
                report(self.ref, "start_error", error.reason, child.spec, None)
                raise
            if child.process is None and child.spec.restart == "temporary":
                del self._children[child.spec.id]

    def _start_one(self, child: Child) -> None:
        child.forget_backoff()
        process = start_child(self._process, child.spec, child.spec.arguments)
        child.hold(process)

    def _judge(self, child: Child, reason: object) -> Any:
        """What follows from the end of a child."""
        spec = child.spec
        died = child.process
        child.process = None
        child.status = "undefined"
        if spec.restart == "permanent" or not is_orderly(reason):
            report(self.ref, "child_terminated", reason, spec, None if died is None else died.ref)
        if wants_restart(spec, reason):
            return self._restart(child, died.started if died is not None else 0.0)
        if spec.restart == "temporary":
            del self._children[spec.id]
        if spec.significant and self._auto_shutdown != "never":
            others = [
                other
                for other in self._children.values()
                if other is not child and other.spec.significant and other.status != "undefined"
            ]
            if self._auto_shutdown == "any_significant" or not others:
                return Stop("shutdown")
        return None

    def _restart(self, child: Child, started: float) -> Any:
        now = self._process.scheduler.monotonic()
        if self._intensity.exceeded(now):
            return self._give_up(child)
        backoff = child.spec.backoff
        if backoff is not None:
            if now - started >= backoff.reset_after:
                child.failures = 0
            self._wait_and_retry(child, backoff.wait(child.failures))
            child.failures += 1
            return None
        return self._bring_back(child)

    def _give_up(self, child: Child) -> Stop:
        report(self.ref, "shutdown", "reached_max_restart_intensity", child.spec, None)
        return Stop("shutdown")

    def _wait_and_retry(self, child: Child, delay: float) -> None:
        child.status = "backoff"
        child.alarm = self._process.scheduler.timers.after(delay, self.try_again, child)

    def _bring_back(self, child: Child) -> Any:
        """Restarts a child by the strategy: it alone, all, or it and those after it."""
        if child.left and self.must_wait_for_orphans(child):
            return None
        affected = [child]
        if self._strategy != "one_for_one":
            every = list(self._children.values())
            affected = every if self._strategy == "one_for_all" else every[every.index(child) :]
            stop_children(self.ref, reversed(affected), together=False)
            for other in affected:
                if other.spec.restart == "temporary":
                    del self._children[other.spec.id]
            affected = [other for other in affected if other.spec.restart != "temporary"]
        child.status = "restarting"
        for each in affected:
            try:
                self._start_one(each)
            except StartFailed as error:
                report(self.ref, "start_error", error.reason, each.spec, None)
                return self._try_again(child, each)
            each.restarts += 1
        return None

    def _try_again(self, child: Child, failed: Child) -> Any:
        # As in OTP: others are answered first, then the one that failed is tried, and that counts as a restart too.
        if child is not failed and child.process is None:
            child.status = "undefined"
        failed.status = "restarting"
        now = self._process.scheduler.monotonic()
        if self._intensity.exceeded(now):
            return self._give_up(failed)
        backoff = failed.spec.backoff
        if backoff is None:
            self.try_again(failed)
        else:
            self._wait_and_retry(failed, backoff.wait(failed.failures))
            failed.failures += 1
        return None

    # ---- requests -------------------------------------------------------------------------------------------------------

    def _upgrade(self, specs: object, options: dict[str, Any]) -> None:
        auto_shutdown: AutoShutdown = options["auto_shutdown"]
        if specs is not None:
            named = {spec.id: spec for spec in check_specs(specs, auto_shutdown)}
            children: dict[Hashable, Child] = {}
            for id, spec in named.items():
                child = children[id] = self._children.get(id) or Child(spec)
                child.spec = spec
                if child.process is not None and spec.restart == "temporary":
                    child.spec = spec.without_arguments()
            children.update((id, child) for id, child in self._children.items() if id not in named)
            self._children = children
        self._strategy = options["strategy"]
        self._auto_shutdown = auto_shutdown
        self._intensity.limit = options["max_restarts"]
        self._intensity.seconds = options["max_seconds"]

    def _on_upgrade(self, specs: object, given: dict[str, Any]) -> None:
        explicit = {**self._explicit, **given}
        self._upgrade(specs, self._options(explicit))
        self._explicit = explicit

    def _named(self, child: Hashable) -> Child:
        try:
            found = self._children.get(child)
        except TypeError:
            raise SpecError("id", child, "something hashable, such as a text") from None
        if found is None:
            raise ChildNotFound(child)
        return found

    def _stopped(self, child: Hashable) -> Child:
        found = self._named(child)
        if found.process is not None:
            raise ChildRunning(child)
        if found.status != "undefined":
            raise ChildRestarting(child)
        return found

    def _on_start_child(self, spec: ChildSpec) -> Ref | None:
        check_spec(spec, self._auto_shutdown)
        there = self._children.get(spec.id)
        if there is not None:
            if there.process is not None:
                raise AlreadyStarted(spec.id, there.process.ref)
            raise AlreadyPresent(spec.id)
        child = Child(spec)
        self._start_one(child)
        if child.process is None and spec.restart == "temporary":
            return None
        self._children[spec.id] = child
        return None if child.process is None else child.process.address()

    def _on_terminate_child(self, child: Hashable) -> None:
        found = self._named(child)
        stop_children(self.ref, [found], together=False)
        if found.spec.restart == "temporary":
            del self._children[child]

    def _on_restart_child(self, child: Hashable) -> Ref | None:
        found = self._stopped(child)
        self._start_one(found)
        return None if found.process is None else found.process.address()

    def _on_delete_child(self, child: Hashable) -> None:
        del self._children[self._stopped(child).spec.id]
