"""The compiled form of the core: made from the same files, with types that have to agree with the slots."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import packetflow.otp

CORE = Path(packetflow.otp.__file__).parent
TYPED = sorted(path.stem for path in CORE.glob("*.pxd") if path.stem != "__init__")
COMPILED = os.environ.get("PACKETFLOW_EXPECT") == "compiled"


def declared(name: str) -> dict[str, set[str]]:
    """The attributes that a .pxd file declares, by class."""
    classes: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in (CORE / f"{name}.pxd").read_text().splitlines():
        if match := re.match(r"cdef class (\w+)", line):
            current = classes[match[1]] = set()
        elif match := re.match(r"    cdef (?:public|readonly) \w+ (.+)", line):
            current.update(part.strip() for part in match[1].split(","))
    return classes


def slots_in_source(name: str) -> dict[str, set[str]]:
    """The slots of the classes of a module, read from its Python file."""
    found: dict[str, set[str]] = {}
    text = (CORE / f"{name}.py").read_text()
    for match in re.finditer(r"^class (\w+).*?(?=^class |\Z)", text, re.DOTALL | re.MULTILINE):
        if slots := re.search(r"__slots__ = \((.*?)\)", match[0], re.DOTALL):
            found[match[1]] = set(re.findall(r"\"(\w+)\"", slots[1]))
    return found


@pytest.mark.parametrize("name", TYPED)
def test_a_type_file_declares_just_the_slots_of_its_module(name: str) -> None:
    slots = slots_in_source(name)
    for cls, attributes in declared(name).items():
        assert attributes == slots[cls], cls


@pytest.mark.parametrize("name", TYPED)
def test_every_class_with_slots_of_a_typed_module_is_declared(name: str) -> None:
    assert set(slots_in_source(name)) == set(declared(name))


@pytest.mark.parametrize("name", TYPED)
def test_the_core_is_the_form_that_is_under_test(name: str) -> None:
    module = importlib.import_module(f"packetflow.otp.{name}")
    assert str(module.__file__).endswith(".py") == (not COMPILED)


def test_the_python_files_are_used_where_that_is_asked_for() -> None:
    script = "import packetflow.otp.calls as calls; from packetflow.otp import System; System(); print(calls.__file__)"
    # -P: this test's own working folder must not come first.
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PACKETFLOW_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip().endswith("calls.py")


def test_a_call_says_what_it_takes_in_both_forms() -> None:
    with pytest.raises(TypeError, match="call takes a Ref"):
        packetflow.otp.call("name", 1)  # type: ignore[arg-type]
    assert "deadline" in inspect.signature(packetflow.otp.call).parameters


def test_the_stub_of_refs_declares_what_refs_have() -> None:
    """A type checker reads ref.pyi in place of ref.py: a compiled class can't be generic."""

    def members(suffix: str) -> set[str]:
        text = (CORE / f"ref{suffix}").read_text()
        return set(re.findall(r"    def (\w+)\(", text[text.index("class Ref") :])) - {
            "__class_getitem__",
            "__repr__",
        }

    assert members(".pyi") == members(".py")
