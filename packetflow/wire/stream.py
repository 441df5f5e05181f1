"""Stream: what a streaming capability answers, items that are made as they are asked for; and Progress, how far a request is.

Who makes the items is the node's business (`packetflow/node/streams.py`); who sends them on is the doors'.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol, Self

from packetflow.wire.errors import RequestError


class Making(Protocol):
    """What makes the items of a stream."""

    count: int

    def check_head(self) -> None:
        """Check the first item, which is made with the request. Raises pydantic's ValidationError."""
        ...

    def attach(self) -> None:
        """From now on the calling greenlet serves the stream: a cancel finds it in whatever it waits for."""
        ...

    def detach(self) -> None:
        """It serves the stream no more, and may do something else."""
        ...

    def take(self) -> Any:
        """The next item, made now. Raises StopIteration after the last one, and the RequestError that ended the stream."""
        ...

    def take_alone(self) -> Any:
        """The same for a greenlet that is not attached."""
        ...

    async def take_awaited(self) -> Any:
        """The same for a coroutine. Raises StopAsyncIteration after the last one."""
        ...

    def wait(self, until: Callable[[], Any]) -> None:
        """Call what waits for the reader. Raises the RequestError that ended the stream meanwhile."""
        ...

    def close(self, reason: RequestError | None = None) -> None:
        """End it: what makes the items is closed, and cleans up. A second time nothing happens."""
        ...

    def forsake(self) -> None:
        """Nobody can read it any more."""
        ...

    def facts(self) -> dict[str, Any]:
        """How it went: items, seconds to the first one, why it ended."""
        ...


class Stream:
    """The items of a streaming capability, one by one: `for item in stream`, in a coroutine `async for`. Each is made when it is
    asked for.

    Iterating raises the typed error that ended it, after the items before it. `close()` ends it early; so does leaving
    a `with` block, and so does letting it go out of reach. The request is under way until then. One greenlet reads it
    at a time.
    """

    __slots__ = ("__weakref__", "making")

    def __init__(self, making: Making) -> None:
        self.making = making

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return self.making.take_alone()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.making.take_awaited()

    @property
    def count(self) -> int:
        """The items that were given so far."""
        return self.making.count

    def close(self) -> None:
        """End it now: what makes the items cleans up before this returns."""
        self.making.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.making.forsake()

    def __repr__(self) -> str:
        return f"<Stream {self.making!r} after {self.making.count} items>"


class Progress:
    """How far a request is: `done` of `total` (None: nobody knows how much there is), and what it is at, in words."""

    __slots__ = ("done", "text", "total")

    def __init__(self, done: float, total: float | None = None, text: str = "") -> None:
        self.done = done
        self.total = total
        self.text = text

    def as_dict(self) -> dict[str, Any]:
        """As it crosses a wire: what is not known is left out."""
        out: dict[str, Any] = {"done": self.done}
        if self.total is not None:
            out["total"] = self.total
        if self.text:
            out["text"] = self.text
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Progress) and self.as_dict() == other.as_dict()

    __hash__ = None  # type: ignore[assignment]  # it is compared, not kept in sets

    def __repr__(self) -> str:
        return f"<Progress {self.done:g}{'' if self.total is None else f' of {self.total:g}'} {self.text}>"


def progress_from_dict(data: Any) -> Progress | None:
    """The progress that `as_dict` wrote; None for what is none."""
    if not isinstance(data, dict):
        return None
    done, total, text = data.get("done"), data.get("total"), data.get("text")
    if done.__class__ not in (int, float) or (total is not None and total.__class__ not in (int, float)):
        return None
    return Progress(done, total, text if isinstance(text, str) else "")
