"""How a task begins: its record, its process, and who keeps it so that it ends with its owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from gevent import Greenlet
from greenlet import GreenletExit

from packetflow.otp.errors import NotAnActor, SpecError
from packetflow.otp.ordered import OrderedSet
from packetflow.otp.process import DEAD, Process
from packetflow.otp.signals import die
from packetflow.otp.threads import get_ident

if TYPE_CHECKING:
    from packetflow.otp.scheduler import Scheduler
    from packetflow.otp.tasks.task import Task


def launch(task: Task[Any], scheduler: Scheduler, parent: Process | None, kept: bool = True) -> Process:
    """Gives a task its process, which will begin soon. kept: by its owner, with which it ends."""
    if get_ident() != scheduler.thread:
        scheduler.check_thread()
    family: OrderedSet[Process] | None = None
    owner = task.owner
    if owner is not None and kept:
        if owner.__class__ is Process:
            bonds = owner.bonds
            if bonds is None:
                if owner.current is DEAD:
                    raise GreenletExit  # killed by what it did itself, and still running
                bonds = owner.bond()
            family = bonds.links
        else:
            family = _household(owner)
    process = Process(scheduler, task, parent, scheduler.monotonic())  # type: ignore[arg-type]
    number = process.number = scheduler.count = scheduler.count + 1
    scheduler.processes[number] = process
    if family is not None:
        family[process] = None
        task.family = family
    task.target = process
    process.current = task
    scheduler.run_queue.append(process)
    if not scheduler.flushing:
        scheduler.flush_soon()
    return process


class Household:
    """The tasks of a gevent greenlet, which end with it."""

    __slots__ = ("tasks",)

    def __init__(self) -> None:
        self.tasks: OrderedSet[Process] = OrderedSet()

    def __call__(self, owner: Greenlet) -> None:
        """The greenlet has ended."""
        for process in list(self.tasks):
            die(process, "shutdown" if owner.exception is None else owner.exception)


def _household(owner: Any) -> OrderedSet[Process] | None:
    household: Household | None = getattr(owner, "_packetflow_tasks", None)
    if household is None:
        if not isinstance(owner, Greenlet):
            return None  # nothing tells when a bare greenlet ends
        household = owner._packetflow_tasks = Household()
        owner.rawlink(household)
    return household.tasks


def name_of(function: Any) -> str:
    """A function's name as people write it."""
    try:
        name: str = function.__qualname__
    except AttributeError:
        inner = getattr(function, "func", None)  # a functools.partial
        return type(function).__name__ if inner is None else name_of(inner)
    return name if name[-1] != ">" and "<" not in name else name.rpartition("<locals>.")[2]


def check_function(function: object) -> None:
    """Raises SpecError for what can't be called."""
    if not callable(function):
        raise SpecError("function", function, "something that can be called")


def needs_system(what: str) -> NoReturn:
    """Raises NotAnActor: nobody said where the task should live."""
    raise NotAnActor(f"outside of an actor, {what} needs to know where: {what}(..., system=system)")
