"""A capability or module that never gives way, on a real node: it is named and ended, and everybody else goes on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from packetflow.client import Client

from .conftest import Desk, until

CAPABILITIES = """
from packetflow import capability


def forever():
    while True:
        pass


@capability("busy.spin", intent="Be busy.")
def spin() -> int:
    return forever()


@capability("busy.coroutine", intent="Be busy.")
async def coroutine() -> int:
    return forever()


@capability("busy.asleep", intent="Be busy.")
def asleep() -> int:
    from gevent.monkey import get_original

    get_original("time", "sleep")(3600)
    return 1


@capability("busy.plain", intent="Be busy.")
def plain(number: int) -> int:
    return number
"""

MODULE = """
from packetflow import Module


class Greedy(Module):
    def handle_request(self, request, context):
        if request.payload["number"] < 0:
            while True:
                pass
"""

MANIFEST = """
name = "greedy"
version = "1.0.0"
entry = "greedy:Greedy"
description = "Never comes to an end with a negative number."
requires_packetflow = ">=0.1,<1"
hooks = ["handle_request"]
"""

CONFIG = """
[timeouts]
hub = 0.2
hook = 30

[[capabilities]]
path = "busy.py"

[[modules]]
name = "greedy"
priority = 200
match = ["busy.plain"]
on_error = "{on_error}"
"""


def begin(project: Desk, on_error: str = "skip") -> str:
    """Starts the node and answers its tcp door's address."""
    (project.folder / "busy.py").write_text(CAPABILITIES)
    folder = project.folder / "modules" / "greedy"
    folder.mkdir()
    (folder / "greedy.py").write_text(MODULE)
    (folder / "module.toml").write_text(MANIFEST)
    config = project.folder / "config" / "node.toml"
    config.write_text(config.read_text() + CONFIG.format(on_error=on_error))
    doors = project.start()["doors"]
    return next(door["address"] for door in doors if door["door"] == "tcp")


@pytest.fixture
def clients(project: Desk) -> Iterator[tuple[Client, Client]]:
    address = begin(project)
    with Client(address) as one, Client(address) as other:
        yield one, other


@pytest.mark.parametrize("name", ["busy.spin", "busy.coroutine", "busy.asleep"])
def test_a_capability_that_holds_the_hub_is_ended_and_others_go_on(
    project: Desk, clients: tuple[Client, Client], name: str
) -> None:
    one, other = clients
    assert other.call("busy.plain", {"number": 1}) == 1
    held = one.submit(name)
    answers = [other.call("busy.plain", {"number": number}) for number in range(20)]
    reply = held.reply()
    assert answers == list(range(20))
    assert reply.error is not None
    assert reply.error.code == "execution_failed"
    assert reply.error.details["type"] == "HandlerOverrun"
    assert one.call("busy.plain", {"number": 2}) == 2  # the same session lives on

    hub = project("status", "--json").document["hub"]
    assert hub["limit"] == 0.2
    assert hub["broken"] == 1
    (record,) = (held for held in hub["last"] if held["who"].startswith(f"{name} (trace "))
    assert record["broken"] == 1
    assert "busy.py" in record["line"]
    assert record["over"]
    health = project("health", "--json")
    assert health.code == 0, health
    (finding,) = health.document["findings"]
    assert finding["severity"] == "warning"
    assert "the hub was held" in finding["what"]
    assert f"{name} (trace " in project("status").out
    assert project("call", "system.stats", "--json").document["value"]["hub"]["broken"] == 1
    until(lambda: "held the hub for" in (project.folder / "log").read_text())


def test_a_module_that_holds_the_hub_is_left_out_as_it_says(
    project: Desk, clients: tuple[Client, Client]
) -> None:
    one, other = clients
    held = one.submit("busy.plain", {"number": -1})
    assert other.call("busy.plain", {"number": 7}) == 7
    assert held.reply().value == -1
    row: dict[str, Any] = project("module", "show", "greedy", "--json").document["module"]
    assert row["errors"] == 1
    assert "held the hub" in row["last_error"]
    last = project("status", "--json").document["hub"]["last"]
    assert [held["broken"] for held in last if held["who"].startswith("module greedy in busy.plain")] == [1]


def test_a_module_that_holds_the_hub_fails_the_request_as_it_says(project: Desk) -> None:
    with Client(begin(project, on_error="fail")) as client:
        reply = client.request("busy.plain", {"number": -1})
        assert reply.error is not None
        assert reply.error.code == "unavailable"
        assert "greedy" in reply.error.message
