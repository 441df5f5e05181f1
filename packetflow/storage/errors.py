"""What can go wrong with a node's database, for people and for programs.

    RequestError
    ├─ StorageUnavailable    it can't be used for now: state, path, what to do
    └─ StatementFailed       a statement is wrong (internal)
       └─ ConstraintFailed   it contradicts what is stored (conflict)

`StorageUnavailable` is the wire's `unavailable`, and a queue that is full is its `overloaded`: they pass the door as they are.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from packetflow.wire.errors import RequestError, Unavailable


class StorageUnavailable(Unavailable):
    """The database can't be used for now. state: `full`, `failed` or `closed`. path: its file. next_step: what to do.

    What was to be written is not acknowledged; after a crash of the machine it may be there all the same. lasting: it does
    not come back by itself.
    """

    def __init__(
        self, path: Path, reason: str, next_step: str, *, state: str = "failed", lasting: bool = False
    ) -> None:
        details = {"state": state, "path": str(path), "next": next_step}
        super().__init__(f"{path}: {reason}; {next_step}", details, None if lasting else 5.0)
        self.path = path
        self.reason = reason
        self.next_step = next_step
        self.state = state
        self.lasting = lasting


class StatementFailed(RequestError):
    """A statement is wrong, or was used wrongly: a fault of the program, not of the disk."""

    code, status = "internal", 500


class ConstraintFailed(StatementFailed):
    """A statement contradicts what is stored, a unique key for example."""

    code, status = "conflict", 409


def cannot_use(path: Path, error: OSError) -> StorageUnavailable:
    """The system refuses a file or its folder."""
    steps = {
        "EACCES": "give the node's user the right to read and write it",
        "EPERM": "give the node's user the right to read and write it",
        "EROFS": "mount its disk for writing, or choose another folder by node.data_folder",
        "ENOENT": "put the folder back, or choose another one by node.data_folder",
        "ENOTDIR": "choose another folder by node.data_folder",
        "EISDIR": "move that folder away",
        "ENOSPC": "make room on its disk",
        "EDQUOT": "make room on its disk",
        "EMFILE": "raise the limit of open files (ulimit -n)",
    }
    word = errno.errorcode.get(error.errno or 0, "")
    state = "full" if word in ("ENOSPC", "EDQUOT") else "failed"
    reason = f"can't be used, {os.strerror(error.errno)}" if error.errno else f"can't be used, {error}"
    return StorageUnavailable(path, reason, steps.get(word, "check its disk"), state=state)


def closed(path: Path) -> StorageUnavailable:
    """It was closed, and whoever asks now is late."""
    return StorageUnavailable(path, "is closed", "ask a node that runs", state="closed", lasting=True)


def too_new(path: Path, what: str, version: int, known: int) -> StorageUnavailable:
    """Something was written by a later release."""
    return StorageUnavailable(
        path,
        f"was written by a newer PacketFlow: {what} has version {version}, this one knows {known}",
        "start the newer release, or restore a backup from before",
        lasting=True,
    )
