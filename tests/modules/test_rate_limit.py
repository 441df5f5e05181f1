from __future__ import annotations

from typing import Any

import gevent
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from packetflow.wire.values import make_request
from tests.modules.starting import HandClock, StandInContext, started


def ask(limit: Any, capability: str = "ticket.open", principal: str = "ana", tenant: str = "") -> Any:
    """None if admitted, else the Reject."""
    return limit.handle_request(make_request(capability, {}), StandInContext(capability, principal, tenant))


def test_after_a_burst_requests_pass_at_the_rate() -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=2, burst=3)
    assert [ask(limit) is None for _ in range(5)] == [True, True, True, False, False]
    clock.turn(0.5)
    assert [ask(limit) is None for _ in range(2)] == [True, False]
    clock.turn(100)
    assert [ask(limit) is None for _ in range(4)] == [True, True, True, False]


def test_a_refusal_says_when_to_come_back_and_then_admits() -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=0.3, burst=1)
    ask(limit)
    refused = ask(limit)
    assert (refused.code, refused.reason) == ("rate_limited", "rate_limit")
    assert refused.retry_after == pytest.approx(1 / 0.3)
    assert "ana asks ticket.open too often: 0.3 a second, 1 at once; try again in 3.33 s" in refused.message
    clock.turn(refused.retry_after / 2)
    assert ask(limit).retry_after == pytest.approx(1 / 0.6)
    clock.turn(refused.retry_after / 2)
    assert ask(limit) is None


@pytest.mark.parametrize(
    ("per", "shared"),
    [
        ("principal+capability", []),
        ("principal", [("ticket.find", "ana", "")]),
        ("capability", [("ticket.open", "ben", ""), ("ticket.open", "ana", "north")]),
    ],
)
def test_per_says_who_shares_a_bucket(per: str, shared: list[tuple[str, str, str]]) -> None:
    limit = started("rate_limit", rate=1, burst=1, per=per)
    assert ask(limit) is None
    others = [("ticket.find", "ana", ""), ("ticket.open", "ben", ""), ("ticket.open", "ana", "north")]
    assert [other for other in others if ask(limit, *other) is not None] == shared


def test_an_override_sets_the_limit_of_the_capabilities_it_matches_the_first_one_holds() -> None:
    overrides = {"ticket.open": {"rate": 1, "burst": 2}, "ticket.*": {"rate": 1, "burst": 4}}
    limit = started("rate_limit", burst=6, overrides=overrides)
    admitted = {
        name: sum(ask(limit, name) is None for _ in range(10))
        for name in ("ticket.open", "ticket.find", "customer.lookup")
    }
    assert admitted == {"ticket.open": 2, "ticket.find": 4, "customer.lookup": 6}


def test_buckets_that_are_full_again_leave_the_memory() -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=10, burst=5)
    for number in range(1000):
        ask(limit, principal=f"p{number}")
    assert limit.buckets == 1000
    clock.turn(1)
    for _ in range(1000):
        clock.turn(0.1)
        ask(limit)
    assert limit.buckets == 1


def test_memory_follows_who_asks_now_not_who_ever_asked() -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=10, burst=5)
    most = 0
    for number in range(5000):
        clock.turn(0.01)  # a bucket is full again 0.1 s after its one request: ten are in use at a time
        ask(limit, principal=f"p{number}")
        most = max(most, limit.buckets)
    assert most <= 24  # of 5,000: not above twice what is in use, and a few


def test_it_is_exact_under_concurrency() -> None:
    limit = started("rate_limit", rate=1, burst=7)
    asking = [gevent.spawn(ask, limit) for _ in range(100)]
    gevent.joinall(asking)
    assert sum(one.value is None for one in asking) == 7


@given(
    rate=st.floats(0.01, 1000),
    burst=st.integers(1, 20),
    gaps=st.lists(st.one_of(st.just(0.0), st.floats(0, 0.01), st.floats(0, 5)), max_size=80),
)
def test_never_more_than_burst_and_rate_in_any_window(rate: float, burst: int, gaps: list[float]) -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=rate, burst=burst)
    admitted = []
    for gap in gaps:
        clock.turn(gap)
        if ask(limit) is None:
            admitted.append(clock.now)
    for first in range(len(admitted)):
        for last in range(first, len(admitted)):
            # The grace of a microsecond, and the digits that a float of seconds has.
            room = burst + rate * (admitted[last] - admitted[first] + 1e-5)
            assert last - first + 1 <= room


@given(rate=st.floats(0.01, 1000), burst=st.integers(1, 20), tries=st.integers(0, 50))
def test_a_rest_gives_the_whole_burst_back(rate: float, burst: int, tries: int) -> None:
    clock = HandClock()
    limit = started("rate_limit", clock, rate=rate, burst=burst)
    for _ in range(tries):
        ask(limit)
    clock.turn(burst / rate)
    assert [ask(limit) is None for _ in range(burst + 1)] == [True] * burst + [False]


@pytest.mark.parametrize(
    "config", [{"rate": 0}, {"burst": 0}, {"per": "tenant"}, {"overrides": {"a.b": {"rats": 1}}}]
)
def test_a_configuration_that_can_not_work_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(config))):
        started("rate_limit", **config)
