"""A registry: keys looked up, registered, called through, and dispatched to; against Elixir's Registry.

python bench/otp/registry.py
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from bench.otp._actors import Echo
from bench.otp._peers import Rate, clock, rates, warm
from packetflow.otp import GenServer, Registry, System, call, send

KEYS = 100_000


class Holder(GenServer):
    """Does in its own turn what it is asked for."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        return request()


class Member(GenServer):
    """Takes the news."""

    def handle_info(self, message: Any) -> None:
        pass


def lookups(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="r", system=system)
    holder = Holder.start(system=system)
    assert holder is not None
    call(holder, lambda: [registry.register(number) for number in range(KEYS)] and None, None)
    keys = [random.randrange(KEYS) for _ in range(10_000)]

    def work(count: int) -> None:
        lookup = registry.lookup
        for _ in range(count // len(keys)):
            for key in keys:
                (_,) = lookup(key)

    took = warm(work, count)
    system.shutdown()
    return took


def registrations(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="r", system=system)
    holder = Holder.start(system=system)
    assert holder is not None

    def work() -> float:
        begin = clock()
        for number in range(count):
            registry.register(number)
        return clock() - begin

    took: float = call(holder, work, None)
    system.shutdown()
    return took


def calls_through(count: int) -> float:
    system = System()
    registry = Registry.start("unique", name="r", system=system)
    Echo.start(None, name=registry.via("echo"), system=system)

    def work(count: int) -> None:
        ask, via = system.call, registry.via
        for _ in range(count):
            ask(via("echo"), 1)

    took = warm(work, count)
    system.shutdown()
    return took


def dispatches(count: int) -> float:
    """All are handled before the clock stops."""
    system = System()
    registry = Registry.start("duplicate", name="r", system=system)
    members = [Member.start(system=system) for _ in range(100)]
    for member in members:
        registry.register("topic", ref=member)

    def deliver(pairs: Any) -> None:
        for ref, _ in pairs:
            send(ref, "news")

    def work(count: int) -> None:
        before = sum(member._process.handled for member in members if member is not None)
        for _ in range(count // 100):
            registry.dispatch("topic", deliver)
        while sum(member._process.handled for member in members if member is not None) - before < count:
            gevent.sleep(0)

    took = warm(work, count)
    system.shutdown()
    return took


def main() -> None:
    rates(
        [
            Rate("otp: registry lookup", lookups, "registry_lookup", 1_500_000, 0.5),
            Rate("otp: registry register", registrations, "registry_register", 100_000, None),
            Rate("otp: call through a registry", calls_through, "registry_via", 300_000, 1.0),
            Rate("otp: registry dispatch, deliveries", dispatches, "registry_dispatch", 600_000, 0.2),
        ]
    )


if __name__ == "__main__":
    main()
