"""Typed refs: a type checker proves what may be sent to whom; at run time they cost nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from packetflow.otp import GenServer, Ref, System, call

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
from typing import Any
from packetflow.otp import (
    ActorContext, GenServer, Ref, System, call, cast, send, start_actor,
)

class Adder(GenServer[int, str]):
    def handle_call(self, request: int, caller: Any) -> str:
        return str(self.call(self.ref, request))

class Anything(GenServer):
    def handle_call(self, request: Any, caller: Any) -> Any:
        return request

class Wrong(GenServer[int, str]):
    def handle_call(self, request: str, caller: Any) -> str:  # error: it says it takes a number
        return request

def length(context: ActorContext, message: str) -> int:
    return len(message)

def either(context: ActorContext, message: int | str) -> None: ...

system = System()
adder = Adder.start(system=system)
assert adder is not None
text: str = call(adder, 5)
also: str = system.call(adder, 5)
number: int = call(adder, 5)  # error: it answers a text
call(adder, "five")  # error: it takes numbers
cast(adder, "five")  # error
send(adder, "five")  # error
system.call(adder, "five")  # error
system.cast(adder, None)  # error
system.send(adder, "five")  # error

measured = start_actor(length, system=system)
size: int = call(measured, "text")
call(measured, 5)  # error: it takes a text

wide: Ref[int | str, None] = start_actor(either, system=system)
narrow: Ref[int, object] = wide  # who takes both takes one, and a None is an object
wide = adder  # error: it does not take texts

plain = Anything.start(system=system)
assert plain is not None
call(plain, object())
untyped: Ref = adder
call(untyped, "unchecked")
named: int = system.call("by name", "unchecked")
"""


@pytest.mark.slow
def test_a_wrong_message_type_is_an_error_of_the_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)],
        cwd=ROOT, capture_output=True, text=True, env={"MYPYPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if "# error" in line}
    found = {int(line.split(":")[1]) for line in done.stdout.splitlines() if ": error:" in line}
    assert found == wrong, done.stdout


def test_at_run_time_a_ref_has_no_types_and_nothing_checks_them(system: System) -> None:
    class Echo(GenServer[int, int]):
        def handle_call(self, request: int, caller: object) -> int:
            return request

    ref = Echo.start(system=system)
    assert type(ref) is Ref
    assert not hasattr(ref, "__dict__")
    assert call(ref, "a text") == "a text"  # type: ignore[arg-type]
