"""Actors as functions, hosted in the test's own system."""

from __future__ import annotations

import pytest

from packetflow.otp import ActorSystem, System


@pytest.fixture
def actors(system: System) -> ActorSystem:
    return ActorSystem(system, name="shop")
