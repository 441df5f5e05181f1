"""10,000 servers that call one another, each waiting for the next: the seconds until the answer is back; against Elixir.

python bench/otp/chain.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._peers import Rate, rates
from packetflow.otp import GenServer, Ref, System, call


class Next(GenServer):
    """One of a chain: asks the next, which asks the next."""

    def init(self, next: Ref | None) -> None:
        self.next = next

    def handle_call(self, number: int, caller: Any) -> int:
        return number if self.next is None else call(self.next, number + 1, 60.0)


def chain(count: int) -> float:
    system = System()
    first: Ref | None = None
    for _ in range(count):
        first = Next.start(first, system=system)
    assert first is not None
    assert call(first, 1, 60.0) == count  # the warm-up: from then on the workers are there
    begin = time.perf_counter()
    assert call(first, 1, 60.0) == count
    took = time.perf_counter() - begin
    system.shutdown()
    return took


def main() -> None:
    rates([Rate("otp: calls a second in a chain of 10,000 servers", chain, "chain", 10_000, None)])


if __name__ == "__main__":
    main()
