"""Exits: how a process dies, and how links, monitors and exit signals tell the others."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gevent.event import Event
from greenlet import GreenletExit, getcurrent

from packetflow.otp.answers import Down, Exit, Stop
from packetflow.otp.errors import NotAnActor, ServerExited
from packetflow.otp.process import DEAD, GONE, PENDING, SIGNAL, Call, Failed, Job, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.threads import check_room

if TYPE_CHECKING:
    from packetflow.otp.via import Target

log = logging.getLogger("packetflow.otp")


class Monitor:
    """One watch over one process: gives one Down when it dies, or at once if it was dead.

    Made by an actor, the Down comes to its `handle_info`. Made outside of one, or in a task, `wait` returns it.
    """

    __slots__ = ("_down", "_event", "_target", "_watcher", "ref")

    def __init__(self, ref: Target, target: Process | None, watcher: Process | None) -> None:
        self.ref = ref
        self._target = target
        self._watcher = watcher
        self._down: Down | None = None
        self._event: Event | None = None

    def wait(self, timeout: float | None = None) -> Down | None:
        """The Down, once there is one; None after `timeout` seconds. For a monitor made outside of an actor, or in a task."""
        if self._watcher is not None and not _is_task(self._watcher):
            raise NotAnActor("this monitor is an actor's: its Down comes to handle_info")
        if self._down is None:
            if self._event is None:
                self._event = Event()
            self._event.wait(timeout)
        return self._down

    def tell(self, reason: object) -> None:
        """Says that it is down; the runtime's."""
        self._target = None
        down = Down(self, self.ref, reason)
        watcher = self._watcher
        if watcher is not None:
            if watcher.current is DEAD:
                return
            watcher.bond().monitoring.discard(self)
            if not _is_task(watcher):
                watcher.scheduler.deliver(watcher, (SIGNAL, down))
                return
        self._down = down
        if self._event is not None:
            self._event.set()

    def end(self, flush: bool) -> bool:
        """See `demonitor`."""
        target, self._target = self._target, None
        if target is not None and target.bonds is not None:
            target.bonds.monitors.discard(self)
        watcher = self._watcher
        if watcher is not None and watcher.bonds is not None:
            watcher.bonds.monitoring.discard(self)
        if target is None and flush:
            self._down = None
            if watcher is not None and watcher.mailbox is not None:
                for item in watcher.mailbox:
                    if item.__class__ is tuple and item[1].__class__ is Down and item[1].monitor is self:
                        watcher.mailbox.remove(item)
                        break
                if not watcher.mailbox:
                    watcher.mailbox = None
        return target is not None

    def __repr__(self) -> str:
        return f"<monitor of {self.ref}>"


class AtDeath(Monitor):
    """Calls a function at the moment of an actor's death."""

    __slots__ = ("_function",)

    def __init__(self, actor: Process, function: Callable[[], object]) -> None:
        super().__init__(actor.ref, actor, None)
        self._function = function
        actor.bond().monitors.add(self)

    def tell(self, reason: object) -> None:
        """The actor is dead."""
        self._target = None
        try:
            self._function()
        except Exception:  # the others still have to be told
            log.exception("%s: what was to be done at its death failed", self.ref)


def at_death(function: Callable[[], object]) -> None:
    """Inside an actor: has a function called at the moment of its death, however it dies, a kill included.

    For what the actor holds outside of itself, such as a file or a port: it is given back before anybody, a supervisor
    included, can act on the death (as a port of OTP's ends with its owner). The function must not wait; what it raises is
    logged. Raises NotAnActor outside of one.
    """
    AtDeath(actor("at_death"), function)


def _is_task(process: Process) -> bool:
    return process.current is not DEAD and process.server.is_task


def current_process() -> Process | None:
    """The actor whose handler runs in this greenlet, if one does."""
    me = getcurrent()
    return me.process if me.__class__ is Worker else None


def actor(what: str) -> Process:
    """The same. Raises NotAnActor outside of one."""
    process = current_process()
    if process is None:
        raise NotAnActor(f"{what} is something an actor does; this greenlet is none's")
    _leave_if_dead(process)
    return process


def monitor(ref: Ref) -> Monitor:
    """Watches a process. One Down follows, with "noproc" and at once if it is dead already. See Monitor."""
    target = ref._process
    target.scheduler.check_thread()
    watcher = current_process()
    if watcher is not None:
        _leave_if_dead(watcher)
    made = Monitor(ref, target, watcher)
    if target.current is DEAD:
        made.tell("noproc")
    else:
        target.bond().monitors.add(made)
        if watcher is not None:
            watcher.bond().monitoring.add(made)
    return made


def demonitor(monitor: Monitor, flush: bool = False) -> bool:
    """Ends a watch. flush: a Down that waits in the mailbox is taken out too. Returns whether it was still on watch.

    Raises NotAnActor in an actor that ends the watch of another one."""
    watcher, me = monitor._watcher, current_process()
    if watcher is not None and me is not None and watcher is not me:
        raise NotAnActor(f"{monitor!r} is {watcher.ref}'s: no other actor may end it")
    return monitor.end(flush)


def link(ref: Ref) -> None:
    """Links the calling actor with another: an abnormal exit of one is an exit signal to the other. Both ways, once."""
    me = actor("link")
    other = ref._process
    if other is me:
        return
    if other.current is DEAD:
        signal(me, ref, "noproc", None)
        _leave_if_dead(me)
        return
    me.bond().links.add(other)
    other.bond().links.add(me)


def unlink(ref: Ref) -> None:
    """Takes the link away, if there is one."""
    me = actor("unlink")
    other = ref._process
    if me.bonds is not None:
        me.bonds.links.discard(other)
    if other.bonds is not None:
        other.bonds.links.discard(me)


def exit_signal(ref: Ref, reason: object) -> None:
    """Sends an exit signal. "normal" does nothing to another that does not trap exits; "kill" can't be trapped.

    Who traps exits gets `Exit(sender, reason)`; else the process dies at once, without `terminate`.
    """
    target = ref._process
    sender = current_process()
    if target.current is not DEAD:
        target.scheduler.check_thread()
        check_room()  # a process is dead for everybody or for nobody
        if reason == "kill":
            die(target, "killed")
        elif target is sender and reason == "normal" and not target.server.trap_exits:
            die(target, "normal")
        else:
            signal(target, ref if sender is None else sender.ref, reason, sender)
    if sender is not None:
        _leave_if_dead(sender)


def kill(ref: Ref) -> None:
    """Ends a process at once: dead for everybody when this returns. `terminate` does not run, `finally` blocks do."""
    exit_signal(ref, "kill")


def _leave_if_dead(process: Process) -> None:
    # Killed, and woken before it was ended: it must not go on, and tie itself to others that would never be untied.
    if process.current is DEAD and process.worker is getcurrent():
        raise GreenletExit


class Leave(Job):
    """The parent's exit signal to a server that traps exits: it stops in order. message is the reason."""

    __slots__ = ()

    def perform(self, process: Process) -> Any:
        """Stops with the parent's reason."""
        return Stop(self.message)


def signal(target: Process, sender: Ref, reason: object, source: Process | None) -> None:
    """An exit signal arrives at target."""
    if target.current is DEAD:
        return
    if target.server.trap_exits:
        if source is not None and source is target.parent:
            target.scheduler.deliver(target, Leave(None, target, reason, None, None))
        else:
            target.scheduler.deliver(target, (SIGNAL, Exit(sender, reason)))
    elif reason != "normal":
        die(target, reason)
    elif source is not None and source.current is DEAD and target.server.is_task:
        task: Any = target.server
        if task.owner is source:
            die(target, "shutdown")  # nobody is left who could await it


def die(process: Process, reason: object) -> None:
    """The end of a process, and of those that it takes with it. When this returns, nobody can reach it any more."""
    scheduler = process.scheduler
    scheduler.dying.append((process, reason))
    if len(scheduler.dying) > 1:
        return  # one of those further up does it: a long chain of links is no recursion
    while scheduler.dying:
        try:
            _bury(*scheduler.dying[0])
        finally:
            scheduler.dying.popleft()


def _bury(process: Process, reason: object) -> None:
    current = process.current
    if current is DEAD:
        return
    scheduler, server, worker = process.scheduler, process.server, process.worker
    process.current = DEAD
    scheduler.processes.pop(process.number, None)
    if process.name is not None and scheduler.names.get(process.name) is process:
        del scheduler.names[process.name]
    if process.registries is not None:
        for registry in process.registries:
            registry.forget(process, reason)
        process.registries = None

    # The supervisor hears first: who gets an error from a call and tries the name again finds the new one sooner.
    parent = process.parent
    if parent is not None and parent.server is not None and parent.server.supervises:
        parent.server.child_exited(process, reason)

    if isinstance(current, Call) and current.value is PENDING:
        fail(current, reason)
    mailbox = process.mailbox
    if mailbox is not None:
        process.mailbox = None
        for item in mailbox:
            if isinstance(item, Call) and item.value is PENDING:
                fail(item, reason)
    waiting = process.waiting
    if waiting is not None and worker is not getcurrent():
        if waiting.value is PENDING:
            waiting.value = GONE
        waiting.greenlet = None
    if server.is_task:
        task: Any = server
        task.ended(process, reason)
    if process.bonds is not None:
        _untie(process, reason)
    if server.supervises:
        for child in server.orphans():
            signal(child, process.ref, reason, process)
    # A ref that somebody keeps must not keep the state alive.
    process.name = process.label()
    process.server = None  # type: ignore[assignment]
    process.parent = process.bonds = process.waiting = None
    if worker is not None and worker is not getcurrent():
        scheduler.cut(process, worker)


def _untie(process: Process, reason: object) -> None:
    bonds = process.bonds
    if bonds is None:
        return
    if bonds.idle_timer is not None:
        bonds.idle_timer.cancel()
    if bonds.timeouts is not None:
        for expiry in bonds.timeouts.values():
            expiry.cancel()
    for owed in bonds.owed:
        if owed.value is PENDING:
            fail(owed, reason)
    for sender in bonds.senders:
        if sender.value is PENDING:
            fail(sender, reason)
    for watch in bonds.monitors:
        watch.tell(reason)
    for watch in list(bonds.monitoring):
        watch.end(flush=False)
    for other in tuple(bonds.links):  # one in another system dies at once, and leaves them
        if other.bonds is not None:
            other.bonds.links.discard(process)
        signal(other, process.ref, reason, process)


def fail(call: Call, reason: object) -> None:
    """Ends a wait because the target died of `reason`."""
    ref = call.target.ref

    if call.greenlet is not None:
        call.target.scheduler.enqueue(call)
    call.value = Failed(lambda timeout: ServerExited(ref, reason))
