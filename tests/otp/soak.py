"""The soak: full load and random kills of anything, in two systems; then nothing may be left, lost, doubled or orphaned.

    python -m tests.otp.soak --minutes 10 --seed 1

Each round starts the trees, loads them, lets them come to rest, checks what lives, ends all, and checks that nothing is
left. Prints a line each 5 seconds and a JSON verdict; the exit code is 0 if no fault was found.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
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
from packetflow.otp.process import DEAD, PENDING, Process, Worker
from tests.otp.soak_actors import PAUSES, TIMEOUTS, Busy, Narrow, Storm, Strict, Witness

EVER: dict[str, Any] = {"max_restarts": 10**9, "max_seconds": 1.0}
SYSTEMS = ("east", "west")
PATIENCE = 20.0  # seconds after which something that goes on is taken to go on for ever


class Soak:
    """One soak: its systems, its load, its checks."""

    def __init__(self, seed: int, callers: int = 30, say: Callable[[str], None] = lambda text: None) -> None:
        self.storm = Storm(seed)
        self.random = self.storm.random
        self.callers = callers
        self.say = say
        self.counts = self.storm.counts
        self.roots: dict[str, Ref] = {}
        self.witnesses: dict[str, Ref] = {}
        self.token = 0
        self.open_calls: dict[int, tuple[float, float | None, str]] = {}
        self.told = dict.fromkeys(SYSTEMS, 0)
        self.baseline: dict[str, int] | None = None
        self.suspects: dict[str, dict[Any, float]] = {"orphan": {}, "stuck": {}}
        self.load: list[Greenlet] = []
        self.worst_lag = 0.0
        self.resident: list[int] = []
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
        system = self.storm.systems[name]
        self.roots[name] = Supervisor.start([*groups, pool], name="root", system=system, **EVER)

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
                victim = self.random.choice(self.load)
                if victim.value is None and getattr(victim, "mortal", False):
                    victim.kill(block=False)
                    self.load.remove(victim)
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
        self.load.append(one)

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
        self.load += [gevent.spawn(*job) for job in jobs]

    # ---- checks ---------------------------------------------------------------------------------------------------------

    def glance(self) -> None:
        """What can be seen while the storm blows: who is an orphan, or handles one message, for long; calls that never end."""
        now = time.monotonic()
        seen: dict[str, dict[Any, float]] = {"orphan": {}, "stuck": {}}
        for system in self.storm.systems.values():
            for process in list(system.scheduler.processes.values()):
                if is_orphan(process):
                    seen["orphan"][process.ref] = self.suspects["orphan"].get(process.ref, now)
                if process.current is not None:
                    key = (process.ref, id(process.current), process.handled)
                    seen["stuck"][key] = self.suspects["stuck"].get(key, now)
        self.suspects = seen
        for what, when in seen.items():
            for who, since in when.items():
                if now - since > PATIENCE:
                    self.storm.fault(f"{what} for {now - since:.0f} s: {who}")
        for token, (since, timeout, ref) in self.open_calls.items():
            if now - since > PATIENCE + (timeout or 0.0):
                self.storm.fault(
                    f"call {token} of {ref} (timeout {timeout}) has no end after {now - since:.0f} s"
                )

    def rest(self) -> None:
        """Ends the load, and waits until everybody is idle."""
        self.storm.blows = False
        gevent.joinall(self.load, timeout=PATIENCE)
        for one in self.load:
            if not one.ready():
                self.storm.fault(f"a greenlet of the load does not end: {one}")
            elif one.exception is not None:
                self.storm.fault(f"a greenlet of the load failed: {one.exception!r}")
        self.load.clear()
        if self.open_calls:
            self.storm.fault(f"calls without an end: {list(self.open_calls.values())[:5]}")
            self.open_calls.clear()
        for name, system in self.storm.systems.items():
            for process in list(system.scheduler.processes.values()):
                if process.server is not None and isinstance(process.server, Busy):
                    send(process.ref, "answer")
            if not self.wait_for(lambda system=system: self.at_rest(system)):
                busy = [one.ref for one in system.scheduler.processes.values() if one.current is not None]
                self.storm.fault(f"{name} does not come to rest: {busy[:10]}, {self.unrest(system)}")

    @staticmethod
    def wait_for(condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            gevent.sleep(0.005)
        return True

    @staticmethod
    def unrest(system: System) -> dict[str, Any]:
        scheduler = system.scheduler
        return {
            "run queue": len(scheduler.run_queue),
            "lingering": system.lingering()[:5],
            "workers at work": scheduler.workers - len(scheduler.pool),
            "dying": len(scheduler.dying),
        }

    def at_rest(self, system: System) -> bool:
        return not any(self.unrest(system).values()) and all(
            one.current is None for one in system.scheduler.processes.values()
        )

    def check_living(self) -> None:
        """Everybody idle and sound: tables, parents, bonds, timeouts."""
        for name, system in self.storm.systems.items():
            scheduler, fault = system.scheduler, self.storm.fault
            everybody = set(scheduler.processes.values())
            for held, process in scheduler.names.items():
                if process not in everybody or process.name != held:
                    fault(f"{name}: the name {held} is held by {process.ref}, who is not there")
            waiting = scheduler.timeouts.last
            while waiting is not None and waiting.value is not PENDING:
                waiting = waiting.before if isinstance(waiting.before, type(waiting)) else None
            if waiting is not None:
                fault(f"{name}: a call is open still: {waiting.message!r} to {waiting.target.ref}")
            for waits in scheduler.timeouts.by_asked.values():
                if any(one.value is PENDING for one in waits.pending):
                    fault(f"{name}: calls wait in the class of {waits.seconds} s")
            for process in everybody:
                self.check_process(process, everybody)

    def check_process(self, process: Process, everybody: set[Process]) -> None:
        fault, ref = self.storm.fault, process.ref
        if process.mailbox is not None or process.worker is not None or process.waiting is not None:
            fault(f"{ref} is idle with a mailbox, a worker or a wait")
        if is_orphan(process):
            fault(f"{ref} is an orphan of {process.parent.ref}")
        if process.server.supervises:
            for child in process.server.list_children():
                if child.status == "running" and (child.process is None or child.process.current is DEAD):
                    fault(f"{ref}: its child {child.spec.id} is running, and dead")
                if child.process is not None and child.process.parent is not process:
                    fault(f"{ref}: its child {child.process.ref} has another parent")
        bonds = process.bonds
        if bonds is None:
            return
        if bonds.owed or bonds.senders:
            fault(f"{ref} is at rest and owes {len(bonds.owed)} answers, {len(bonds.senders)} wait for room")
        for other in bonds.links:
            if other.current is DEAD or other.bonds is None or process not in other.bonds.links:
                fault(f"{ref} is linked with {other.ref}, which is dead or does not know")
        for watch in bonds.monitors:
            if watch._target is not process:
                fault(f"{ref} keeps a monitor that ended")
        for watch in bonds.monitoring:
            target = watch._target
            if target is None or target.current is DEAD or watch not in target.bonds.monitors:
                fault(f"{ref} keeps a watch over somebody who is dead")

    def end_all(self) -> None:
        """Ends the trees and whoever else lives, but the witnesses; the witnesses must have seen each of them go."""
        for name, system in self.storm.systems.items():
            witness = self.witnesses[name]
            server: Any = witness._process.server
            others = [ref for ref in system.processes() if ref != witness]
            for ref in others:
                parent = ref._process.parent
                if ref._process.current is not DEAD and (parent is None or parent.current is DEAD):
                    self.stop(ref)
            left = [ref for ref in system.processes() if ref != witness]
            if not self.wait_for(lambda system=system, witness=witness: system.processes() == [witness]):
                self.storm.fault(f"{name}: somebody lives on after his root: {left[:10]}")
            for ref in left:
                kill(ref)
        for name, system in self.storm.systems.items():
            server = self.witnesses[name]._process.server
            if not self.wait_for(
                lambda server=server: not server.open and not server.ticks and self.all_told()
            ):
                self.storm.fault(
                    f"{name}: {len(server.open)} Downs and {len(server.ticks)} timers never came, told "
                    f"{server.told} of {self.told[name]}"
                )
            self.counts["downs of the witnesses"] += server.downs
            server.downs = 0
            server.open.clear()
            server.ended.clear()
            server.ticks.clear()
            server.cancelled.clear()
            if not self.wait_for(
                lambda system=system: self.at_rest(system) and not len(system.scheduler.timers)
            ):
                left = f"{len(system.scheduler.timers)} timers, {self.unrest(system)}"
                self.storm.fault(f"{name} is not at rest at the end: {left}")

    def all_told(self) -> bool:
        return all(self.witnesses[name]._process.server.told == self.told[name] for name in SYSTEMS)

    def check_left(self) -> dict[str, int]:
        """Objects by type, descriptors, timers: as after the first round. Returns what has grown."""
        self.roots.clear()
        self.suspects = {"orphan": {}, "stuck": {}}
        gevent.sleep(0)
        gc.collect()
        gc.collect()
        everything = gc.get_objects()
        found = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in everything)
        workers = sum(1 for one in everything if type(one) is Worker and one)
        del everything
        found["file descriptors"] = len(os.listdir("/proc/self/fd"))
        schedulers = [system.scheduler for system in self.storm.systems.values()]
        found["workers that nobody counts"] = workers - sum(one.workers for one in schedulers)
        found["timers"] = sum(len(one.timers) for one in schedulers)
        found["names"] = sum(len(one.names) for one in schedulers)
        found["dead calls in the classes"] = sum(
            len(waits.pending) for one in schedulers for waits in set(one.timeouts.by_asked.values())
        )
        if self.baseline is None:
            self.baseline = dict(found)
            return {}
        grown = {}
        for what, count in found.items():
            before = self.baseline.get(what, 0)
            # What is parked or remembered may hold a few; a leak grows by thousands in a round.
            slack = 2 if "." not in what else max(150, before // 50)
            if count > before + slack:
                grown[what] = count - before
                self.storm.fault(f"left: {what}: {count}, after the first round {before}")
        return grown

    # ---- the whole ------------------------------------------------------------------------------------------------------

    def round(self, seconds: float, number: int) -> None:
        """One round."""
        self.begin()
        begin = time.monotonic()
        while (past := time.monotonic() - begin) < seconds:
            gevent.sleep(min(5.0, seconds - past))
            self.glance()
            self.say(self.progress(number, time.monotonic() - begin))
        self.rest()
        self.check_living()
        self.end_all()
        grown = self.check_left()
        self.resident.append(resident())
        self.say(
            f"round {number} is over; faults so far: {self.storm.fault_count}; left: {grown or 'nothing'}"
        )

    def progress(self, number: int, past: float) -> str:
        alive = sum(len(system.scheduler.processes) for system in self.storm.systems.values())
        workers = sum(system.scheduler.workers for system in self.storm.systems.values())
        ends = self.counts
        return (
            f"round {number} {past:5.0f} s: {ends['answered']:,} answered, {ends['ServerExited']:,} exited, "
            f"{ends['CallTimeout']:,} timed out, {ends['NoProcess']:,} nobody, {ends['between actors: CallCycle']:,} cycles, "
            f"{ends['killed']:,} killed, {ends['callers killed']:,} callers killed; {alive} alive, {workers} workers, "
            f"{resident() >> 20} MiB; {self.storm.fault_count} faults"
        )

    def verdict(self) -> dict[str, Any]:
        """The outcome as data."""
        ends = ("answered", "ServerExited", "CallTimeout", "NoProcess", "killed", "callers killed")
        wanted = (*ends, "between actors: CallCycle", "downs of the witnesses", "trees replanted", "timers")
        for what in wanted:
            if not self.counts[what]:
                self.storm.fault(f"the load was too weak: no {what}")
        return {
            "ok": self.storm.fault_count == 0,
            "faults": self.storm.fault_count,
            "first_faults": self.storm.faults,
            "counts": dict(sorted(self.counts.items())),
            "worst_lag_s": round(self.worst_lag, 4),
            "resident_mib_after_each_round": [size >> 20 for size in self.resident],
        }


def is_orphan(process: Process) -> bool:
    """Whether it should have gone with its parent. As in OTP, who was linked only outlives a parent that ended "normal"."""
    parent = process.parent
    return parent is not None and parent.current is DEAD and process.child is not None


def resident() -> int:
    """Bytes of resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def soak(seconds: float, seed: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A whole soak; the verdict."""
    logging.getLogger("packetflow.otp").setLevel(logging.CRITICAL + 1)
    one = Soak(seed, say=say)
    for number in range(rounds):
        one.round(seconds / rounds, number + 1)
    for system in one.storm.systems.values():
        system.shutdown()
    return {"seed": seed, "seconds": seconds, **one.verdict()}


def main() -> int:
    """Runs it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    seconds = given.minutes * 60
    rounds = max(2, round(given.minutes))
    verdict = soak(seconds, given.seed, rounds, lambda text: print(text, flush=True))
    print(json.dumps(verdict, indent=1))
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
