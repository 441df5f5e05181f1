"""Ref: the address of one life of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from packetflow.otp.process import Process


class Ref:
    """The address of a process: a small immutable value.

    Ref[M, R], for a type checker only (ref.pyi): it may be sent an M, and answers a call with an R.
    node: the name of the system it lives in. id: a number that system gives out once. incarnation: which start of that
    system it was, so that a ref from before a restart reaches nobody. Refs with these three the same are equal; a
    restarted child has another id, so a stale ref never reaches the newcomer.
    """

    __slots__ = ("_id", "_incarnation", "_node", "_process")

    def __init__(self, node: str, id: int, incarnation: int, process: Process) -> None:
        self._node = node
        self._id = id
        self._incarnation = incarnation
        # Who is meant, or a stand-in of the system for somebody dead or elsewhere. Not compared, not serialised.
        self._process = process

    @property
    def node(self) -> str:
        """The name of the system it lives in."""
        return self._node

    @property
    def id(self) -> int:
        """Its number, which that system gives out once."""
        return self._id

    @property
    def incarnation(self) -> int:
        """Which start of that system it was."""
        return self._incarnation

    @classmethod
    def __class_getitem__(cls, types: Any) -> Any:
        """Types cost nothing at run time: Ref[int, str] is Ref."""
        return cls

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other.__class__ is not Ref:
            return NotImplemented
        return self.key() == other.key()

    def __lt__(self, other: Ref) -> bool:
        return self.key() < other.key()

    def __hash__(self) -> int:
        return hash((self._node, self._id, self._incarnation))

    def key(self) -> tuple[str, int, int]:
        """What it is as plain data: (node, incarnation, id). `System.ref_from(key)` is the way back."""
        return (self._node, self._incarnation, self._id)

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Ref is not pickled; send Ref.key() and use System.ref_from(key)")

    def __repr__(self) -> str:
        label = self._process.label()
        return f"<{label} {self._node}/{self._id}>" if label else f"<{self._node}/{self._id}>"
