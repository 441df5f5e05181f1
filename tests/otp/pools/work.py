"""Functions for the processes of a pool: they have to stand in a module that a fresh interpreter can import."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import lru_cache
from pathlib import Path
from typing import Any


class Point:
    """Something that is pickled, with methods of every kind."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and other.x == self.x

    def __hash__(self) -> int:
        return hash(self.x)

    def double(self) -> Point:
        return Point(self.x * 2)

    @staticmethod
    def origin() -> Point:
        return Point(0)

    @classmethod
    def made(cls) -> Point:
        return cls(1)


class Stubborn(Exception):
    """Can be pickled, and not be read again."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def echo(*arguments: Any, **keywords: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return arguments, keywords


def pid(*_: Any) -> int:
    return os.getpid()


def fail(error: BaseException) -> None:
    raise error


def fail_stubbornly() -> None:
    raise Stubborn("this", "that")


def fail_with_what_no_pickle_carries() -> None:
    raise ValueError(lambda: None)


def unpicklable() -> Any:
    return lambda: None


def hang(mark: str | None = None) -> None:
    """Says who it is in a file, and never ends."""
    say(mark)
    while True:
        time.sleep(60)


def hang_in_c(mark: str | None = None) -> None:
    """The same, without ever giving the interpreter away."""
    say(mark)
    sum(range(10**15))


def hang_with_a_child(mark: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(mark).write_text(str(child.pid))
    child.wait()


def fork_and_die(mark: str) -> None:
    """Leaves a child behind, who has all that was open."""
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    Path(mark).write_text(str(child))
    os._exit(3)


def say(mark: str | None) -> None:
    if mark is not None:
        Path(mark + ".new").write_text(str(os.getpid()))
        os.rename(mark + ".new", mark)


def wait_for(mark: str) -> int:
    """Waits until a file is there."""
    while not os.path.exists(mark):
        time.sleep(0.005)
    return os.getpid()


def close_channel() -> None:
    os.close(3)
    time.sleep(60)


def big(size: int) -> bytes:
    return b"x" * size


def spin() -> None:
    while True:
        pass


@lru_cache
def decorated() -> None: ...


def wrapped() -> None: ...


original_wrapped = wrapped


def wrapped() -> None: ...  # type: ignore[no-redef]
