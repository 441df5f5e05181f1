"""A node as part of somebody's program: which thread it lives in, and where its data lies when nobody says."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gevent.hub import get_hub

from packetflow.node.config import NodeConfig


class Home:
    """The thread in which a node lives."""

    __slots__ = ("_hub",)

    def __init__(self) -> None:
        self._hub = get_hub()

    def check(self) -> None:
        """Raise RuntimeError if the calling thread is another one: greenlets can't be switched across threads."""
        if get_hub() is not self._hub:
            raise RuntimeError(
                "this node lives in another thread, whose hub runs it; ask it there, or by a Client through its doors"
            )


def own_data_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder that ends with its node."""
    return tempfile.TemporaryDirectory(prefix="packetflow-", ignore_cleanup_errors=True)


def without_doors(folder: tempfile.TemporaryDirectory[str]) -> NodeConfig:
    """The configuration of a node that only its own program can ask."""
    node = {"name": "embedded", "data_folder": str(Path(folder.name))}
    return NodeConfig.model_validate({"node": node, "tcp": {"enabled": False}, "http": {"enabled": False}})
