"""Significant children: whose end ends their supervisor, by its auto_shutdown."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.otp import (
    ChildSpec,
    Ref,
    Stop,
    Supervisor,
    System,
    monitor,
    stop,
)
from tests.otp.actors import Puppet, until
from tests.otp.supervision.test_supervisor import fall, ids, journals, settle

STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


def spec(name: str, restart: Any, is_significant: bool) -> ChildSpec:
    return ChildSpec(Puppet, id=name, name=name, restart=restart, significant=is_significant)


@pytest.mark.parametrize("auto_shutdown", ["never", "any_significant", "all_significant"])
@pytest.mark.parametrize("restart", ["temporary", "transient"])
@pytest.mark.parametrize("how", ["terminate", "kill", "odd", "normal"])
def test_the_end_of_a_child_that_is_not_significant_shuts_nothing_down(
    system: System, auto_shutdown: Any, restart: Any, how: str
) -> None:
    tree = Supervisor.start([spec("a", restart, False)], auto_shutdown=auto_shutdown, system=system)
    end(system, tree, "a", how)
    back = restart == "transient" and how in ("kill", "odd")
    kept = {"a": "running" if back else "undefined"} if restart == "transient" else {}
    assert ids(tree) == kept


def end(system: System, tree: Ref, name: str, how: str) -> None:
    if how == "terminate":
        Supervisor.terminate_child(tree, name)
    else:
        fall(system, name, None if how == "kill" else Stop(how))


@pytest.mark.parametrize(
    ("restart", "how", "ends"),
    [
        ("temporary", "terminate", False),
        ("temporary", "kill", True),
        ("temporary", "odd", True),
        ("temporary", "normal", True),
        ("transient", "terminate", False),
        ("transient", "kill", False),
        ("transient", "odd", False),
        ("transient", "normal", True),
    ],
)
@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_a_significant_child_that_ends_for_good_shuts_its_supervisor_down(
    system: System, restart: Any, how: str, ends: bool, auto_shutdown: Any
) -> None:
    log: list[Any] = []
    specs = [spec("a", restart, True), spec("b", restart, True), *journals(log, "c", restart=restart)]
    tree = Supervisor.start(specs, auto_shutdown=auto_shutdown, system=system)
    watch = monitor(tree)
    end(system, tree, "a", how)
    if ends and auto_shutdown == "any_significant":
        assert watch.wait(5).reason == "shutdown"
        assert log == ["+c", "-c"]
        return
    assert watch.wait(0) is None
    assert ids(tree)["b"] == ids(tree)["c"] == "running"
    if how == "terminate":
        return
    end(system, tree, "b", how)
    if ends:
        assert watch.wait(5).reason == "shutdown"
        assert system.processes() == []
    else:
        assert ids(tree) == {"a": "running", "b": "running", "c": "running"}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("auto_shutdown", ["any_significant", "all_significant"])
def test_significant_siblings_that_are_stopped_by_the_strategy_shut_nothing_down(
    system: System, strategy: Any, auto_shutdown: Any
) -> None:
    specs = [spec("a", "transient", True), spec("b", "transient", False), spec("c", "transient", True)]
    tree = Supervisor.start(specs, strategy=strategy, auto_shutdown=auto_shutdown, system=system)
    before = {name: system.find(name) for name in "abc"}
    fall(system, "b")
    changed = {"one_for_one": "b", "one_for_all": "abc", "rest_for_one": "bc"}[strategy]
    assert [name for name in "abc" if system.find(name) != before[name]] == list(changed)
    assert set(ids(tree).values()) == {"running"}


@pytest.mark.parametrize("is_significant", [True, False])
def test_an_automatic_shutdown_escalates_through_significant_supervisors_only(
    system: System, is_significant: bool
) -> None:
    inner = Supervisor.child(
        [spec("c", "transient", True)],
        id="inner",
        restart="transient",
        significant=is_significant,
        auto_shutdown="any_significant",
    )
    top = Supervisor.start([inner], auto_shutdown="any_significant", system=system)
    below = Supervisor.which_child(top, "inner").ref
    stop(system.find("c"))
    until(lambda: below not in system.processes())
    settle(system)
    if is_significant:
        until(lambda: system.processes() == [])
    else:
        assert ids(top) == {"inner": "undefined"}
