"""A system for each test, shut down after it; nothing may be left."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from packetflow.otp import System
from tests.otp.actors import until
from tests.otp.tasks.work import Run, in_an_actor


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="packetflow.otp")


@pytest.fixture
def system() -> Iterator[System]:
    world = System("test", incarnation=1)
    yield world
    world.shutdown(timeout=1.0)
    assert world.processes() == []
    assert world.names() == []
    until(lambda: not world.scheduler.lingering)
    until(lambda: world.scheduler.workers == 0)


@pytest.fixture(params=["greenlet", "actor"])
def as_owner(request: pytest.FixtureRequest, system: System) -> Run:
    """Runs a function that starts tasks: in a plain greenlet (the test's own), and inside an actor that traps exits."""
    return in_an_actor(system) if request.param == "actor" else lambda action: action()
