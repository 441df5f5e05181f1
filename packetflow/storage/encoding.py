"""How values are kept: MessagePack, within limits that only the node's own memory sets."""

from __future__ import annotations

from packetflow.wire.codec import Msgpack
from packetflow.wire.limits import Limits

OWN = Limits(1 << 30, 1 << 30, 1_000, 1 << 30, 1 << 30)  # of what the node wrote itself


def own_codec() -> Msgpack:
    """A codec of this store's own; for one thread."""
    return Msgpack(OWN)
