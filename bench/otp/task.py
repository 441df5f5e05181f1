"""Tasks started and awaited a second, from an actor and from outside of any; against Elixir's Task.async and Task.await.

python bench/otp/task.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._peers import Rate, rates, warm
from packetflow.otp import GenServer, System, Task, call


def one() -> int:
    return 1


class Owner(GenServer):
    """Starts and awaits as many tasks as it is asked to. Elixir's owner is a process too."""

    def handle_call(self, request: int, caller: Any) -> None:
        for _ in range(request):
            assert Task.async_(one).await_() == 1


def from_an_actor(count: int) -> float:
    system = System()
    owner = Owner.start(system=system)
    took = warm(lambda count: call(owner, count, None), count)
    system.shutdown()
    return took


def from_outside(count: int) -> float:
    system = System()

    def work(count: int) -> None:
        for _ in range(count):
            assert Task.async_(one, system=system).await_() == 1

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates(
        [
            Rate("otp: task started and awaited", from_outside, "task", 100_000, 0.8),
            Rate("otp: task started and awaited, from an actor", from_an_actor, "task", 100_000, 0.8),
        ]
    )


if __name__ == "__main__":
    main()
