"""`async def` capabilities: what they may ask for, what is carried over, how they end."""

from __future__ import annotations

import asyncio
import contextvars
import io
from collections.abc import AsyncIterator, Iterator
from typing import Any

import gevent
import pytest

from packetflow import Context, Intercept, Module, Node, Request, Stream, capability
from packetflow.otp.clock import Clock
from packetflow.wire.values import Response

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


class Seen:
    """What the capabilities below have done."""

    def __init__(self) -> None:
        self.ended: list[str] = []
        self.contexts: list[Any] = []


seen = Seen()


@pytest.fixture(autouse=True)
def forget() -> None:
    seen.__init__()  # type: ignore[misc]


@capability("inner.double")
def double(number: int, seconds: float = 0.0) -> int:
    """Twice the number, after a while."""
    try:
        gevent.sleep(seconds)
    except BaseException:
        seen.ended.append("inner")
        raise
    return 2 * number


@capability("inner.later")
async def later(number: int) -> int:
    """The next number, on the loop too."""
    await asyncio.sleep(0)
    return number + 1


@capability("inner.fail")
def fail() -> int:
    """Fail."""
    raise KeyError("nothing")


@capability("inner.count")
def count(to: int) -> Iterator[int]:
    """Count."""
    try:
        for number in range(to):
            gevent.sleep(0)
            yield number
    finally:
        seen.ended.append("count")


@capability("outer.ask")
async def ask(number: int, context: Context) -> list[int]:
    """Ask others, two of them at once."""
    first, second = await asyncio.gather(
        context.call_async("inner.double", {"number": number, "seconds": 0.01}),
        context.call_async("inner.later", {"number": number}),
    )
    return [first, second]


@capability("outer.who")
async def who(context: Context) -> dict[str, Any]:
    """What is carried over."""
    inner = await context.request_async("inner.double", {"number": 1})
    assert inner.trace is not None
    return {
        "who": WHO.get(),
        "principal": context.principal,
        "tenant": context.tenant,
        "left": context.deadline - context.door.monotonic() < 6,
        "parent_of_inner": inner.trace.parent.id == context.id,  # type: ignore[union-attr]
        "trace": context.trace_id,
    }


@capability("outer.fails")
async def fails(how: str, context: Context) -> int:
    """Fail by others, or wait in a way that holds up everybody."""
    value: Any = None
    if how == "call":
        value = context.call("inner.double", {"number": 1})
    elif how == "iterate":
        value = sum(await context.call_async("inner.count", {"to": 3}))
    elif how == "unknown":
        value = await context.call_async("inner.duoble")
    else:
        value = (await context.request_async("inner.fail")).unwrap()
    return int(value)


@capability("outer.sum")
async def add_up(to: int, limit: int, context: Context) -> int:
    """Add up the items of a stream, not all of them."""
    total = 0
    items: Stream = await context.call_async("inner.count", {"to": to})
    with items:
        async for item in items:
            total += item
            if item == limit:
                break
    return total


@capability("outer.pass_on")
async def pass_on(to: int, context: Context) -> AsyncIterator[int]:
    """Stream what another streams."""
    async for item in await context.call_async("inner.count", {"to": to}):
        yield 10 * item


@capability("outer.impatient")
async def impatient(context: Context) -> str:
    """Give up what it asks for."""
    try:
        await asyncio.wait_for(
            context.request_async("inner.double", {"number": 1, "seconds": 1000}), timeout=0.02
        )
    except TimeoutError:
        return "gave up"
    return "never"


@capability("outer.slow")
async def slow(context: Context, seconds: float = 1000) -> int:
    """Wait for another one for long."""
    try:
        value: int = await context.call_async("inner.double", {"number": 1, "seconds": seconds})
    except asyncio.CancelledError:
        seen.ended.append("outer")
        raise
    return value


@capability("outer.leaves")
async def leaves(context: Context) -> str:
    """Answer while a task of its own still asks."""
    task = asyncio.create_task(context.request_async("inner.double", {"number": 1, "seconds": 1000}))
    await asyncio.sleep(0.02)
    seen.contexts.append((context, task))
    return "left"


@capability("outer.afterwards")
async def afterwards(context: Context) -> str:
    """Keep the context for later."""

    async def ask() -> Response:
        await asyncio.sleep(0.02)
        return await context.request_async("inner.double", {"number": 1})

    seen.contexts.append(asyncio.create_task(ask()))
    return "left"


@pytest.fixture
def node() -> Iterator[Node]:
    functions = [
        double, later, fail, count, ask, who, fails, add_up, pass_on, impatient, slow, leaves, afterwards,
    ]  # fmt: skip
    with Node(capabilities=functions, log_stream=io.StringIO()) as node:
        yield node
        assert node.door.in_flight == {}


def until(condition: Any, seconds: float = 10.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.002)


def test_a_coroutine_asks_others_and_the_others_go_on_meanwhile(node: Node) -> None:
    asked = [gevent.spawn(node.call, "outer.ask", {"number": number}) for number in range(50)]
    gevent.joinall(asked, raise_error=True)
    assert [one.value for one in asked] == [[2 * number, number + 1] for number in range(50)]


def test_the_callers_context_its_rights_and_its_trace_are_carried_over(node: Node) -> None:
    session = node.session("ana", ["outer.*", "inner.*"], tenant="acme")
    WHO.set("ana's greenlet")
    response = node.request("outer.who", session=session, timeout=5)
    told = response.unwrap()
    assert told.pop("trace") == response.trace_id
    assert told == {
        "who": "ana's greenlet",
        "principal": "ana",
        "tenant": "acme",
        "left": True,
        "parent_of_inner": True,
    }
    narrow = node.session("ben", ["outer.*"])
    error = node.request("outer.ask", {"number": 1}, session=narrow).error
    assert error is not None
    assert error.code == "forbidden"


@pytest.mark.parametrize("how", ["call", "iterate"])
def test_a_wait_that_would_hold_up_every_coroutine_is_refused_and_says_what_to_write(
    node: Node, how: str
) -> None:
    error = node.request("outer.fails", {"how": how}).error
    assert error is not None
    assert (error.code, error.details["type"]) == ("execution_failed", "RuntimeError")
    registered = node.routes.catalogue.find("outer.fails")
    assert registered is not None
    assert "await context.request_async" in str(registered.last_error)
    assert node.call("outer.ask", {"number": 1}) == [2, 2], "the loop goes on"


@pytest.mark.parametrize(("how", "code"), [("unknown", "not_found"), ("failing", "execution_failed")])
def test_errors_of_what_it_asks_are_raised_in_it(node: Node, how: str, code: str) -> None:
    error = node.request("outer.fails", {"how": how}).error
    assert error is not None
    assert error.code == code


def test_a_coroutine_reads_a_stream_and_leaving_it_ends_it(node: Node) -> None:
    assert node.call("outer.sum", {"to": 10, "limit": 100}) == 45
    assert node.call("outer.sum", {"to": 10_000, "limit": 3}) == 6
    assert seen.ended == ["count", "count"]
    assert node.door.streams == {}


def test_a_stream_of_coroutines_passes_another_stream_on(node: Node) -> None:
    assert list(node.call("outer.pass_on", {"to": 5})) == [0, 10, 20, 30, 40]
    with node.call("outer.pass_on", {"to": 10_000}) as items:
        assert [next(items), next(items)] == [0, 10]
    until(lambda: not node.door.streams)
    assert seen.ended == ["count", "count"]


def test_what_a_coroutine_gives_up_is_cancelled(node: Node) -> None:
    assert node.call("outer.impatient") == "gave up"
    until(lambda: seen.ended == ["inner"])


def test_a_cancelled_request_cancels_its_coroutine_and_what_that_asks(node: Node) -> None:
    asking = gevent.spawn(node.request, "outer.slow")
    until(lambda: len(node.door.in_flight) == 2)
    node.door.cancel(asking)
    assert asking.get(timeout=5).error.code == "cancelled"
    until(lambda: sorted(seen.ended) == ["inner", "outer"])


def test_a_deadline_holds_for_what_a_coroutine_asks(node: Node) -> None:
    error = node.request("outer.slow", timeout=0.05).error
    assert error is not None
    assert error.code == "timeout"
    until(lambda: "inner" in seen.ended)


def test_what_a_task_still_asks_ends_with_the_request(node: Node) -> None:
    assert node.call("outer.leaves") == "left"
    until(lambda: seen.ended == ["inner"])
    _, task = seen.contexts[0]
    until(task.done)
    assert task.result().error.code == "cancelled"


def test_nothing_can_be_asked_for_a_request_that_has_ended(node: Node) -> None:
    assert node.call("outer.afterwards") == "left"
    (task,) = seen.contexts
    until(task.done)
    assert task.result().error.code == "cancelled"


def test_the_nodes_own_request_is_refused_in_a_coroutine_too() -> None:
    told: list[str] = []

    @capability("outer.node")
    async def by_node() -> int:
        """Ask the node itself."""
        try:
            node.request("inner.double", {"number": 1})
        except RuntimeError as error:
            told.append(str(error))
        return 1

    with Node(capabilities=[by_node, double], log_stream=io.StringIO()) as node:
        assert node.call("outer.node") == 1
        assert "await context.request_async" in told[0]


class Asks(Module):
    """Asks for what it needs, by await, before it lets a request on."""

    async def handle_request(self, request: Request, context: Context) -> Intercept:
        doubled = await context.call_async("inner.double", {"number": request.payload["number"]})
        return Intercept(request.with_payload(number=doubled))


def test_a_hook_asks_by_await_and_its_requests_skip_its_own_module(node: Node) -> None:
    node.register_module(Asks, "asks", match=["inner.*"])
    assert node.call("inner.later", {"number": 5}) == 11
    assert node.call("inner.double", {"number": 5}) == 20
    assert node.module("asks")["handled"] == 2
