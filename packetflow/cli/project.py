"""The files of a new project, as `packetflow init` writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

CONFIG = """\
# A PacketFlow node. `packetflow config check` tells what is wrong in here, `packetflow config schema` what may stand here.

[node]
name = "{name}"
data_folder = "run"              # relative to this project's folder

[tcp]
port = 7420                      # the fast door; packetflow.client speaks it

[http]
port = 7421                      # POST /capabilities/guest.sign

[[capabilities]]
path = "capabilities.py"

[[modules]]                      # every request passes them, the lowest priority first
name = "courtesy"
priority = 100
match = ["guest.sign"]
[modules.config]
longest = 200
"""

CAPABILITIES = '''\
"""A guest book: two capabilities over one resource."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BaseModel, Field

from packetflow import ResourceSettings, capability, resource


class Entry(BaseModel):
    """What a guest wrote."""

    number: int
    name: str
    message: str


@resource
def book(settings: ResourceSettings) -> Iterator[list[Entry]]:
    """The entries, for as long as the node runs."""
    yield []


@capability("guest.sign", tags=["guest"], examples=[{{"name": "Ana", "message": "hello"}}])
def sign(
    name: Annotated[str, Field(min_length=1, max_length=80)],
    message: str,
    book: Annotated[list[Entry], book],
) -> Entry:
    """Write into the guest book."""
    entry = Entry(number=len(book) + 1, name=name, message=message)
    book.append(entry)
    return entry


@capability("guest.list", tags=["guest"], examples=[{{"limit": 10}}])
def list_entries(
    book: Annotated[list[Entry], book],
    limit: Annotated[int, Field(ge=1, le=100)] = 10,
) -> list[Entry]:
    """The last entries, the newest first."""
    return book[::-1][:limit]
'''

MANIFEST = """\
name = "courtesy"
version = "1.0.0"
entry = "courtesy:Courtesy"
description = "Tidies what guests write, and refuses what is too long."
requires_packetflow = ">=0.1,<1"
hooks = ["handle_request"]
"""

MODULE = '''\
"""A module: it sees each request before the capability does, and may change or refuse it."""

from packetflow import Continue, Intercept, Module, Reject


class Courtesy(Module):
    """Tidies what guests write, and refuses what is too long."""

    class Config(Module.Config):
        longest: int = 200

    def handle_request(self, request, context):
        message = request.payload["message"]
        if len(message) > self.config.longest:
            return Reject("too_long", f"a message has at most {{self.config.longest}} letters")
        tidy = " ".join(message.split())
        return Intercept(request.with_payload(message=tidy)) if tidy != message else Continue()
'''

TEST = '''\
"""Run by: python -m unittest discover tests"""

import tempfile
import unittest
from pathlib import Path

from packetflow.node.config import load_config
from packetflow.node import Node

CONFIG = Path(__file__).parent.parent / "config" / "node.toml"


class GuestBook(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        changes = {{"node.data_folder": folder.name, "tcp.enabled": False, "http.enabled": False}}
        self.node = Node(load_config(CONFIG, flags=changes))
        self.node.start()
        self.addCleanup(self.node.stop)

    def test_what_a_guest_writes_is_kept_tidy(self):
        response = self.node.request("guest.sign", {{"name": "Ana", "message": "hello   there"}})
        self.assertEqual(response.unwrap().message, "hello there")
        self.assertEqual(len(self.node.request("guest.list", {{}}).unwrap()), 1)

    def test_a_message_that_is_too_long_is_refused_by_the_module(self):
        response = self.node.request("guest.sign", {{"name": "Ana", "message": "x" * 201}})
        self.assertEqual(response.error.code, "rejected")


if __name__ == "__main__":
    unittest.main()
'''

IGNORED = """\
run/
__pycache__/
.venv/
"""


def node_name(folder: Path) -> str:
    """A node's name made of a folder's."""
    word = re.sub(r"[^a-z0-9_-]+", "_", folder.absolute().name.lower()).strip("_-")
    return word if word and word[0].isalpha() else f"node_{word}".rstrip("_")


def files_of(name: str) -> Mapping[str, str]:
    """Path and text of each file of a project."""
    templates = {
        "config/node.toml": CONFIG,
        "capabilities.py": CAPABILITIES,
        "modules/courtesy/module.toml": MANIFEST,
        "modules/courtesy/courtesy.py": MODULE,
        "tests/test_guest_book.py": TEST,
    }
    return {**{path: text.format(name=name) for path, text in templates.items()}, ".gitignore": IGNORED}
