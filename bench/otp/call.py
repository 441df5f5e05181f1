"""Calls a second with the usual timeout: one caller outside of any actor, an actor that calls, 100 callers of one server,
100 pairs; against GenServer.call of Elixir, and Pykka's ask.

python bench/otp/call.py
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gevent

from bench.otp._actors import Echo
from bench.otp._peers import Rate, rates, warm
from packetflow.otp import GenServer, Ref, System, call


def calls(ref: Ref, count: int) -> None:
    for _ in range(count):
        call(ref, 1)


class Caller(GenServer):
    """Calls another server as often as it is asked to. Elixir's callers are processes too."""

    def handle_call(self, request: Any, caller: Any) -> Any:
        calls(*request)


def one_caller(count: int) -> float:
    system = System()
    ref = Echo.start(None, system=system)
    took = warm(lambda count: calls(ref, count), count)
    system.shutdown()
    return took


def by_an_actor(count: int) -> float:
    system = System()
    ref, caller = Echo.start(None, system=system), Caller.start(system=system)
    took = warm(lambda count: call(caller, (ref, count), None), count)
    system.shutdown()
    return took


def together(refs: list[Ref], count: int) -> None:
    gevent.joinall([gevent.spawn(calls, ref, count // len(refs)) for ref in refs], raise_error=True)


def hundred_callers(count: int) -> float:
    system = System()
    refs = [Echo.start(None, system=system)] * 100
    took = warm(lambda count: together(refs, count), count)
    system.shutdown()
    return took


def hundred_pairs(count: int) -> float:
    system = System()
    refs = [Echo.start(None, system=system) for _ in range(100)]
    took = warm(lambda count: together(refs, count), count)
    system.shutdown()
    return took


def main() -> None:
    rates(
        [
            Rate("otp: call", one_caller, "call", 200_000, 1.0, share=0.01),
            Rate("otp: call, from an actor", by_an_actor, "call", 200_000, 1.0),
            Rate("otp: call, 100 callers", hundred_callers, "call_100_callers", 200_000, 1.0),
            Rate("otp: call, 100 pairs", hundred_pairs, "call_100_pairs", 200_000, 1.2),
        ]
    )


if __name__ == "__main__":
    main()
