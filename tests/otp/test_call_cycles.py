"""Circles of calls that are closed, or looked at, at odd moments."""

from __future__ import annotations

from typing import Any

import gevent
from gevent.event import Event

from packetflow.otp import CallCycle, CallTimeout, System, call, cast, send, statistics
from packetflow.otp.process import Call
from tests.otp.actors import Puppet, failure_of, until


class SmallBlocking(Puppet):
    mailbox_limit = 1
    mailbox_full = "block"


def test_a_circle_that_closes_while_the_caller_waits_for_room_is_found(system: System) -> None:
    """The target makes room and, before the caller has its turn, calls the caller."""
    gate = Event()
    small = SmallBlocking.start(name="small", system=system)
    other = Puppet.start(name="other", system=system)
    answers: list[Any] = []
    cast(small, lambda server: gate.wait() and None)
    cast(small, lambda server: answers.append(call(other, "from small", 2.0)))
    asker = gevent.spawn(call, other, lambda server, caller: failure_of(call, small, "from other", None))
    until(lambda: small._process.bonds is not None and small._process.bonds.senders)
    second = gevent.spawn(send, small, "second", block=True)
    until(lambda: len(small._process.bonds.senders) == 2)
    gate.set()
    failed = asker.get(timeout=5)
    assert isinstance(failed, CallCycle)
    assert failed.chain == (other, small, other)
    second.get(timeout=5)  # the room that was made is not lost
    until(lambda: answers == ["from small"])
    assert call(small, "answers") == "answers"


def test_a_circle_of_others_does_not_catch_who_calls_one_of_them(system: System) -> None:
    gate = Event()
    refs = [Puppet.start(system=system) for _ in range(7)]
    for ref in refs:
        cast(ref, lambda server: gate.wait() and None)
    until(lambda: all(statistics(ref).status == "busy" for ref in refs))
    # The first two lead into a circle of the five others.
    for number, ref in enumerate(refs):
        after = refs[number + 1] if number + 1 < len(refs) else refs[2]
        ref._process.waiting = Call(None, after._process, "as if", ref._process, None)
    asker = Puppet.start(system=system)
    failed = call(asker, lambda server, caller: failure_of(call, refs[0], "anybody?", 0.01), 5.0)
    assert isinstance(failed, CallTimeout)
    for ref in refs:
        ref._process.waiting = None
    gate.set()
    assert call(asker, lambda server, caller: call(refs[0], "now")) == "now"
