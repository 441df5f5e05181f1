"""A supervisor that is killed comes back when what its children held is free: names above all."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow.otp import ChildSpec, DynamicSupervisor, Supervisor, System, call, kill
from packetflow.otp.supervision import children
from tests.otp.actors import Puppet, until


class Slow(Puppet):
    """Traps exits, and takes its time to end."""

    trap_exits = True

    def terminate(self, reason: object) -> None:
        gevent.sleep(self.seen[0] if self.seen else 0.05)


def named(name: str = "kept") -> ChildSpec:
    return ChildSpec(Slow, name=name)


def tree(system: System, kind: str) -> Any:
    """A supervisor below another one, with a child that has a name. (the upper one, the lower one's ref, how it is found)."""
    if kind == "static":
        upper = Supervisor.start([Supervisor.child([named()], id="lower")], system=system)
        return upper, lambda: Supervisor.which_children(upper)[0].ref
    upper = DynamicSupervisor.start(system=system)
    DynamicSupervisor.start_child(upper, Supervisor.child([named()], id="lower"))
    return upper, lambda: DynamicSupervisor.which_children(upper)[0].ref


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_it_waits_for_the_children_of_the_one_before(system: System, kind: str) -> None:
    upper, lower = tree(system, kind)
    first, kept = lower(), system.whereis("kept")
    kill(first)
    assert system.whereis("kept") == kept  # it cleans up
    assert lower() is None
    until(lambda: lower() not in (None, first))
    assert system.whereis("kept") not in (None, kept)
    assert call(upper, ("count_children",)).active == 1


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_who_takes_too_long_is_killed(system: System, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if getattr(children.Overseer.must_wait_for_orphans, "__code__", None) is None:
        pytest.skip("the compiled core has no constants to be changed")
    monkeypatch.setattr(children, "ORPHANS", 0.05)
    _, lower = tree(system, kind)
    first = lower()
    system.call("kept", lambda server, caller: server.seen.append(600))
    kill(first)
    until(lambda: lower() not in (None, first))
    assert system.call("kept", lambda server, caller: len(server.seen)) == 0


def test_one_that_waits_can_be_terminated(system: System) -> None:
    upper, lower = tree(system, "static")
    system.call("kept", lambda server, caller: server.seen.append(0.2))
    kill(lower())
    until(lambda: Supervisor.which_children(upper)[0].status == "restarting")
    Supervisor.terminate_child(upper, "lower")
    until(lambda: system.whereis("kept") is None)
    gevent.sleep(0.05)
    assert Supervisor.which_children(upper)[0].status == "undefined"
    assert Supervisor.restart_child(upper, "lower") is not None


def test_the_wait_counts_as_one_restart(system: System) -> None:
    """As many restarts as it would be without: the others are left for those that do crash."""
    upper = Supervisor.start(
        [Supervisor.child([named()], id="lower")], system=system, max_restarts=1, max_seconds=60
    )
    first = Supervisor.which_children(upper)[0].ref
    assert first is not None
    kill(first)
    until(lambda: Supervisor.which_children(upper)[0].ref not in (None, first))
    assert Supervisor.which_children(upper)[0].status == "running"
