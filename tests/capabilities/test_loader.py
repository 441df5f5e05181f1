"""Loading capability files: fresh each time, neighbours included, and every fault with its place."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from packetflow.capabilities.loader import load_module, load_path
from packetflow.capabilities.source import PREFIX
from packetflow.errors import DefinitionError


def loaded_sources() -> set[str]:
    """The namespaces that were loaded from files: other tests' may be among them."""
    return {name for name in sys.modules if name.startswith(PREFIX)}


GOOD = '''
from packetflow import capability
from .words import GREETING

@capability("demo.greet")
def greet(name: str) -> str:
    """Greet."""
    return GREETING + name
'''


def test_a_file_is_loaded_fresh_with_its_neighbours(tmp_path: Path) -> None:
    before = loaded_sources()
    (tmp_path / "words.py").write_text("GREETING = 'Hello '")
    (tmp_path / "greet.py").write_text(GOOD)
    first = load_path(tmp_path / "greet.py")
    (tmp_path / "words.py").write_text(
        "GREETING = 'Howdy '"
    )  # the same size and second: cached bytecode would be stale
    second = load_path(tmp_path / "greet.py")
    assert first.definitions[0].function("Ana") == "Hello Ana"
    assert second.definitions[0].function("Ana") == "Howdy Ana"
    first.unload()
    second.unload()
    assert loaded_sources() == before


def test_a_folder_gives_the_capabilities_of_all_its_files(tmp_path: Path) -> None:
    (tmp_path / "words.py").write_text("GREETING = 'Hello '")
    (tmp_path / "greet.py").write_text(GOOD)
    (tmp_path / "more.py").write_text(GOOD.replace("demo.greet", "demo.more"))
    loaded = load_path(tmp_path)
    assert [definition.id for definition in loaded.definitions] == ["demo.greet", "demo.more"]
    loaded.unload()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1", "defines no capability"),
        ("def broken(:\n", "invalid syntax"),
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise ValueError('odd')", "ValueError: odd"),
        ("1/0", "ZeroDivisionError"),
        (GOOD.replace("name: str", "name"), "parameter 'name' has no type"),
    ],
)
def test_a_faulty_file_is_told_with_its_place_and_leaves_nothing(
    tmp_path: Path, text: str, words: str
) -> None:
    before = loaded_sources()
    (tmp_path / "words.py").write_text("GREETING = 'Hello '")
    file = tmp_path / "faulty.py"
    file.write_text(text)
    with pytest.raises(DefinitionError) as caught:
        load_path(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert loaded_sources() == before


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="no such file or folder"):
        load_path(tmp_path / "none.py")
    with pytest.raises(DefinitionError, match="module nowhere_at_all: does not import"):
        load_module("nowhere_at_all")
    with pytest.raises(DefinitionError, match="defines no capability"):
        load_module("json")
