"""What the nodes of these tests can do: wait, in each of the ways in which a capability can, and crash."""

from __future__ import annotations

import asyncio

import gevent

from packetflow import capability


@capability("test.wait", timeout=60.0)
def wait(seconds: float, word: str = "") -> str:
    """Wait, then give the word back."""
    gevent.sleep(seconds)
    return word


@capability("test.wait_async", timeout=60.0)
async def wait_async(seconds: float) -> float:
    """The same on the loop of coroutines."""
    await asyncio.sleep(seconds)
    return seconds


@capability("test.in_thread", blocking=True)
def in_thread(number: int) -> int:
    """Done where others are not kept waiting."""
    return number * 2


@capability("test.crash")
def crash(seconds: float) -> int:
    """It does not go well."""
    gevent.sleep(seconds)
    raise ValueError("no oil")
