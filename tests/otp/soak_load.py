"""The load of the soak: trees in two systems, callers, casters, watchers, timers, threads, and the killer of anything."""

from __future__ import annotations

import time
from typing import Any

import gevent
from gevent import Greenlet

from packetflow.otp import (
    Backoff,
    CallFailed,
    CallTimeout,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    NameTaken,
    Ref,
    Registry,
    StartFailed,
    Supervisor,
    System,
    call,
    cast,
    exit_signal,
    get_state,
    kill,
    monitor,
    send,
    statistics,
    stop,
    tree,
)
from packetflow.otp.process import DEAD, Process
from tests.otp.soak_actors import PAUSES, TIMEOUTS, Busy, Narrow, Storm, Strict, Witness

EVER: dict[str, Any] = {"max_restarts": 10**9, "max_seconds": 1.0}
SYSTEMS = ("east", "west")


class Load:
    """What loads two systems, and what it has counted."""

    def __init__(self, seed: int, callers: int = 30) -> None:
        self.storm = Storm(seed)
        self.random = self.storm.random
        self.callers = callers
        self.counts = self.storm.counts
        self.roots: dict[str, Ref] = {}
        self.witnesses: dict[str, Ref] = {}
        self.token = 0
        self.open_calls: dict[int, tuple[float, float | None, str]] = {}
        self.told = dict.fromkeys(SYSTEMS, 0)
        self.greenlets: list[Greenlet] = []
        self.worst_lag = 0.0
        for name in SYSTEMS:
            self.storm.systems[name] = system = System(name)
            self.witnesses[name] = Witness.start(self.storm, name="witness", system=system)
            for at in range(36):
                self.storm.names.append((name, f"busy {at}"))
        hub: Any = gevent.get_hub()
        hub.print_exception = self._hub_failed

    def _hub_failed(self, context: Any, kind: Any, value: Any, trace: Any) -> None:
        self.storm.fault(f"unhandled in the hub: {kind.__name__}: {value} (in {context!r})")

    # ---- the trees ------------------------------------------------------------------------------------------------------

    def specs(self, at: int) -> list[ChildSpec]:
        kinds = (Busy, Busy, Busy, Narrow, Strict)
        return [
            ChildSpec(
                kinds[number % 5],
                self.storm,
                number % 4 == 0,
                name=f"busy {number}",
                shutdown=self.random.choice((0.05, 0.01, "brutal_kill")),
                start_timeout=self.random.choice((0.02, 1.0)),
                backoff=Backoff(0.001, 2.0, 0.01) if number % 6 == 5 else None,
            )
            for number in range(at, at + 12)
        ]

    def plant(self, name: str) -> None:
        """Starts a system's tree."""
        groups = [
            Supervisor.child(self.specs(at), id=f"group {at}", name=f"group {at}", strategy=strategy, **EVER)
            for at, strategy in ((0, "one_for_one"), (12, "one_for_all"), (24, "rest_for_one"))
        ]
        pool = DynamicSupervisor.child(id="pool", name="pool", **EVER)
        registry = Registry.child("unique", name="registry")
        system = self.storm.systems[name]
        self.roots[name] = Supervisor.start([registry, *groups, pool], name="root", system=system, **EVER)

    def keep_planted(self, name: str) -> None:
        """Starts the tree again whenever its root is dead, which nobody else would do."""
        while self.storm.blows:
            if self.roots[name]._process.current is DEAD:
                self.counts["trees replanted"] += 1
                try:
                    self.plant(name)
                except (StartFailed, NameTaken):
                    gevent.sleep(0.01)  # a child's init failed, or the name is with one that still stops
            gevent.sleep(0.005)

    # ---- the load -------------------------------------------------------------------------------------------------------

    def caller(self) -> None:
        """Calls, and counts how each call ends; a call that does not end stays in the book."""
        while self.storm.blows:
            ref = self.storm.anybody()
            if ref is None:
                gevent.sleep(0)
                continue
            self.token = token = self.token + 1
            timeout = self.random.choice(TIMEOUTS)
            self.open_calls[token] = (time.monotonic(), timeout, repr(ref))
            try:
                answer = call(ref, ("ask", token, 0), timeout)
                self.counts["answered"] += 1
                if answer != token:
                    self.storm.fault(f"call {token} was answered {answer!r}")
            except CallFailed as error:
                self.counts[type(error).__name__] += 1
            except gevent.GreenletExit:
                self.counts["callers killed"] += 1
                raise
            finally:
                del self.open_calls[token]
            if self.random.random() < 0.05:
                gevent.sleep(self.random.choice(PAUSES))

    def caster(self) -> None:
        while self.storm.blows:
            for _ in range(10):
                ref = self.storm.anybody()
                if ref is not None:
                    cast(ref, "pause" if self.random.random() < 0.1 else "cast")
                    send(ref, "info")
                    self.counts["cast"] += 2
            gevent.sleep(0.0005)

    def watcher(self, name: str) -> None:
        """Has the witness watch everybody; sets timers on it."""
        witness = self.witnesses[name]
        server: Any = witness._process.server
        number = 0
        while self.storm.blows:
            ref = self.storm.anybody()
            if ref is not None:
                cast(witness, ("watch", ref))
            number += 1
            server.ticks.add(number)
            timer = self.storm.systems[name].send_after(
                self.random.choice((0.0, 0.002, 30.0)), witness, ("tick", number)
            )
            if self.random.random() < 0.7 or timer.due - time.monotonic() > 1:
                gevent.sleep(self.random.choice(PAUSES))
                if timer.cancel() is not None:
                    server.cancelled.add(number)
                    server.ticks.discard(number)
            self.counts["timers"] += 1
            gevent.sleep(0.0005)

    def grower(self, name: str) -> None:
        """Starts children in the pool, and asks supervisors for this and that."""
        system = self.storm.systems[name]
        while self.storm.blows:
            gevent.sleep(0.001)
            pool, group = system.whereis("pool"), system.whereis(f"group {self.random.choice((0, 12, 24))}")
            child = f"busy {self.random.randrange(36)}"
            try:
                if pool is not None and DynamicSupervisor.count_children(pool, 1.0).specs < 60:
                    restart = self.random.choice(("temporary", "transient", "permanent"))
                    spec = ChildSpec(Busy, self.storm, restart=restart, shutdown=0.02, start_timeout=0.05)
                    DynamicSupervisor.start_child(pool, spec, 2.0)
                elif pool is not None:
                    refs = [info.ref for info in DynamicSupervisor.which_children(pool, 1.0) if info.ref]
                    if refs:
                        DynamicSupervisor.terminate_child(pool, self.random.choice(refs), 2.0)
                if group is not None and self.random.random() < 0.2:
                    Supervisor.terminate_child(group, child, 2.0)
                    Supervisor.restart_child(group, child, 2.0)
            except (CallFailed, ChildError, StartFailed) as error:
                self.counts[f"supervisors: {type(error).__name__}"] += 1

    def mender(self, name: str) -> None:
        """Brings back the children that `grower` terminated and could not restart."""
        system = self.storm.systems[name]
        while self.storm.blows:
            gevent.sleep(0.05)
            for at in (0, 12, 24):
                group = system.whereis(f"group {at}")
                try:
                    for info in Supervisor.which_children(group, 1.0) if group is not None else ():
                        if info.status == "undefined":
                            Supervisor.restart_child(group, info.id, 2.0)
                except (CallFailed, ChildError, StartFailed) as error:
                    self.counts[f"supervisors: {type(error).__name__}"] += 1

    def inspector(self) -> None:
        while self.storm.blows:
            gevent.sleep(0.003)
            try:
                ref = self.storm.anybody()
                if ref is not None:
                    statistics(ref)
                    get_state(ref, 0.01)
                tree(self.roots[self.random.choice(SYSTEMS)]).as_dict()
            except CallFailed:
                self.counts["looked at the dead"] += 1

    def killer(self) -> None:
        """Ends anybody: servers, supervisors, roots, those in init and in terminate, and callers while they wait."""
        witnesses = set(self.witnesses.values())
        while self.storm.blows:
            gevent.sleep(self.random.choice((0.0005, 0.001, 0.005)))
            system = self.storm.systems[self.random.choice(SYSTEMS)]
            if self.random.random() < 0.1:
                victim = self.random.choice(self.greenlets)
                if victim.value is None and getattr(victim, "mortal", False):
                    victim.kill(block=False)
                    self.greenlets.remove(victim)
                    self.spawn_caller()
                continue
            if self.random.random() < 0.002:
                root = self.roots[system.name]
                if root._process.current is not DEAD:
                    self.end(system, root._process)
                continue
            living = list(system.scheduler.processes.values())
            if self.random.random() < 0.3:
                living = [one for one in living if not isinstance(one.current, tuple | None)] or living
            process = self.random.choice(living)
            if process.ref in witnesses or (process.server.supervises and self.random.random() < 0.9):
                continue
            self.end(system, process)

    def end(self, system: System, process: Process) -> None:
        ref, name = process.ref, process.name
        watches = [monitor(ref), monitor(ref)]
        draw = self.random.random()
        if draw < 0.8:
            kill(ref)
            self.counts["killed"] += 1
            if process.current is not DEAD or ref.id in system.scheduler.processes:
                self.storm.fault(f"{ref} lives after kill returned")
            if name is not None and system.whereis(name) == ref:
                self.storm.fault(f"{name} is still held by {ref} after kill returned")
        elif draw < 0.9:
            exit_signal(ref, "out")
            self.counts["signalled"] += 1
        else:
            self.counts["stopped"] += 1
            gevent.spawn(self.stop, ref)
        if draw < 0.8:
            for watch in watches:
                down = watch.wait(5.0)
                if down is None or down.reason != "killed":
                    self.storm.fault(f"a monitor of the killed {ref} saw {down}")
                self.counts["downs seen"] += 1

    def stop(self, ref: Ref) -> None:
        try:
            stop(ref, "normal", 1.0)
        except CallFailed:
            self.counts["stop failed"] += 1

    def threads(self, name: str) -> None:
        """Casts and calls from native threads."""
        system, witness = self.storm.systems[name], self.witnesses[name]
        pool: Any = gevent.get_hub().threadpool

        def outside() -> bool:
            for _ in range(50):
                cast(witness, ("told", None))
            try:
                return bool(system.from_thread(system.call, "witness", 4711, 5.0) == 4711)
            except CallTimeout:
                return False

        while self.storm.blows:
            if not pool.apply(outside):
                self.storm.fault("a call from another thread was not answered")
            self.told[name] += 50
            gevent.sleep(0.01)

    def pulse(self) -> None:
        """How late the hub is at worst."""
        while self.storm.blows:
            before = time.monotonic()
            gevent.sleep(0.005)
            self.worst_lag = max(self.worst_lag, time.monotonic() - before - 0.005)

    def spawn_caller(self) -> None:
        one: Any = gevent.spawn(self.caller)
        one.mortal = True
        self.greenlets.append(one)

    def begin(self) -> None:
        """Starts the trees and the load."""
        for name in SYSTEMS:
            self.plant(name)
        self.storm.blows = True
        for _ in range(self.callers):
            self.spawn_caller()
        jobs: list[tuple[Any, ...]] = [(self.caster,), (self.inspector,), (self.killer,), (self.pulse,)]
        for name in SYSTEMS:
            jobs += [
                (job, name)
                for job in (self.watcher, self.grower, self.mender, self.threads, self.keep_planted)
            ]
        self.greenlets += [gevent.spawn(*job) for job in jobs]
