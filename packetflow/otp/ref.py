"""Ref: the address of one life of one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, NoReturn

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from packetflow.otp.process import Process

    # What one may send to it, and what it answers to a call; a plain Ref is Ref[Any, Any].
    M = TypeVar("M", contravariant=True, default=Any)
    R = TypeVar("R", covariant=True, default=Any)
else:
    from typing import TypeVar

    M = TypeVar("M", contravariant=True)
    R = TypeVar("R", covariant=True)


class Ref(Generic[M, R]):
    """The address of a process: a small immutable value.

    Ref[M, R], for a type checker only: it may be sent an M, and answers a call with an R.

    node: the name of the system it lives in. id: a number that system gives out once. incarnation: which start of that
    system it was, so that a ref from before a restart reaches nobody. Refs with these three the same are equal; a
    restarted child has another id, so a stale ref never reaches the newcomer.
    """

    __slots__ = ("_process", "id", "incarnation", "node")

    node: str
    id: int
    incarnation: int
    # Who is meant, or a stand-in of the system for somebody dead or elsewhere. Not compared, not serialised.
    _process: Process

    def __init__(self, node: str, id: int, incarnation: int, process: Process) -> None:
        _set_node(self, node)
        _set_id(self, id)
        _set_incarnation(self, incarnation)
        _set_process(self, process)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a Ref can't be changed ({name})")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"a Ref can't be changed ({name})")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other.__class__ is not Ref:
            return NotImplemented
        return self.key() == other.key()

    def __lt__(self, other: Ref) -> bool:
        return self.key() < other.key()

    def __hash__(self) -> int:
        return hash((self.node, self.id, self.incarnation))

    def key(self) -> tuple[str, int, int]:
        """What it is as plain data: (node, incarnation, id). `System.ref_from(key)` is the way back."""
        return (self.node, self.incarnation, self.id)

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Ref is not pickled; send Ref.key() and use System.ref_from(key)")

    def __repr__(self) -> str:
        label = self._process.label()
        return f"<{label} {self.node}/{self.id}>" if label else f"<{self.node}/{self.id}>"


# The slots' own setters pass by __setattr__, which refuses everybody else.
_set_node = Ref.__dict__["node"].__set__
_set_id = Ref.__dict__["id"].__set__
_set_incarnation = Ref.__dict__["incarnation"].__set__
_set_process = Ref.__dict__["_process"].__set__
