"""What an actor holds outside of itself is given back at its death, however it dies."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from packetflow.otp import ChildSpec, NotAnActor, Supervisor, System, at_death, call, cast, kill, stop
from tests.otp.actors import Puppet, crash, until


class Holder(Puppet):
    """Holds one of a kind while it lives."""

    def init(self, held: list[str]) -> None:  # type: ignore[override]
        super().init()
        assert not held, "somebody else has it"
        held.append("taken")
        at_death(held.clear)


@pytest.mark.parametrize("end", ["killed", "crashed", "stopped"])
def test_it_is_done_however_the_actor_ends(system: System, end: str) -> None:
    held: list[str] = []
    ref = Holder.start(held, system=system)
    assert held
    if end == "killed":
        kill(ref)
    elif end == "stopped":
        stop(ref)
    else:
        cast(ref, crash(ValueError("no oil")))
    until(lambda: not held)


def test_it_is_done_before_a_supervisor_starts_the_next(system: System) -> None:
    held: list[str] = []
    tree = Supervisor.start([ChildSpec(Holder, held)], system=system)
    first = Supervisor.which_children(tree)[0].ref
    assert first is not None
    for _ in range(3):
        kill(first)
        first = until(lambda before=first: (now := Supervisor.which_children(tree)[0].ref) != before and now)
    assert held == ["taken"]


def test_what_it_raises_is_logged_and_the_others_are_told(
    system: System, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    ref = Puppet.start(system=system)
    call(ref, lambda server, caller: at_death(crash(ValueError("no oil"))))
    call(ref, lambda server, caller: at_death(lambda: told.append("told")))
    with caplog.at_level(logging.ERROR, "packetflow.otp"):
        kill(ref)
    assert told == ["told"]
    assert "what was to be done at its death failed" in caplog.text


def test_outside_of_an_actor_it_is_refused() -> None:
    with pytest.raises(NotAnActor, match="at_death"):
        at_death(list)


def test_a_start_that_fails_gives_it_back(system: System) -> None:
    held: list[str] = []

    class Fails(Holder):
        def init(self, held: list[str]) -> Any:  # type: ignore[override]
            super().init(held)
            raise ValueError("no oil")

    with pytest.raises(Exception, match="no oil"):
        Fails.start(held, system=system)
    assert held == []
