"""What the tests of compositions share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from .durable import Place


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "run")
    yield made
    for node in made.nodes:
        node.stop(0.0)
