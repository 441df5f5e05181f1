"""An operator switches a module off, the disk fails now and then, the node crashes at any turn: what was kept stays kept.

packetflow simulate examples/simulation/kept_switch.py --runs 50
"""

from __future__ import annotations

import gevent

from packetflow import capability
from packetflow.errors import RequestError
from packetflow.testing import World

CONFIG = """
[[modules]]
name = "log"
module = "request_log"
"""


@capability("ticket.open")
def open_ticket(text: str) -> str:
    """Open a ticket."""
    return text


def simulate_a_switch_that_was_kept_outlives_a_crash(world: World) -> None:
    """Disabled and acknowledged: then it is disabled after the crash too. Refused: it may be either way, and the node starts."""
    config = world.folder / "node.toml"
    config.write_text(CONFIG)
    desk = world.node("desk", capabilities=[open_ticket], config=config)
    world.disk("desk").faults = 0.1
    world.disk("desk").latency = (0.0, 0.2)
    down = world.crash_within(desk, 200)

    def switch_off() -> bool:
        try:
            desk.change_module("disable", "log", "an operator", False)
        except RequestError:
            return False
        return True

    switching = gevent.spawn(switch_off)
    down.wait()
    kept = switching.get()
    world.disk("desk").faults = 0.0
    again = world.node("desk", capabilities=[open_ticket], config=config)
    assert again.call("ticket.open", {"text": "hello"}) == "hello"
    if kept:
        assert again.list_active_modules() == [], "the switch that was kept is gone"
