"""For the tests of those who write modules, capabilities and actors: a world in virtual time, whole nodes in it included."""

from packetflow.otp.errors import Deadlock, Endless, SimulationFailed
from packetflow.otp.simulation.world import Run
from packetflow.testing.disk import SimulatedDisk
from packetflow.testing.simulation import World, explore, simulate, simulation

__all__ = [
    "Deadlock",
    "Endless",
    "Run",
    "SimulatedDisk",
    "SimulationFailed",
    "World",
    "explore",
    "simulate",
    "simulation",
]
