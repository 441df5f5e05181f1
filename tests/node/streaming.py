"""Streaming capabilities for the tests, which say what they did in `did`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import gevent
from gevent.event import Event
from pydantic import BaseModel

from packetflow import Context, capability

did: list[Any] = []


class Line(BaseModel):
    """An item that is a model."""

    number: int
    text: str = ""


@capability("count.up", tags=["count"])
def up(upto: int, fail_at: int | None = None) -> Iterator[int]:
    """Count up."""
    did.append("begin")
    try:
        for number in range(upto):
            if number == fail_at:
                raise ValueError("no further")
            did.append(number)
            yield number
    finally:
        did.append("end")


@capability("count.slowly", timeout=5.0)
def slowly(seconds: float) -> Iterator[int]:
    """Count, with a wait before each number but the first."""
    number = 0
    try:
        while True:
            yield number
            number += 1
            gevent.sleep(seconds)
    finally:
        did.append("end")


@capability("count.lines")
def lines(upto: int) -> Iterator[Line]:
    """Give models."""
    for number in range(upto):
        yield Line(number=number, text=f"line {number} of a@example.com")


@capability("count.wrong")
def wrong(at: int) -> Iterator[int]:
    """Give numbers, and at one place something else."""
    try:
        for number in range(5):
            yield "secret words" if number == at else number  # type: ignore[misc]
    finally:
        did.append("end")


@capability("count.asking")
def asking(upto: int, context: Context) -> Iterator[int]:
    """Ask for each number."""
    for number in range(upto):
        yield context.call("count.one", {"number": number})


@capability("count.one")
def one(number: int) -> int:
    """Give it back."""
    return number


@capability("count.twice")
def twice(upto: int, context: Context) -> Iterator[int]:
    """Every number of another stream, doubled."""
    for number in context.call("count.up", {"upto": upto}):
        yield number * 2


@capability("count.peek")
def peek(context: Context, upto: int = 100) -> int:
    """Look at the first number of a stream and leave the rest."""
    numbers = context.call("count.up", {"upto": upto})
    return next(numbers) + next(numbers)


@capability("count.stubborn")
def stubborn() -> Iterator[int]:
    """Take long to clean up."""
    try:
        while True:
            yield 1
    finally:
        try:
            gevent.sleep(60)
        finally:
            did.append("broken off")


@capability("count.untidy")
def untidy() -> Iterator[int]:
    """Fail while it cleans up."""
    try:
        while True:
            yield 1
    finally:
        raise ValueError("the broom is broken")


@capability("count.async")
async def later(upto: int, fail_at: int | None = None, hang_at: int | None = None) -> AsyncIterator[int]:
    """Count on the asyncio loop."""
    import asyncio

    me = asyncio.current_task()
    try:
        for number in range(upto):
            await asyncio.sleep(0)
            assert asyncio.current_task() is me
            if number == fail_at:
                raise ValueError("no further")
            if number == hang_at:
                await asyncio.sleep(60)
            yield number
    finally:
        await asyncio.sleep(0.001)
        did.append("end")


def waiting_at(event: Event) -> Any:
    """A capability whose second item waits for an event."""

    @capability("count.waiting")
    def waiting() -> Iterator[int]:
        """Wait."""
        try:
            yield 0
            event.wait()
            yield 1
        finally:
            did.append("end")

    return waiting


SYNC = (up, slowly, lines, wrong, asking, one, twice, peek, stubborn, untidy)
