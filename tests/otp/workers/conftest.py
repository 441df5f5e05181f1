"""Worker processes find the tests' programs, and leave nothing behind."""

from __future__ import annotations

import os
from collections.abc import Iterator

import gevent
import pytest

from packetflow.otp import System
from tests.otp.actors import until
from tests.otp.workers.starting import ROOT, STRANGERS, children_of_this_process


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setenv("PYTHONPATH", ROOT)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(system: System) -> Iterator[None]:
    gevent.get_hub().threadpool  # noqa: B018 - it keeps descriptors of its own
    before = len(os.listdir("/proc/self/fd"))
    yield
    system.shutdown(timeout=5.0)
    until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.fixture(autouse=True)
def _strangers() -> None:
    """Children of this process that were there before the test began are no concern of it."""
    STRANGERS.clear()
    STRANGERS.update(children_of_this_process())
