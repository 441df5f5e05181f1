"""Events a second of a state machine that changes its state with each, called and cast; against OTP's gen_statem.

python bench/otp/state_machine.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._peers import Rate, rates, warm
from packetflow.otp import NextState, ReplyTo, StateMachine, System, call, cast


class Door(StateMachine):
    """Two states; each turn leads to the other. The data counts the turns."""

    def init(self) -> NextState:
        return NextState("closed", 0)

    def closed(self, kind: Any, content: Any, turns: int) -> NextState:
        if kind == "cast":
            return NextState("open", turns + 1)
        return NextState("open", turns + 1, ReplyTo(kind, turns))

    def open(self, kind: Any, content: Any, turns: int) -> NextState:
        if kind == "cast":
            return NextState("closed", turns + 1)
        return NextState("closed", turns + 1, ReplyTo(kind, turns))


def called(count: int) -> float:
    system = System()
    door = Door.start(system=system)

    def work(count: int) -> None:
        for _ in range(count):
            call(door, "turn")

    took = warm(work, count)
    system.shutdown()
    return took


def told(count: int) -> float:
    system = System()
    door = Door.start(system=system)

    def work(count: int) -> None:
        for _ in range(count):
            cast(door, "turn")
        call(door, "turn", None)

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates(
        [
            Rate("otp: state machine, events called", called, "state_machine_call", 100_000, None),
            Rate("otp: state machine, events cast", told, "state_machine_cast", 100_000, None),
        ]
    )


if __name__ == "__main__":
    main()
