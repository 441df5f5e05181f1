"""The slots of an actor, the record of somebody who waits for it, and the greenlet that works for it.

An idle actor is a Process and nothing else: no greenlet, no queue. `current` says it all: None is idle, DEAD is dead,
anything else is the message being handled (or about to be).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

from greenlet import greenlet

from packetflow.otp.answers import _Mark
from packetflow.otp.ordered import OrderedSet
from packetflow.otp.ref import Ref

if TYPE_CHECKING:
    from packetflow.otp.debugging import Trace
    from packetflow.otp.registry.table import RegistryTable
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.server import GenServer
    from packetflow.otp.signals import Monitor
    from packetflow.otp.state_machine.events import Expiry
    from packetflow.otp.supervision.child_spec import ChildSpec
    from packetflow.otp.supervision.children import Child
    from packetflow.otp.timers import Timer

DEAD: Final[Any] = _Mark("DEAD")
PENDING: Final[Any] = _Mark("PENDING")
GONE: Final[Any] = _Mark("GONE")  # the value of a wait that was given up

# The first element of a message that nobody waits for; calls and what is like them are records of their own.
CAST: Final = 0
INFO: Final = 1
SIGNAL: Final = 2  # an info that the runtime sends: never counts against a mailbox's bound
CONTINUE: Final = 3
IDLE: Final = 4  # the server's idle timeout


class Failed:
    """A wait that ends with an error: `error(timeout)` makes it."""

    __slots__ = ("error",)

    def __init__(self, error: Callable[[float | None], BaseException]) -> None:
        self.error = error


class Call:
    """One who waits: greenlet for target, with a message. `value` is PENDING until there is an answer.

    Handlers get it as `caller`: pass it to `reply`, compare it, keep it; read nothing but `ref`.
    """

    __slots__ = (
        "before",
        "caller",
        "context",
        "deadline",
        "greenlet",
        "message",
        "target",
        "timeout",
        "value",
    )

    outlives_its_caller: ClassVar[bool] = False  # done also where nobody waits for it any more

    timeout: float  # as it was asked for; only where the wait is bounded
    before: Any  # the open call made before this one; see timeouts
    deadline: float  # set once the clock was read for it

    def __init__(
        self, waiting: greenlet | None, target: Process, message: Any, caller: Process | None, context: Any
    ) -> None:
        self.greenlet = waiting
        self.target = target
        self.message = message
        self.caller = caller
        self.context = context
        self.value: Any = PENDING

    def towards(self, caller: Process) -> Process | None:
        """Whom the waiting one waits for, as far as it matters to `caller`; None: whom it waits for does not matter to it."""
        return self.target

    @property
    def ref(self) -> Ref | None:
        """Who calls, if it is an actor."""
        return None if self.caller is None else self.caller.ref

    def __repr__(self) -> str:
        return f"<caller {self.ref or 'outside'}>"


class Job(Call):
    """A call that is not for `handle_call`: the runtime's own, done in the server's turn by `perform`.

    perform sets `value` where the waiting one is to be let go, and returns what a handler might return.
    """

    __slots__ = ()

    def perform(self, process: Process) -> Any:
        """Does it, in the server's greenlet."""
        raise NotImplementedError

    def failed(self, process: Process, error: BaseException) -> bool:
        """What `perform` raised. Returns whether it is settled; else the server crashes of it."""
        if not isinstance(error, Exception):
            return False  # SystemExit and the like are for nobody else's greenlet
        if self.value is PENDING:
            self.value = Failed(lambda timeout: error)
        return True


class Bonds:
    """What few processes have: links, monitors, calls answered later, an idle timeout, waiting senders, a trace."""

    __slots__ = (
        "dropped",
        "idle_due",
        "idle_mark",
        "idle_timer",
        "links",
        "monitoring",
        "monitors",
        "owed",
        "senders",
        "timeouts",
        "trace",
    )

    def __init__(self) -> None:
        self.links: OrderedSet[Process] = OrderedSet()
        self.monitors: OrderedSet[Monitor] = OrderedSet()  # of me, by others
        self.monitoring: OrderedSet[Monitor] = OrderedSet()  # of others, by me
        self.owed: OrderedSet[Call] = OrderedSet()  # taken, and to be answered later
        self.senders: deque[Call] = deque()  # wait for room in my mailbox
        self.dropped = 0
        self.trace: Trace | None = None  # who is told of each message, see debugging
        self.idle_timer: Timer | None = None
        self.idle_due = 0.0
        self.idle_mark = -1
        self.timeouts: dict[Any, Expiry] | None = None  # a state machine's


class Process:
    """An actor as the runtime sees it."""

    __slots__ = (
        "_ref",
        "bonds",
        "child",
        "current",
        "handled",
        "limit",
        "mailbox",
        "name",
        "number",
        "parent",
        "registries",
        "scheduler",
        "server",
        "started",
        "waiting",
        "worker",
    )

    def __init__(
        self, scheduler: Scheduler, server: GenServer, parent: Process | None, started: float
    ) -> None:
        self.scheduler = scheduler
        self.server = server
        self.limit = server.mailbox_limit
        self.parent = parent
        self.started = started
        self.current: Any = None
        self.mailbox: deque[Any] | None = None
        self.worker: Worker | None = None
        self.waiting: Call | None = None
        self.bonds: Bonds | None = None
        self.name: str | None = None
        self.child: Child | ChildSpec | None = None  # what its supervisor knows of it
        self.registries: tuple[RegistryTable, ...] | None = None  # that have keys of it, or are kept by it
        self.handled = 0
        self.number = 0
        self._ref: Ref | None = None

    @property
    def ref(self) -> Ref:
        """Its address, made when somebody first asks: few tasks are ever asked for theirs."""
        ref = self._ref
        if ref is None:
            ref = self._ref = self.address()
        return ref

    def address(self) -> Ref:
        """Its ref, for one who may soon have forgotten it: of a million children few are asked for theirs again."""
        ref = self._ref
        if ref is None:
            system = self.scheduler.system
            ref = Ref(system.name, self.number, system.incarnation, self)
        return ref

    def bond(self) -> Bonds:
        """Its bonds, made when first needed."""
        bonds = self.bonds
        if bonds is None:
            bonds = self.bonds = Bonds()
        return bonds

    def label(self) -> str:
        """What people call it: its name, else its class or a task's function; "" for a stand-in."""
        if self.name is not None:
            return self.name
        server: Any = self.server
        return str(server.label()) if server.is_task else type(server).__name__


class _Absent:
    """Stands where a server would be."""

    mailbox_limit = None


_ABSENT: Final[Any] = _Absent()


class Nobody(Process):
    """Stands in a ref for somebody who is dead, or lives on another node."""

    __slots__ = ()

    def __init__(self, scheduler: Scheduler, ref: Ref) -> None:
        super().__init__(scheduler, _ABSENT, None, 0.0)
        self._ref = ref
        self.current = DEAD

    def label(self) -> str:
        """Nothing is known of it."""
        return ""


class Worker(greenlet):  # type: ignore[misc]
    """A greenlet that handles messages: now of this process, then of another."""

    __slots__ = ("hires", "process")

    process: Any  # the Process, or None while it is parked
    hires: int  # how many workers hired one another before it
