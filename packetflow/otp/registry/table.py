"""The table of a registry: who has which key, told to listeners, gone at death. What one may ask is in registry.py."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from greenlet import getcurrent

from packetflow.otp.errors import AlreadyRegistered, NameTaken, NoProcess, NotRegistered, SpecError
from packetflow.otp.process import DEAD, SIGNAL, Process, Worker
from packetflow.otp.ref import Ref
from packetflow.otp.registry.lock import Locks
from packetflow.otp.signals import actor, log, signal
from packetflow.otp.threads import get_ident

if TYPE_CHECKING:
    from packetflow.otp.system import System

Keys = Literal["unique", "duplicate"]
Pairs = tuple[tuple[Ref, Any], ...]


class Registered(NamedTuple):
    """To a listener: an actor has a key now. registry is its name."""

    registry: str
    key: Any
    ref: Ref
    value: Any


class Unregistered(NamedTuple):
    """To a listener: that is over. reason: what the holder died of; None if it lives."""

    registry: str
    key: Any
    ref: Ref
    value: Any
    reason: object


class RegistryTable:
    """The registrations of one registry, and the processes that hold them."""

    __slots__ = (
        "_alone",
        "_count",
        "_found",
        "_holders",
        "_keys",
        "_listeners",
        "_locks",
        "_members",
        "_meta",
        "_owner",
        "_scheduler",
        "_serial",
        "name",
    )

    def __init__(self, name: str, system: System) -> None:
        self.name = name
        self._scheduler = system.scheduler
        self._owner: Process | None = None
        self._keys: Keys = "unique"
        self._listeners: tuple[str, ...] = ()
        self._meta: dict[Hashable, Any] = {}
        self._locks = Locks(self._scheduler)
        self._alone = (self,)  # what `Process.registries` is for most holders
        # key -> ((ref, value), ...): the table of a unique registry; in a duplicate one what was looked up lately.
        self._found = _Found(self._find)
        # key -> number of the registration -> (ref, value): the table of a duplicate registry.
        self._members: dict[Any, dict[int, tuple[Ref, Any]]] = {}
        # holder -> its keys -> the numbers of its registrations (None in a unique registry).
        self._holders: dict[Process, dict[Any, Any]] = {}
        self._count = 0
        self._serial = 0

    def open(self, owner: Process, keys: Keys, listeners: tuple[str, ...], meta: dict[Hashable, Any]) -> None:
        """Its server is there."""
        if self._owner is not None:
            raise NameTaken(self.name, self._owner.ref)  # the name was taken from a registry that still runs
        self._owner = owner
        self._keys = keys
        self._listeners = listeners
        self._meta = dict(meta)
        owner.registries = self._alone

    def add(self, process: Process, key: Any, value: Any) -> None:
        """Gives a process a key."""
        if self._owner is None:
            raise NoProcess(self.name)
        ref = process.ref
        if self._keys == "unique":
            held = self._found.get(key)
            if held is not None:
                raise AlreadyRegistered(self.name, key, held[0][0])
            self._found[key] = ((ref, value),)
            number = None
        else:
            self._serial = number = self._serial + 1
            members = self._members.get(key)
            if members is None:
                members = self._members[key] = {}
            members[number] = (ref, value)
            self._found.pop(key, None)
        mine = self._holders.get(process)
        if mine is None:
            mine = self._holders[process] = {}
            process.registries = self._alone if process.registries is None else (*process.registries, self)
        if number is None:
            mine[key] = None
        elif key in mine:
            mine[key].append(number)
        else:
            mine[key] = [number]
        self._count += 1
        if self._listeners:
            self._tell(Registered(self.name, key, ref, value))

    def forget(self, process: Process, reason: object) -> None:
        """A process is dying: its keys are gone. If it is the registry's own server, all are."""
        if process is self._owner:
            self._close(process, reason)
            return
        mine = self._holders.pop(process, None)
        if mine is not None:
            for key in list(mine):
                try:
                    self._remove(process, mine, key, reason)
                except Exception:  # noqa: BLE001 - nobody's death may fail of a key whose hash changed or raises
                    log.exception("registry %s: a key of %s can't be taken back", self.name, process.ref)

    def _close(self, owner: Process, reason: object) -> None:
        holders = list(self._holders)
        self._owner = None
        self._found.clear()
        self._members.clear()
        self._holders.clear()
        self._meta = {}
        self._count = 0
        self._locks.close(self.name)
        for holder in holders:
            self._leave(holder)
            signal(holder, owner.ref, reason, owner)

    def _remove(
        self, process: Process, mine: dict[Any, Any], key: Any, reason: object, meant: set[int] | None = None
    ) -> None:
        """Takes a key from one of its holders; meant: only these of its registrations."""
        if self._keys == "unique":
            removed = self._found.pop(key, ())
            del mine[key]
        else:
            members = self._members[key]
            own = mine.pop(key)
            if meant is not None:
                kept = [number for number in own if number not in meant]
                own = [number for number in own if number in meant]
                if kept:
                    mine[key] = kept
            removed = tuple([members.pop(number) for number in own])
            self._found.pop(key, None)
            if not members:
                del self._members[key]
        self._count -= len(removed)
        if self._listeners:
            for ref, value in removed:
                self._tell(Unregistered(self.name, key, ref, value, reason))

    def _let_go(self, process: Process) -> None:
        del self._holders[process]
        self._leave(process)

    def _leave(self, process: Process) -> None:
        others = process.registries
        if others is self._alone:
            process.registries = None
        elif others is not None:
            process.registries = tuple([one for one in others if one is not self]) or None

    def _tell(self, message: Registered | Unregistered) -> None:
        scheduler = self._scheduler
        for name in self._listeners:
            listener = scheduler.names.get(name)
            if listener is not None:
                scheduler.deliver(listener, (SIGNAL, message))

    def _find(self, key: Any) -> Pairs:
        """What `_found` does not have: nobody, or the members of a key of a duplicate registry."""
        self._running()
        members = self._members.get(key)
        if members is None:
            return ()
        found = tuple(members.values())
        if get_ident() == self._scheduler.thread:
            self._found[key] = found  # another thread's might be of yesterday when it is put in
        return found

    def _table(self) -> list[tuple[Any, Pairs]]:
        self._running()
        if self._keys == "unique":
            return list(self._found.items())
        return [(key, tuple(members.values())) for key, members in list(self._members.items())]

    def _running(self) -> Process:
        if self._owner is None:
            raise NoProcess(self.name)
        return self._owner

    def _whom(self, what: str, ref: Ref | None) -> Process:
        if ref is None:
            me = getcurrent()
            process: Any = me.process if me.__class__ is Worker else actor(what)
        else:
            process = ref._process
        scheduler = self._scheduler
        if process.scheduler is not scheduler:
            raise SpecError("ref", process.ref, f"an actor of the system {scheduler.system.name}")
        if ref is not None:
            scheduler.check_thread()
        if process.current is DEAD:
            raise NoProcess(process.ref)
        return process  # type: ignore[no-any-return]

    def _own(self, process: Process, key: Any) -> Pairs:
        found = self._found[key]
        if not found or found[0][0]._process is not process:
            raise NotRegistered(self.name, key, process.ref)
        return found

    def _check_unique(self, what: str) -> None:
        if self._keys != "unique":
            raise SpecError("keys", self._keys, f'"unique": {what} needs a registry of unique keys')


class _Found(dict[Any, Pairs]):
    """What a key leads to, by one look; who is not in it is looked for."""

    __slots__ = ("_find",)

    def __init__(self, find: Callable[[Any], Pairs]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: Any) -> Pairs:
        return self._find(key)
