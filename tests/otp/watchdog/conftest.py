"""A watchdog over the test's own thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from packetflow.otp import Watchdog

LIMIT = 0.1


@pytest.fixture
def dog() -> Iterator[Watchdog]:
    with Watchdog(LIMIT) as watchdog:
        yield watchdog
