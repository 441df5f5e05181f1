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
TYPED = sorted(
    ".".join(path.relative_to(CORE).with_suffix("").parts)
    for path in CORE.rglob("*.pxd")
    if path.stem != "__init__"
)
COMPILED = os.environ.get("PACKETFLOW_EXPECT") == "compiled"


def text_of(name: str, suffix: str) -> str:
    """A file of the core, by its module's dotted name."""
    return (CORE / f"{name.replace('.', '/')}{suffix}").read_text()


def declared(name: str) -> dict[str, set[str]]:
    """The attributes that a .pxd file declares, by class."""
    classes: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in text_of(name, ".pxd").splitlines():
        if match := re.match(r"cdef class (\w+)", line):
            current = classes[match[1]] = set()
        elif match := re.match(r"    cdef (?:public|readonly) \w+ (.+)", line):
            current.update(part.strip() for part in match[1].split(","))
    return classes


def slots_in_source(name: str) -> dict[str, set[str]]:
    """The slots of the classes of a module, read from its Python file."""
    found: dict[str, set[str]] = {}
    text = text_of(name, ".py")
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
    modules = ["packetflow.otp.calls", "packetflow.otp.supervision.children"]
    script = f"import sys; {'; '.join(f'import {name}' for name in modules)}; "
    script += f"print(*(sys.modules[name].__file__ for name in {modules!r}))"
    # -P: this test's own working folder must not come first.
    done = subprocess.run(
        [sys.executable, "-P", "-c", script],
        env={**os.environ, "PACKETFLOW_PURE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    calls, children = done.stdout.split()
    assert calls.endswith("otp/calls.py")
    assert children.endswith("otp/supervision/children.py")


def test_a_call_says_what_it_takes_in_both_forms() -> None:
    with pytest.raises(TypeError, match="call takes a Ref"):
        packetflow.otp.call("name", 1)  # type: ignore[arg-type]
    assert "deadline" in inspect.signature(packetflow.otp.call).parameters


def test_the_stub_of_refs_declares_what_refs_have() -> None:
    """A type checker reads ref.pyi in place of ref.py: a compiled class can't be generic."""

    def members(suffix: str) -> set[str]:
        text = text_of("ref", suffix)
        return set(re.findall(r"    def (\w+)\(", text[text.index("class Ref") :])) - {
            "__class_getitem__",
            "__repr__",
        }

    assert members(".pyi") == members(".py")
