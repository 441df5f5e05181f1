"""What becomes of messages to a full mailbox: block, drop, drop the oldest, fail."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import MailboxFull, Ref, System, call, cast, send, send_request, statistics, stop
from tests.otp.actors import Puppet, failure_of, seen, until


class Newest(Puppet):
    """Two may wait; a third pushes the first out."""

    mailbox_limit = 2
    mailbox_full = "drop_oldest"


def busy(system: System) -> tuple[Ref, Event]:
    gate = Event()
    ref = Newest.start(system=system)
    assert ref is not None
    cast(ref, lambda server: gate.wait() and None)
    return ref, gate


def wait_idle(ref: Ref) -> None:
    until(lambda: statistics(ref).status == "idle")


@pytest.mark.parametrize("tell", [cast, send, lambda ref, message: send(ref, message, block=True)])
def test_the_oldest_goes_and_is_counted(system: System, tell: Any) -> None:
    ref, gate = busy(system)
    for number in range(5):
        tell(ref, number)
    assert (statistics(ref).mailbox, statistics(ref).dropped) == (2, 3)
    gate.set()
    wait_idle(ref)
    assert call(ref, seen) == [3, 4]


def test_a_call_pushes_out_and_is_answered(system: System) -> None:
    ref, gate = busy(system)
    cast(ref, "oldest")
    cast(ref, "older")
    caller = gevent.spawn(call, ref, seen)
    until(lambda: statistics(ref).dropped == 1)
    gate.set()
    assert caller.get(timeout=5) == ["older"]


def test_a_call_that_is_pushed_out_fails_at_once_and_the_server_never_sees_it(system: System) -> None:
    ref, gate = busy(system)
    caller = gevent.spawn(failure_of, call, ref, lambda server, caller: server.seen.append("ran"), None)
    until(lambda: statistics(ref).mailbox == 1)
    cast(ref, 1)
    cast(ref, 2)
    failed = caller.get(timeout=5)
    assert isinstance(failed, MailboxFull)
    assert (failed.ref, failed.limit, failed.code) == (ref, 2, "overloaded")
    gate.set()
    wait_idle(ref)
    assert call(ref, seen) == [1, 2]


def test_what_the_runtime_sends_is_neither_counted_nor_pushed_out(system: System) -> None:
    ref, gate = busy(system)
    log: list[Any] = []
    stopping = gevent.spawn(stop, ref)
    until(lambda: statistics(ref).mailbox == 1)
    for number in range(4):
        send_request(ref, lambda server, caller, number=number: log.append(number))
    assert statistics(ref).mailbox == 3
    assert statistics(ref).dropped == 2
    gate.set()
    stopping.get(timeout=5)
    assert log == []  # the stop came first


def test_an_idle_server_takes_what_comes(system: System) -> None:
    ref = Newest.start(system=system)
    for number in range(10):
        cast(ref, number)
        call(ref, lambda server, caller: None)
    assert statistics(ref).dropped == 0
    assert call(ref, seen) == list(range(10))
