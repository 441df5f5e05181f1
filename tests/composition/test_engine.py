"""What each node of a plan does when it runs, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from packetflow.composition.building import (
    branch,
    circuit_breaker,
    hedge,
    loop,
    map_reduce,
    parallel,
    pipeline,
    race,
    retry,
    saga,
    sleep,
    step,
)
from packetflow.composition.nodes import Cel, Step, Value
from packetflow.wire.errors import ExecutionFailed, Rejected, Timeout, TooLarge, Unavailable, ValidationFailed

from .desk import Desk, run_plan


def do(word: str, seconds: float = 0.0, **options: Any) -> Step:
    return step("test.do", inputs={"word": Value(word), "seconds": Value(seconds)}, name=word, **options)


def fails(*words: str, times: int = 1000) -> Any:
    return lambda desk: desk.failing.update(dict.fromkeys(words, times))


# ---- in order ----------------------------------------------------------------------------------------------------------


def test_a_pipeline_runs_in_order_and_data_flows_by_name() -> None:
    plan = pipeline(
        step("test.double", inputs={"number": "start"}, outputs={"result": "twice"}),
        step("test.double", inputs={"number": "twice"}),
        step("test.double", inputs={"number": Cel("result + twice")}),
    )
    answer, _, _ = run_plan(plan, {"start": 5})
    assert answer.value == (20 + 10) * 2


def test_the_first_error_stops_it_and_names_the_step_and_its_place() -> None:
    answer, desk, _ = run_plan(pipeline(do("a"), pipeline(do("b"), do("c")), do("d")), None, fails("c"))
    assert isinstance(answer.error, Unavailable)
    assert answer.error.message == "step c: c can't be done"
    assert answer.error.details["place"] == "1/1"
    assert answer.error.details["step"] == "c"
    assert desk.done == ["a", "b"]


def test_what_was_done_is_undone_in_reverse() -> None:
    undo = {word: step("test.undo", inputs={"word": Value(word)}) for word in "abc"}
    plan = pipeline(
        do("a", compensate=undo["a"]),
        pipeline(do("b", compensate=undo["b"])),
        do("c", compensate=undo["c"]),
        do("d"),
    )
    answer, desk, _ = run_plan(plan, None, fails("d"))
    assert answer.error is not None
    assert desk.done == ["a", "b", "c", "undo c", "undo b", "undo a"]


def test_what_can_not_be_undone_is_told_and_the_others_are_undone() -> None:
    plan = pipeline(
        do("a", compensate=step("test.undo", inputs={"word": Value("a")})),
        do("b", compensate=step("test.undo", inputs={"word": Value("b")})),
        do("c"),
    )
    answer, desk, _ = run_plan(plan, None, fails("c", "undo b"))
    assert answer.error.details["not_undone"] == ["b"]
    assert desk.done == ["a", "b", "undo a"]
    assert "compensation failed" in desk.world.log


def test_a_saga_tries_again_until_it_is_undone() -> None:
    plan = saga(do("a", compensate=step("test.undo", inputs={"word": Value("a")})), do("b"))

    def prepare(desk: Desk) -> None:
        desk.failing.update({"b": 1, "undo a": 4})

    answer, desk, took = run_plan(plan, None, prepare)
    assert desk.done == ["a", "undo a"]
    assert "not_undone" not in answer.error.details
    assert took >= 0.1 + 0.2 + 0.4 + 0.8


def test_a_run_that_is_out_of_time_is_undone_all_the_same() -> None:
    plan = pipeline(do("a", compensate=step("test.undo", inputs={"word": Value("a")})), do("b", 100.0))
    answer, desk, took = run_plan(plan, timeout=5.0)
    assert isinstance(answer.error, Timeout)
    assert took < 6
    assert desk.done == ["a", "undo a"]
    assert desk.ended == ["a", "b"]  # its cleanup ran


def test_a_step_has_a_timeout_of_its_own() -> None:
    answer, _, took = run_plan(do("a", 100.0, timeout=3.0))
    assert isinstance(answer.error, Timeout)
    assert 3.0 <= took < 4.0


def test_sleep_takes_virtual_time() -> None:
    _, _, took = run_plan(pipeline(sleep(60.0), do("a")))
    assert took == pytest.approx(60.0)


# ---- which way ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("total", "done"), [(500, ["big"]), (50, ["middle"]), (5, ["small"])])
def test_the_first_condition_that_holds_is_taken_and_no_other(total: int, done: list[str]) -> None:
    plan = branch("total > 100", ("total > 10", do("middle")), then=do("big"), otherwise=do("small"))
    answer, desk, _ = run_plan(plan, {"total": total})
    assert answer.ok
    assert desk.done == done


def test_without_otherwise_nothing_is_done() -> None:
    answer, desk, _ = run_plan(branch("total > 100", then=do("big")), {"total": 1})
    assert answer.ok
    assert answer.value is None
    assert desk.done == []


def test_a_condition_may_be_a_function_of_the_scope() -> None:
    _, desk, _ = run_plan(branch(lambda scope: scope["total"] > 1, then=do("yes")), {"total": 2})
    assert desk.done == ["yes"]


def test_an_error_in_a_condition_fails_the_branch_and_says_where() -> None:
    answer, desk, _ = run_plan(pipeline(do("a"), branch("total > 1", then=do("b"))), {"total": {"x": 1}})
    assert isinstance(answer.error, ExecutionFailed)
    assert answer.error.details["place"] == "1"
    assert "total > 1" in answer.error.message
    assert desk.done == ["a"]


def test_a_condition_that_is_neither_true_nor_false_is_an_error() -> None:
    answer, _, _ = run_plan(branch("total + 1", then=do("b")), {"total": 1})
    assert "neither" in answer.error.message or "true or false" in answer.error.message


# ---- again and again ---------------------------------------------------------------------------------------------------


def test_a_loop_goes_over_a_collection_and_gives_the_values() -> None:
    plan = loop(
        step("test.double", inputs={"number": "each"}), over="numbers", item="each", max_iterations=10
    )
    answer, _, _ = run_plan(plan, {"numbers": [1, 2, 3]})
    assert answer.value == [2, 4, 6]


def test_a_loop_goes_on_while_a_condition_holds() -> None:
    plan = loop(
        step("test.double", inputs={"number": "number"}, outputs={"result": "number"}),
        while_="number < 100",
        max_iterations=50,
        delay=2.0,
    )
    answer, _, took = run_plan(plan, {"number": 7})
    assert answer.value == [14, 28, 56, 112]
    assert took == pytest.approx(6.0)


def test_a_loops_item_gives_a_name_back_that_was_there_before() -> None:
    plan = pipeline(
        loop(step("test.double", inputs={"number": "item"}), over="numbers", max_iterations=3),
        step("test.double", inputs={"number": "item"}),
    )
    assert run_plan(plan, {"numbers": [1, 2], "item": 50})[0].value == 100


def test_a_loop_breaks_when_it_is_told() -> None:
    plan = loop(
        step("test.double", inputs={"number": "item"}),
        over="numbers",
        max_iterations=10,
        break_when="result > 3",
    )
    answer, _, _ = run_plan(plan, {"numbers": [1, 2, 3]})
    assert answer.value == [2, 4]


@pytest.mark.parametrize("way", ["over", "while"])
def test_a_bound_is_a_bound(way: str) -> None:
    body = do("a")
    over = loop(body, over="numbers", max_iterations=2)
    endless = loop(body, while_="true", max_iterations=2)
    answer, desk, _ = run_plan(over if way == "over" else endless, {"numbers": [1, 2, 3]})
    assert isinstance(answer.error, TooLarge)
    assert "max_iterations is 2" in answer.error.message
    assert desk.done == ([] if way == "over" else ["a", "a"])


def test_what_is_no_collection_is_told() -> None:
    answer, _, _ = run_plan(loop(do("a"), over="word", max_iterations=9), {"word": "abc"})
    assert isinstance(answer.error, ExecutionFailed)
    assert "'word' is str" in answer.error.message


def test_a_retry_succeeds_on_the_third_attempt_with_the_declared_backoff() -> None:
    plan = retry(do("a"), attempts=5, delay=1.0, factor=3.0, jitter=0.0)
    answer, desk, took = run_plan(plan, None, fails("a", times=2))
    assert answer.value == {"a": "a"}
    assert took == pytest.approx(1.0 + 3.0)
    assert desk.ended == ["a", "a", "a"]


def test_what_does_not_pass_by_itself_is_not_tried_again() -> None:
    def prepare(desk: Desk) -> None:
        desk.failing["a"] = 1
        desk.error = lambda message: Rejected(message)

    answer, desk, _ = run_plan(retry(do("a"), attempts=5), None, prepare)
    assert isinstance(answer.error, Rejected)
    assert desk.ended == ["a"]


def test_a_condition_may_decide_about_another_attempt() -> None:
    def prepare(desk: Desk) -> None:
        desk.failing["a"] = 10
        desk.error = lambda message: Rejected(message)

    plan = retry(do("a"), attempts=5, jitter=0.0, retry_when="error.code == 'rejected' && attempt < 3")
    _, desk, _ = run_plan(plan, None, prepare)
    assert desk.ended == ["a"] * 3


def test_retry_after_of_the_error_is_waited_for() -> None:
    def prepare(desk: Desk) -> None:
        desk.failing["a"] = 1
        desk.error = lambda message: Unavailable(message, retry_after=20.0)

    _, _, took = run_plan(retry(do("a"), attempts=2, delay=0.1), None, prepare)
    assert took >= 20.0


def test_a_fallback_is_run_when_the_last_attempt_failed() -> None:
    answer, desk, _ = run_plan(retry(do("a"), attempts=2, delay=0.0, fallback=do("b")), None, fails("a"))
    assert answer.value == {"b": "b"}
    assert desk.ended == ["a", "a", "b"]


# ---- at once -----------------------------------------------------------------------------------------------------------


def test_ten_steps_of_a_tenth_of_a_second_take_a_tenth_of_a_second() -> None:
    answer, _, took = run_plan(parallel(*[do(f"w{number}", 0.1) for number in range(10)]))
    assert set(answer.value) == {f"w{number}" for number in range(10)}
    assert took == pytest.approx(0.1, abs=0.05)


def test_a_limit_bounds_how_many_run_at_once() -> None:
    _, desk, took = run_plan(parallel(*[do(f"w{number}", 1.0) for number in range(9)], limit=3))
    assert desk.most == 3
    assert took == pytest.approx(3.0, abs=0.1)


def test_a_failure_cancels_the_others_and_their_cleanup_runs() -> None:
    answer, desk, took = run_plan(
        parallel(do("slow", 100.0), do("bad", 1.0), do("quick")), None, fails("bad")
    )
    assert answer.error.details["step"] == "bad"
    assert took < 2
    assert desk.done == ["quick"]
    assert "slow" in desk.ended


def test_a_failure_spares_the_others_where_that_is_asked_for() -> None:
    plan = pipeline(
        parallel(do("slow", 2.0), do("bad"), partial_failure="continue"),
        branch("failed.bad.code == 'unavailable'", then=do("c")),
    )
    answer, desk, _ = run_plan(plan, None, fails("bad"))
    assert answer.ok
    assert desk.done == ["slow", "c"]


def test_all_have_so_much_time_together() -> None:
    answer, desk, took = run_plan(parallel(do("a", 100.0), do("b", 1.0), timeout=5.0))
    assert isinstance(answer.error, Timeout)
    assert took < 6
    assert set(desk.ended) == {"a", "b"}


@pytest.mark.parametrize(
    ("combine", "value"), [("list", [{"a": "a"}, {"b": "b"}]), ("merge", {"a": "a", "b": "b"})]
)
def test_values_are_combined(combine: Any, value: Any) -> None:
    answer, _, _ = run_plan(parallel(do("a", 1.0), do("b"), combine=combine))
    assert answer.value == value


def test_each_strand_puts_its_own_names_and_sees_none_of_the_others() -> None:
    plan = pipeline(
        parallel(
            step("test.double", inputs={"number": "one"}, outputs={"result": "two"}),
            step("test.double", inputs={"number": "ten"}, outputs={"result": "twenty"}),
        ),
        step("test.double", inputs={"number": Cel("two + twenty")}),
    )
    answer, _, _ = run_plan(plan, {"one": 1, "ten": 10})
    assert answer.value == 44


def test_what_strands_have_done_is_undone_when_one_fails() -> None:
    undo = step("test.undo", inputs={"word": Value("a")})
    answer, desk, _ = run_plan(parallel(do("a", compensate=undo), do("b", 1.0)), None, fails("b"))
    assert answer.error is not None
    assert desk.done == ["a", "undo a"]


def test_the_first_good_one_wins_a_race_and_the_losers_are_cancelled() -> None:
    answer, desk, took = run_plan(race(do("slow", 100.0), do("bad"), do("quick", 1.0)), None, fails("bad"))
    assert answer.value == {"quick": "quick"}
    assert took < 2
    assert set(desk.ended) == {"slow", "bad", "quick"}
    assert desk.done == ["quick"]


def test_a_race_that_nobody_ends_well_is_lost() -> None:
    answer, _, _ = run_plan(race(do("a"), do("b", 1.0)), None, fails("a", "b"))
    assert answer.error.details["step"] == "a"


def test_a_hedge_runs_once_more_what_takes_too_long() -> None:
    answer, desk, took = run_plan(hedge(do("a", 3.0), after=1.0))
    assert answer.ok
    assert took == pytest.approx(3.0, abs=0.1)
    assert desk.most == 2
    _, desk, _ = run_plan(hedge(do("a", 0.5), after=1.0))
    assert desk.most == 1


def test_a_hedge_runs_once_more_what_failed_at_once() -> None:
    answer, desk, took = run_plan(hedge(do("a", 0.5), after=100.0), None, fails("a", times=1))
    assert answer.ok
    assert took == pytest.approx(1.0, abs=0.1)
    assert desk.ended == ["a", "a"]


def test_a_hedge_without_a_time_goes_by_the_p95_of_what_it_measured() -> None:
    """Given a body that takes 10 s once in many and 0.1 s else, when it was measured, then a slow one is run once more soon."""
    body = step("test.do", inputs={"word": "item", "seconds": Cel("item == 'slow' ? 10.0 : 0.1")})
    plan = loop(hedge(body), over="words", max_iterations=99)
    _, desk, took = run_plan(plan, {"words": ["slow", *["quick"] * 3]})
    assert took == pytest.approx(10.0 + 0.3, abs=0.3)  # nothing is known yet
    assert desk.most == 1
    quick = ["quick"] * 25
    _, desk, took = run_plan(plan, {"words": [*quick, "slow"]})
    assert desk.most == 2
    assert took == pytest.approx(2.5 + 10.0, abs=0.5)


def test_map_reduce_bounds_what_runs_at_once_and_keeps_the_order() -> None:
    numbers = list(range(1000))
    plan = map_reduce("numbers", step("test.double", inputs={"number": "item"}), concurrency=8, chunk=10)
    answer, _, _ = run_plan(plan, {"numbers": numbers})
    assert answer.value == [number * 2 for number in numbers]
    _, desk, _ = run_plan(
        map_reduce("numbers", do("a", 0.1), "count", concurrency=8), {"numbers": numbers[:50]}
    )
    assert desk.most == 8


def test_a_failed_chunk_is_tried_again_alone() -> None:
    plan = map_reduce(
        "words", step("test.do", inputs={"word": "item"}), "merge", concurrency=2, chunk=2, attempts=2
    )
    answer, desk, _ = run_plan(plan, {"words": list("abcdef")}, fails("d", times=1))
    assert answer.value == {word: word for word in "abcdef"}
    assert sorted(desk.ended) == sorted("ab" + "cd" + "cd" + "ef")
    answer, _, _ = run_plan(plan, {"words": list("abcdef")}, fails("d", times=2))
    assert answer.error.details["place"] == "map"


def test_parts_are_reduced_by_themselves() -> None:
    plan = map_reduce(
        "numbers",
        step("test.double", inputs={"number": "item"}),
        step("test.total"),
        partition="item % 2 == 0",
    )
    answer, _, _ = run_plan(plan, {"numbers": [1, 2, 3, 4]})
    assert answer.value == {False: 8, True: 12}


@pytest.mark.parametrize(
    ("how", "value"), [("sum", 12), ("count", 3), ("min", 2), ("max", 6), ("list", [2, 4, 6])]
)
def test_the_reducers(how: str, value: Any) -> None:
    answer, _, _ = run_plan(
        map_reduce("numbers", step("test.double", inputs={"number": "item"}), how), {"numbers": [1, 2, 3]}
    )
    assert answer.value == value


def test_too_many_items_are_refused() -> None:
    answer, desk, _ = run_plan(map_reduce("numbers", do("a"), most=2), {"numbers": [1, 2, 3]})
    assert isinstance(answer.error, TooLarge)
    assert desk.done == []


# ---- circuits ----------------------------------------------------------------------------------------------------------


def test_a_circuit_opens_after_so_many_failures_and_is_tried_after_its_recovery() -> None:
    guarded = retry(
        circuit_breaker(do("a"), key="bank", threshold=3, recovery=30.0),
        attempts=20,
        delay=1.0,
        factor=1.0,
        jitter=0.0,
    )
    answer, desk, took = run_plan(guarded, None, fails("a", times=4))
    assert answer.ok
    # Three failures open it; after 30 s a trial fails and opens it again; after 30 s more one works.
    assert desk.ended == ["a"] * 5
    assert took >= 60


def test_what_the_caller_did_wrong_does_not_count() -> None:
    def prepare(desk: Desk) -> None:
        desk.failing["a"] = 1000
        desk.error = lambda message: Rejected(message)

    plan = loop(
        retry(circuit_breaker(do("a"), key="bank", threshold=2), attempts=1, fallback=do("b")),
        while_="true", max_iterations=5,
    )  # fmt: skip
    _, desk, _ = run_plan(plan, None, prepare)
    assert desk.ended.count("a") == 5


# ---- what does not fit -------------------------------------------------------------------------------------------------


def test_a_plan_that_can_not_run_is_refused_before_its_first_step() -> None:
    plan = pipeline(do("a"), step("test.dubble", inputs={"number": "nmber"}))
    answer, desk, _ = run_plan(plan, {"number": 1})
    assert isinstance(answer.error, ValidationFailed)
    assert answer.error.details["faults"] == ["1: no capability 'test.dubble'; nearest test.double"]
    assert desk.done == []
