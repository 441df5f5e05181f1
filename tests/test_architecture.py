"""The architecture as it is written down and as it is: layers, rooms, sizes, names, documentation."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "packetflow"
FILES = sorted(PACKAGE.rglob("*.py"))
LAYERS = [
    "packetflow.otp",
    "packetflow.wire",
    "packetflow.security packetflow.storage packetflow.telemetry",
    "packetflow.transports packetflow.client",
    "packetflow.capabilities",
    "packetflow.intelligence",
    "packetflow.node",
    "packetflow.cli",
]


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("level", range(len(LAYERS)))
def test_each_layer_alone_loads_no_higher_one(level: int) -> None:
    """Given a fresh interpreter, when all modules of a layer are imported, then none of a layer above is there."""
    layer = LAYERS[level].split()
    names = [name_of(file) for file in FILES if ".".join(name_of(file).split(".")[:2]) in layer]
    above = tuple(package for packages in LAYERS[level + 1 :] for package in packages.split())
    code = f"""
import importlib, sys
for name in {names!r}:
    if not name.endswith("__main__"):
        importlib.import_module(name)
print([name for name in sys.modules if ".".join(name.split(".")[:2]) in {above!r}])
"""
    assert run_python(code).strip() == "[]"


def test_the_supervision_runtime_loads_gevent_and_nothing_else_of_ours_or_others() -> None:
    code = """
import sys, gevent, greenlet, logging, heapq, contextvars, dataclasses, inspect, random, itertools, typing
import packetflow.otp
print(sorted({name.split(".")[0] for name in sys.modules} & {"structlog", "pydantic", "msgpack", "click", "httptools"}))
print(sorted(name for name in sys.modules if name.startswith("packetflow.") and not name.startswith("packetflow.otp")))
"""
    assert run_python(code).splitlines() == ["[]", "['packetflow._version']"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_module_can_be_imported_first() -> None:
    """No circle depends on who comes first: each module is imported in a process of its own."""
    for file in FILES:
        name = name_of(file)
        if not name.endswith("__main__"):
            run_python(f"import {name}")


def test_no_file_grew_past_what_fits_in_a_head() -> None:
    long = {
        str(file.relative_to(ROOT)): n for file in FILES if (n := len(file.read_text().splitlines())) > 500
    }
    assert long == {}


def test_package_roots_hold_declarations_only() -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.FunctionDef)
    for file in FILES:
        if file.name == "__init__.py":
            tree = ast.parse(file.read_text())
            for statement in tree.body:
                assert isinstance(statement, allowed), f"{file}:{statement.lineno}"
                if isinstance(statement, ast.FunctionDef):  # how a package loads lazily (PEP 562)
                    assert statement.name in ("__getattr__", "__dir__", "main"), f"{file}:{statement.lineno}"


def test_only_the_clock_reads_time() -> None:
    found = []
    for file in FILES:
        if file.name == "clock.py":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                what = f"{node.value.id}.{node.attr}"
                reads = (
                    "monotonic",
                    "time",
                    "perf_counter",
                    "time_ns",
                    "perf_counter_ns",
                    "sleep",
                    "monotonic_ns",
                )
                if (node.value.id == "time" and node.attr in reads) or what in (
                    "datetime.now",
                    "datetime.utcnow",
                ):
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno} {what}")
    assert found == []


def test_only_the_command_line_patches_the_standard_library() -> None:
    patching = [str(file.relative_to(PACKAGE)) for file in FILES if "patch_all" in file.read_text()]
    assert all(name.startswith("cli/") for name in patching), patching


def test_no_module_imports_the_package_root() -> None:
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module in ("packetflow", "packetflow.errors"):
                pytest.fail(f"{file.relative_to(ROOT)}:{node.lineno} imports {node.module}")


def test_names_say_what_is_there() -> None:
    vague = re.compile(r"(^|_)(utils?|helpers?|managers?|misc|common)($|_)")
    assert [str(file.relative_to(ROOT)) for file in FILES if vague.search(file.stem)] == []


def test_tests_mirror_the_packages() -> None:
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    assert packages <= {folder.name for folder in (ROOT / "tests").iterdir() if folder.is_dir()}


def test_the_architecture_page_names_every_package_and_no_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    named = set(re.findall(r"^\| [^|]+ \| `(\w+)` \|", page, re.MULTILINE))
    assert named == {file.parent.name for file in PACKAGE.glob("*/__init__.py")}


def test_every_place_that_the_architecture_page_names_is_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    folder = ""
    for place in re.findall(r"`([\w/]+(?:\.py|/))`", page):
        if "/" in place:
            folder = str(Path(place).parent)
        path = ROOT / place if "/" in place else ROOT / folder / place
        assert path.exists(), place
        assert len(Path(place).parts) <= 4, place


def test_the_top_level_is_what_was_agreed() -> None:
    there = {path.name for path in ROOT.iterdir()}
    assert {"setup.cfg", "pyproject.toml", "packetflow", "modules", "config", "tests", "examples"} <= there
    assert {"README.md", "CHANGELOG.md", "LICENSE", "NOTICE", "docs", "bench", "Makefile", ".ci"} <= there


def test_the_wheel_carries_every_package_and_the_shipped_modules() -> None:
    import tomllib

    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    ours = {name_of(file) for file in PACKAGE.rglob("__init__.py")}
    shipped = {"packetflow_modules"} | {
        f"packetflow_modules.{manifest.parent.name}" for manifest in (ROOT / "modules").glob("*/module.toml")
    }
    assert listed == ours | shipped


def test_each_package_has_its_page_and_its_tests() -> None:
    packages = {file.parent.name for file in PACKAGE.glob("*/__init__.py")}
    pages = {page.stem for page in (ROOT / "docs" / "reference").glob("*.md")} - {"index"}
    assert pages == packages
    index = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert all(f"({name}.md)" in index for name in packages)


def test_what_is_private_to_a_package_stays_there() -> None:
    found = []
    for file in FILES:
        package = name_of(file).split(".")[1:2]
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("packetflow."):
                private = [
                    alias.name for alias in node.names if alias.name.startswith("_") and alias.name[1] != "_"
                ]
                if private and node.module.split(".")[1:2] != package:
                    found.append(f"{file.relative_to(ROOT)}:{node.lineno} {private}")
    assert found == []


def test_bytes_are_made_in_one_place() -> None:
    importing = [
        file for file in FILES if re.search(r"^\s*(import|from) msgpack", file.read_text(), re.MULTILINE)
    ]
    assert {file.parent.name for file in importing} == {"wire"}


@pytest.mark.slow
def test_a_users_program_is_checked_against_the_types_that_ship(tmp_path: Path) -> None:
    """Given a program by the public names, when mypy checks it strictly, then right calls pass and a wrong one does not."""
    program = tmp_path / "program.py"
    good = (ROOT / "examples" / "usage" / "node_and_client.py").read_text()
    program.write_text(good + "\n\nwrong: int = Node(capabilities=[count]).health()\n")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    errors = [line for line in done.stdout.splitlines() if "error:" in line]
    assert len(errors) == 1, done.stdout
    assert "Incompatible types in assignment" in errors[0]
