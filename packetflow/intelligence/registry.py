"""The module registry: starts, replaces and stops the modules of a node, and swaps the chain in one assignment.

A change is built beside the live chain and put in place when all of it runs; one that fails leaves everything as it was.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import gevent
from pydantic import BaseModel

from packetflow.intelligence.chain import ModuleChain
from packetflow.intelligence.gate import DISABLED, QUARANTINED, RESTARTING, Gate
from packetflow.intelligence.host import Hosted, ModuleHost, checked_config
from packetflow.intelligence.loader import LoadedModule, is_current, load
from packetflow.intelligence.manifest import ModuleError
from packetflow.intelligence.module import HOOKS, Module, overrides
from packetflow.intelligence.placement import Placed, Placement, check_dependencies
from packetflow.otp import ChildSpec, Down, DynamicSupervisor, GenServer, Ref, Supervisor
from packetflow.otp.clock import Clock
from packetflow.otp.errors import PacketFlowError
from packetflow.otp.supervision.children import Intensity

MAX_FAULTS = 20  # faults of one module
FAULT_WINDOW = 60.0  # seconds in which they count
MAX_RESTARTS = 3  # restarts in the same window, past which it is quarantined


class Surroundings:
    """What a registry is given by its node.

    configure(placement, class) gives a module's checked configuration; swap(chain) puts a chain in place; settle()
    returns when the requests that are in flight now have ended; totals() brings the gates' counts up to date;
    run_async(coroutine) waits for it on the asyncio loop.
    """

    def __init__(
        self,
        *,
        module_path: Sequence[Path],
        supervisor: str,
        clock: Clock,
        log: Any,
        swap: Callable[[ModuleChain], None],
        settle: Callable[[], None],
        totals: Callable[[], None],
        run_async: Callable[[Any], Any],
        start_timeout: float = 30.0,
        shutdown: float = 5.0,
        open_mode: bool = True,
        configure: Callable[[Placement, type[Module]], BaseModel] | None = None,
    ) -> None:
        self.module_path = module_path
        self.supervisor = supervisor
        self.clock = clock
        self.log = log
        self.swap = swap
        self.settle = settle
        self.totals = totals
        self.run_async = run_async
        self.start_timeout = start_timeout
        self.shutdown = shutdown
        self.open_mode = open_mode
        self.configure = configure or (
            lambda placement, cls: checked_config(cls, placement.name, placement.config)
        )


class Change:
    """A change that was built and started, and is not in place: the modules afterwards, those that are new, and those that go.

    same: it is one module's next instance, which goes on counting. unload: whether the code of those that go, or of the
    new ones if it comes to nothing, is needed no more.
    """

    __slots__ = ("after", "fresh", "gone", "same", "unload")

    def __init__(
        self,
        after: dict[str, Placed],
        fresh: Sequence[Placed],
        gone: Sequence[Placed],
        same: bool = False,
        unload: bool = True,
    ) -> None:
        self.after = after
        self.fresh = fresh
        self.gone = gone
        self.same = same
        self.unload = unload


class ModuleRegistry(GenServer):
    """The one that changes the chain. Requests:

    ("apply", placements, dry_run) -> list of what changed, in words
    ("enable" | "disable" | "reload" | "restart", name, dry_run) -> whether anything changed
    ("prepare", one of these actions, its placements or name) -> the same answer: what is new runs beside the chain, and is
        in no request's way; then ("commit",) puts it in place and can't fail, or ("abort",) ends it again
    ("register", placement), ("unregister", name)
    ("list",) -> the placed modules in the chain's order

    An answer is (True, it), or (False, error), and then nothing has changed.
    """

    hub_limit = 30.0  # it loads code and starts what that needs, as long as the usual `timeouts.start`

    def init(self, surroundings: Surroundings, placements: Callable[[], Sequence[Placement]]) -> None:
        """Start the modules of the configuration. Raises ModuleError if one of them does not start."""
        self._around = surroundings
        self._placed: dict[str, Placed] = {}
        self._supervisors: dict[Ref, Placed] = {}
        self._kills: dict[str, Intensity] = {}  # of the modules' supervisors
        self._retiring: set[gevent.Greenlet[..., None]] = set()
        self._pending: Change | None = None
        self._prepared = False
        self._put(self._apply(placements(), False)[1])

    def handle_call(self, request: Any, caller: Any) -> Any:
        """Answer one request: (True, answer), or (False, error) where the request is at fault, which is no crash."""
        try:
            return True, self._answer(*request)
        except PacketFlowError as error:
            return False, error

    def _answer(self, action: str, *arguments: Any) -> Any:
        match action:
            case "list":
                return self._in_order()
            case "find":
                return self._find(*arguments)
            case "commit" | "abort":
                return self._conclude(action == "commit")
        if self._prepared:
            raise ModuleError("another change of the modules is under way; try again")
        if action == "prepare":
            answer, self._pending = self._build_change(*arguments, False)
            self._prepared = True
            return answer
        answer, change = self._build_change(action, *arguments)
        self._put(change)
        return answer

    def _build_change(self, action: str, *arguments: Any) -> tuple[Any, Change | None]:
        match action:
            case "apply":
                return self._apply(*arguments)
            case "register":
                return self._register(*arguments)
            case "unregister":
                return self._unregister(*arguments)
            case "enable" | "disable":
                name, dry_run = arguments
                return self._switch(name, action == "enable", dry_run)
            case "reload":
                return self._reload(*arguments)
            case "restart":
                return self._restart(*arguments)
        raise ModuleError(f"the module registry can't {action!r}")

    def _conclude(self, commit: bool) -> bool:
        """The end of a prepared change. Returns whether there was one."""
        there, self._prepared = self._prepared, False
        change, self._pending = self._pending, None
        if commit:
            self._put(change)
        elif change is not None:
            self._drop(change.fresh, change.unload)
        return there

    def handle_info(self, message: Any) -> None:
        """A module's supervisor gave up or was killed, or a hook failed."""
        match message:
            case Down(ref=Ref() as ref, reason=reason):
                placed = self._supervisors.pop(ref, None)
                if placed is not None and placed.supervisor == ref:
                    self._supervisor_ended(placed, reason)
            case ("fault", gate, principal, overran):
                self._fault(gate, principal, overran)

    def terminate(self, reason: object) -> None:
        """See those out that are being retired; forget the others' code: their hosts keep what they run until they end."""
        gevent.joinall(list(self._retiring), timeout=self._around.shutdown)
        self._conclude(False)
        for one in self._placed.values():
            one.loaded.unload()

    # ---- changes --------------------------------------------------------------------------------------------------------

    def _apply(self, placements: Sequence[Placement], dry_run: bool) -> tuple[list[str], Change | None]:
        wanted = self._unique(placements)
        kept = {
            name: one
            for name, one in self._placed.items()
            if name in wanted and self._same(one, wanted[name])
        }
        fresh: dict[str, Placed] = {}
        try:
            for name, placement in wanted.items():
                if name not in kept:
                    fresh[name] = self._build(placement)
            after = {name: kept.get(name) or fresh[name] for name in wanted}
            check_dependencies([one for one in after.values() if one.placement.enabled])
            changes = [f"module {name} {'changed' if name in self._placed else 'added'}" for name in fresh]
            changes += [f"module {name} removed" for name in self._placed if name not in wanted]
            if not dry_run:
                for one in fresh.values():
                    if one.placement.enabled:
                        self._start(one)
        except BaseException:
            self._drop(fresh.values())
            raise
        if dry_run:
            self._drop(fresh.values())
            return changes, None
        gone = [one for name, one in self._placed.items() if after.get(name) is not one]
        return changes, Change(after, list(fresh.values()), gone)

    def _put(self, change: Change | None) -> None:
        """Put a change in place: one swap of the chain. Those that go finish what they are in."""
        if change is None:
            return
        if change.same:
            for old, new in zip(change.gone, change.fresh, strict=True):
                self._keep_counts(old.gate, new.gate)
        self._placed = change.after
        self._swap()
        self._retire(change.gone, change.unload)

    def _register(self, placement: Placement) -> tuple[bool, Change | None]:
        if placement.name in self._placed:
            raise ModuleError(f"module {placement.name} is there already; expected a name that is free")
        return True, self._apply([*(one.placement for one in self._placed.values()), placement], False)[1]

    def _unregister(self, name: str) -> tuple[bool, Change | None]:
        gone = self._find(name)
        return True, self._apply([one.placement for one in self._placed.values() if one is not gone], False)[
            1
        ]

    def _switch(self, name: str, enabled: bool, dry_run: bool) -> tuple[bool, Change | None]:
        old = self._find(name)
        if old.placement.enabled == enabled:
            return False, None
        return True, self._replace(old, old.loaded, enabled, dry_run)

    def _reload(self, name: str, dry_run: bool) -> tuple[bool, Change | None]:
        old = self._find(name)
        loaded = load(old.placement.module, self._around.module_path)
        try:
            change = self._replace(old, loaded, old.placement.enabled, dry_run)
        except BaseException:
            loaded.unload()
            raise
        changed = loaded.digest != old.loaded.digest
        if dry_run:
            loaded.unload()
        return changed, change

    def _restart(self, name: str, dry_run: bool) -> tuple[bool, Change | None]:
        old = self._find(name)
        return True, self._replace(old, old.loaded, old.placement.enabled, dry_run)

    def _replace(self, old: Placed, loaded: LoadedModule, enabled: bool, dry_run: bool) -> Change | None:
        """A new instance for the old one's place."""
        placement = old.placement
        if placement.enabled != enabled:
            placement = Placement(**{**vars(placement), "enabled": enabled})
        new = self._prepare(placement, loaded)
        after = {name: new if one is old else one for name, one in self._placed.items()}
        check_dependencies([one for one in after.values() if one.placement.enabled])
        if dry_run:
            return None
        if enabled:
            self._start(new)
        return Change(after, [new], [old], same=True, unload=loaded is not old.loaded)

    @property
    def _hosts(self) -> Ref:
        hosts = self.system.whereis(self._around.supervisor)
        if hosts is None:
            raise ModuleError("the modules' supervisor is down")
        return hosts

    # ---- starting and ending ------------------------------------------------------------------------------------------

    def _build(self, placement: Placement) -> Placed:
        try:
            loaded = load(placement.module, self._around.module_path)
        except ModuleError as error:
            error.module = placement.name
            raise
        try:
            return self._prepare(placement, loaded)
        except BaseException:
            loaded.unload()
            raise

    def _prepare(self, placement: Placement, loaded: LoadedModule) -> Placed:
        around = self._around
        config = around.configure(placement, loaded.cls)
        gate = placement.gate(loaded)
        gate.on_fault = self._told
        gate.run_async = around.run_async
        if not placement.enabled:
            gate.status = DISABLED
        hosted = Hosted(
            gate, loaded, config, around.clock, around.log.bind(module=placement.name), self._rebind
        )
        return Placed(placement, loaded, config, hosted)

    def _start(self, placed: Placed) -> None:
        around = self._around
        host = ChildSpec(
            ModuleHost, placed.hosted, id="host", shutdown=around.shutdown, start_timeout=around.start_timeout
        )
        tree = Supervisor.child(
            [host],
            id=placed.name,
            restart="temporary",
            max_restarts=MAX_RESTARTS,
            max_seconds=FAULT_WINDOW,
            start_timeout=around.start_timeout,
        )
        try:
            started = DynamicSupervisor.start_child(
                self._hosts, tree, timeout=around.start_timeout + around.shutdown
            )
        except Exception as error:  # whatever the author's init raised, or that it did not end
            raise ModuleError(
                f"module {placed.name} does not start: {_reason(error)}", placed.name
            ) from error
        assert started is not None, "a supervisor does not ignore its start"
        placed.supervisor = started
        self._supervisors[started] = placed
        self.monitor(started)

    def _swap(self) -> None:
        self._around.swap(ModuleChain([one.gate for one in self._placed.values() if one.placement.enabled]))

    def _rebind(self) -> None:
        """An instance came or went behind its gate: the same chain, its hooks bound anew."""
        self._swap()

    def _retire(self, gone: Sequence[Placed], unload: bool) -> None:
        """End modules once the requests in flight have left them."""
        if gone:
            retiring = gevent.spawn(self._end, list(gone), unload)
            self._retiring.add(retiring)
            retiring.link(self._retiring.discard)

    def _end(self, gone: Sequence[Placed], unload: bool) -> None:
        self._around.settle()
        for one in gone:
            if one.supervisor is not None:
                self._supervisors.pop(one.supervisor, None)
                try:
                    DynamicSupervisor.terminate_child(
                        self._hosts, one.supervisor, timeout=self._around.shutdown * 2
                    )
                except PacketFlowError as error:
                    # It was gone already, or did not end in its time and was killed: either way it is out of the chain.
                    self._around.log.warning(
                        "module did not end in order", module=one.name, error=repr(error)
                    )
            if unload:
                one.loaded.unload()

    def _drop(self, placed: Iterable[Placed], unload: bool = True) -> None:
        """Undo what a change built that comes to nothing; nobody has seen it."""
        for one in placed:
            if one.supervisor is not None:
                self._supervisors.pop(one.supervisor, None)
                DynamicSupervisor.terminate_child(
                    self._hosts, one.supervisor, timeout=self._around.shutdown * 2
                )
            if unload:
                one.loaded.unload()

    # ---- faults ---------------------------------------------------------------------------------------------------------

    def _told(self, gate: Gate, principal: str, overran: bool) -> None:
        """Called in the greenlet of a request whose hook failed."""
        self.system.send(self.ref, ("fault", gate, principal, overran))

    def _fault(self, gate: Gate, principal: str, overran: bool) -> None:
        placed = self._placed.get(gate.name)
        if placed is None or placed.gate is not gate or gate.module is None:
            return
        now = self._around.clock.monotonic()
        placed.faults.append((now, principal))
        recent = [who for when, who in placed.faults if now - when <= FAULT_WINDOW]
        spread = self._around.open_mode or len(set(recent)) >= 2
        if overran:
            self._crash(placed, f"a hook overran its {gate.timeout:g} s and was broken off")
        elif len(recent) >= MAX_FAULTS and spread:
            placed.faults.clear()
            self._crash(placed, f"{MAX_FAULTS} faults in {FAULT_WINDOW:g} s, the last: {gate.last_error}")

    def _crash(self, placed: Placed, why: str) -> None:
        self._around.log.warning("module restarted", module=placed.name, why=why)
        placed.gate.status = RESTARTING
        placed.hosted.crash(why)

    def _supervisor_ended(self, placed: Placed, reason: object) -> None:
        """One that gave up has had its restarts; one that was killed says nothing of its module, which comes back."""
        if reason == "killed" and not self._kills.setdefault(
            placed.name, Intensity(MAX_RESTARTS, FAULT_WINDOW)
        ).exceeded(self._around.clock.monotonic()):
            placed.gate.status = RESTARTING
            try:
                self._start(placed)
                return
            except ModuleError as error:
                self._around.log.error("module does not come back", module=placed.name, error=str(error))
        self._quarantine(placed)

    def _quarantine(self, placed: Placed) -> None:
        placed.supervisor = None
        placed.gate.module = None
        placed.gate.status = QUARANTINED
        self._swap()
        self._around.log.error("module quarantined", module=placed.name, last_error=placed.gate.last_error)

    # ---- looking ----------------------------------------------------------------------------------------------------------

    def _find(self, name: str) -> Placed:
        found = self._placed.get(name)
        if found is None:
            nearest = difflib.get_close_matches(name, self._placed, n=1)
            hint = (
                f"; nearest {nearest[0]}" if nearest else f"; there are {', '.join(self._placed) or 'none'}"
            )
            raise ModuleError(f"no module {name!r} on this node{hint}")
        return found

    def _in_order(self) -> list[Placed]:
        self._around.totals()
        return sorted(self._placed.values(), key=lambda one: one.placement.priority)

    @staticmethod
    def _unique(placements: Sequence[Placement]) -> dict[str, Placement]:
        wanted: dict[str, Placement] = {}
        for placement in placements:
            if placement.name in wanted:
                raise ModuleError(
                    f"module {placement.name} stands twice; expected a name of its own for each instance"
                )
            wanted[placement.name] = placement
        return wanted

    def _same(self, placed: Placed, placement: Placement) -> bool:
        sound = placed.gate.status != QUARANTINED
        return placed.placement == placement and sound and is_current(placed.loaded)

    @staticmethod
    def _keep_counts(old: Gate, new: Gate) -> None:
        new.handled, new.changed, new.rejected, new.errors = (
            old.handled,
            old.changed,
            old.rejected,
            old.errors,
        )


def _reason(error: BaseException) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {cause}" if not isinstance(cause, ModuleError) else str(cause)


def hooks_of(placed: Placed) -> list[str]:
    """The hooks that a placed module has."""
    return [hook for hook in HOOKS if overrides(placed.loaded.cls, hook)]
