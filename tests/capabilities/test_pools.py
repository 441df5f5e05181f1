"""pool=Pool(...), blocking=True: how many run at once, who waits, who is refused, and what a cancelled one leaves."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from packetflow import Context, Node, Pool, capability, ttl
from packetflow.errors import DefinitionError, Overloaded, PoolFull
from packetflow.otp.clock import Clock
from tests.node.passing import Passing

sleep_in_thread: Callable[[float], None] = get_original("time", "sleep")
make_lock: Callable[[], Any] = get_original("_thread", "allocate_lock")


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.002)


def figures(passing: Passing, name: str) -> dict[str, Any]:
    return next(pool.statistics() for pool in passing.surroundings.pools if pool.name == name)


class Held:
    """A capability whose runs wait until the test lets them go, in greenlets."""

    def __init__(self, id: str, **options: Any) -> None:
        self.go = Event()
        self.inside = self.most = 0

        @capability(id, **options)
        def hold(number: int = 0) -> int:
            """Wait to be let go."""
            self.inside += 1
            self.most = max(self.most, self.inside)
            try:
                self.go.wait()
            finally:
                self.inside -= 1
            return number

        self.function = hold


def test_a_pool_bounds_how_many_run_at_once_and_the_others_wait_in_order() -> None:
    held = Held("a.hold", pool=Pool(2, queue=10))
    passing = Passing([held.function])
    order: list[int] = []
    asking = [gevent.spawn(passing, "a.hold", number=number) for number in range(6)]
    for one in asking:
        one.link(lambda ended: order.append(ended.value.value))
    gevent.sleep(0)
    shown = figures(passing, "a.hold")
    assert (held.inside, shown["running"], shown["waiting"]) == (2, 2, 4)
    held.go.set()
    gevent.joinall(asking, timeout=5)
    gevent.sleep(0)
    assert order == list(range(6))
    assert held.most == 2
    shown = figures(passing, "a.hold")
    assert (shown["running"], shown["waiting"], shown["done"]) == (0, 0, 6)


def test_one_more_than_the_queue_takes_is_overloaded_and_told_when_to_come_again() -> None:
    held = Held("a.hold", pool=Pool(1, queue=1))
    passing = Passing([held.function])
    asking = [gevent.spawn(passing, "a.hold") for _ in range(2)]
    gevent.sleep(0)
    refused = passing("a.hold").error
    assert isinstance(refused, Overloaded)
    assert refused.retry_after is not None
    assert refused.retry_after > 0
    assert refused.details == {"pool": "a.hold"}
    assert figures(passing, "a.hold")["refused"] == 1
    held.go.set()
    gevent.joinall(asking, timeout=5)
    assert passing("a.hold").ok


def test_who_waits_for_a_place_waits_at_most_until_its_deadline_and_leaves_nothing() -> None:
    held = Held("a.hold", pool=Pool(1, queue=9))
    passing = Passing([held.function])
    first = gevent.spawn(passing, "a.hold")
    gevent.sleep(0)
    late = passing("a.hold", timeout=0.05)
    assert late.error is not None
    assert late.error.code == "timeout"
    waiting = gevent.spawn(passing, "a.hold")
    gevent.sleep(0)
    assert passing.door.cancel(waiting)
    assert waiting.get(timeout=5).error.code == "cancelled"
    assert figures(passing, "a.hold")["waiting"] == 0
    assert len(passing.surroundings.waits) == 0
    held.go.set()
    assert first.get(timeout=5).ok
    assert held.most == 1


def test_a_place_is_free_again_after_a_crash_and_after_a_cancelled_run() -> None:
    held = Held("a.hold", pool=Pool(1, queue=0))
    passing = Passing([held.function])
    for _ in range(3):
        running = gevent.spawn(passing, "a.hold")
        gevent.sleep(0)
        passing.door.cancel(running)
        assert running.get(timeout=5).error.code == "cancelled"
    held.go.set()
    assert passing("a.hold").ok


def test_capabilities_share_a_pool_by_its_name_or_as_one_object() -> None:
    shared = Pool(1, queue=0)
    one, two = Held("a.one", pool=shared), Held("a.two", pool=shared)
    three, four = Held("a.three", pool=Pool(1, 0, name="db")), Held("a.four", pool=Pool(1, 0, name="db"))
    passing = Passing([held.function for held in (one, two, three, four)])
    asking = [gevent.spawn(passing, name) for name in ("a.one", "a.three")]
    gevent.sleep(0)
    for name in ("a.two", "a.four"):
        refused = passing(name).error
        assert refused is not None
        assert refused.code == "overloaded"
    for held in (one, two, three, four):
        held.go.set()
    gevent.joinall(asking, timeout=5)


def test_an_error_of_the_capabilitys_own_pool_is_not_taken_for_this_ones() -> None:
    @capability("a.own", pool=Pool(1))
    def own() -> int:
        """Has a pool of its own that is full."""
        raise PoolFull("work", "theirs", 3)

    error = Passing([own])("a.own").error
    assert error is not None
    assert (error.code, error.details["type"]) == ("execution_failed", "PoolFull")


def test_a_run_that_would_wait_for_its_own_place_is_refused_at_once() -> None:
    @capability("a.outer", pool=Pool(1, name="db"))
    def outer(context: Context) -> int:
        """Ask for what needs the place that this one has."""
        answer: int = context.call("a.inner")
        return answer

    @capability("a.inner", pool=Pool(1, name="db"))
    def inner() -> int:
        """Needs a place."""
        return 1

    passing = Passing([outer, inner])
    error = passing("a.outer").error
    assert error is not None
    assert error.code == "conflict"
    assert error.details["chain"] == ["a.outer", "a.inner"]
    assert "pool db" in str(error)
    assert passing("a.inner").value == 1


def test_a_wait_that_somebody_else_can_end_is_no_circle() -> None:
    held = Held("a.hold", pool=Pool(2, name="db"))

    @capability("a.outer", pool=Pool(2, name="db"))
    def outer(context: Context) -> int:
        """Ask for the second place."""
        answer: int = context.call("a.inner")
        return answer

    @capability("a.inner", pool=Pool(2, name="db"))
    def inner() -> int:
        """Needs a place."""
        return 1

    passing = Passing([outer, inner, held.function])
    holding = gevent.spawn(passing, "a.hold")
    gevent.sleep(0)
    asking = gevent.spawn(passing, "a.outer")
    gevent.sleep(0.02)
    assert not asking.ready()
    held.go.set()
    assert asking.get(timeout=5).value == 1
    assert holding.get(timeout=5).ok


def test_a_circle_through_a_pool_and_a_cached_run_is_refused() -> None:
    @capability("a.cached", cache=ttl(10), pool=Pool(1, name="db"))
    def cached(number: int, context: Context) -> int:
        """Ask for another of its own."""
        answer: int = context.call("a.cached", {"number": number + 1})
        return answer

    error = Passing([cached])("a.cached", number=0).error
    assert error is not None
    assert error.code == "conflict"


# ---- blocking -------------------------------------------------------------------------------------------------------------

NAME: ContextVar[str] = ContextVar("name", default="nobody")


def test_a_blocking_capability_does_not_hold_the_hub() -> None:
    @capability("a.slow", blocking=True)
    def slow() -> int:
        """Wait as code does that knows nothing of gevent."""
        sleep_in_thread(0.05)
        return threading.get_native_id()

    passing = Passing([slow])
    asking = gevent.spawn(passing, "a.slow")
    turns = 0
    while not asking.ready():
        turns += 1
        gevent.sleep(0.001)
    assert asking.value.value != threading.get_native_id()
    assert turns > 2


def test_a_thread_sees_the_callers_context_variables_and_its_errors_come_back() -> None:
    @capability("a.named", blocking=True)
    def named(fail: bool = False) -> str:
        """Who is named."""
        if fail:
            raise Overloaded("mine", retry_after=3.0)
        return NAME.get()

    passing = Passing([named])
    token = NAME.set("ana")
    assert passing("a.named").value == "ana"
    NAME.reset(token)
    error = passing("a.named", fail=True).error
    assert error is not None
    assert (str(error), error.retry_after) == ("mine", 3.0)


def test_system_exit_in_a_thread_ends_nothing_but_that_request() -> None:
    @capability("a.exit", blocking=True)
    def leave() -> int:
        """Ask the process to end."""
        raise SystemExit(3)

    error = Passing([leave])("a.exit").error
    assert error is not None
    assert (error.code, error.details["type"]) == ("execution_failed", "SystemExit")


def test_a_cancelled_one_is_released_at_once_and_its_slot_is_taken_until_the_thread_ends() -> None:
    lock = make_lock()
    lock.acquire()

    @capability("a.stuck", blocking=True, pool=Pool(1, queue=0))
    def stuck() -> int:
        """Wait for what the test holds."""
        with lock:
            return 1

    passing = Passing([stuck])
    asking = gevent.spawn(passing, "a.stuck")
    until(lambda: figures(passing, "a.stuck")["running"] == 1)
    gevent.sleep(0.02)
    passing.door.cancel(asking)
    assert asking.get(timeout=5).error.code == "cancelled"
    shown = figures(passing, "a.stuck")
    assert (shown["lingering"], shown["running"]) == (1, 1)
    refused = passing("a.stuck").error
    assert refused is not None
    assert refused.code == "overloaded"
    lock.release()
    until(lambda: figures(passing, "a.stuck")["lingering"] == 0)
    assert passing("a.stuck").value == 1


def test_a_blocking_one_that_is_late_is_a_timeout_and_its_result_is_dropped() -> None:
    lock = make_lock()
    lock.acquire()

    @capability("a.stuck", blocking=True, timeout=0.05)
    def stuck() -> int:
        """Wait for what the test holds."""
        with lock:
            return 1

    passing = Passing([stuck])
    error = passing("a.stuck").error
    assert error is not None
    assert error.code == "timeout"
    lock.release()
    until(lambda: figures(passing, "a.stuck")["lingering"] == 0)


# ---- requests from a thread -----------------------------------------------------------------------------------------------


@capability("a.inner")
def inner(text: str, context: Context) -> str:
    """Say who asks, from which thread."""
    return f"{text} {context.principal} {threading.get_native_id()}"


def test_a_blocking_capability_makes_requests_which_pass_the_door_in_the_nodes_thread() -> None:
    @capability("a.asks", blocking=True)
    def asks(context: Context) -> tuple[str, str, int]:
        """Ask from the thread."""
        answer: str = context.call("a.inner", {"text": "hi"})
        error = context.request("a.nowhere").error
        assert error is not None
        return answer, error.code, threading.get_native_id()

    with Node(capabilities=[asks, inner], log_stream=io.StringIO()) as node:
        answer, code, thread = node.call("a.asks", session=node.session("ana"))
        assert answer == f"hi ana {threading.get_native_id()}"
        assert thread != threading.get_native_id()
        assert code == "not_found"
        traces = {call.capability: call for call in node.traces}
        assert traces["a.inner"].parent is traces["a.asks"]


def test_what_a_thread_asks_ends_with_the_request_on_whose_behalf_it_is() -> None:
    held = Held("a.hold")
    outcomes: list[str] = []

    @capability("a.asks", blocking=True)
    def asks(context: Context) -> int:
        """Ask from the thread, twice."""
        for _ in range(2):
            error = context.request("a.hold").error
            outcomes.append(error.code if error is not None else "ok")
        return 1

    with Node(capabilities=[asks, held.function], log_stream=io.StringIO()) as node:
        asking = gevent.spawn(node.request, "a.asks")
        until(lambda: held.inside == 1)
        node.door.cancel(asking)
        assert asking.get(timeout=5).error.code == "cancelled"
        until(lambda: len(outcomes) == 2)
        assert outcomes == ["cancelled", "cancelled"]
        assert held.inside == 0
        assert len(node.door.in_flight) == 0


def test_a_request_from_a_thread_has_its_parents_deadline() -> None:
    held = Held("a.hold")
    codes: list[str] = []

    @capability("a.asks", blocking=True, timeout=0.1)
    def asks(context: Context) -> int:
        """Ask from the thread."""
        error = context.request("a.hold").error
        codes.append(error.code if error is not None else "ok")
        return 1

    with Node(capabilities=[asks, held.function], log_stream=io.StringIO()) as node:
        error = node.request("a.asks").error
        assert error is not None
        assert error.code == "timeout"
        until(lambda: codes)
        assert codes[0] in ("timeout", "cancelled")
        until(lambda: held.inside == 0)


def test_a_thread_reads_a_stream_whose_items_are_made_in_the_nodes_thread() -> None:
    made: list[int] = []
    ended: list[int] = []

    @capability("a.count")
    def count(to: int) -> Iterator[int]:
        """Count, in whatever thread."""
        try:
            for number in range(to):
                made.append(threading.get_native_id())
                gevent.sleep(0)
                yield number
        finally:
            ended.append(threading.get_native_id())

    @capability("a.asks", blocking=True)
    def asks(to: int, how: str, context: Context) -> int:
        """Add up, some of them or all."""
        total = 0
        with context.call("a.count", {"to": to}) as items:
            for item in items:
                total += item
                if how == "break" and item == 3:
                    break
        return total

    with Node(capabilities=[asks, count], log_stream=io.StringIO()) as node:
        here = threading.get_native_id()
        assert node.call("a.asks", {"to": 5, "how": "all"}) == 10
        assert node.call("a.asks", {"to": 1000, "how": "break"}) == 6
        assert set(made) == {here}
        assert ended == [here, here]
        assert node.door.streams == {}


def test_a_stream_that_a_thread_reads_ends_with_its_request() -> None:
    ended: list[str] = []

    @capability("a.feed")
    def feed() -> Iterator[int]:
        """One item, and then nothing for long."""
        try:
            yield 1
            gevent.sleep(1000)
        finally:
            ended.append("feed")

    @capability("a.asks", blocking=True)
    def asks(context: Context) -> int:
        """Read on and on."""
        try:
            return sum(context.call("a.feed"))
        finally:
            ended.append("asks")

    with Node(capabilities=[asks, feed], log_stream=io.StringIO()) as node:
        asking = gevent.spawn(node.request, "a.asks")
        until(lambda: any(stream.count == 1 for stream in node.door.streams.values()))
        node.door.cancel(asking)
        assert asking.get(timeout=5).error.code == "cancelled"
        until(lambda: sorted(ended) == ["asks", "feed"])
        assert node.door.streams == {}


# ---- life -----------------------------------------------------------------------------------------------------------------


def test_a_pool_lives_as_long_as_somebody_uses_it() -> None:
    passing = Passing(
        [Held("a.one", pool=Pool(1, name="db")).function, Held("a.two", pool=Pool(1, name="db")).function]
    )
    pools = passing.surroundings.pools
    assert len(list(pools)) == 1
    passing.registered[0].close()
    assert [pool.users for pool in pools] == [1]
    passing.registered[1].close()
    assert list(pools) == []


def test_a_stop_leaves_no_greenlet_and_no_pool() -> None:
    held = Held("a.hold", pool=Pool(1, queue=5))
    node = Node(capabilities=[held.function], log_stream=io.StringIO()).start()
    asking = [gevent.spawn(node.request, "a.hold") for _ in range(3)]
    gevent.sleep(0)
    node.stop(0.0)
    gevent.joinall(asking, timeout=5)
    assert [one.value.error.code for one in asking] == ["cancelled"] * 3
    assert list(node.surroundings.pools) == []


def test_capabilities_that_share_a_pool_have_to_say_the_same_of_it() -> None:
    one, two = Held("a.one", pool=Pool(1, name="db")), Held("a.two", pool=Pool(2, name="db"))
    three = Held("a.three", pool=Pool(1, name="db"), blocking=True)
    with Node(capabilities=[one.function], log_stream=io.StringIO()) as node:
        for other in (two, three):
            with pytest.raises(DefinitionError, match=r"test_pools.*a\.\w+ runs in .*db.*a\.one"):
                node.register(other.function)
        assert [pool.users for pool in node.surroundings.pools] == [1]
