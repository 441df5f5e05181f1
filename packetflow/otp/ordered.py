"""A set that keeps the order in which its members came: what happens to each of them happens in that order, every time."""

from __future__ import annotations

from typing import TypeVar

Member = TypeVar("Member")


class OrderedSet(dict[Member, None]):
    """As much of a set as the runtime needs. A plain set's order depends on addresses, and so differs from run to run."""

    __slots__ = ()

    def add(self, member: Member) -> None:
        """Puts it in, at the end if it is new."""
        self[member] = None

    def discard(self, member: Member) -> None:
        """Takes it out, if it is in."""
        self.pop(member, None)
