"""Supervisor: keeps children that are known beforehand running, in their order."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from packetflow.otp.answers import Stop
from packetflow.otp.child_spec import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    Strategy,
    check_options,
    check_spec,
    check_specs,
)
from packetflow.otp.children import (
    Child,
    ChildCount,
    ChildExit,
    ChildInfo,
    Intensity,
    Overseer,
    TryAgain,
    ask,
    start_child,
    stop_children,
    wants_restart,
)
from packetflow.otp.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    StartFailed,
    reason_text,
)
from packetflow.otp.process import SIGNAL
from packetflow.otp.ref import Ref
from packetflow.otp.server import _scheduler
from packetflow.otp.signals import log
from packetflow.otp.start import start_process

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
        """The children to start with. A subclass makes them from what it was started with."""
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
        name: str | None = None,
        system: System | None = None,
        timeout: float | None = None,
    ) -> Ref:
        """Starts one with its children; `Supervisor.start(children, ...)`. Returns when all of them run.

        Raises SpecError before anything is started; StartFailed with the reason of the child that did not start, after
        those before it were stopped; NameTaken.
        """
        options = cls._options(strategy, max_restarts, max_seconds, auto_shutdown)
        if cls.children is Supervisor.children:
            arguments = (
                check_specs(arguments[0] if len(arguments) == 1 else arguments, options["auto_shutdown"]),
            )
        ref = start_process(_scheduler(system), cls, arguments, options, name, timeout)
        assert ref is not None  # a supervisor never ignores
        return ref

    @classmethod
    def child(
        cls,
        *arguments: Any,
        id: Hashable = None,
        name: str | None = None,
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
        options = cls._options(strategy, max_restarts, max_seconds, auto_shutdown)
        if cls.children is Supervisor.children:
            arguments = (
                check_specs(arguments[0] if len(arguments) == 1 else arguments, options["auto_shutdown"]),
            )
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
    def _options(
        cls, strategy: Any, max_restarts: Any, max_seconds: Any, auto_shutdown: Any
    ) -> dict[str, Any]:
        options = {
            "strategy": cls.strategy if strategy is None else strategy,
            "max_restarts": cls.max_restarts if max_restarts is None else max_restarts,
            "max_seconds": cls.max_seconds if max_seconds is None else max_seconds,
            "auto_shutdown": cls.auto_shutdown if auto_shutdown is None else auto_shutdown,
        }
        check_options(**options)
        return options

    @staticmethod
    def start_child(supervisor: Ref, spec: ChildSpec, timeout: float | None = None) -> Ref | None:
        """Adds a child and starts it. Returns its ref, None if it ignored (its spec is kept).

        Raises SpecError; AlreadyStarted, AlreadyPresent if the id is there; StartFailed, and then no spec is kept.
        """
        return ask(supervisor, ("start_child", spec), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def terminate_child(supervisor: Ref, child: Hashable, timeout: float | None = None) -> None:
        """Stops a child and keeps its spec (a temporary one's is dropped). Raises ChildNotFound."""
        ask(supervisor, ("terminate_child", child), timeout)

    @staticmethod
    def restart_child(supervisor: Ref, child: Hashable, timeout: float | None = None) -> Ref | None:
        """Starts a child that is not running. Raises ChildNotFound, ChildRunning, ChildRestarting, StartFailed."""
        return ask(supervisor, ("restart_child", child), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def delete_child(supervisor: Ref, child: Hashable, timeout: float | None = None) -> None:
        """Drops the spec of a child that is not running. Raises ChildNotFound, ChildRunning, ChildRestarting."""
        ask(supervisor, ("delete_child", child), timeout)

    @staticmethod
    def which_children(supervisor: Ref, timeout: float | None = None) -> list[ChildInfo]:
        """Its children, in the order of their start."""
        return ask(supervisor, ("which_children",), timeout)  # type: ignore[no-any-return]

    @staticmethod
    def count_children(supervisor: Ref, timeout: float | None = None) -> ChildCount:
        """How many there are."""
        return ask(supervisor, ("count_children",), timeout)  # type: ignore[no-any-return]

    # ---- the life of the supervisor ---------------------------------------------------------------------------------------

    def init(self, *arguments: Any, **options: Any) -> Any:
        """Starts the children in order; one that fails has those before it stopped, and is why this one fails."""
        options = self._options(
            *(options.get(key) for key in ("strategy", "max_restarts", "max_seconds", "auto_shutdown"))
        )
        self._strategy: Strategy = options["strategy"]
        self._auto_shutdown: AutoShutdown = options["auto_shutdown"]
        self._intensity = Intensity(options["max_restarts"], options["max_seconds"])
        self._children: dict[Hashable, Child] = {}
        for spec in self._prepared(check_specs(self.children(*arguments), self._auto_shutdown)):
            self._children[spec.id] = Child(spec)
        try:
            self._start_all(list(self._children.values()))
        except StartFailed:
            stop_children(reversed(self._children.values()), together=False)
            raise

    def terminate(self, reason: object) -> None:
        """Stops the children in reverse order."""
        stop_children(reversed(list(self._children.values())), together=False)

    def list_children(self) -> list[Child]:
        """The children in the order of their start."""
        return list(self._children.values()) if hasattr(self, "_children") else []

    def handle_info(self, message: Any) -> Any:
        """A child died, or one has to be tried again. Exit signals of strangers are ignored, as in OTP."""
        if isinstance(message, ChildExit):
            child = message.process.child
            if child is not None and child.process is message.process:
                return self._judge(child, message.reason)
        elif isinstance(message, TryAgain):
            child = message.child
            if child.status in ("restarting", "backoff") and self._children.get(child.spec.id) is child:
                child.alarm = None
                return self._bring_back(child)
        return None

    def _prepared(self, specs: Sequence[ChildSpec]) -> Sequence[ChildSpec]:
        """What a kind of supervisor does before the first child is started."""
        return specs

    def _start_all(self, children: Sequence[Child]) -> None:
        for child in children:
            self._start_one(child)
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
        log.error(
            "%s: child %s died more than %d times in %g s: giving up",
            self.ref,
            child.spec.id,
            self._intensity.limit,
            self._intensity.seconds,
        )
        return Stop("shutdown")

    def _wait_and_retry(self, child: Child, delay: float) -> None:
        child.status = "backoff"
        child.alarm = self._process.scheduler.timers.after(delay, self._again, child)

    def _again(self, child: Child) -> None:
        self._process.scheduler.deliver(self._process, (SIGNAL, TryAgain(child)))

    def _bring_back(self, child: Child) -> Any:
        """Restarts a child by the strategy: it alone, all, or it and those after it."""
        affected = [child]
        if self._strategy != "one_for_one":
            every = list(self._children.values())
            affected = every if self._strategy == "one_for_all" else every[every.index(child) :]
            stop_children(reversed(affected), together=False)
            for other in affected:
                if other.spec.restart == "temporary":
                    del self._children[other.spec.id]
            affected = [other for other in affected if other.spec.restart != "temporary"]
        child.status = "restarting"
        for each in affected:
            try:
                self._start_one(each)
            except StartFailed as error:
                log.error(
                    "%s: child %s did not come back: %s", self.ref, each.spec.id, reason_text(error.reason)
                )
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
            self._again(failed)
        else:
            self._wait_and_retry(failed, backoff.wait(failed.failures))
            failed.failures += 1
        return None

    # ---- requests -------------------------------------------------------------------------------------------------------

    def _named(self, child: Hashable) -> Child:
        found = self._children.get(child)
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
        return None if child.process is None else child.process.ref

    def _on_terminate_child(self, child: Hashable) -> None:
        found = self._named(child)
        stop_children([found], together=False)
        if found.spec.restart == "temporary":
            del self._children[child]

    def _on_restart_child(self, child: Hashable) -> Ref | None:
        found = self._stopped(child)
        self._start_one(found)
        return None if found.process is None else found.process.ref

    def _on_delete_child(self, child: Hashable) -> None:
        del self._children[self._stopped(child).spec.id]
