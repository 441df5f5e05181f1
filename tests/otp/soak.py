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

from packetflow.otp import (
    System,
    kill,
    send,
)
from packetflow.otp.process import DEAD, PENDING, Process, Worker
from packetflow.otp.timeouts import TimeoutClass
from tests.otp.soak_actors import Busy
from tests.otp.soak_load import SYSTEMS, Load

EXACT = ("file descriptors", "workers that nobody counts", "timers", "names")
PATIENCE = 20.0  # seconds after which something that goes on is taken to go on for ever


class Soak(Load):
    """One soak: its rounds, and its checks."""

    def __init__(self, seed: int, say: Callable[[str], None]) -> None:
        super().__init__(seed)
        self.say = say
        self.storm.tell = lambda text: say(f"FAULT: {text}")
        self.baseline: dict[str, int] | None = None
        self.suspects: dict[str, dict[Any, float]] = {"orphan": {}, "stuck": {}}
        self.resident: list[int] = []

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
        gevent.joinall(self.greenlets, timeout=PATIENCE)
        for one in self.greenlets:
            if not one.ready():
                self.storm.fault(f"a greenlet of the load does not end: {one}")
            elif one.exception is not None:
                self.storm.fault(f"a greenlet of the load failed: {one.exception!r}")
        self.greenlets.clear()
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
            if not self.wait_for(lambda system=system: self.at_rest(system) and not timers_of(system)):
                left = f"timers {timers_of(system)[:5]}, {self.unrest(system)}"
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
        found["timers"] = sum(len(timers_of(system)) for system in self.storm.systems.values())
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
            slack = 2 if what in EXACT else max(500, before // 50)
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
        others = ("between actors: CallCycle", "downs of the witnesses", "trees replanted", "timers", "tasks")
        wanted = (*ends, *others, "registered")
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


def timers_of(system: System) -> list[Any]:
    """What is to come in a system, but for the looks of the classes of timeouts, which end by themselves."""
    waiting = [timer for _, _, timer in system.scheduler.timers._heap if timer.waiting]
    return [timer for timer in waiting if getattr(timer._action, "__func__", None) is not TimeoutClass._look]


def resident() -> int:
    """Bytes of resident memory."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def soak(seconds: float, seed: int, rounds: int, say: Callable[[str], None]) -> dict[str, Any]:
    """A whole soak; the verdict."""
    logging.getLogger("packetflow.otp").setLevel(logging.CRITICAL + 1)
    one = Soak(seed, say)
    for number in range(rounds):
        one.round(seconds / rounds, number + 1)
    for system in one.storm.systems.values():
        system.shutdown()
    return {"seed": seed, "seconds": seconds, **one.verdict()}


def show(text: str) -> None:
    """A line for whoever looks on."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> int:
    """Runs it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.otp.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    seconds = given.minutes * 60
    rounds = max(2, round(given.minutes))
    verdict = soak(seconds, given.seed, rounds, show)
    show(json.dumps(verdict, indent=1))
    return 0 if verdict["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
