"""What supervisors write into the log: who ended, of what, and whose child it was."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    ChildSpec,
    DynamicSupervisor,
    StartFailed,
    Stop,
    Supervisor,
    SupervisorReport,
    System,
    cast,
    kill,
    monitor,
    stop,
)
from tests.otp.actors import Puppet, crash, failure_of, until
from tests.otp.supervision.test_supervisor import fall, settle

Reports = Callable[[], list[SupervisorReport]]


@pytest.fixture
def reports(caplog: pytest.LogCaptureFixture) -> Reports:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    return lambda: [record.report for record in caplog.records if hasattr(record, "report")]


def contexts(reports: Reports) -> list[tuple[str, object, object]]:
    return [(report.context, report.id, report.reason) for report in reports()]


@pytest.mark.parametrize(
    ("restart", "reason", "told"),
    [
        ("permanent", "normal", True),
        ("permanent", "shutdown", True),
        ("permanent", "odd", True),
        ("transient", "normal", False),
        ("transient", "shutdown", False),
        ("transient", ("shutdown", "x"), False),
        ("transient", "odd", True),
        ("temporary", "normal", False),
        ("temporary", ("shutdown", "x"), False),
        ("temporary", "odd", True),
    ],
)
def test_the_end_of_a_child_is_told_unless_it_was_orderly_and_is_not_restarted(
    system: System, reports: Reports, restart: Any, reason: object, told: bool
) -> None:
    tree = Supervisor.start([ChildSpec(Puppet, name="a", restart=restart)], system=system)
    ref = system.find("a")
    fall(system, "a", Stop(reason))
    expected = SupervisorReport(tree, "child_terminated", reason, "a", ref, restart, 5.0, "worker")
    assert reports() == ([expected] if told else [])


def test_a_dynamic_supervisor_tells_it_too(system: System, reports: Reports) -> None:
    pool = DynamicSupervisor.start(system=system)
    ref = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, restart="temporary"))
    finished = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, restart="temporary"))
    stop(finished)
    kill(ref)
    until(lambda: DynamicSupervisor.count_children(pool).specs == 0)
    assert [(report.supervisor, report.ref, report.reason) for report in reports()] == [(pool, ref, "killed")]


def test_a_child_that_does_not_start_with_its_supervisor_is_told_and_one_by_request_is_not(
    system: System, reports: Reports
) -> None:
    fault = OSError("port in use")
    with pytest.raises(StartFailed):
        Supervisor.start([ChildSpec(Puppet, crash(fault), id="a")], name="top", system=system)
    assert contexts(reports) == [("start_error", "a", fault)]
    assert reports()[0].ref is None
    tree = Supervisor.start([], system=system)
    failure_of(Supervisor.start_child, tree, ChildSpec(Puppet, crash(fault), id="b"))
    assert len(reports()) == 1, "who asked has it"


def test_a_restart_that_fails_and_the_end_of_it_are_told_in_their_order(
    system: System, reports: Reports
) -> None:
    fault = OSError("still broken")
    broken: list[bool] = []

    def begin(server: Any) -> None:
        if broken:
            raise fault

    tree = Supervisor.start([ChildSpec(Puppet, begin, name="a")], max_restarts=2, system=system)
    watch = monitor(tree)
    broken.append(True)
    kill(system.find("a"))
    assert watch.wait(5).reason == "shutdown"
    assert contexts(reports) == [
        ("child_terminated", "a", "killed"),
        ("start_error", "a", fault),
        ("start_error", "a", fault),
        ("shutdown", "a", "reached_max_restart_intensity"),
    ]


def test_a_dynamic_supervisor_that_gives_up_tells_why(system: System, reports: Reports) -> None:
    pool = DynamicSupervisor.start(max_restarts=0, system=system)
    ref = DynamicSupervisor.start_child(pool, ChildSpec(Puppet, id="a"))
    watch = monitor(pool)
    kill(ref)
    assert watch.wait(5).reason == "shutdown"
    assert contexts(reports) == [
        ("child_terminated", "a", "killed"),
        ("shutdown", "a", "reached_max_restart_intensity"),
    ]


def test_a_child_that_had_to_be_killed_at_its_shutdown_is_told(system: System, reports: Reports) -> None:
    class Stubborn(Puppet):
        def terminate(self, reason: object) -> None:
            Event().wait()

    tree = Supervisor.start(
        [ChildSpec(Stubborn, name="a", shutdown=0.01), ChildSpec(Puppet, id="b", shutdown="brutal_kill")],
        system=system,
    )
    ref = system.find("a")
    stop(tree, "shutdown")
    assert reports() == [
        SupervisorReport(tree, "shutdown_error", "killed", "a", ref, "permanent", 0.01, "worker")
    ]


@pytest.mark.parametrize(
    ("restart", "reason", "told"),
    [
        ("permanent", "normal", True),
        ("transient", "normal", False),
        ("permanent", ("shutdown", "x"), False),
        ("temporary", "odd", True),
    ],
)
def test_a_child_that_ends_otherwise_while_it_is_stopped_is_told(
    system: System, reports: Reports, restart: Any, reason: object, told: bool
) -> None:
    gate = Event()
    tree = Supervisor.start([ChildSpec(Puppet, name="a", restart=restart)], system=system)
    cast(system.find("a"), lambda server: gate.wait() and Stop(reason))
    settled = gevent.spawn(stop, tree, "shutdown")
    gevent.sleep(0.01)
    gate.set()
    settled.get(timeout=5)
    assert contexts(reports) == ([("shutdown_error", "a", reason)] if told else [])


def test_what_a_supervisor_does_when_asked_is_not_told(system: System, reports: Reports) -> None:
    tree = Supervisor.start([ChildSpec(Puppet, name="a")], system=system)
    Supervisor.terminate_child(tree, "a")
    Supervisor.restart_child(tree, "a")
    Supervisor.terminate_child(tree, "a")
    Supervisor.delete_child(tree, "a")
    stop(tree)
    assert reports() == []


def test_a_report_is_a_line_for_people(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    Supervisor.start([ChildSpec(Puppet, name="worker")], name="top", system=system)
    ref = system.find("worker")
    cast(ref, crash(ValueError("boom")))
    until(lambda: ref not in system.processes())
    settle(system)
    lines = [record.getMessage() for record in caplog.records if hasattr(record, "report")]
    assert lines == [f"<top test/1>: child_terminated: child worker {ref} (permanent): ValueError: boom"]


def test_a_reason_whose_text_raises_or_is_huge_ends_no_supervisor(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    class OddValue:
        def __repr__(self) -> str:
            raise ValueError("no repr")

    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    tree = Supervisor.start([ChildSpec(Puppet, name="a")], max_restarts=9, system=system)
    for how in (crash(Odd()), lambda server: Stop(OddValue()), lambda server: Stop("x" * 10_000)):
        ref = system.find("a")
        cast(ref, how)
        until(lambda: system.whereis("a") not in (None, ref))  # noqa: B023
    assert Supervisor.count_children(tree).active == 1
    lines = [record.getMessage() for record in caplog.records if hasattr(record, "report")]
    assert [line.partition("(permanent): ")[2][:43] for line in lines[:2]] == [
        "<Odd, whose text raises ValueError>",
        "<OddValue, whose text raises ValueError>",
    ]
    assert len(lines[2]) < 600


def test_a_stray_message_is_told(system: System, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")
    tree = Supervisor.start([], system=system)
    pool = DynamicSupervisor.start(system=system)
    for ref in (tree, pool):
        system.send(ref, "stray")
        cast(ref, "stray")
        Supervisor.which_children(ref)
    assert [record.getMessage().split(" got ")[1] for record in caplog.records] == [
        "an unexpected message: 'stray'",
        "an unexpected cast: 'stray'",
    ] * 2
