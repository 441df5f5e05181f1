"""The command line: `packetflow`. The entry is `main`; nothing of the node is imported until a command needs it."""

from packetflow.cli.program import main

__all__ = ["main"]
