"""Whom the watchdog leaves alone, and the places where no handler may be broken."""

from __future__ import annotations

import ast
import gc
import pkgutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import packetflow.otp
from packetflow.otp import Clock, System, Watchdog, call
from packetflow.otp.watchdog import breaking
from tests.otp.actors import Puppet
from tests.otp.watchdog.conftest import LIMIT

ROOT = Path(__file__).resolve().parents[3]


# ---- innocents ---------------------------------------------------------------------------------------------------------


def test_a_pause_of_the_whole_process_is_nobodys_fault(system: System) -> None:
    """A suspended machine, SIGSTOP, a long garbage collection: time jumps between two looks."""
    jump = [0.0]
    clock = Clock(monotonic=lambda: time.monotonic() + jump[0])
    with Watchdog(10.0, clock=clock) as dog:
        dog._interval = 0.01
        signal.setitimer(signal.ITIMER_VIRTUAL, 0.01, 0.01)

        def handler(server: Any, caller: Any) -> str:
            while dog._process is None:
                pass  # until it was looked at
            jump[0] += 3600.0
            while not dog.count:
                pass  # until it was looked at again
            return "whole"

        ref = Puppet.start(system=system)
        assert call(ref, handler, None) == "whole"
        assert dog.broken == 0
        assert [record.ref for record in dog.blocked] == [ref]


def test_who_sits_in_a_debugger_is_neither_named_nor_broken(system: System, dog: Watchdog) -> None:
    debugger = ModuleType("pdb")
    exec("def prompt(wait):\n    return wait()", debugger.__dict__)

    def handler(server: Any, caller: Any) -> int:
        looks = []

        def wait() -> int:
            end = time.monotonic() + 4 * LIMIT
            while time.monotonic() < end:
                looks.append(dog._held)
            return len(looks)

        return debugger.prompt(wait)

    assert call(Puppet.start(system=system), handler, None) > 0
    assert (dog.count, dog.broken) == (0, 0)


def frame_in(module: str, then: Callable[[], Any] | None = None, name: str = "inside") -> Callable[[], Any]:
    """A function of a module of that name, which calls the next one or gives its frame's answer."""
    place = ModuleType(module)
    place.__dict__["then"] = then or (lambda: breaking.may_break(sys._getframe()))
    exec(f"def {name}():\n    return then()", place.__dict__)
    return place.__dict__[name]


def innermost(module: str) -> Callable[[], Any]:
    place = ModuleType(module)
    place.__dict__.update(may_break=breaking.may_break, here=sys._getframe)
    exec("def inside():\n    return may_break(here())", place.__dict__)
    return place.inside


@pytest.mark.parametrize(
    ("place", "may"),
    [
        (innermost("somebody.handlers"), True),
        (innermost("packetflow_modules.pii_redaction"), True),
        (innermost("packetflow.node.door"), False),
        (innermost("packetflow.otp.calls"), False),
        (innermost("gevent.event"), False),
        (innermost("logging"), False),
        (innermost("logging.handlers"), False),
        (innermost("threading"), False),
        (frame_in("packetflow.node.door"), True),
        (frame_in("packetflow.otp.server"), False),
        (frame_in("packetflow.otp.state_machine.machine", name="_proceed"), True),
        (frame_in("packetflow.otp.registry.registry", name="dispatch"), True),
        (frame_in("packetflow.otp.debugging", name="_take_until_resumed"), False),
        (frame_in("somebody", name="__eq__"), False),
        (frame_in("somebody", name="__getattr__"), False),
        (frame_in("somebody", name="__call__"), True),
        (frame_in("packetflow.otp.signals"), False),
        (frame_in("packetflow.otp.nobody_knows"), False),
        (frame_in("somebody", frame_in("packetflow.otp.signals")), False),
        (frame_in("importlib._bootstrap", frame_in("somebody")), False),
    ],
)
def test_where_a_handler_may_be_broken(system: System, place: Callable[[], Any], may: bool) -> None:
    ref = Puppet.start(system=system)
    assert call(ref, lambda server, caller: place()) is may
    assert breaking.may_break(sys._getframe()) is False  # no worker's frames


def test_where_the_interpreter_would_drop_the_exception_it_is_not_raised(system: System) -> None:
    seen: list[bool] = []

    def in_callback(phase: str, details: dict[str, int]) -> None:
        seen.append(breaking.may_break(sys._getframe()))

    class Dropped:
        def __del__(self) -> None:
            seen.append(breaking.may_break(sys._getframe()))

    def handler(server: Any, caller: Any) -> bool:
        dropped = Dropped()
        del dropped
        gc.callbacks.append(in_callback)
        try:
            gc.collect()
        finally:
            gc.callbacks.remove(in_callback)
        return breaking.may_break(sys._getframe())

    assert call(Puppet.start(system=system), handler)
    assert seen == [False, False, False]


def test_every_file_of_the_runtime_is_known_as_either_of_two_kinds() -> None:
    """A new file in packetflow/otp is put in HANDLERS, with its functions that call a handler's code, or in RUNTIME."""
    found = pkgutil.walk_packages(packetflow.otp.__path__, "packetflow.otp.")
    files = {one.name for one in found if not one.ispkg}
    handlers = set(breaking.HANDLERS)
    assert files == handlers | breaking.RUNTIME
    assert not handlers & breaking.RUNTIME


@pytest.mark.parametrize("module", sorted(breaking.HANDLERS))
def test_the_functions_that_call_a_handlers_code_are_there(module: str) -> None:
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    defined = {one.name for one in ast.walk(ast.parse(source)) if isinstance(one, ast.FunctionDef)}
    assert breaking.HANDLERS[module] <= defined
