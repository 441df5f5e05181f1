"""Registry: actors by key, read in place, without a message (Elixir's `Registry`).

A server in the supervision tree (`RegistryServer`) says how long it lives. The table itself is in table.py, the
locks by key are in lock.py.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from packetflow.otp.answers import Exit
from packetflow.otp.errors import SpecError
from packetflow.otp.process import Process
from packetflow.otp.ref import Ref
from packetflow.otp.registry.lock import Lock
from packetflow.otp.registry.patterns import matches
from packetflow.otp.registry.table import Keys, Pairs, RegistryTable
from packetflow.otp.server import GenServer, _scheduler
from packetflow.otp.signals import actor
from packetflow.otp.start import start_process
from packetflow.otp.supervision.child_spec import Backoff, ChildSpec, Restart
from packetflow.otp.via import Via

if TYPE_CHECKING:
    from packetflow.otp.system import System


class Registry(RegistryTable):
    """The registry of one name in one system, whether it runs now or not; it can be kept over its restarts.

    A key leads to one actor ("unique") or to any number ("duplicate"), each with a value. Keys are compared as a dict's
    are. Whoever dies loses its keys before anybody learns of its death, so that nobody dead is ever found (in Elixir that
    may take a moment). When the registry itself ends, all keys are gone and the holders get an exit signal with its
    reason, as if they were linked with it. What is asked of a registry that does not run raises NoProcess. Any thread may
    look up; the others' business is the actors'.

    Elixir's `partitions` spread a table over schedulers; this one is read and written by one thread, and has none.
    """

    __slots__ = ("__weakref__",)

    # ---- starting ------------------------------------------------------------------------------------------------------

    @classmethod
    def start(
        cls,
        keys: Keys,
        *,
        name: str,
        listeners: Iterable[str] = (),
        meta: Mapping[Hashable, Any] | None = None,
        system: System | None = None,
    ) -> Registry:
        """Starts a registry; in the tree, use `Registry.child`.

        keys: "unique" or "duplicate". listeners: names of actors that get a Registered or Unregistered for each change, but
        nothing when the registry itself ends (monitor it). meta: what `meta` tells. system: the calling actor's own by
        default. Raises SpecError, NameTaken.
        """
        options = _options(keys, name, listeners, meta)
        scheduler = _scheduler(system)
        start_process(scheduler, RegistryServer, (), options, name, None)
        return cls.named(name, scheduler.system)

    @classmethod
    def start_link(
        cls,
        keys: Keys,
        *,
        name: str,
        listeners: Iterable[str] = (),
        meta: Mapping[Hashable, Any] | None = None,
    ) -> Registry:
        """The same, linked with the calling actor, and its child."""
        options = _options(keys, name, listeners, meta)
        parent = actor("start_link")
        start_process(parent.scheduler, RegistryServer, (), options, name, None, parent, linked=True)
        return cls.named(name, parent.scheduler.system)

    @classmethod
    def child(
        cls,
        keys: Keys,
        *,
        name: str,
        listeners: Iterable[str] = (),
        meta: Mapping[Hashable, Any] | None = None,
        id: Hashable = None,
        restart: Restart = "permanent",
        shutdown: float | Literal["brutal_kill", "infinity"] | None = None,
        backoff: Backoff | None = None,
    ) -> ChildSpec:
        """The ChildSpec of a registry; its id is the name. Raises SpecError. A restarted one is empty."""
        options = _options(keys, name, listeners, meta)
        return ChildSpec(
            RegistryServer,
            id=id,
            name=name,
            restart=restart,
            shutdown=shutdown,
            backoff=backoff,
            options=options,
        )

    @staticmethod
    def named(name: str, system: System | None = None) -> Registry:
        """The registry of a name, which need not run yet. system: the calling actor's own by default."""
        home = _scheduler(system).system
        registry = home.registries.get(name)
        if registry is None:
            registry = home.registries[name] = Registry(name, home)
        return registry

    @property
    def ref(self) -> Ref:
        """The ref of its server, to stop or watch it. Raises NoProcess."""
        return self._running().ref

    # ---- registering ---------------------------------------------------------------------------------------------------

    def register(self, key: Any, value: Any = None, ref: Ref | None = None) -> None:
        """Gives the calling actor a key. In a duplicate registry it may have one several times.

        ref: another actor of the same system, to be registered in its place. Raises AlreadyRegistered, which names the
        holder of a unique key; NoProcess; NotAnActor.
        """
        self.add(self._whom("register", ref), key, value)

    def unregister(self, key: Any, ref: Ref | None = None) -> None:
        """Takes a key back from the calling actor (or another: ref), however often it has it. It need not have it."""
        process = self._whom("unregister", ref)
        mine = self._holders.get(process)
        if mine is not None and key in mine:
            self._remove(process, mine, key, None)
            if not mine:
                self._let_go(process)

    def unregister_match(self, key: Any, pattern: Any, ref: Ref | None = None) -> None:
        """The same, but only where the value matches; see `match`."""
        process = self._whom("unregister_match", ref)
        mine = self._holders.get(process)
        if mine is None or key not in mine:
            return
        meant: set[int] | None = None
        if self._keys == "unique":
            if not matches(pattern, self._found[key][0][1]):
                return
        else:
            members = self._members[key]
            own = [(number, members[number][1]) for number in mine[key]]
            meant = {number for number, value in own if matches(pattern, value)}
        # A pattern may be a function that does anything: what it has taken away is not there any more.
        if self._holders.get(process) is mine and key in mine:
            self._remove(process, mine, key, None, meant)
            if not mine:
                self._let_go(process)

    def update_value(
        self, key: Any, function: Callable[[Any], Any], ref: Ref | None = None
    ) -> tuple[Any, Any]:
        """Puts `function(value)` in the place of the caller's value. Returns (new, old). Only in a unique registry.

        Raises NotRegistered if the key is not the caller's (in Elixir: `:error`).
        """
        self._check_unique("update_value")
        process = self._whom("update_value", ref)
        ((_, old),) = self._own(process, key)
        new = function(old)
        self._own(process, key)  # the function may have taken its time
        self._found[key] = ((process.ref, new),)
        return new, old

    # ---- looking up ----------------------------------------------------------------------------------------------------

    def lookup(self, key: Any) -> Pairs:
        """Who has a key: (ref, value) pairs in the order of their registration; none at all if nobody has it."""
        return self._found[key]

    def whereis(self, key: Any) -> Ref | None:
        """Who has a unique key, if anybody has."""
        self._check_unique("whereis")
        found = self._found[key]
        return found[0][0] if found else None

    def keys(self, ref: Ref | None = None) -> list[Any]:
        """The keys of an actor, by default the calling one; in a duplicate registry as often as it has them."""
        self._running()
        mine = self._holders.get(actor("keys") if ref is None else ref._process)
        if mine is None:
            return []
        if self._keys == "unique":
            return list(mine)
        return [key for key, numbers in mine.items() for _ in numbers]

    def values(self, key: Any, ref: Ref | None = None) -> list[Any]:
        """The values with which an actor, by default the calling one, has a key."""
        found = self._found[key]
        mine = self._holders.get(actor("values") if ref is None else ref._process)
        if mine is None or key not in mine:
            return []
        if self._keys == "unique":
            return [found[0][1]]
        members = self._members[key]
        return [members[number][1] for number in mine[key]]

    def match(self, key: Any, pattern: Any) -> list[tuple[Ref, Any]]:
        """Who has a key with a value that matches.

        pattern: `...` for anything, tuples, lists and dicts of patterns (a dict may have more keys), a class, a predicate,
        or a value to be equal with: `match("hello", (1, ..., lambda n: n > 5))`.
        """
        return [pair for pair in self._found[key] if matches(pattern, pair[1])]

    def select(self, key: Any = ..., ref: Any = ..., value: Any = ...) -> list[tuple[Any, Ref, Any]]:
        """Every (key, ref, value) of which all three match; see `match`. Goes through the whole table."""
        return [
            (each, pair[0], pair[1])
            for each, pairs in self._table()
            for pair in pairs
            if matches(key, each) and matches(ref, pair[0]) and matches(value, pair[1])
        ]

    def count(self) -> int:
        """How many registrations there are. Counts nothing: it is known."""
        self._running()
        return self._count

    def count_match(self, key: Any, pattern: Any) -> int:
        """How many `match` finds."""
        return len(self.match(key, pattern))

    def count_select(self, key: Any = ..., ref: Any = ..., value: Any = ...) -> int:
        """How many `select` finds."""
        return len(self.select(key, ref, value))

    def dispatch(self, key: Any, function: Callable[[Pairs], Any]) -> None:
        """Calls `function(pairs)`, once and here, with what `lookup` gives; not at all if that is nobody.

        `registry.dispatch("news", lambda pairs: [send(ref, "extra") for ref, _ in pairs])`. Raises what it raises.
        """
        found = self._found[key]
        if found:
            function(found)

    # ---- names, locks, meta ----------------------------------------------------------------------------------------------

    def via(self, key: Any, value: Any = None) -> RegistryVia:
        """A name by which an actor can be started, called and found: `Counter.start(name=registry.via("c"))`.

        value: registered with it. Only a unique registry gives names. It need not run yet.
        """
        return RegistryVia(self, key, value)

    def lock(self, key: Any, timeout: float | None = None) -> Lock:
        """`with registry.lock(key): ...`: one greenlet at a time, in order, for each key; the keys of actors are others.

        Raises CallCycle where the one inside waits for the caller; RuntimeError where it is the caller; CallTimeout after
        `timeout` seconds; NoProcess if the registry ends meanwhile. It is given back when the block is left, also by a kill.
        """
        return Lock(self._locks, self._running(), key, timeout)

    def meta(self, key: Hashable, default: Any = None) -> Any:
        """What was put under a key of the registry's own, or `meta=` began with."""
        self._running()
        return self._meta.get(key, default)

    def put_meta(self, key: Hashable, value: Any) -> None:
        """Keeps something about the registry itself until it ends."""
        self._running()
        self._meta[key] = value

    def delete_meta(self, key: Hashable) -> None:
        """Forgets it."""
        self._running()
        self._meta.pop(key, None)

    def __repr__(self) -> str:
        state = f"{self._count} {self._keys} keys" if self._owner is not None else "not running"
        return f"<Registry {self.name}, {state}>"


class RegistryVia(Via):
    """A key of a unique registry as a name. Two of the same registry and key are equal."""

    __slots__ = ("key", "registry", "value")

    def __init__(self, registry: Registry, key: Any, value: Any = None) -> None:
        hash(key)  # better here than when it is used
        self.registry = registry
        self.key = key
        self.value = value

    def whereis(self, system: System | None) -> Ref | None:
        """Who has the key."""
        registry = self.registry
        if registry._keys != "unique":
            registry._check_unique("via")
        held = registry._found.get(self.key)
        return None if held is None else held[0][0]

    def take(self, process: Process) -> None:
        """Registers a process that is being started."""
        registry = self.registry
        registry._check_unique("via")
        if process.scheduler is not registry._scheduler:
            raise SpecError("name", self, f"a name of the system {process.scheduler.system.name}")
        registry.add(process, self.key, self.value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RegistryVia):
            return NotImplemented
        return self.registry is other.registry and bool(self.key == other.key)

    def __hash__(self) -> int:
        return hash((self.registry.name, self.key))

    def __repr__(self) -> str:
        return f"{self.registry.name}[{self.key!r}]"


class RegistryServer(GenServer):
    """The life of a registry: it begins and ends with this server. Made by `Registry.start` and `Registry.child`."""

    trap_exits = True

    def init(self, name: str, keys: Keys, listeners: tuple[str, ...], meta: dict[Hashable, Any]) -> None:
        """Opens the registry of its name."""
        self._registry = Registry.named(name, self.system)
        self._registry.open(self._process, keys, listeners, meta)

    def handle_info(self, message: Any) -> None:
        """Exit signals of strangers are ignored, as by a supervisor."""
        if not isinstance(message, Exit):
            super().handle_info(message)

    def get_state(self) -> dict[str, Any]:
        """Its kind and how much it holds."""
        registry = self._registry
        return {
            "keys": registry._keys,
            "count": registry._count,
            "holders": len(registry._holders),
            "listeners": registry._listeners,
            "meta": dict(registry._meta),
        }


def _options(keys: object, name: object, listeners: Any, meta: object) -> dict[str, Any]:
    if keys not in ("unique", "duplicate"):
        raise SpecError("keys", keys, '"unique" or "duplicate"')
    if not isinstance(name, str) or not name:
        raise SpecError("name", name, "a text that is not empty")
    if isinstance(listeners, str) or not isinstance(listeners, Iterable):
        raise SpecError("listeners", listeners, "a list of names")
    names = tuple(listeners)
    if not all(isinstance(one, str) for one in names):
        raise SpecError("listeners", listeners, "a list of names")
    if meta is not None and not isinstance(meta, Mapping):
        raise SpecError("meta", meta, "a mapping, or None")
    return {"name": name, "keys": keys, "listeners": names, "meta": dict(meta or {})}
