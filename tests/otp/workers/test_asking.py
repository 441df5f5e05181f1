"""What a worker process asks of its parent, and what cannot pass between them."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import gevent
import pytest

from packetflow.otp import System, WorkerFailed, call, cast, send
from tests.otp.actors import Puppet, failure_of, until
from tests.otp.workers.starting import pid_of, records_of, single

# ---- asking the parent ----------------------------------------------------------------------------------------------------


def test_it_asks_a_function_of_the_parent(system: System) -> None:
    worker = single(system, "asks", id="till", answers=lambda id, request: (id, request, os.getpid()))
    assert call(worker, (5, "price")) == ("till", "price", os.getpid())


def test_it_asks_an_actor_of_the_parent_by_name(system: System) -> None:
    Puppet.start(name="prices", system=system)
    worker = single(system, "asks", answers="prices")
    assert call(worker, (5, {"apple": 3})) == {"apple": 3}
    assert isinstance(failure_of(call, single(system, "asks", answers="nobody"), (5, 1)), WorkerFailed)


def test_what_the_parent_raises_is_raised_there_and_a_late_answer_is_dropped(system: System) -> None:
    asked = []

    def answers(id: str, request: Any) -> Any:
        asked.append(request)
        if request == "slow":
            gevent.sleep(0.2)
            return "too late"
        raise ZeroDivisionError(request)

    worker = single(system, "asks", answers=answers)
    with pytest.raises(ZeroDivisionError, match="odd"):
        call(worker, (5, "odd"))
    refused = failure_of(call, worker, (0.05, "slow"))
    assert "did not answer within 0.05 s" in str(refused)
    until(lambda: asked == ["odd", "slow"])


def test_what_a_cast_fails_of_is_logged_on_the_side_where_it_failed(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="packetflow.otp")

    def answers(id: str, request: Any) -> None:
        raise KeyError(request)

    worker = single(system, "asks", id="till", answers=answers)
    cast(worker, "unknown article")
    send(worker, "nobody takes this")
    until(lambda: {record.getMessage() for record in records_of("packetflow.otp", caplog)} == {
        "worker till: what it cast failed here", "worker till: what the parent told it failed here",
    })  # fmt: skip
    here = {record.getMessage()[13:]: record.process for record in records_of("packetflow.otp", caplog)}
    assert here == {
        "what it cast failed here": os.getpid(),
        "what the parent told it failed here": pid_of(worker),
    }


def test_without_answers_it_is_told_so(system: System) -> None:
    with pytest.raises(NotImplementedError, match="nobody answers worker"):
        call(single(system, "asks"), (5, "price"))


def test_what_can_not_be_pickled_is_the_callers_fault_and_the_worker_lives_on(system: System) -> None:
    worker = single(system, "serve")
    with pytest.raises(Exception, match="pickle"):
        call(worker, ("echo", lambda: None))
    with pytest.raises(Exception, match="pickle"):
        call(worker, ("unpicklable",))
    assert call(worker, ("echo", 1)) == 1


def test_a_class_that_only_one_side_has_is_refused_by_name(system: System) -> None:
    worker = single(system, "serve")
    local = type("Local", (), {"__module__": "no_such_module_there", "__qualname__": "Local"})
    sys.modules["no_such_module_there"] = type(sys)("no_such_module_there")
    sys.modules["no_such_module_there"].Local = local  # type: ignore[attr-defined]
    try:
        refused = failure_of(call, worker, ("echo", local()))
    finally:
        del sys.modules["no_such_module_there"]
    assert "no_such_module_there" in str(refused)
    assert call(worker, ("echo", 1)) == 1
