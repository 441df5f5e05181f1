"""The first lines of a worker process: find the program's modules, import what it is to run, then hand over.

Nothing but the standard library is loaded before the target's own module, so that it may be one that patches it.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

#: What `python -c` runs. The arguments: the channel's descriptor, the heartbeat's, and where this package lies.
PROGRAM = "import sys; sys.path.insert(0, sys.argv[3]); from packetflow.otp.workers.boot import main; main()"


def main() -> None:
    """Runs the worker that the parent describes on the channel, and ends the process."""
    channel, heartbeat = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (channel, heartbeat):
        os.set_inheritable(descriptor, False)  # the worker's own children are none of the parent's
    hello = _first_line(channel)
    sys.path[:] = hello["path"]
    sys.argv[:] = [hello["target"]]
    function, error = _resolve(hello["target"])
    from packetflow.otp.workers.process import run

    run(channel, heartbeat, hello, function, error)


def _first_line(descriptor: int) -> dict[str, Any]:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)  # what follows it is the channel's
        if not byte:
            os._exit(1)  # the parent is gone before anything was begun
        line += byte
    found: dict[str, Any] = json.loads(line)
    return found


def _resolve(target: str) -> tuple[Any, BaseException | None]:
    module, _, name = target.partition(":")
    try:
        found: Any = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        if not callable(found):
            raise TypeError(f"{target} is no function, it is {found!r}")
    except BaseException as error:  # noqa: BLE001 - the parent is told, whatever an import raises
        return None, error
    return found, None
