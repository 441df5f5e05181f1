"""The door when modules crash, hang or answer nonsense, when deadlines pass and callers give up: one response each, always."""

from __future__ import annotations

import random
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Context, Module, capability
from packetflow.errors import Cancelled
from packetflow.wire.values import Metadata
from tests.node.passing import Passing, gate
from tests.node.test_door import Recorder, module


@capability("work.quick")
def quick() -> str:
    """Answer at once."""
    return "done"


cleaned: list[str] = []


@capability("work.sleep", timeout=5.0)
def sleeper(seconds: float) -> str:
    """Sleep, and clean up."""
    try:
        gevent.sleep(seconds)
    finally:
        cleaned.append("sleeper")
    return "slept"


@capability("work.outer")
def outer(seconds: float, context: Context) -> str:
    """Have another one sleep."""
    return str(context.call("work.sleep", {"seconds": seconds}))


@capability("work.stubborn", timeout=0.05)
def stubborn() -> str:
    """Swallow whatever comes, once."""
    try:
        gevent.sleep(5)
    except BaseException:  # noqa: BLE001  # what an author must not do, and may do all the same
        pass
    gevent.sleep(5)
    return "never"


def boom(*_: Any) -> Any:
    raise RuntimeError("boom")


@pytest.fixture(autouse=True)
def _fresh() -> None:
    cleaned.clear()


@pytest.mark.parametrize(("on_error", "code"), [("skip", None), ("fail", "internal"), ("reject", "rejected")])
def test_on_error_decides_for_a_request_whose_module_raised(on_error: Any, code: str | None) -> None:
    before = Recorder()
    passing = Passing(
        [quick], [gate(before, "before", 1), gate(module(handle_request=boom), "bad", 2, on_error=on_error)]
    )
    response = passing("work.quick")
    assert (response.error.code if response.error else None) == code
    if response.error is not None:
        assert response.error.details["module"] == "bad"
    assert before.seen[-1][0] == "response"


@pytest.mark.parametrize(("on_error", "code"), [("skip", None), ("fail", "internal"), ("reject", "rejected")])
def test_on_error_decides_for_a_response_whose_module_raised(on_error: Any, code: str | None) -> None:
    later = Recorder()
    gates = [gate(later, "later", 1), gate(module(handle_response=boom), "bad", 2, on_error=on_error)]
    response = Passing([quick], gates)("work.quick")
    assert (response.error.code if response.error else None) == code
    assert later.seen[-1] == ("response", code or "done")


@pytest.mark.parametrize("nonsense", [42, "text", object(), ("continue",)])
def test_nonsense_is_the_modules_fault(nonsense: Any) -> None:
    bad = module(handle_request=lambda r, c: nonsense, handle_response=lambda r, c: nonsense)
    skipped = gate(bad, "bad", on_error="skip")
    assert Passing([quick], [skipped])("work.quick").value == "done"
    assert skipped.errors == 2
    assert "expected one of its answers" in str(skipped.last_error)
    assert Passing([quick], [gate(bad, "bad", on_error="fail")])("work.quick").error.code == "internal"  # type: ignore[union-attr]


def test_a_module_that_decides_fails_closed_and_one_that_watches_is_skipped() -> None:
    assert Passing([quick], [gate(module(handle_request=boom), "guard")])("work.quick").error is not None
    assert Passing([quick], [gate(module(handle_response=boom), "watcher")])("work.quick").ok


@pytest.mark.parametrize(
    ("on_error", "code"), [("skip", None), ("fail", "unavailable"), ("reject", "rejected")]
)
def test_a_hook_that_hangs_is_ended_at_its_limit(on_error: Any, code: str | None) -> None:
    hanging = gate(
        module(handle_request=lambda r, c: gevent.sleep(30)), "hanging", timeout=0.05, on_error=on_error
    )
    faults: list[Any] = []
    hanging.on_fault = lambda g, principal, overran: faults.append(overran)
    response = Passing([quick], [hanging])("work.quick")
    assert (response.error.code if response.error else None) == code
    assert faults == [True]
    assert hanging.busy is None


def test_a_response_hook_that_hangs_is_ended_at_its_limit() -> None:
    hanging = gate(module(handle_response=lambda r, c: gevent.sleep(30)), "hanging", timeout=0.05)
    assert Passing([quick], [hanging])("work.quick").value == "done"


def test_a_deadline_inside_a_hook_is_not_the_modules_fault() -> None:
    slow = gate(module(handle_request=lambda r, c: gevent.sleep(30)), "slow", timeout=10.0, on_error="skip")
    response = Passing([quick], [slow])("work.quick", timeout=0.05)
    assert response.error is not None
    assert response.error.code == "timeout"
    assert slow.errors == 0


def test_a_deadline_ends_the_capability_and_its_cleanup_runs() -> None:
    response = Passing([sleeper])("work.sleep", {"seconds": 30}, timeout=0.05)
    assert response.error is not None
    assert response.error.code == "timeout"
    assert "work.sleep" in str(response.error)
    assert cleaned == ["sleeper"]


def test_a_childs_deadline_is_never_later_than_its_parents() -> None:
    response = Passing([sleeper, outer])("work.outer", {"seconds": 30}, timeout=0.05)
    assert response.error is not None
    assert response.error.code == "timeout"
    assert cleaned == ["sleeper"]


def test_a_capability_that_swallows_its_end_is_ended_again() -> None:
    response = Passing([stubborn])("work.stubborn")
    assert response.error is not None
    assert response.error.code == "timeout"


def test_cancel_ends_the_whole_call_tree_of_a_greenlet() -> None:
    passing = Passing([sleeper, outer])
    running = gevent.spawn(passing, "work.outer", {"seconds": 30})
    gevent.sleep(0.01)
    assert passing.door.cancel(running, Cancelled("gone"))
    response = running.get(timeout=5)
    assert response.error is not None
    assert response.error.code == "cancelled"
    assert cleaned == ["sleeper"]
    assert passing.door.in_flight == {}
    assert not passing.door.cancel(running)


def test_a_timeout_of_the_caller_around_a_request_reaches_the_caller() -> None:
    passing = Passing([sleeper])
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        passing("work.sleep", {"seconds": 30})
    assert cleaned == ["sleeper"]
    assert passing.door.in_flight == {}


def test_a_killed_caller_ends_its_request() -> None:
    passing = Passing([sleeper])
    running = gevent.spawn(passing, "work.sleep", {"seconds": 30})
    gevent.sleep(0.01)
    running.kill()
    assert cleaned == ["sleeper"]
    assert passing.door.in_flight == {}


# ---- one message at a time ---------------------------------------------------------------------------------------------


class Counts(Module):
    """Notes how many are inside at once."""

    def __init__(self) -> None:
        self.inside = self.most = self.done = 0

    def handle_request(self, request: Any, context: Context) -> Any:
        self.inside += 1
        self.most = max(self.most, self.inside)
        gevent.sleep(0.001)
        self.inside -= 1
        self.done += 1


@pytest.mark.parametrize(("limit", "most"), [(1, 1), (3, 3), (0, 20)])
def test_max_concurrency_bounds_who_is_inside(limit: int, most: int) -> None:
    counts = Counts()
    passing = Passing([quick], [gate(counts, "counts", limit=limit)])
    waiting = [gevent.spawn(passing, "work.quick") for _ in range(20)]
    gevent.joinall(waiting)
    assert all(one.value.ok for one in waiting)
    assert counts.most == most
    assert counts.done == 20


def test_who_waits_at_a_gate_is_let_in_in_order() -> None:
    order: list[int] = []

    class Slow(Module):
        def handle_request(self, request: Any, context: Context) -> Any:
            order.append(int(context.metadata.traceparent or 0))
            gevent.sleep(0.001)

    passing = Passing([quick], [gate(Slow(), "slow")])

    def ask(number: int) -> Any:
        metadata = Metadata(traceparent=str(number))
        return passing.door.request("work.quick", {}, passing.session, metadata)

    gevent.joinall([gevent.spawn(ask, number) for number in range(10)])
    assert order == list(range(10))


def test_who_waits_at_a_gate_past_its_deadline_leaves_and_the_rest_goes_on() -> None:
    held = Event()
    slow = gate(module(handle_request=lambda r, c: held.wait() and None), "slow", timeout=10.0)
    passing = Passing([quick], [slow])
    first = gevent.spawn(passing, "work.quick")
    gevent.sleep(0)
    second = gevent.spawn(passing, "work.quick", timeout=0.05)
    third = gevent.spawn(passing, "work.quick")
    assert second.get(timeout=5).error.code == "timeout"
    held.set()
    assert first.get(timeout=5).ok
    assert third.get(timeout=5).ok
    assert slow.busy is None
    assert slow.running == 0
    assert slow.queue is None


def test_random_kills_at_full_load_leave_no_request_and_no_gate_behind() -> None:
    """Given gates of all limits and slow hooks, when callers are killed and cancelled at random, then nothing stays taken."""
    draw = random.Random(4711)

    class Naps(Module):
        def handle_request(self, request: Any, context: Context) -> Any:
            if draw.random() < 0.5:
                gevent.sleep(draw.random() * 0.003)
            if draw.random() < 0.05:
                raise RuntimeError("now and then")

        def handle_response(self, response: Any, context: Context) -> Any:
            if draw.random() < 0.3:
                gevent.sleep(draw.random() * 0.002)

    gates = [gate(Naps(), f"n{limit}", limit, on_error="skip", limit=limit) for limit in (1, 2, 5, 0)]
    passing = Passing([quick, sleeper, outer], gates)

    def ask() -> Any:
        name, payload = draw.choice(
            [("work.quick", {}), ("work.sleep", {"seconds": 0.002}), ("work.outer", {"seconds": 0.002})]
        )
        return passing(name, payload, timeout=draw.choice([None, 0.01, 0.2]))

    answered = 0
    running: list[Any] = []
    for _ in range(400):
        running.append(gevent.spawn(ask))
        if draw.random() < 0.3:
            victim = draw.choice(running)
            if draw.random() < 0.5:
                victim.kill(block=False)
            else:
                passing.door.cancel(victim)
        if draw.random() < 0.2:
            gevent.sleep(0.001)
    gevent.joinall(running, timeout=20)
    for one in running:
        assert one.ready()
        if not isinstance(one.value, gevent.GreenletExit):
            assert one.value.ok or one.value.error.code in ("timeout", "cancelled", "execution_failed")
            answered += 1
    assert answered > 200
    assert passing.door.in_flight == {}
    for one in gates:
        assert (one.busy, one.running, one.queue) == (None, 0, None)
    assert passing("work.quick").ok
