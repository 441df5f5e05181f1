"""A registry: lookups a second among 100,000 keys, deliveries a second of a dispatch to 100 (until all are handled), calls a
second through a name kept in it, registrations a second; against Elixir's Registry.

python bench/otp/registry.py
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.otp._actors import Echo
from bench.otp._peers import Rate, clock, rates, warm
from packetflow.otp import GenServer, Registry, System, call, send

KEYS, DRAWN = 100_000, 10_000


class Subscriber(GenServer):
    """Registers itself for the topic, and takes what comes."""

    def init(self, registry: Registry) -> None:
        registry.register("topic")

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request

    def handle_info(self, message: Any) -> None:
        pass


class Holder(GenServer):
    """Registers as many keys as it is asked to, and tells how long that took."""

    def handle_call(self, request: Any, caller: Any) -> float:
        registry, count = request
        begin = clock()
        for number in range(count):
            registry.register(number)
        return clock() - begin


def register(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="R", system=system)
    took: float = call(Holder.start(system=system), (registry, count), None)
    system.shutdown()
    return took


def lookup(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="R", system=system)
    call(Holder.start(system=system), (registry, KEYS), None)
    draw = random.Random(1)
    keys = [draw.randrange(KEYS) for _ in range(DRAWN)]

    def work(count: int) -> None:
        find = registry.lookup
        for number in range(count):
            ((_, _),) = find(keys[number % DRAWN])

    took = warm(work, count)
    system.shutdown()
    return took


def dispatch(count: int) -> float:
    system = System()
    registry = Registry.start("duplicate", name="R", system=system)
    subscribers = [Subscriber.start(registry, system=system) for _ in range(100)]

    def deliver(pairs: Any) -> None:
        for ref, _ in pairs:
            send(ref, "news")

    def work(count: int) -> None:
        for _ in range(count // 100):
            registry.dispatch("topic", deliver)
        for ref in subscribers:
            call(ref, "drained", None)

    took = warm(work, count)
    system.shutdown()
    return took


def through(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="R", system=system)
    Echo.start(None, name=registry.via("echo"), system=system)

    def work(count: int) -> None:
        for _ in range(count):
            system.call(registry.via("echo"), 1)

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates(
        [
            Rate("otp: registry lookup", lookup, "registry_lookup", 1_000_000, 0.5),
            Rate("otp: registry dispatch, deliveries", dispatch, "registry_dispatch", 300_000, 0.2),
            Rate("otp: call through a registry", through, "registry_via", 100_000, 1.0),
            Rate("otp: registry register", register, "registry_register", 100_000, None),
        ]
    )


if __name__ == "__main__":
    main()
