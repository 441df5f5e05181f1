"""The actors of the soak: one that does everything that may be done, at random, and a witness that counts what it sees."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

import gevent

from packetflow.otp import (
    IGNORE,
    AlreadyRegistered,
    AwaitTimeout,
    CallFailed,
    Continue,
    Down,
    Exit,
    GenServer,
    Monitor,
    NoProcess,
    NoReply,
    Ref,
    Registry,
    Reply,
    StartFailed,
    Stop,
    System,
    Task,
    TaskExited,
    exit_signal,
    kill,
)
from packetflow.otp.process import DEAD

TIMEOUTS = (None, 0.001, 0.01, 0.1, 5.0, 5.0, 5.0)
PAUSES = (0, 0, 0.0005, 0.002)


class Storm:
    """What all actors of a soak share: whether it blows, the dice, the systems, and where faults are told."""

    def __init__(self, seed: int) -> None:
        self.blows = False
        self.random = random.Random(seed)
        self.systems: dict[str, System] = {}
        self.names: list[tuple[str, str]] = []  # (system, name)
        self.counts: Counter[str] = Counter()
        self.faults: list[str] = []
        self.fault_count = 0
        self.tell: Callable[[str], None] = lambda text: None

    def fault(self, text: str) -> None:
        """Something that must never be has been seen."""
        self.fault_count += 1
        if len(self.faults) < 20:
            self.faults.append(text)
            self.tell(text)

    def anybody(self) -> Ref | None:
        """Somebody who holds a name now."""
        system, name = self.random.choice(self.names)
        return self.systems[system].whereis(name)


class Busy(GenServer):
    """Answers ("ask", token, depth) with the token, on some way or other, or dies of it."""

    def init(self, storm: Storm, trap: bool = False) -> Any:
        self.storm = storm
        self.trap_exits = trap
        self.late: list[Any] = []
        self.watches: list[Monitor] = []
        self.linked: list[Ref] = []
        self.timers: list[Any] = []
        if not storm.blows:
            return None
        draw = storm.random.random()
        if draw < 0.2:
            gevent.sleep(storm.random.choice((0, 0, 0.001, 0.03)))
        elif draw < 0.22:
            raise ValueError("init")
        elif draw < 0.23:
            return IGNORE
        elif draw < 0.24:
            return Stop("not today")
        elif draw < 0.34:
            return Continue(None)
        elif draw < 0.4:
            return NoReply(timeout=0.005)
        return None

    def handle_call(self, request: Any, caller: Any) -> Any:
        _, token, depth = request
        dice = self.storm.random
        if not self.storm.blows:
            return token
        draw = dice.random()
        if draw < 0.45:
            return token
        for limit, act in ACTS:
            if draw < limit:
                answer = act(self, token, depth, caller)
                return token if answer is None else answer
        raise AssertionError(draw)

    def handle_cast(self, message: Any) -> Any:
        if self.storm.blows and self.storm.random.random() < 0.01:
            raise ValueError("cast")
        if message == "pause":
            gevent.sleep(0)

    def handle_info(self, message: Any) -> Any:
        for caller, token in self.late:
            self.reply(caller, token)
            self.reply(caller, "a second answer")
        self.late.clear()
        if isinstance(message, Down):
            if message.monitor not in self.watches:
                self.storm.fault(f"{self.ref} got a Down that it did not ask for, or twice: {message}")
            else:
                self.watches.remove(message.monitor)
        elif isinstance(message, Exit) and not self.trap_exits:
            self.storm.fault(f"{self.ref} does not trap exits and got {message}")
        if self.storm.blows and self.storm.random.random() < 0.005:
            return Stop("enough")
        return None

    def handle_continue(self, argument: Any) -> None:
        if self.storm.blows:
            gevent.sleep(self.storm.random.choice(PAUSES))

    def terminate(self, reason: object) -> None:
        draw = self.storm.random.random() if self.storm.blows else 1.0
        if draw < 0.2:
            gevent.sleep(self.storm.random.choice((0, 0.001, 0.02)))
        elif draw < 0.22:
            raise ValueError("terminate")
        elif draw < 0.25:
            self.ask_another(0, 4)

    # ---- acts -----------------------------------------------------------------------------------------------------------

    def pause(self, token: int, depth: int, caller: Any) -> None:
        gevent.sleep(self.storm.random.choice(PAUSES))

    def ask(self, token: int, depth: int, caller: Any) -> None:
        self.ask_another(token, depth)

    def ask_another(self, token: int, depth: int) -> None:
        other = self.storm.anybody()
        if other is None or depth > 5:
            return
        try:
            answer = self.call(other, ("ask", -token, depth + 1), self.storm.random.choice(TIMEOUTS))
        except CallFailed as error:
            self.storm.counts[f"between actors: {type(error).__name__}"] += 1
            return
        self.storm.counts["between actors: answered"] += 1
        if answer != -token:
            self.storm.fault(f"{self.ref} asked {-token} and was answered {answer!r}")

    def answer_later(self, token: int, depth: int, caller: Any) -> NoReply:
        self.late.append((caller, token))
        if self.storm.random.random() < 0.5:
            self.send(self.ref, "answer")
        else:
            self.send_after(self.storm.random.choice((0.0, 0.001, 0.02)), "answer")
        return NoReply()

    def answer_first(self, token: int, depth: int, caller: Any) -> Any:
        self.reply(caller, token)
        self.reply(caller, "a second answer")
        gevent.sleep(0)
        return "a third answer"

    def idle(self, token: int, depth: int, caller: Any) -> Reply:
        return Reply(token, timeout=self.storm.random.choice((0.0, 0.002, 0.05)))

    def go_on(self, token: int, depth: int, caller: Any) -> Continue:
        return Continue(None, reply=token)

    def watch(self, token: int, depth: int, caller: Any) -> None:
        if self.watches and self.storm.random.random() < 0.4:
            monitor = self.storm.random.choice(self.watches)
            self.demonitor(monitor, flush=True)
            self.watches.remove(monitor)
            return
        other = self.storm.anybody()
        if other is not None and len(self.watches) < 10:
            self.watches.append(self.monitor(other))

    def tie(self, token: int, depth: int, caller: Any) -> None:
        if self.linked:
            self.unlink(self.linked.pop())
            return
        system, name = self.storm.random.choice(self.storm.names)
        other = self.storm.systems[system].whereis(name)
        if other is not None and self.system.name == system:
            self.link(other)
            self.linked.append(other)

    def beget(self, token: int, depth: int, caller: Any) -> None:
        try:
            child = Busy.start_link(self.storm, timeout=self.storm.random.choice((None, 0.02)))
        except StartFailed:
            return
        if child is not None:
            self.send_after(0.01, "late", child)
            if self.storm.random.random() < 0.7:
                exit_signal(child, "kill" if self.storm.random.random() < 0.1 else "normal")

    def set_timer(self, token: int, depth: int, caller: Any) -> None:
        self.timers.append(self.send_after(self.storm.random.choice((0.0, 0.001, 2.0)), "tick"))
        while len(self.timers) > 3:
            self.timers.pop(0).cancel()

    def use_a_socket(self, token: int, depth: int, caller: Any) -> None:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            gevent.sleep(self.storm.random.choice(PAUSES))

    def delegate(self, token: int, depth: int, caller: Any) -> None:
        """Some tasks, awaited, left, or shut down; what they give is checked."""
        dice = self.storm.random
        tasks = [Task.async_(work, self.storm, token + number) for number in range(dice.randrange(1, 4))]
        self.storm.counts["tasks"] += len(tasks)
        for number, task in enumerate(tasks):
            draw = dice.random()
            if draw < 0.1:
                task.shutdown(dice.choice((0.01, "brutal_kill")))
                continue
            if draw < 0.2:
                task.ignore()
                continue
            try:
                answer = task.await_(dice.choice((0.001, 1.0, 1.0)))
            except (TaskExited, AwaitTimeout) as error:
                self.storm.counts[f"tasks: {type(error).__name__}"] += 1
                continue
            if answer != token + number:
                self.storm.fault(f"{self.ref} awaited {token + number} and got {answer!r}")

    def enrol(self, token: int, depth: int, caller: Any) -> None:
        """Takes a key of its own, and finds itself by it."""
        registry = Registry.named("registry")
        try:
            registry.register(self.ref.id)
            found = registry.lookup(self.ref.id)
        except (NoProcess, AlreadyRegistered):
            return  # it is between two lives, or this one is registered already
        self.storm.counts["registered"] += 1
        if [ref for ref, _ in found] != [self.ref]:
            self.storm.fault(f"{self.ref} is registered, and found is {found}")

    def hurt(self, token: int, depth: int, caller: Any) -> None:
        other = self.storm.anybody()
        if other is not None:
            exit_signal(other, self.storm.random.choice(("out", "normal", "shutdown", ("shutdown", 1))))

    def crash(self, token: int, depth: int, caller: Any) -> None:
        raise self.storm.random.choice((ValueError, SystemExit, KeyboardInterrupt, gevent.GreenletExit))(
            "a crash"
        )

    def end(self, token: int, depth: int, caller: Any) -> Any:
        draw = self.storm.random.random()
        if draw < 0.4:
            kill(self.ref)
        if draw < 0.7:
            return Stop("normal", reply=token)
        return Stop(self.storm.random.choice(("shutdown", "gone", ValueError("stop"))))


def work(storm: Storm, result: int) -> int:
    """What a task does."""
    draw = storm.random.random() if storm.blows else 1.0
    if draw < 0.2:
        gevent.sleep(storm.random.choice(PAUSES))
    elif draw < 0.22:
        raise ValueError("task")
    return result


Act = Callable[[Busy, int, int, Any], Any]
ACTS: list[tuple[float, Act]] = [
    (0.55, Busy.pause),
    (0.70, Busy.ask),
    (0.74, Busy.answer_later),
    (0.76, Busy.answer_first),
    (0.78, Busy.idle),
    (0.80, Busy.go_on),
    (0.84, Busy.watch),
    (0.88, Busy.tie),
    (0.89, Busy.beget),
    (0.91, Busy.delegate),
    (0.92, Busy.enrol),
    (0.94, Busy.set_timer),
    (0.96, Busy.use_a_socket),
    (0.975, Busy.hurt),
    (0.99, Busy.crash),
    (1.0, Busy.end),
]


class Narrow(Busy):
    """The same with room for three messages; whoever comes to a full mailbox waits."""

    mailbox_limit = 3
    mailbox_full = "block"


class Strict(Busy):
    """The same, and a full mailbox fails."""

    mailbox_limit = 3
    mailbox_full = "fail"


class Witness(GenServer):
    """Nobody kills it: it watches, is told by timers and threads, and finds out what came twice or never."""

    def init(self, storm: Storm) -> None:
        self.storm = storm
        self.open: dict[Monitor, Ref] = {}
        self.ended: set[Monitor] = set()
        self.downs = 0
        self.told = 0
        self.ticks: set[int] = set()
        self.cancelled: set[int] = set()

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request

    def handle_cast(self, message: Any) -> None:
        kind, argument = message
        match kind:
            case "watch":
                dead = argument._process.current is DEAD
                self.open[self.monitor(argument)] = argument
                if not dead and self.storm.random.random() < 0.2:
                    self.unwatch()
            case "told":
                self.told += 1

    def unwatch(self) -> None:
        monitor = self.storm.random.choice(list(self.open))
        flush = self.storm.random.random() < 0.5
        if self.demonitor(monitor, flush) or flush:
            del self.open[monitor]
            self.ended.add(monitor)  # nothing may come any more; else its Down is on the way

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):
            self.downs += 1
            if self.open.pop(message.monitor, None) is None:
                what = "after it ended" if message.monitor in self.ended else "twice"
                self.storm.fault(f"a Down came {what}: {message}")
        else:
            number = message[1]
            if number in self.cancelled:
                self.storm.fault(f"timer {number} fired after it was cancelled")
            if number not in self.ticks:
                self.storm.fault(f"timer {number} fired twice, or was never set")
            self.ticks.discard(number)
