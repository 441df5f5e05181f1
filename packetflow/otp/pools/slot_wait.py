"""How an actor that waits for a slot of a pool stands in the graph of who waits for whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from packetflow.otp.calls import chain_to
from packetflow.otp.errors import CallCycle
from packetflow.otp.process import Call, Process


class Holder(Protocol):
    """Work that has a slot."""

    def awaited_by(self) -> Process | None:
        """The actor that waits for it, if one does and still does."""


class SlotWait(Call):
    """An actor waits until one of several pieces of work gives its slot back.

    Any of them will do. So there is a circle only if each of them is awaited by an actor that waits, by way of others,
    for the one that asks.
    """

    __slots__ = ("_holders", "_looking")

    def __init__(self, owner: Process, holders: Callable[[], Iterable[Holder]]) -> None:
        awaiting = (holder.awaited_by() for holder in holders())
        first = next((one for one in awaiting if one is not None), owner)
        super().__init__(None, first, None, owner, None)
        self._holders = holders
        self._looking = False

    def towards(self, caller: Process) -> Process | None:
        """The first whose work has a slot, if all of them lead to the caller."""
        if self._looking:
            return None  # two lines that wait for one another: no way out of them leads to the caller
        self._looking = True
        try:
            owners = [holder.awaited_by() for holder in self._holders()]
            for owner in owners:
                if owner is None or chain_to(caller, owner) is None:
                    return None
        finally:
            self._looking = False
        return owners[0] if owners else None

    def check(self) -> None:
        """Raises CallCycle if all that have a slot wait for the owner."""
        owner = self.caller
        first = None if owner is None else self.towards(owner)
        if owner is not None and first is not None:
            chain = chain_to(owner, first) or []
            raise CallCycle((owner.ref, *(each.ref for each in chain)))
