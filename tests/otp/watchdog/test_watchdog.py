"""The watchdog: who holds the hub is named, and broken where that is safe; nobody else ever gets the exception."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub

from packetflow.otp import (
    Blocked,
    ChildSpec,
    GenServer,
    HandlerOverrun,
    NoProcess,
    ServerExited,
    StartFailed,
    Supervisor,
    System,
    Watchdog,
    call,
    cast,
    get_state,
    kill,
    send,
)
from packetflow.otp.watchdog import watchdog as watchdog_file
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.watchdog.conftest import LIMIT


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


def test_a_terminate_that_holds_the_hub_is_broken_too(system: System, dog: Watchdog) -> None:
    class Sticky(GenServer):
        def terminate(self, reason: object) -> None:
            spin()

    ref = Sticky.start(system=system)
    failed = failure_of(system.stop_process, ref)
    assert isinstance(failed, ServerExited)
    assert isinstance(failed.reason, HandlerOverrun)


def test_who_asks_for_the_state_never_gets_the_exception_itself(system: System, dog: Watchdog) -> None:
    class Sticky(GenServer):
        def get_state(self) -> dict[str, Any]:
            while True:
                pass

    ref = Sticky.start(system=system)
    failed = failure_of(get_state, ref)
    assert isinstance(failed, ServerExited)
    assert isinstance(failed.reason, HandlerOverrun)


def test_a_handler_that_swallows_it_gets_it_again_until_it_ends(
    system: System, dog: Watchdog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog_file, "_AGAIN", 0.05)
    swallowed: list[BaseException] = []

    def stubborn(server: Any, caller: Any) -> None:
        while True:
            try:
                spin()
            except BaseException as error:
                swallowed.append(error)
                if len(swallowed) == 4:
                    raise

    ref = Puppet.start(system=system)
    failed = failure_of(call, ref, stubborn, None)
    assert failed.reason is swallowed[3]
    assert all(isinstance(error, HandlerOverrun) for error in swallowed)
    (record,) = dog.blocked
    assert record.broken == 4


def test_only_the_one_that_holds_the_hub_gets_it_not_those_that_wait_for_it(
    system: System, dog: Watchdog
) -> None:
    outer: list[BaseException] = []

    def asks(server: Any, caller: Any) -> str:
        try:
            server.call("stuck", spin, None)
        except BaseException as error:  # noqa: BLE001 - it is looked at below
            outer.append(error)
        return "goes on"

    Puppet.start(name="stuck", system=system)
    asker = Puppet.start(system=system)
    assert call(asker, asks, None) == "goes on"
    (error,) = outer
    assert isinstance(error, ServerExited)


def test_a_class_may_have_more_time_than_the_others(system: System, dog: Watchdog) -> None:
    class Patient(Puppet):
        hub_limit = 3600.0

    class Hasty(Puppet):
        hub_limit = 0.001  # less than the watchdog's own is none

    def held(server: Any, caller: Any) -> str:
        end = time.monotonic() + 3 * LIMIT
        while not dog.count or time.monotonic() < end:
            pass
        return "whole"

    assert call(Patient.start(system=system), held) == "whole"
    assert (dog.count, dog.broken) == (1, 0)
    failed = failure_of(call, Hasty.start(system=system), spin, None)
    assert failed.reason.limit == LIMIT


def test_its_supervisor_restarts_it(system: System, dog: Watchdog) -> None:
    Supervisor.start([ChildSpec(Puppet, name="stuck")], max_restarts=3, max_seconds=5, system=system)
    first = system.find("stuck")
    failure_of(call, first, spin, None)
    until(lambda: system.whereis("stuck"))
    assert system.call("stuck", "back") == "back"
    assert system.find("stuck") != first


def test_a_killed_actor_that_will_not_end_is_broken_too(system: System, dog: Watchdog) -> None:
    gate = Event()
    ended: list[BaseException] = []

    def stubborn(server: Any) -> None:
        try:
            gate.wait()
        except BaseException:  # noqa: BLE001 - this one will not end
            try:
                spin()
            except BaseException as error:
                ended.append(error)
                raise

    ref = Puppet.start(system=system)
    cast(ref, stubborn)
    gevent.sleep(0)
    kill(ref)
    until(lambda: ended)
    assert isinstance(ended[0], HandlerOverrun)
    until(lambda: not system.scheduler.lingering)
    assert [record.ref for record in dog.blocked] == [ref]


def test_one_watchdog_watches_all_systems_of_its_thread(system: System, dog: Watchdog) -> None:
    second = System("second")
    refs = [Puppet.start(system=world) for world in (system, second)]
    for ref in refs:
        failure_of(call, ref, spin, None)
    assert [record.ref for record in dog.blocked] == refs
    second.shutdown()


# ---- named only --------------------------------------------------------------------------------------------------------


def test_a_greenlet_that_is_no_actor_is_named_and_left_alone(dog: Watchdog) -> None:
    done = []

    def long_work() -> None:
        until_named = dog.count
        while dog.count == until_named or not dog.blocked[0].stack:
            pass
        for _ in range(10**6):
            pass
        done.append(True)

    gevent.spawn(long_work).join()
    assert done == [True]
    (record,) = dog.blocked
    assert record.kind == "greenlet"
    assert "long_work" in record.who
    assert "in long_work" in record.line
    assert record.message is None


def test_a_program_may_choose_what_becomes_of_a_greenlet_that_is_no_actor() -> None:
    class Enough(BaseException):
        pass

    asked: list[Any] = []

    def overrun(greenlet: Any, frame: Any, seconds: float) -> BaseException:
        asked.append((greenlet, seconds))
        return Enough()

    def long_work() -> str:
        try:
            spin()
        except Enough:
            return "told"
        return "never"

    with Watchdog(LIMIT, overrun=overrun, who=lambda: "the long work") as dog:
        worker = gevent.spawn(long_work)
        assert worker.get() == "told"
    assert [(record.kind, record.who, record.broken) for record in dog.blocked] == [
        ("greenlet", "the long work", 1)
    ]
    ((who, seconds),) = asked
    assert who is worker
    assert seconds >= LIMIT


def test_a_callback_of_the_hub_is_named(dog: Watchdog) -> None:
    def callback() -> None:
        while not dog.count:
            pass

    get_hub().loop.run_callback(callback)
    until(lambda: dog.blocked)
    (record,) = dog.blocked
    assert record.kind == "hub"
    assert "in callback" in record.stack[-1]


def test_c_code_that_returns_in_the_end_is_named_with_its_line_and_its_handler_is_not_broken(
    system: System, dog: Watchdog
) -> None:
    def in_c(server: Any, caller: Any) -> int:
        number = 10**6
        while not dog.count:
            sum(range(number))  # holds the interpreter: no other thread and no signal handler runs meanwhile
            if number < 10**7:
                number *= 10
                gevent.sleep(0)
        return number

    ref = Puppet.start(system=system)
    assert call(ref, in_c, None) == 10**7
    (record,) = dog.blocked
    assert "sum(range(number))" in record.line
    assert dog.broken == 0


def test_a_hub_of_another_thread_is_named_and_not_broken() -> None:
    records: list[Blocked] = []
    outcome: list[Any] = []

    def held(server: Any, caller: Any) -> str:
        deadline = time.monotonic() + 10
        while not records and time.monotonic() < deadline:
            pass
        return "whole"

    def run() -> None:
        world = System("elsewhere")
        with Watchdog(LIMIT, on_blocked=records.append) as watchdog:
            assert not watchdog.breaks
            outcome.append(call(Puppet.start(name="busy", system=world), held, None))
        world.shutdown()
        get_hub().destroy()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert outcome == ["whole"]
    (record,) = records
    assert (record.kind, record.broken) == ("actor", 0)
    assert "busy" in record.who
    assert "held" in record.message
    assert any(" in held: " in line for line in record.stack)


def test_nothing_is_named_while_nobody_holds_the_hub(system: System, dog: Watchdog) -> None:
    ref = Puppet.start(system=system)
    deadline = time.monotonic() + 4 * LIMIT
    while time.monotonic() < deadline:  # busy all the time, and fair
        call(ref, "asked")
    gevent.sleep(2 * LIMIT)  # idle all the time
    assert dog.count == 0


def test_it_is_logged_with_fields_and_told(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="packetflow.otp")
    told: list[Blocked] = []

    def tell(record: Blocked) -> None:
        told.append(record)
        raise ValueError("a fault of the program")

    with Watchdog(LIMIT, on_blocked=tell):
        ref = Puppet.start(system=system)
        failure_of(call, ref, spin, None)
        until(lambda: any("turns again" in line.getMessage() for line in caplog.records))
    (held,) = (line for line in caplog.records if hasattr(line, "blocked"))
    assert held.blocked["who"] == str(ref)
    assert "held the hub for" in held.getMessage()
    assert "in spin" in held.getMessage()
    assert [record.ref for record in told] == [ref]
    texts = [line.getMessage() for line in caplog.records]
    assert any("was broken" in text for text in texts)
    assert any("could not be told" in text for text in texts)


def test_it_keeps_the_last_records_only(system: System) -> None:
    with Watchdog(LIMIT, keep=2) as dog:
        refs = [Puppet.start(system=system) for _ in range(3)]
        for ref in refs:
            failure_of(call, ref, spin, None)
    assert [record.ref for record in dog.blocked] == refs[1:]
    assert dog.count == 3


def test_a_repr_that_raises_does_not_harm(system: System, dog: Watchdog) -> None:
    class Nameless:
        def __call__(self, *_: Any) -> None:
            spin()

        def __repr__(self) -> str:
            raise ValueError("no name")

    ref = Puppet.start(system=system)
    failure_of(call, ref, Nameless(), None)
    (record,) = dog.blocked
    assert "whose repr raises" in record.message
    assert record.as_dict()["message"] == record.message
