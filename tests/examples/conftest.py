from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.loading import Calendar, Desk


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def desk(tmp_path: Path, calendar: Calendar) -> Iterator[Any]:
    opened = Desk(tmp_path / "desk.sqlite", clock=calendar)
    try:
        yield opened
    finally:
        opened.close()
