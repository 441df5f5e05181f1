"""The watchdog: who holds the hub is named, and broken where that is safe; nobody else ever gets the exception."""

from __future__ import annotations

import faulthandler
import io
import logging
import pkgutil
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub

import packetflow.otp
from packetflow.otp import (
    Blocked,
    CallTimeout,
    ChildSpec,
    Clock,
    GenServer,
    HandlerOverrun,
    NoProcess,
    ServerExited,
    SpecError,
    StartFailed,
    Stop,
    Supervisor,
    System,
    Watchdog,
    call,
    cast,
    get_state,
    kill,
    send,
)
from packetflow.otp import breaking, watchdog as watchdog_file
from tests.otp.actors import Puppet, failure_of, until

LIMIT = 0.1
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    with Watchdog(LIMIT) as watchdog:
        yield watchdog


def spin(*_: Any) -> None:
    while True:
        pass


def backtrack(*_: Any) -> None:
    re.match(r"(a+)+$", "a" * 60 + "b")


def sleep(*_: Any) -> None:
    time.sleep(30)


def cast_for_ever(server: Any, *_: Any) -> None:
    while True:
        cast(server.ref, "more")


# ---- named and broken --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [spin, backtrack, sleep, cast_for_ever])
def test_a_handler_that_holds_the_hub_is_named_and_broken_and_its_actor_crashes(
    system: System, dog: Watchdog, handler: Callable[..., None]
) -> None:
    ref = Puppet.start(name="stuck", system=system)
    other = Puppet.start(system=system)
    failed = failure_of(call, ref, handler, None)
    assert isinstance(failed, ServerExited)
    assert isinstance(failed.reason, HandlerOverrun)
    assert isinstance(failure_of(system.call, "stuck", "there?"), NoProcess)
    assert call(other, "alive") == "alive"
    (record,) = until(lambda: dog.blocked)
    assert (record.kind, record.who, record.ref) == ("actor", str(ref), ref)
    assert handler.__name__ in record.message
    assert any(f" in {handler.__name__}: " in line for line in record.stack)
    until(lambda: record.over)
    assert record.seconds >= LIMIT
    assert record.broken == 1
    assert (dog.count, dog.broken) == (1, 1)


@pytest.mark.parametrize("kind", ["cast", "info", "continue"])
def test_every_kind_of_handler_is_broken(system: System, dog: Watchdog, kind: str) -> None:
    ref = Puppet.start(system=system)
    if kind == "cast":
        cast(ref, spin)
    elif kind == "info":
        send(ref, spin)
    else:
        from packetflow.otp import Continue

        assert call(ref, lambda server, caller: Continue(spin, reply="begun")) == "begun"
    until(lambda: system.processes() == [])
    assert dog.broken == 1


def test_an_init_that_holds_the_hub_is_a_start_that_failed(system: System, dog: Watchdog) -> None:
    failed = failure_of(Puppet.start, spin, name="never", system=system)
    assert isinstance(failed, StartFailed)
    assert isinstance(failed.reason, HandlerOverrun)
    assert system.names() == []
