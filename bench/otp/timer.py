"""Timers started and cancelled a second, each a minute ahead; against Elixir's Process.send_after and cancel_timer.

python bench/otp/timer.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo
from bench.otp._peers import Rate, rates, warm
from packetflow.otp import System


def timers(count: int) -> float:
    system = System()
    ref = Echo.start(None, system=system)

    def work(count: int) -> None:
        for _ in range(count):
            system.send_after(60.0, ref, "x").cancel()

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates([Rate("otp: timer started and cancelled", timers, "timer", 300_000, 0.3)])


if __name__ == "__main__":
    main()
