"""What can go wrong when a door is opened.

PacketFlowError
└─ ListenFailed        the address can't be listened on
   └─ AddressInUse     another program has it
"""

from __future__ import annotations

from packetflow.otp.errors import PacketFlowError


class ListenFailed(PacketFlowError):
    """An address can't be listened on. door: which ("tcp"). address: as given. next: what to do."""

    code = "listen_failed"

    def __init__(self, door: str, address: str, reason: str, next: str) -> None:
        super().__init__(f"{door} can't listen on {address}: {reason}; {next}")
        self.door = door
        self.address = address
        self.reason = reason
        self.next = next


class AddressInUse(ListenFailed):
    """Another program listens there."""

    code = "address_in_use"
