"""The node: the composition root, the only place that knows every layer. `Node` is loaded when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from packetflow.node.node import Node

__all__ = ["Node"]


def __getattr__(name: str) -> Any:
    if name == "Node":
        return import_module("packetflow.node.node").Node
    raise AttributeError(f"module 'packetflow.node' has no attribute {name!r}")
