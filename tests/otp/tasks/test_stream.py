"""Streams of tasks: bounded, lazy, in order or as they end, with failures and overruns as outcomes or as exits."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from itertools import count, islice
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow.otp import (
    AwaitTimeout,
    CallCycle,
    Exited,
    NotAnActor,
    NotTheOwner,
    Ok,
    Ref,
    ServerExited,
    SpecError,
    Stop,
    System,
    Task,
    TaskSupervisor,
    call,
    kill,
    statistics,
)
from tests.otp.actors import Puppet, Trapper, failure_of, seen, until
from tests.otp.tasks.work import Run, boom, do, double, exits, forever, wait_or_give, within

Stream = Callable[..., Iterator[Ok | Exited]]


def rest(number: int) -> int:
    """Takes as many ten-thousandths of a second as it says."""
    gevent.sleep(number / 10_000)
    return number


@pytest.fixture(params=["Task", "TaskSupervisor", "TaskSupervisor nolink"])
def stream(request: pytest.FixtureRequest, system: System) -> Stream:
    """async_stream in its three forms."""
    if request.param == "Task":
        return lambda *arguments, **options: Task.async_stream(*arguments, **options, system=system)
    supervisor = TaskSupervisor.start(system=system)
    form = TaskSupervisor.async_stream_nolink if "nolink" in request.param else TaskSupervisor.async_stream
    return lambda *arguments, **options: form(supervisor, *arguments, **options)


@pytest.fixture(params=[2, 4, 8])
def width(request: pytest.FixtureRequest) -> int:
    """Fewer than the items, as many, more."""
    return int(request.param)


def tasks_of(system: System) -> list[Ref]:
    return [
        ref
        for ref in system.processes()
        if ref._process.label() not in ("Trapper", "TaskSupervisor", "Puppet")
    ]


def numbers(*values: Any) -> list[Ok]:
    return [Ok(value) for value in values]


# ---- outcomes in order -----------------------------------------------------------------------------------------------


def test_it_gives_an_outcome_for_each_item_in_their_order(stream: Stream, as_owner: Run, width: int) -> None:
    for items in ((1, 2, 3, 4), (4, 3, 2, 1)):
        outcomes = as_owner(lambda items=items: list(stream(items, rest, max_concurrency=width)))
        assert outcomes == numbers(*items)


def test_arguments_follow_the_item(stream: Stream) -> None:
    assert list(stream([1, 2], lambda item, *rest: (item, rest), "a", "b")) == numbers(
        (1, ("a", "b")), (2, ("a", "b"))
    )


def test_no_items_no_outcomes(stream: Stream, as_owner: Run) -> None:
    assert as_owner(lambda: list(stream([], rest))) == []


def test_as_they_end_with_ordered_off(stream: Stream, as_owner: Run) -> None:
    gates = {number: Event() for number in range(4)}

    def in_turn(number: int) -> int:
        gates[number].wait()
        if number:
            gates[number - 1].set()
        return number

    gates[3].set()
    outcomes = as_owner(lambda: list(stream(range(4), in_turn, ordered=False, max_concurrency=4)))
    assert outcomes == numbers(3, 2, 1, 0)


def test_one_at_a_time_is_in_order_also_with_ordered_off(stream: Stream, as_owner: Run) -> None:
    items = [4, 3, 2, 1]
    assert as_owner(lambda: list(stream(items, rest, ordered=False, max_concurrency=1))) == numbers(*items)


def test_thousands_of_items(stream: Stream, as_owner: Run) -> None:
    outcomes = as_owner(lambda: list(stream(range(2000), double, max_concurrency=50)))
    assert outcomes == numbers(*range(0, 4000, 2))


@pytest.mark.parametrize("ordered", [True, False])
def test_failures_are_outcomes_where_the_consumer_survives_them(
    stream: Stream, as_owner: Run, width: int, ordered: bool
) -> None:
    outcomes = as_owner(lambda: list(stream("abcd", exits, max_concurrency=width, ordered=ordered)))
    assert sorted(outcome.reason for outcome in outcomes) == list("abcd")
    assert outcomes == [Exited(reason) for reason in "abcd"]
    (crashed,) = as_owner(lambda: list(stream([0], lambda _: boom())))
    assert isinstance(crashed.reason, ValueError)


def test_the_input_is_zipped_to_failures(stream: Stream, as_owner: Run) -> None:
    items = [1, None, 3]
    outcomes = as_owner(
        lambda: list(
            stream(items, wait_or_give, zip_input_on_exit=True, on_timeout="kill_task", timeout=0.005)
        )
    )
    assert outcomes == [Ok(1), Exited((None, "timeout")), Ok(3)]
    outcomes = as_owner(lambda: list(islice(stream("abcdefgh", exits, zip_input_on_exit=True), 4)))
    assert outcomes == [Exited((letter, letter)) for letter in "abcd"]


def test_a_trapping_consumer_gets_no_exit_messages(system: System) -> None:
    owner = Trapper.start(system=system)
    do(owner, lambda server: list(Task.async_stream("abcd", exits)))
    do(owner, lambda server: list(islice(Task.async_stream([1, None, None], wait_or_give), 1)))
    assert call(owner, seen) == []
    assert statistics(owner).links == 0


def test_a_linked_task_that_dies_takes_the_consumer_along(system: System) -> None:
    supervisor = TaskSupervisor.start(system=system)
    for consume in (
        lambda: list(Task.async_stream(["out", None], lambda item: Stop(item) if item else forever())),
        lambda: list(TaskSupervisor.async_stream(supervisor, ["out"], exits)),
    ):
        owner = Puppet.start(system=system)
        with pytest.raises(ServerExited) as failed:
            do(owner, lambda server, consume=consume: consume())
        assert failed.value.reason == "out"
        assert tasks_of(system) == []


def test_nolink_spares_the_consumer(system: System) -> None:
    supervisor = TaskSupervisor.start(system=system)
    owner = Puppet.start(system=system)
    outcomes = do(owner, lambda server: list(TaskSupervisor.async_stream_nolink(supervisor, ["out"], exits)))
    assert outcomes == [Exited("out")]


# ---- laziness and bounds ---------------------------------------------------------------------------------------------


def test_nothing_runs_before_it_is_asked_for(stream: Stream, system: System) -> None:
    ran: list[int] = []
    lazy = stream([1, 2], ran.append)
    gevent.sleep(0.001)
    assert ran == []
    assert tasks_of(system) == []
    assert next(lazy) == Ok(None)
    assert 1 in ran


@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_run_at_once_than_it_says(stream: Stream, as_owner: Run, width: int, ordered: bool) -> None:
    running, most = [0], [0]

    def work(number: int) -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gevent.sleep(0)
        running[0] -= 1

    as_owner(lambda: list(stream(range(20), work, max_concurrency=width, ordered=ordered)))
    assert most[0] == width


@pytest.mark.parametrize("ordered", [True, False])
def test_it_does_not_run_ahead_of_its_consumer(stream: Stream, as_owner: Run, ordered: bool) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    def consume() -> None:
        flow = stream(items(), double, max_concurrency=3, ordered=ordered)
        for given in range(5):
            next(flow)
            gevent.sleep(0.001)
            assert len(taken) == given + 3
        flow.close()  # type: ignore[attr-defined]

    as_owner(consume)


def test_a_slow_item_holds_those_after_it_back_in_order(stream: Stream, system: System) -> None:
    gate, taken = Event(), []

    def items() -> Iterator[int]:
        for number in range(10):
            taken.append(number)
            yield number

    def work(number: int) -> None:
        if number == 0:
            gate.wait()

    flow = stream(items(), work, max_concurrency=3)
    consumer = gevent.spawn(list, flow)
    gevent.sleep(0.002)
    assert taken == [0, 1, 2]
    gate.set()
    assert len(consumer.get(timeout=5)) == 10


def test_items_without_end(stream: Stream, as_owner: Run, system: System) -> None:
    assert as_owner(lambda: list(islice(stream(count(), double, max_concurrency=4), 10))) == numbers(
        *range(0, 20, 2)
    )
    gc.collect()
    assert tasks_of(system) == []


def test_items_of_another_stream(stream: Stream, as_owner: Run, width: int) -> None:
    def consume() -> Any:
        inner = stream(range(6), double, max_concurrency=width)
        return list(stream((one.value for one in inner), double, max_concurrency=width))  # type: ignore[union-attr]

    assert as_owner(consume) == numbers(*range(0, 24, 4))


def test_two_streams_side_by_side(stream: Stream, as_owner: Run, width: int) -> None:
    for function, items in ((rest, [1, 2, 3, 4]), (rest, [4, 3, 2, 1]), (exits, [1, 2, 3, 4])):

        def consume(function: Any = function, items: Any = items) -> Any:
            left, right = (stream(items, function, max_concurrency=width) for _ in range(2))
            return list(zip(left, right, strict=True))

        form = Exited if function is exits else Ok
        assert as_owner(consume) == [(form(item), form(item)) for item in items]


# ---- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_an_early_close_stops_the_rest(stream: Stream, as_owner: Run, system: System, ordered: bool) -> None:
    cleaned: list[int] = []

    def work(item: Any) -> Any:
        try:
            return wait_or_give(item)
        finally:
            cleaned.append(1)

    def consume() -> None:
        flow = stream([0, None, None, None], work, max_concurrency=4, ordered=ordered)
        assert next(flow) == Ok(0)
        flow.close()  # type: ignore[attr-defined]
        assert tasks_of(system) == []

    as_owner(consume)
    until(lambda: len(cleaned) >= 1)
    until(lambda: not system.scheduler.lingering)


def test_a_stream_that_is_dropped_stops_its_tasks(stream: Stream, system: System) -> None:
    flow = stream([0, None, None], wait_or_give)
    next(flow)
    assert len(tasks_of(system)) == 2
    del flow
    gc.collect()
    assert tasks_of(system) == []


def test_a_consumer_that_dies_takes_the_tasks_along(stream: Stream, system: System) -> None:
    def consume(*_: Any) -> Any:
        return list(stream([None] * 3, wait_or_give, timeout=None))

    consumer = gevent.spawn(consume)
    until(lambda: len(tasks_of(system)) == 3)
    consumer.kill()
    until(lambda: tasks_of(system) == [])

    owner = Puppet.start(system=system)
    caller = gevent.spawn(failure_of, do, owner, consume, None)
    until(lambda: len(tasks_of(system)) == 3)
    kill(owner)
    assert tasks_of(system) == []
    assert caller.get(timeout=5).reason == "killed"


def test_an_error_of_the_items_is_raised_and_stops_the_tasks(
    stream: Stream, as_owner: Run, system: System
) -> None:
    def items() -> Iterator[None]:
        yield None
        yield None
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        as_owner(lambda: list(stream(items(), wait_or_give)))
    assert tasks_of(system) == []


def test_the_items_are_closed_when_the_stream_ends(stream: Stream, as_owner: Run) -> None:
    closed: list[str] = []

    def items() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            closed.append("closed")

    as_owner(lambda: list(stream(items(), double)))
    assert closed == ["closed"]
    as_owner(lambda: list(islice(stream(items(), double), 1)))
    gc.collect()
    assert closed == ["closed"] * 2


def test_a_consumers_own_cleanup_runs(stream: Stream, as_owner: Run) -> None:
    def consume() -> list[str]:
        order: list[str] = []

        def wrapped() -> Iterator[Any]:
            try:
                yield from stream([1, 2], double)
            finally:
                order.append("closed")

        list(wrapped())
        return order

    assert as_owner(consume) == ["closed"]


# ---- overruns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_an_overrun_raises_in_the_consumer_and_ends_the_stream(
    stream: Stream, as_owner: Run, system: System, ordered: bool
) -> None:
    with pytest.raises(AwaitTimeout) as failed:
        as_owner(lambda: list(stream([None, None], wait_or_give, timeout=0.002, ordered=ordered)))
    assert failed.value.timeout == 0.002
    assert tasks_of(system) == []


def test_an_overrun_while_nobody_asks_is_raised_at_the_next(stream: Stream, system: System) -> None:
    flow = stream([0, None, 2], wait_or_give, timeout=0.002)
    next(flow)
    gevent.sleep(0.004)
    with pytest.raises(AwaitTimeout):
        next(flow)
    assert tasks_of(system) == []


@pytest.mark.parametrize("ordered", [True, False])
def test_overruns_are_killed_and_are_outcomes(stream: Stream, as_owner: Run, ordered: bool) -> None:
    options: dict[str, Any] = {"on_timeout": "kill_task", "timeout": 0.01, "ordered": ordered}
    outcomes = as_owner(lambda: list(stream([None, 1, None, 2], wait_or_give, max_concurrency=4, **options)))
    late = Exited("timeout")
    assert outcomes == ([late, Ok(1), late, Ok(2)] if ordered else [Ok(1), Ok(2), late, late])


def test_an_overrun_that_is_killed_does_not_end_the_linked_consumer(system: System) -> None:
    owner = Puppet.start(system=system)
    outcomes = do(
        owner, lambda server: list(Task.async_stream([None], wait_or_give, timeout=0, on_timeout="kill_task"))
    )
    assert outcomes == [Exited("timeout")]


def test_the_time_counts_for_each_task(stream: Stream, as_owner: Run) -> None:
    outcomes = as_owner(lambda: list(stream([20] * 4, rest, max_concurrency=1, timeout=0.5)))
    assert outcomes == numbers(20, 20, 20, 20)


def test_no_limit_of_time_needs_no_alarm(stream: Stream, system: System) -> None:
    flow = stream([1, None], wait_or_give, timeout=None)
    assert next(flow) == Ok(1)
    assert len(system.scheduler.timers) == 0


def test_the_alarms_of_finished_tasks_are_taken_down(system: System) -> None:
    list(Task.async_stream(range(20), double, timeout=60.0, system=system))
    next(Task.async_stream([1, None], wait_or_give, timeout=60.0, system=system))
    gc.collect()
    assert len(system.scheduler.timers) == 0


# ---- who, where and with what ----------------------------------------------------------------------------------------


def test_whoever_asks_first_is_the_consumer(stream: Stream, system: System) -> None:
    flow = stream([1, 2, 3], double, max_concurrency=2)
    assert gevent.spawn(next, flow).get(timeout=5) == Ok(2)
    with pytest.raises(NotTheOwner):
        next(flow)
    owner = Trapper.start(system=system)
    made_here = stream([1, 2, 3], double)
    assert do(owner, lambda server: list(made_here)) == numbers(2, 4, 6)


def test_a_task_may_consume_a_stream(stream: Stream, system: System) -> None:
    flow = stream([1, 2], double)
    assert Task.async_(list, flow, system=system).await_() == numbers(2, 4)


def test_a_stream_of_streams(system: System) -> None:
    flow = Task.async_stream(range(1, 4), lambda n: list(Task.async_stream(range(n), double)), system=system)
    assert list(flow) == numbers(numbers(0), numbers(0, 2), numbers(0, 2, 4))


def test_the_context_of_the_consumer_goes_along(stream: Stream, as_owner: Run) -> None:
    def consume() -> Any:
        within.set("consumer")
        return list(stream([1], lambda _: within.get()))

    assert as_owner(consume) == [Ok("consumer")]


def test_a_task_of_the_stream_that_calls_its_consumer_is_told(system: System) -> None:
    owner = Trapper.start(system=system)
    (outcome,) = do(owner, lambda server: list(Task.async_stream([1], lambda _: call(server.ref, "asked"))))
    assert isinstance(outcome.reason, CallCycle)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_concurrency", 0),
        ("max_concurrency", True),
        ("max_concurrency", 1.5),
        ("timeout", -1),
        ("timeout", "long"),
        ("timeout", float("inf")),
        ("on_timeout", "kill"),
    ],
)
def test_options_are_checked_before_anything_runs(stream: Stream, field: str, value: Any) -> None:
    with pytest.raises(SpecError, match=field):
        stream([], double, **{field: value})


def test_items_and_function_are_checked_too(stream: Stream) -> None:
    with pytest.raises(SpecError, match="items"):
        stream(7, double)
    with pytest.raises(SpecError, match="function"):
        stream([], "double")


def test_outside_of_an_actor_a_stream_has_to_be_told_where(system: System) -> None:
    flow = Task.async_stream([1], double)
    assert isinstance(failure_of(next, flow), NotAnActor)


def test_a_stream_found_by_garbage_collection_in_one_of_its_tasks_ends_it(system: System) -> None:
    after: list[str] = []
    begun = Event()

    def collects(_: int) -> None:
        begun.set()
        gate.wait()
        gc.collect()
        after.append("collected")
        forever()

    gate = Event()
    flow = Task.async_stream([1, None, 2], lambda item: collects(item) if item == 2 else item, system=system)
    next(flow)
    assert begun.wait(5)
    cycle: list[Any] = [flow]
    cycle.append(cycle)
    del flow, cycle
    gate.set()
    until(lambda: after == ["collected"])
    until(lambda: tasks_of(system) == [])
