"""otp.md, "Server": mailboxes with a limit."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import GenServer, MailboxFull, SpecError, System, call, cast, kill, send, statistics, stop
from tests.otp.actors import Puppet, failure_of, seen, until

# ---- bounded mailboxes -----------------------------------------------------------------------------------------------


class Small(Puppet):
    mailbox_limit = 1


class SmallBlocking(Small):
    mailbox_full = "block"


def busy(kind: type[Puppet], system: System) -> tuple[Any, Event]:
    gate = Event()
    ref = kind.start(system=system)
    cast(ref, lambda server: gate.wait() and None)
    cast(ref, "fills it")
    return ref, gate


def test_a_full_mailbox_fails_a_call(system: System) -> None:
    ref, gate = busy(Small, system)
    with pytest.raises(MailboxFull):
        call(ref, "too much")
    with pytest.raises(MailboxFull):
        send(ref, "too much", block=True)
    gate.set()
    until(lambda: statistics(ref).status == "idle")
    assert call(ref, "room again") == "room again"


def test_a_full_mailbox_drops_and_counts_a_cast(system: System) -> None:
    ref, gate = busy(Small, system)
    cast(ref, "dropped")
    send(ref, "dropped")
    assert statistics(ref).dropped == 2
    gate.set()
    until(lambda: statistics(ref).status == "idle")
    assert call(ref, seen) == ["fills it"]


def test_a_full_mailbox_blocks_the_sender_by_choice(system: System) -> None:
    ref, gate = busy(SmallBlocking, system)
    sender = gevent.spawn(send, ref, "patient", block=True)
    caller = gevent.spawn(call, ref, "asked")
    gevent.idle()
    assert not sender.ready()
    gate.set()
    sender.get(timeout=5)
    assert caller.get(timeout=5) == "asked"
    assert call(ref, seen) == ["fills it", "patient"]


def test_a_blocked_sender_learns_of_the_death(system: System) -> None:
    ref, _ = busy(SmallBlocking, system)
    caller = gevent.spawn(lambda: failure_of(call, ref, "asked", None))
    until(lambda: ref._process.bonds is not None and ref._process.bonds.senders)
    kill(ref)
    assert caller.get(timeout=5).reason == "killed"


def test_what_the_runtime_sends_passes_a_full_mailbox(system: System) -> None:
    ref, gate = busy(Small, system)
    assert statistics(ref).mailbox == 1
    stopping = gevent.spawn(stop, ref)
    until(lambda: statistics(ref).mailbox == 2)
    gate.set()
    stopping.get(timeout=5)


def test_wrong_mailbox_options_are_named() -> None:
    with pytest.raises(SpecError, match="mailbox_limit: given 0"):
        type("Wrong", (GenServer,), {"mailbox_limit": 0})
    with pytest.raises(SpecError, match="mailbox_full: given 'wait'"):
        type("Wrong", (GenServer,), {"mailbox_full": "wait"})
