"""The node's own key: made once, kept in its data folder, readable by its user alone."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random, SystemRandom

NAME = "node.key"
LENGTH = 32


def node_key(folder: Path, chance: Random | None = None) -> bytes:
    """The key of a data folder, made if there is none. Raises OSError, ValueError for a file that is no key.

    chance: what a new one is drawn from; the operating system's if None, as it must be wherever a secret is to be one.
    """
    path = folder / NAME
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return read_key(folder) or _replace_empty(path, chance)
    try:
        key = (chance or SystemRandom()).randbytes(LENGTH)
        os.write(made, key.hex().encode() + b"\n")
        os.fsync(made)
    finally:
        os.close(made)
    return key


def read_key(folder: Path) -> bytes | None:
    """The key of a data folder, or None if there is none yet. Raises OSError, ValueError for a file that is no key."""
    try:
        text = (folder / NAME).read_text().strip()
    except FileNotFoundError:
        return None
    if not text:
        return None
    key = bytes.fromhex(text)
    if len(key) != LENGTH:
        raise ValueError(f"{folder / NAME}: expected {LENGTH * 2} hexadecimal digits")
    return key


def _replace_empty(path: Path, chance: Random | None) -> bytes:
    """A crash between making the file and writing it left it empty."""
    path.unlink()
    return node_key(path.parent, chance)
