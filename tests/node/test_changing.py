"""A change in two steps: prepared beside what runs, then put in place or ended; and what processes say of themselves, as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from packetflow import Node
from packetflow.errors import ConfigError, ModuleError
from packetflow.node.changing import ModuleSwitch, Reconfiguration
from packetflow.node.supervision import CAPABILITIES, MODULES
from tests.node.conftest import SHOUT, Project

Start = Callable[..., Node]

RESTLESS = '''
from pathlib import Path

from packetflow import Module, Reject


class Shout(Module):
    """Notes its life in a file."""

    class Config(Module.Config):
        suffix: str = "!"

    def init(self, config):
        with open("FOLDER/life.txt", "a") as file:
            file.write("begins ")

    def terminate(self, reason):
        with open("FOLDER/life.txt", "a") as file:
            file.write("ends ")

    def handle_request(self, request, context):
        return Reject("restless")
'''


def life(project: Project) -> str:
    file = project.folder / "life.txt"
    return file.read_text().strip() if file.exists() else ""


def answer(node: Node) -> str:
    response = node.request("word.echo", {"text": "hi"})
    return response.value if response.error is None else str(response.error.details["reason"])


@pytest.fixture
def restless(project: Project, started: Start) -> Node:
    """A node whose module's code has changed on disk."""
    project.add(SHOUT)
    node = started()
    project.write_module("shout", "Shout", RESTLESS.replace("FOLDER", str(project.folder)))
    return node


def hosts(node: Node) -> int:
    core = next(child for child in node.tree()["children"] if child["id"] == "core")
    intelligence = next(child for child in core["children"] if child["id"] == "intelligence")
    return len(intelligence["children"][0]["children"])


def test_what_is_prepared_runs_and_is_in_no_requests_way_until_it_is_committed(
    project: Project, restless: Node
) -> None:
    assert restless.changing.prepare(ModuleSwitch("reload", "shout")) is True
    assert (life(project), hosts(restless), answer(restless)) == ("begins", 2, "HI?")
    restless.changing.commit()
    assert answer(restless) == "restless"
    restless.settle()
    with gevent.Timeout(5):
        while hosts(restless) != 1:
            gevent.sleep(0.005)
    assert life(project) == "begins"


def test_what_is_aborted_is_ended_and_leaves_nothing(project: Project, restless: Node) -> None:
    restless.changing.prepare(ModuleSwitch("reload", "shout"))
    restless.changing.abort()
    assert (life(project), hosts(restless), answer(restless)) == ("begins ends", 1, "HI?")
    assert restless.changing.run(ModuleSwitch("reload", "shout"), False) is True
    assert answer(restless) == "restless"


@pytest.mark.parametrize("action", ["enable", "disable", "restart", "reload"])
def test_every_switch_can_be_aborted(action: str, project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    if action == "enable":
        node.changing.run(ModuleSwitch("disable", "shout"), False)
    before = answer(node)
    node.changing.prepare(ModuleSwitch(action, "shout"))
    node.changing.abort()
    assert answer(node) == before
    node.changing.run(ModuleSwitch(action, "shout"), False)
    assert answer(node) == ("hi" if action == "disable" else "HI?")


def test_a_second_change_is_refused_while_one_is_prepared_and_waits_where_it_is_run(restless: Node) -> None:
    restless.changing.prepare(ModuleSwitch("disable", "shout"))
    with pytest.raises(ModuleError, match="another change of the modules is under way"):
        restless.ask(MODULES, ("restart", "shout", False))
    restless.changing.abort()
    with restless.changing.alone:
        waiting = gevent.spawn(restless.change_module, "disable", "shout", "ana", False)
        gevent.sleep(0.01)
        assert not waiting.ready()
    assert waiting.get(timeout=5)["changed"]


SLOW = RESTLESS.replace(
    "    def init(self, config):\n",
    "    def init(self, config):\n        import gevent\n\n        gevent.sleep(0.2)\n",
)


@pytest.mark.parametrize("way", ["killed", "out of time"])
def test_a_change_goes_on_to_its_end_where_the_one_who_asked_is_ended(
    way: str, project: Project, started: Start
) -> None:
    project.add(SHOUT)
    node = started()
    project.write_module("shout", "Shout", SLOW.replace("FOLDER", str(project.folder)))
    session = node.open_session("admin", "test", operator=True)
    timeout = 0.05 if way == "out of time" else None
    asking = gevent.spawn(
        node.request, "system.module.reload", {"name": "shout"}, session=session, timeout=timeout
    )
    gevent.sleep(0.05)
    if way == "killed":
        asking.kill()
    else:
        error = asking.get(timeout=5).error
        assert error is not None
        assert error.code == "timeout"
    with gevent.Timeout(5):
        while answer(node) != "restless":
            gevent.sleep(0.005)
    assert node.change_module("disable", "shout", "ana", False)["changed"]
    assert answer(node) == "hi"


def reread(node: Node) -> Reconfiguration:
    loaded = node.blueprint.loaded
    assert loaded is not None
    return Reconfiguration(loaded.again()[0])


def test_a_reconfiguration_is_prepared_as_a_whole(project: Project, started: Start) -> None:
    node = started()
    before = node.blueprint
    project.add(SHOUT)
    file = project.folder / "capabilities.py"
    file.write_text(
        file.read_text() + '\n\n@capability("fresh.new")\ndef new() -> int:\n    """New."""\n    return 1\n'
    )
    words = node.changing.prepare(reread(node))
    assert words == ["module shout added", "capability fresh.new@1.0.0 added"]
    assert (answer(node), node.request("fresh.new").ok) == ("hi", False)
    node.changing.abort()
    assert node.blueprint is before
    assert (answer(node), node.request("fresh.new").ok) == ("hi", False)
    node.changing.prepare(reread(node))
    node.changing.commit()
    assert (answer(node), node.request("fresh.new").ok) == ("HI?", True)


def test_where_capabilities_can_not_be_prepared_the_modules_are_as_they_were(
    project: Project, started: Start
) -> None:
    node = started()
    before = node.blueprint
    project.add(SHOUT)
    (project.folder / "capabilities.py").write_text("this is no Python")
    change = reread(node)
    with pytest.raises(Exception, match=r"capabilities\.py"):
        node.changing.prepare(change)
    assert node.blueprint is before
    assert answer(node) == "hi"
    assert node.modules() == []
    node.ask(CAPABILITIES, ("apply", node.sources()[0][:1], (), True))
    assert node.ask(MODULES, ("apply", [], True)) == [], "nothing is pending"


def test_a_faulty_configuration_prepares_nothing(project: Project, started: Start) -> None:
    node = started()
    project.add(SHOUT.replace('suffix = "?"', 'sufix = "?"'))
    with pytest.raises(ConfigError):
        node.changing.prepare(reread(node))
    assert answer(node) == "hi"
    assert node.ask(MODULES, ("apply", [], True)) == []


def test_resources_of_what_is_aborted_are_closed(project: Project, started: Start) -> None:
    node = started()
    file = project.folder / "capabilities.py"
    file.write_text(file.read_text().replace('"closed").write_text', '"closed_again").write_text'))
    node.changing.prepare(reread(node))
    node.changing.abort()
    assert (project.folder / "run" / "closed_again").read_text() == "bye"
    assert not (project.folder / "run" / "closed").exists()


def test_a_node_that_stops_meanwhile_ends_what_was_prepared(project: Project, restless: Node) -> None:
    restless.changing.prepare(ModuleSwitch("reload", "shout"))
    restless.stop(0.0)
    assert life(project) == "begins ends"


def test_where_nothing_is_to_change_there_is_nothing_to_put_in_place(restless: Node) -> None:
    assert restless.changing.prepare(ModuleSwitch("enable", "shout")) is False
    restless.changing.commit()
    assert answer(restless) == "HI?"


def test_the_counts_go_on_where_a_module_is_replaced(project: Project, started: Start) -> None:
    project.add(SHOUT)
    node = started()
    answer(node)
    for action in ("restart", "reload", "disable", "enable"):
        node.change_module(action, "shout", "ana", False)
    found: Any = node.modules()[0]
    assert found["handled"] == 1
