"""Projects on disk, as people have them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from packetflow import Node

CAPABILITIES = '''
from collections.abc import Iterator
from typing import Annotated

from packetflow import ResourceSettings, capability, resource


@resource
def notes(settings: ResourceSettings) -> Iterator[list[str]]:
    """A list that says when it is closed."""
    opened = ["open"]
    yield opened
    (settings.data_folder / "closed").write_text(settings.config.get("word", "closed"))


@capability("word.echo", examples=[{"text": "hi"}])
def echo(text: str) -> str:
    """Say it again."""
    return text


@capability("word.note")
def note(text: str, notes: Annotated[list[str], notes]) -> int:
    """Note it."""
    notes.append(text)
    return len(notes)


@capability("word.later")
async def later(text: str) -> str:
    """Say it a little later."""
    import asyncio

    await asyncio.sleep(0.001)
    return text
'''

MODULE = '''
from packetflow import Context, Intercept, Module, Request


class Shout(Module):
    """Upper case."""

    class Config(Module.Config):
        suffix: str = "!"

    def handle_request(self, request: Request, context: Context) -> Intercept:
        return Intercept(request.with_payload(text=request.payload["text"].upper() + self.config.suffix))
'''

MANIFEST = """
name = "{name}"
version = "1.2.3"
entry = "{name}:{cls}"
"""

CONFIG = """
[node]
name = "test"
data_folder = "run"
[tcp]
port = 0
[http]
port = 0
[[capabilities]]
path = "capabilities.py"
config = { word = "bye" }
"""

SHOUT = """
[[modules]]
name = "shout"
priority = 100
match = ["word.*"]
[modules.config]
suffix = "?"
"""


class Project:
    """A folder with a configuration, capabilities and modules."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "config").mkdir()
        self.config = folder / "config" / "node.toml"
        self.config.write_text(CONFIG)
        (folder / "capabilities.py").write_text(CAPABILITIES)
        self.write_module("shout", "Shout", MODULE)
        self.log = io.StringIO()

    def write_module(self, name: str, cls: str, code: str) -> Path:
        folder = self.folder / "modules" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "module.toml").write_text(MANIFEST.format(name=name, cls=cls))
        (folder / f"{name}.py").write_text(code)
        return folder

    def add(self, text: str) -> None:
        self.config.write_text(self.config.read_text() + text)

    def node(self, **options: Any) -> Node:
        from packetflow import Node
        from packetflow.node.config import load_with_overlay

        return Node(load_with_overlay(self.config, environment={})[0], log_stream=self.log, **options)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def started(project: Project) -> Iterator[Callable[..., Node]]:
    """Starts nodes of the project and stops them at the test's end."""
    nodes: list[Node] = []

    def start(**options: Any) -> Node:
        node = project.node(**options)
        nodes.append(node)
        return node.start()

    yield start
    for node in nodes:
        node.stop(0.0)
