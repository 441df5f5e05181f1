"""Casts a second, until the last of them is handled; against Elixir's GenServer.cast and Pykka's tell.

python bench/otp/cast.py
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo
from bench.otp._peers import Rate, rates, warm
from packetflow.otp import System, call, cast


def casts(count: int) -> float:
    system = System()
    ref = Echo.start(None, system=system)

    def work(count: int) -> None:
        for _ in range(count):
            cast(ref, 1)
        call(ref, 1, None)

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates([Rate("otp: cast", casts, "cast", 500_000, 0.3, share=0.1)])


if __name__ == "__main__":
    main()
