"""A configuration on its way to another process of the same node: as bytes, secrets by their references alone."""

from __future__ import annotations

import io
import os
import pickle
from typing import Any

from packetflow.node.config.secrets import Secret


class _Pickler(pickle.Pickler):
    def reducer_override(self, given: Any) -> Any:
        if isinstance(given, Secret):
            return Secret, given.described()
        if given is os.environ:
            return dict, (dict(given),)
        return NotImplemented


def pack(value: Any) -> bytes:
    """A configuration, or what holds one, as bytes. Raises SecretError for a secret that has no reference."""
    out = io.BytesIO()
    _Pickler(out, pickle.HIGHEST_PROTOCOL).dump(value)
    return out.getvalue()


def unpack(data: bytes) -> Any:
    """What `pack` wrote, in a process of the same program and user."""
    return pickle.loads(data)
