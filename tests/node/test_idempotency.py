"""Idempotency keys: same key same payload is one request; another payload is refused; nobody else's answer is given."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from packetflow import capability
from packetflow.errors import Rejected
from packetflow.security.access import Session
from packetflow.wire.values import Metadata, Response
from tests.node.passing import Passing

ran: list[int] = []


@capability("pay.send")
def send(amount: int) -> int:
    """Pay, once."""
    ran.append(amount)
    gevent.sleep(0.01)
    if amount == 13:
        raise RuntimeError("bad luck")
    if amount == 7:
        raise Rejected("not today")
    return len(ran)


@pytest.fixture
def passing() -> Passing:
    ran.clear()
    return Passing([send])


def pay(
    passing: Passing, amount: Any, key: str, session: Session | None = None, timeout: float | None = None
) -> Response:
    metadata = Metadata(timeout=timeout, idempotency_key=key)
    return passing.door.request("pay.send", {"amount": amount}, session or passing.session, metadata)


def test_the_second_gets_the_first_ones_answer(passing: Passing) -> None:
    assert [pay(passing, 5, "k").value, pay(passing, 5, "k").value] == [1, 1]
    assert ran == [5]


def test_another_payload_is_a_conflict(passing: Passing) -> None:
    pay(passing, 5, "k")
    error = pay(passing, 6, "k").error
    assert error is not None
    assert error.code == "conflict"
    assert ran == [5]


def test_one_that_is_under_way_is_waited_for(passing: Passing) -> None:
    both = [gevent.spawn(pay, passing, 5, "k") for _ in range(10)]
    assert {one.get().value for one in both} == {1}
    assert ran == [5]


def test_a_duplicate_waits_at_most_its_own_deadline(passing: Passing) -> None:
    first = gevent.spawn(pay, passing, 5, "k")
    gevent.sleep(0)
    error = pay(passing, 5, "k", timeout=0.001).error
    assert error is not None
    assert error.code == "timeout"
    assert first.get().ok


def test_a_failure_that_began_is_kept_and_one_that_did_not_is_not(passing: Passing) -> None:
    assert pay(passing, 13, "a").error.code == "execution_failed"  # type: ignore[union-attr]
    assert pay(passing, 13, "a").error.code == "execution_failed"  # type: ignore[union-attr]
    assert pay(passing, "many", "b").error.code == "validation_failed"  # type: ignore[union-attr]
    assert pay(passing, 2, "b").ok
    assert ran == [13, 2]


def test_keys_of_another_scope_are_others(passing: Passing) -> None:
    other = Session("eve", passing.session.grants)
    assert pay(passing, 5, "k").value == 1
    assert pay(passing, 5, "k", session=other).value == 2


@pytest.mark.parametrize("key", ["", "x" * 257])
def test_a_key_of_the_wrong_length_is_refused(passing: Passing, key: str) -> None:
    assert pay(passing, 5, key).error is not None
    assert ran == []


def test_a_killed_first_frees_the_key(passing: Passing) -> None:
    first = gevent.spawn(pay, passing, 5, "k")
    gevent.sleep(0)
    first.kill()
    assert pay(passing, 5, "k").ok
