"""Session and grants: who asks, and which capabilities that principal may call."""

from __future__ import annotations

import fnmatch
import hashlib
from collections.abc import Iterable
from typing import Any

from packetflow.wire.ids import RESERVED


class Grants:
    """A set of rights: capability patterns such as `ticket.*`, and roles. Sessions of equal rights share one.

    `*` stands for every capability but the node's own: `system.*` has to be named.
    """

    __slots__ = ("nested", "operator", "patterns", "roles", "routes")

    def __init__(self, patterns: Iterable[str], operator: bool = False, roles: Iterable[str] = ()) -> None:
        self.patterns = frozenset(patterns)
        # What a capability's own rule may ask for.
        self.roles = frozenset(roles)
        # By the admin socket: may use the commands that let an operator back in, whatever modules say (design ruling 7).
        self.operator = operator
        # Compiled answers to "what is this capability to these rights", kept here by the door. A swap replaces the dict.
        self.routes: dict[Any, Any] = {}
        # The same for requests that other requests make.
        self.nested: dict[Any, Any] = {}

    def allow(self, capability: str) -> bool:
        """Whether these rights include the capability (its id, without version)."""
        return any(matches(capability, pattern) for pattern in self.patterns)


def matches(capability: str, pattern: str) -> bool:
    """Whether a capability pattern covers an id; reserved ids are covered only by a pattern that names their root."""
    for root in RESERVED:
        if capability.startswith(root) and not pattern.startswith(root):
            return False
    return fnmatch.fnmatchcase(capability, pattern)


class Session:
    """One caller, for as long as its connection (or its program) lives.

    principal: who. tenant: for whom. door: how it came (`tcp`, `http`, `admin`, `local`). peer: where from, for people.
    scope_id: a digest of tenant, principal and rights; what is cached or batched for a caller begins with it.
    """

    __slots__ = ("door", "grants", "operator", "peer", "principal", "scope_id", "tenant")

    def __init__(
        self,
        principal: str,
        grants: Grants,
        *,
        tenant: str = "",
        door: str = "local",
        peer: str = "",
    ) -> None:
        self.principal = principal
        self.grants = grants
        self.tenant = tenant
        self.door = door
        self.peer = peer
        self.operator = grants.operator
        # As Python writes it, so that no choice of names makes one scope look like another.
        text = repr((tenant, principal, sorted(grants.patterns), sorted(grants.roles)))
        self.scope_id = hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def roles(self) -> frozenset[str]:
        """The roles that the rights give."""
        return self.grants.roles

    def __repr__(self) -> str:
        return f"<Session {self.principal} by {self.door}>"
