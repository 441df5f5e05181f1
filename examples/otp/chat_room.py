"""A chat room: servers with state, a supervision tree, people who come and go, and a fault that nobody has to repair.

python examples/otp/chat_room.py
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from typing import Any

import gevent

from packetflow.otp import (
    Branch,
    ChildSpec,
    Continue,
    Down,
    DynamicSupervisor,
    GenServer,
    Monitor,
    NoProcess,
    Ref,
    Supervisor,
    System,
    tree,
)


class History(GenServer):
    """Keeps what was said, so that a room may die. (A real one would write it down.)"""

    def init(self) -> None:
        self.lines: dict[str, list[str]] = {}

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self.lines.get(request, [])[-3:]

    def handle_cast(self, message: Any) -> None:
        room, line = message
        self.lines.setdefault(room, []).append(line)


class Room(GenServer):
    """Tells everybody what one of them says. Who is gone has left."""

    def init(self, name: str) -> None:
        self.name = name
        self.members: dict[Monitor, tuple[str, Ref]] = {}

    def handle_call(self, request: Any, caller: Any) -> Any:
        match request:
            case ("join", who):
                self.tell(f"{who} comes in")
                self.members[self.monitor(caller.ref)] = (who, caller.ref)
                return self.call("history", self.name)
            case "who":
                return sorted(who for who, _ in self.members.values())

    def handle_cast(self, message: Any) -> None:
        match message:
            case (who, str(text)) if text.startswith("/roll "):
                sides = int(text.removeprefix("/roll "))
                self.tell(
                    f"{who} rolls {random.randrange(sides) + 1}"
                )  # of 0 sides: a fault, and nobody thought of it
            case (who, text):
                self.tell(f"{who}: {text}")

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):  # a member is gone, by whatever way
            who, _ = self.members.pop(message.monitor)
            self.tell(f"{who} leaves")

    def tell(self, line: str) -> None:
        self.cast("history", (self.name, line))
        for _, member in self.members.values():
            self.cast(member, line)


class Visitor(GenServer):
    """Sits in a room and reads. When the room dies, the visitor goes in again as soon as there is one."""

    def init(self, name: str, room: str) -> Continue:
        self.name, self.room = name, room
        self.screen: list[str] = []
        return Continue("join")  # `start` need not wait for it

    def handle_continue(self, argument: Any) -> None:
        self.join()

    def join(self) -> None:
        try:
            self.screen += [f"({line})" for line in self.call(self.room, ("join", self.name))]
            self.monitor(self.room)
        except NoProcess:
            self.send_after(0.01, "join")

    def handle_call(self, request: Any, caller: Any) -> Any:
        return self.screen

    def handle_cast(self, line: str) -> None:
        self.screen.append(line)

    def handle_info(self, message: Any) -> None:
        if isinstance(message, Down):
            self.screen.append("-- the room is gone --")
        self.join()


def draw(branch: Branch, depth: int = 0) -> None:
    """The tree, with restarts."""
    print("  " * depth + f"{branch.id}" + (f", restarts: {branch.restarts}" if branch.restarts else ""))
    for child in branch.children:
        draw(child, depth + 1)


def main() -> None:
    """Ana and Bo meet in the lobby."""
    logging.disable()  # the fault below is on purpose; leave this out to see how it is told
    system = System()
    house = Supervisor.start(
        [
            ChildSpec(History, name="history"),
            ChildSpec(Room, "lobby", name="lobby"),
            DynamicSupervisor.child(name="visitors"),
        ],
        strategy="one_for_one",
        name="house",
        system=system,
    )
    for name in ("ana", "bo"):
        visitor = ChildSpec(
            Visitor, name, "lobby", name=name, restart="transient"
        )  # who leaves in order stays away
        DynamicSupervisor.start_child(system.find("visitors"), visitor)
    until(lambda: system.call("lobby", "who") == ["ana", "bo"])

    system.cast("lobby", ("ana", "hello Bo"))
    system.cast("lobby", ("bo", "hello Ana"))
    system.stop_process("bo")
    until(lambda: system.call("lobby", "who") == ["ana"])

    fault = system.monitor("lobby")
    system.cast("lobby", ("ana", "/roll 0"))
    down = fault.wait()
    print("the lobby died of:", repr(down.reason) if down else None)
    until(lambda: system.call("lobby", "who") == ["ana"])
    system.cast("lobby", ("ana", "where was I?"))
    until(lambda: "ana: where was I?" in system.call("ana", None))

    print("Ana's screen:", *system.call("ana", None), sep="\n  ")
    draw(tree(house))
    system.shutdown()


def until(holds: Callable[[], bool]) -> None:
    """Waits for others to get on; a room between two lives is no fault."""
    for _ in range(1000):
        try:
            if holds():
                return
        except NoProcess:
            pass
        gevent.sleep(0.001)
    raise SystemExit("it took too long")


if __name__ == "__main__":
    main()
