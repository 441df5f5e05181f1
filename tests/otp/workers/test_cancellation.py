"""A caller that gives up is given up on the other side of the channel too, in both directions."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import CallTimeout, Ref, System, WorkerProcess, WorkerSupervisor, call, kill
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.workers import programs

__all__ = ["programs"]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    from pathlib import Path

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))


def worker(system: System, program: str, **options: Any) -> Ref:
    spec = WorkerProcess.child(f"tests.otp.workers.programs:{program}", id="w", **options)
    supervisor = WorkerSupervisor.start([spec], system=system)
    ref = WorkerSupervisor.which_children(supervisor)[0].ref
    assert ref is not None
    return ref


def owed(ref: Ref) -> int:
    bonds = ref._process.bonds
    return 0 if bonds is None else len(bonds.owed)


def test_what_waits_in_the_mailbox_over_there_is_dropped_and_what_has_begun_is_finished(
    system: System,
) -> None:
    ref = worker(system, "serve")
    first = gevent.spawn(call, ref, ("note_slowly", 0.3, "begun"))
    until(lambda: owed(ref) == 1)
    second = gevent.spawn(failure_of, call, ref, ("note_slowly", 0, "waits"), 0.05)
    third = gevent.spawn(failure_of, call, ref, ("note_slowly", 0, "killed"), None)
    until(lambda: owed(ref) == 3)
    assert isinstance(second.get(timeout=5), CallTimeout)
    third.kill()
    assert owed(ref) == 1
    assert first.get(timeout=5) == "begun"
    assert call(ref, ("told",)) == ["begun"]
    assert ref._process.server._asked == {}


def test_an_actor_that_dies_gives_its_call_up(system: System) -> None:
    ref = worker(system, "serve")
    busy = gevent.spawn(call, ref, ("note_slowly", 0.3, "begun"))
    until(lambda: owed(ref) == 1)
    actor = Puppet.start(system=system)
    asks = gevent.spawn(
        failure_of, call, actor, lambda server, caller: call(ref, ("note_slowly", 0, "never"), None), None
    )
    until(lambda: owed(ref) == 2)
    kill(actor)
    asks.get(timeout=5)
    until(lambda: owed(ref) == 1)
    busy.get(timeout=5)
    assert call(ref, ("told",)) == ["begun"]


def test_what_the_parent_does_for_a_worker_that_lost_patience_is_ended_and_cleaned_up(system: System) -> None:
    cleaned: list[Any] = []

    def answers(id: str, request: Any) -> Any:
        try:
            gevent.sleep(600)
        finally:
            cleaned.append(request)

    ref = worker(system, "asks", answers=answers)
    assert "did not answer" in str(failure_of(call, ref, (0.05, "slow")))
    until(lambda: cleaned == ["slow"])


def test_and_for_one_that_died(system: System) -> None:
    cleaned: list[Any] = []
    begun: list[Any] = []

    def answers(id: str, request: Any) -> Any:
        begun.append(request)
        try:
            gevent.sleep(600)
        finally:
            cleaned.append(request)

    ref = worker(system, "asks", answers=answers)
    asking = gevent.spawn(failure_of, call, ref, (60, "slow"), None)
    until(lambda: begun == ["slow"])
    kill(ref)
    asking.get(timeout=5)
    until(lambda: cleaned == ["slow"])


def test_the_one_who_answers_may_say_how_it_is_ended(system: System) -> None:
    ended: list[Any] = []

    def answers(id: str, request: Any) -> Any:
        try:
            gevent.sleep(600)
        except KeyError:
            ended.append("told to end")
        return None

    def cancel(answering: gevent.Greenlet[..., Any]) -> None:
        answering.kill(KeyError, block=False)

    ref = worker(system, "asks", answers=answers, cancel=cancel)
    failure_of(call, ref, (0.05, "slow"))
    until(lambda: ended == ["told to end"])


def test_a_wrong_cancel_is_named() -> None:
    refused = failure_of(WorkerProcess.child, "a:b", cancel="kill")
    assert "cancel" in str(refused)
