"""Ruling 30: a system belongs to its hub's thread; from others it is reached on purpose or refused clearly."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from packetflow.otp import PacketFlowError, ServerExited, System, WrongThread, call, cast, send
from tests.otp.actors import Puppet, crash, seen, until


def in_a_thread(action: Callable[[], Any]) -> Any:
    """Runs it in a native thread while this thread's greenlets go on."""
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(action())
        except PacketFlowError as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: outcome)
    thread.join()
    return outcome[0]


@pytest.mark.parametrize("what", ["call", "start", "stop", "monitor"])
def test_waiting_from_another_thread_is_refused_and_told_how(system: System, what: str) -> None:
    ref = Puppet.start(system=system)
    actions: dict[str, Callable[[], Any]] = {
        "call": lambda: call(ref, "asked"),
        "start": lambda: Puppet.start(system=system),
        "stop": lambda: system.stop_process(ref),
        "monitor": lambda: system.monitor(ref),
    }
    refused = in_a_thread(actions[what])
    assert isinstance(refused, WrongThread)
    assert "from_thread" in str(refused)


def test_from_thread_runs_in_the_systems_thread(system: System) -> None:
    Puppet.start(name="one", system=system)
    assert in_a_thread(lambda: system.from_thread(system.call, "one", "asked")) == "asked"
    failed = in_a_thread(lambda: system.from_thread(system.call, "one", crash(ValueError("boom"))))
    assert isinstance(failed, ServerExited)
    assert system.from_thread(lambda: "here") == "here"


def test_cast_and_send_work_from_any_thread(system: System) -> None:
    ref = Puppet.start(system=system)
    in_a_thread(lambda: cast(ref, "cast"))
    in_a_thread(lambda: send(ref, "sent"))
    until(lambda: len(call(ref, seen)) == 2)
    assert call(ref, seen) == ["cast", "sent"]
