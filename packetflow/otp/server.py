"""GenServer: a process with a state, one message at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, overload

from packetflow.otp import calls, signals
from packetflow.otp.errors import NotAnActor, SpecError
from packetflow.otp.process import Call, Process
from packetflow.otp.ref import Ref
from packetflow.otp.start import start_process
from packetflow.otp.via import Name, Target, Via

if TYPE_CHECKING:
    from packetflow.otp.ref import M, R
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.signals import Monitor
    from packetflow.otp.system import System
    from packetflow.otp.timers import Timer

    M2 = TypeVar("M2")
    R2 = TypeVar("R2")
else:
    M = TypeVar("M")
    R = TypeVar("R")


class GenServer(Generic[M, R]):
    """A server: subclass it, keep the state on `self`, define what it handles.

    Handlers run one at a time in the order of the mailbox, also when one waits for I/O. What they may return besides a
    plain value is in `answers`: Reply, NoReply, Stop, Continue. What they raise ends the server with that reason.

    mailbox_limit: how many calls, casts and infos may wait; None for any number. mailbox_full: what then becomes of a
    call or a blocking send: "fail" (MailboxFull), "block" (waits for room), "drop" (counted; a call still fails),
    "drop_oldest" (the first that waits is dropped and counted, whatever the new one is; if that was a call, it fails).
    hub_limit: seconds that a handler may hold the hub before a `Watchdog` breaks it, if that is more than the watchdog's own.
    version: given to `code_change` of the class that follows this one. GenServer[M, R], for a type checker only: its ref
    may be sent an M, and answers a call with an R.
    """

    __slots__ = ("__dict__", "__weakref__", "_process")

    mailbox_limit: ClassVar[int | None] = None
    mailbox_full: ClassVar[Literal["block", "drop", "drop_oldest", "fail"]] = "fail"
    hub_limit: ClassVar[float | None] = None
    version: ClassVar[object] = None
    supervises: ClassVar[bool] = False
    is_task: ClassVar[bool] = False  # a Task stands where a server does, and is none

    _process: Process

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        limit = cls.mailbox_limit
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or limit < 1):
            raise SpecError(f"{cls.__name__}.mailbox_limit", limit, "a whole number from 1, or None")
        if cls.mailbox_full not in ("block", "drop", "drop_oldest", "fail"):
            accepted = '"block", "drop", "drop_oldest" or "fail"'
            raise SpecError(f"{cls.__name__}.mailbox_full", cls.mailbox_full, accepted)

    # ---- what a server defines -----------------------------------------------------------------------------------------

    def init(self, *arguments: Any, **keywords: Any) -> Any:
        """Sets the state up from what `start` was given. None: started. Or IGNORE, Stop(reason), Continue(argument),
        NoReply(timeout). What it raises, `start` raises as StartFailed."""
        if arguments or keywords:
            raise TypeError(f"{type(self).__name__} takes no arguments: it defines no init")

    def handle_call(self, request: M, caller: Any) -> Any:
        """Answers a call: what it returns is the answer."""
        raise NotImplementedError(f"{type(self).__name__} got a call and defines no handle_call")

    def handle_cast(self, message: M) -> Any:
        """A cast came."""
        raise NotImplementedError(f"{type(self).__name__} got a cast and defines no handle_cast")

    def handle_info(self, message: Any) -> Any:
        """Anything else came: what was sent by `send` or a timer, Down, Exit, "timeout" of an idle server."""
        signals.log.warning("%s got %r and defines no handle_info", self.ref, message)

    def handle_continue(self, argument: Any) -> Any:
        """Called before any other message after a handler returned Continue(argument)."""
        raise NotImplementedError(f"{type(self).__name__} continues and defines no handle_continue")

    def terminate(self, reason: object) -> None:
        """The end is near: clean up. Called on an orderly stop and after an exception; not on a kill."""

    def code_change(self, old_version: object, state: dict[str, Any]) -> None:
        """Takes over the state (its attributes) of the class before. This one takes all as they are."""
        self.__dict__.update(state)

    # ---- starting ------------------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        *arguments: Any,
        name: Name | None = None,
        system: System | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Ref[M, R] | None:
        """Starts one and waits for its `init`. Returns its ref, or None if `init` ignored.

        name: a text, or a registry's `via(key)`. system: where it lives; inside an actor it is the actor's own by default.
        timeout: seconds for `init`, then it is killed. Raises StartFailed (with the reason) and NameTaken; nothing is left
        behind then.
        """
        return start_process(_scheduler(system), cls, arguments, keywords, name, timeout)

    @classmethod
    def start_link(
        cls,
        *arguments: Any,
        name: Name | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> Ref[M, R] | None:
        """The same, as a child of the calling actor and linked with it. Raises NotAnActor outside of one."""
        parent = signals.actor("start_link")
        return start_process(parent.scheduler, cls, arguments, keywords, name, timeout, parent, linked=True)

    @classmethod
    def start_monitor(
        cls,
        *arguments: Any,
        name: str | None = None,
        system: System | None = None,
        timeout: float | None = None,
        **keywords: Any,
    ) -> tuple[Ref, Monitor] | None:
        """As `start`, and watches it before anything of it runs: no end can be missed. None if `init` ignored."""
        watch: list[Monitor] = []
        try:
            ref = start_process(
                _scheduler(system),
                cls,
                arguments,
                keywords,
                name,
                timeout,
                watch=lambda ref: watch.append(signals.monitor(ref)),
            )
        except BaseException:
            for monitor in watch:
                monitor.end(flush=True)
            raise
        if ref is None:
            watch[0].end(flush=True)
            return None
        return ref, watch[0]

    # ---- what a server has ---------------------------------------------------------------------------------------------

    @property
    def ref(self) -> Ref[M, R]:
        """This server's own address."""
        return self._process.ref

    @property
    def system(self) -> System:
        """The system it lives in."""
        return self._process.scheduler.system

    trap_exits: bool = False
    """Whether exit signals come as `Exit` messages instead of ending this server. "kill" can't be trapped."""

    @overload
    def call(self, target: Ref[M2, R2], message: M2, timeout: float | None = ...) -> R2: ...

    @overload
    def call(self, target: str | Via, message: Any, timeout: float | None = ...) -> Any: ...

    def call(self, target: Target, message: Any, timeout: float | None = 5.0) -> Any:
        """`call`, also by name."""
        return calls.call(self.system.find(target), message, timeout)

    @overload
    def cast(self, target: Ref[M2, Any], message: M2) -> None: ...

    @overload
    def cast(self, target: str | Via, message: Any) -> None: ...

    def cast(self, target: Target, message: Any) -> None:
        """`cast`, also by name; nobody of that name: nothing happens."""
        self.system.cast(target, message)

    @overload
    def send(self, target: Ref[M2, Any], message: M2, block: bool = ...) -> None: ...

    @overload
    def send(self, target: str | Via, message: Any, block: bool = ...) -> None: ...

    def send(self, target: Target, message: Any, block: bool = False) -> None:
        """`send`, also by name; nobody of that name: nothing happens."""
        self.system.send(target, message, block=block)

    def send_after(self, delay: float, message: Any, target: Target | None = None) -> Timer:
        """Sends a message in `delay` seconds, to this server unless another is named. `Timer.cancel()` tells the time left."""
        return self.system.send_after(delay, self.ref if target is None else target, message)

    def reply(self, caller: Call, value: Any) -> None:
        """`reply`: answers a call whose handler returned NoReply."""
        calls.reply(caller, value)

    def monitor(self, target: Target) -> Monitor:
        """`monitor`, also by name: a Down comes to `handle_info`. Nobody of that name: at once, with "noproc"."""
        return self.system.monitor(target)

    def demonitor(self, monitor: Monitor, flush: bool = False) -> bool:
        """`demonitor`."""
        return signals.demonitor(monitor, flush)

    def link(self, target: Ref) -> None:
        """`link`."""
        signals.link(target)

    def unlink(self, target: Ref) -> None:
        """`unlink`."""
        signals.unlink(target)

    def get_state(self) -> Any:
        """The state as plain data, for people: its attributes. Override it where that is not the whole truth."""
        return dict(self.__dict__)

    def replace_state(self, function: Callable[[Any], Any]) -> Any:
        """Puts what `function` returns for a copy of the attributes in their place, and returns it."""
        state = function(dict(self.__dict__))
        if not isinstance(state, dict):
            raise SpecError("state", state, "a dictionary of attributes")
        self.__dict__.clear()
        self.__dict__.update(state)
        return dict(state)

    # ---- the runtime's -------------------------------------------------------------------------------------------------

    @classmethod
    def has_own_init(cls) -> bool:
        """Whether `init` is defined by the subclass."""
        return cls.init is not GenServer.init

    @classmethod
    def has_default_terminate(cls) -> bool:
        """Whether there is nothing to do at the end."""
        return cls.terminate is GenServer.terminate

    def begin(self, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Runs `init`."""
        return self.init(*arguments, **keywords)

    def end(self, reason: object) -> None:
        """Runs `terminate`."""
        self.terminate(reason)

    def take_over(self, old: GenServer) -> None:
        """A change of code: this one comes in the place of `old`."""
        self.code_change(type(old).version, old.plain_state())

    def plain_state(self) -> dict[str, Any]:
        """What `code_change` of the next class gets."""
        return dict(self.__dict__)

    def child_exited(self, process: Process, reason: object) -> None:
        """A supervisor's child is dead; only supervisors hear of it."""

    def orphans(self) -> list[Process]:
        """Whose parent dies with this one, besides those that are linked."""
        return []


def _scheduler(system: System | None) -> Scheduler:
    if system is not None:
        return system.scheduler
    process = signals.current_process()
    if process is None:
        raise NotAnActor("outside of an actor, start needs to know where: start(..., system=system)")
    return process.scheduler
