"""The one door, with modules that answer everything a hook may answer (design rulings 1 to 3)."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
from gevent.event import Event
from pydantic import BaseModel

from packetflow import Context, Intercept, Module, Optimize, Reject, Respond, Transform, capability, counter
from tests.node.passing import Passing, gate

entered: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    entered.clear()


class Sum(BaseModel):
    total: int
    note: str | None = None


@capability("sum.add", effects=[counter("sums")])
def add(a: int, b: int = 1) -> Sum:
    """Add two numbers."""
    entered.append((a, b))
    return Sum(total=a + b, note="plain")


@capability("sum.double")
def double(a: int) -> Sum:
    """Double a number."""
    return Sum(total=2 * a)


@capability("sum.lie")
def lie() -> int:
    """Promise a number and give a secret."""
    return "hunter2"  # type: ignore[return-value]


@capability("sum.crash")
def crash() -> int:
    """Raise."""
    raise KeyError("secret detail")


@capability("sum.exit")
def leave() -> int:
    """Ask the process to end."""
    raise SystemExit(3)


@capability("sum.twice")
def twice(a: int, context: Context) -> int:
    """Ask another capability on the caller's behalf."""
    return int(context.call("sum.add", {"a": a, "b": a}).total)


class Recorder(Module):
    """Notes what it sees."""

    def __init__(self, log: list[Any] | None = None) -> None:
        self.seen = log if log is not None else []

    def handle_request(self, request: Any, context: Context) -> Any:
        self.seen.append(("request", request.capability, dict(request.payload)))

    def handle_response(self, response: Any, context: Context) -> Any:
        self.seen.append(("response", response.value if response.ok else response.error.code))


def module(**hooks: Any) -> Module:
    """A module with these hooks."""

    def method(hook: Any) -> Any:
        return lambda self, *arguments: hook(*arguments)

    made: Module = type("Made", (Module,), {name: method(hook) for name, hook in hooks.items()})()
    return made


def watcher(log: list[Any], name: str) -> Module:
    return module(handle_response=lambda response, context: log.append(name))


# ---- the usual way ---------------------------------------------------------------------------------------------------


def test_a_request_gives_the_value_that_the_contract_allows() -> None:
    response = Passing([add])("sum.add", a=2, b=3)
    assert response.ok
    assert response.value == Sum(total=5, note="plain")


def test_defaults_of_the_function_are_defaults_of_the_contract() -> None:
    assert Passing([add])("sum.add", a=2).value.total == 3


def test_modules_see_requests_in_ascending_and_responses_in_descending_priority() -> None:
    log: list[Any] = []
    gates = [
        gate(
            module(
                handle_request=lambda r, c, n=n: log.append(f"> {n}"),
                handle_response=lambda r, c, n=n: log.append(f"< {n}"),
            ),
            str(n),
            n,
        )
        for n in (150, 100, 200)
    ]
    passing = Passing([add], gates)
    response = passing("sum.add", a=1)
    assert log == ["> 100", "> 150", "> 200", "< 200", "< 150", "< 100"]
    assert passing.stages(response) == [
        ("request", "100"), ("request", "150"), ("request", "200"), ("run", "sum.add@1.0.0"),
        ("response", "200"), ("response", "150"), ("response", "100"),
    ]  # fmt: skip


def test_modules_see_the_contracts_parsed_values() -> None:
    recorder = Recorder()
    Passing([add], [gate(recorder, "r")])("sum.add", a="2")
    assert recorder.seen[0] == ("request", "sum.add", {"a": 2, "b": 1})


def test_a_continued_request_is_the_same_object_for_the_next_module() -> None:
    seen: list[Any] = []
    gates = [gate(module(handle_request=lambda r, c: seen.append(r)), name) for name in "ab"]
    Passing([add], gates)("sum.add", a=1)
    assert seen[0] is seen[1]


def test_a_module_sees_only_what_it_matches() -> None:
    recorder = Recorder()
    passing = Passing([add, double], [gate(recorder, "r", match=["sum.d*"])])
    passing("sum.add", a=1)
    passing("sum.double", a=1)
    assert [entry[1] for entry in recorder.seen if entry[0] == "request"] == ["sum.double"]


def test_one_trace_has_spans_for_resolve_contract_modules_run_and_effects() -> None:
    passing = Passing([add], [gate(Recorder(), "r")])
    response = passing("sum.add", a=1)
    data = passing.traces.as_data(response.trace)
    assert [span["where"] for span in data["spans"]] == [
        "resolve", "contract in", "r", "sum.add@1.0.0", "contract out", "effects", "r",
    ]  # fmt: skip
    assert sum(span["self"] for span in data["spans"]) == pytest.approx(data["duration"])
    assert data["outcome"] == "ok"
    assert len(data["id"]) == 32


def test_declared_effects_run_after_a_good_answer() -> None:
    passing = Passing([add])
    passing("sum.add", a=1)
    passing("sum.add", a="x")
    assert passing.door.effects.metrics.totals() == {"sums": 1}


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_an_unknown_capability_offers_the_nearest() -> None:
    error = Passing([add, double])("sum.ad").error
    assert error is not None
    assert error.code == "not_found"
    assert error.details["nearest"][0] == "sum.add"
    assert "nearest: sum.add" in str(error)


def test_wrong_fields_are_refused_with_a_path_each_before_the_body_runs() -> None:
    error = Passing([add])("sum.add", {"a": "x", "c": 1}).error
    assert error is not None
    assert error.code == "validation_failed"
    assert {fault["path"] for fault in error.details["faults"]} == {"a", "c"}
    assert entered == []


@pytest.mark.parametrize("payload", [[1, 2], "text", 7])
def test_a_payload_that_is_no_mapping_is_refused(payload: Any) -> None:
    error = Passing([add])("sum.add", payload).error
    assert error is not None
    assert error.code == "validation_failed"


def test_what_is_not_granted_is_forbidden_and_not_offered() -> None:
    passing = Passing([add, double], grants=["sum.double"])
    error = passing("sum.add", a=1).error
    assert error is not None
    assert error.code == "forbidden"
    assert passing("sum.ad").error.details["nearest"] == ["sum.double"]  # type: ignore[union-attr]
    assert entered == []


def test_a_wrong_answer_is_the_capabilitys_own_fault_and_leaks_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    passing = Passing([lie])
    error = passing("sum.lie").error
    assert error is not None
    assert error.code == "contract_violated"
    assert "hunter2" not in str(error.as_dict())
    assert "contract_violated" in str(passing.registered[0].last_error)


def test_a_crash_of_a_capability_is_a_typed_error_without_its_detail() -> None:
    error = Passing([crash])("sum.crash").error
    assert error is not None
    assert error.code == "execution_failed"
    assert "secret detail" not in str(error.as_dict())


def test_system_exit_out_of_a_capability_is_its_crash() -> None:
    error = Passing([leave])("sum.exit").error
    assert error is not None
    assert error.code == "execution_failed"


@pytest.fixture
def held() -> Event:
    return Event()


@pytest.fixture
def full(held: Event) -> Any:
    """A door for two at once and two in the queue, with two that wait inside."""

    @capability("sum.wait")
    def wait(a: int = 0) -> int:
        """Wait."""
        if not held.is_set():
            held.wait()
        entered.append(a)
        return a

    passing = Passing([wait], limit=2, queue=2)
    inside = [gevent.spawn(passing, "sum.wait") for _ in range(2)]
    gevent.sleep(0)
    yield passing
    held.set()
    assert [one.get(timeout=5).value for one in inside] == [0, 0]
    assert passing("sum.wait").ok
    admission = passing.door.admission
    assert (passing.door.in_flight, len(admission), admission._reserved) == ({}, 0, 0)


def test_what_has_no_room_waits_in_order_and_more_is_overloaded(full: Passing, held: Event) -> None:
    queued = [gevent.spawn(full, "sum.wait", a=number) for number in (1, 2)]
    gevent.sleep(0)
    error = full("sum.wait").error
    assert error is not None
    assert (error.code, error.retry_after) == ("overloaded", 0.1)
    held.set()
    assert [one.get(timeout=5).value for one in queued] == [1, 2]
    assert entered == [0, 0, 1, 2]


def test_who_waits_for_room_leaves_at_its_deadline_when_cancelled_and_when_killed(full: Passing) -> None:
    assert full("sum.wait", timeout=0.02).error.code == "timeout"  # type: ignore[union-attr]
    cancelled = gevent.spawn(full, "sum.wait", a=1)
    killed = gevent.spawn(full, "sum.wait", a=2)
    gevent.sleep(0)
    assert full.door.cancel(cancelled)
    killed.kill()
    assert cancelled.get(timeout=5).error.code == "cancelled"
    assert len(full.door.admission) == 0


def test_a_place_that_its_heir_can_not_take_any_more_goes_to_the_next(full: Passing, held: Event) -> None:
    heirs = [gevent.spawn(full, "sum.wait", a=number) for number in (1, 2)]
    gevent.sleep(0)
    held.set()
    heirs[0].kill(block=False)  # scheduled with the end of those inside, before its own turn
    assert heirs[1].get(timeout=5).value == 2


def test_the_operator_and_requests_made_on_the_way_are_not_kept_waiting(full: Passing) -> None:
    operator = full.door.open_session("admin", "test", operator=True)
    assert full.door.request("sum.none", {}, operator).error.code == "not_found"  # type: ignore[union-attr]
    inner = next(iter(full.door.in_flight.values()))
    assert inner.request("sum.none").error.code == "not_found"  # type: ignore[union-attr]


@pytest.mark.parametrize("id", ["sum.add", "sum.double", "sum.crash"])
def test_an_error_that_is_kept_holds_no_frame_and_so_no_payload(id: str) -> None:
    guard = module(handle_request=lambda request, context: 1 / 0)
    gates = [gate(guard, "guard", match=["sum.double"])]
    passing = Passing([add, double, crash], gates, grants=["sum.[dc]*"])
    for _ in range(3):
        error = passing(id, {"a": 1} if id != "sum.crash" else {}).error
        assert error is not None
        assert (error.__traceback__, error.__context__, error.__cause__) == (None, None, None)


# ---- what modules answer ---------------------------------------------------------------------------------------------


def test_intercept_reaches_later_modules_and_the_capability_and_is_told() -> None:
    recorder = Recorder()
    changer = module(handle_request=lambda request, context: Intercept(request.with_payload(a=40)))
    passing = Passing([add], [gate(changer, "changer", 1), gate(recorder, "r", 2)])
    response = passing("sum.add", a=1, b=2)
    assert response.value.total == 42
    assert recorder.seen[0][2] == {"a": 40, "b": 2}
    notes = passing.traces.as_data(response.trace)["spans"][2]["notes"]
    assert notes == [{"what": "changed", "detail": [{"path": "a", "before": "1", "after": "40"}]}]


def test_an_intercepted_request_is_validated_again() -> None:
    changer = module(handle_request=lambda request, context: Intercept(request.with_payload(a="many")))
    error = Passing([add], [gate(changer, "changer")])("sum.add", a=1).error
    assert error is not None
    assert error.code == "validation_failed"
    assert error.details["module"] == "changer"
    assert entered == []


def test_a_rewritten_capability_is_shown_to_the_modules_that_match_it_now() -> None:
    log: list[Any] = []
    sees_double = module(handle_request=lambda request, context: log.append(request.capability))
    rewriter = module(
        handle_request=lambda request, context: (
            Intercept(request.without("b").with_capability("sum.double"))
            if request.capability == "sum.add"
            else None
        )
    )
    gates = [
        gate(sees_double, "early", 1, ["sum.double"]),
        gate(rewriter, "rewriter", 2),
        gate(sees_double, "late", 3),
    ]
    passing = Passing([add, double], gates)
    response = passing("sum.add", a=21)
    assert response.value.total == 42
    assert log == [
        "sum.double",
        "sum.double",
    ]  # `early` was passed already, and still sees what it has become
    kinds = passing.stages(response)
    assert [where for kind, where in kinds if kind == "request"] == ["rewriter", "early", "rewriter", "late"]


def test_a_rewrite_is_authorised_as_what_it_has_become() -> None:
    rewriter = module(handle_request=lambda request, context: Intercept(request.with_capability("sum.add")))
    error = Passing([add, double], [gate(rewriter, "rewriter")], grants=["sum.double"])(
        "sum.double", a=1
    ).error
    assert error is not None
    assert error.code == "forbidden"
    assert error.details["module"] == "rewriter"
    assert entered == []


def test_a_rewrite_loop_is_ended() -> None:
    @capability("sum.third")
    def third(a: int) -> Sum:
        """A third."""
        return Sum(total=a)

    @capability("sum.fourth")
    def fourth(a: int) -> Sum:
        """A fourth."""
        return Sum(total=a)

    ring = {
        "sum.double": "sum.third",
        "sum.third": "sum.fourth",
        "sum.fourth": "sum.fifth",
        "sum.fifth": "sum.double",
    }

    @capability("sum.fifth")
    def fifth(a: int) -> Sum:
        """A fifth."""
        return Sum(total=a)

    spinner = module(
        handle_request=lambda request, context: Intercept(request.with_capability(ring[request.capability]))
    )
    error = Passing([double, third, fourth, fifth], [gate(spinner, "spinner")])("sum.double", a=1).error
    assert error is not None
    assert error.code == "rejected"
    assert error.details["reason"] == "rewrite_loop"


def test_reject_gives_one_typed_error_naming_the_module_and_stops_there() -> None:
    recorder = Recorder()
    before = Recorder()
    guard = module(
        handle_request=lambda request, context: Reject("over_limit", "too much", details={"limit": 1})
    )
    passing = Passing([add], [gate(before, "before", 1), gate(guard, "guard", 2), gate(recorder, "after", 3)])
    response = passing("sum.add", a=1)
    assert response.error is not None
    assert response.error.as_dict() == {
        "code": "rejected",
        "message": "too much",
        "details": {"limit": 1, "reason": "over_limit", "module": "guard"},
    }
    assert recorder.seen == []
    assert entered == []
    assert before.seen[-1] == ("response", "rejected")  # who was entered sees the response
    assert passing.stages(response) == [("request", "before"), ("request", "guard"), ("response", "before")]


def test_respond_answers_without_running_and_is_checked_against_the_contract() -> None:
    log: list[Any] = []
    cache = module(
        handle_request=lambda request, context: Respond({"total": 7}),
        handle_response=lambda r, c: log.append("cache"),
    )
    gates = [
        gate(watcher(log, "first"), "first", 1),
        gate(cache, "cache", 2),
        gate(watcher(log, "last"), "last", 3),
    ]
    passing = Passing([add], gates)
    response = passing("sum.add", a=1)
    assert response.value == Sum(total=7)
    assert entered == []
    assert log == ["first"]  # those before it; not itself, and not those behind
    liar = module(handle_request=lambda request, context: Respond({"total": "no"}))
    assert Passing([add], [gate(liar, "liar")])("sum.add", a=1).error.code == "internal"  # type: ignore[union-attr]


def test_transform_changes_the_answer_and_is_checked_against_the_contract() -> None:
    changer = module(handle_response=lambda response, context: Transform(response.with_value({"total": 1})))
    assert Passing([add], [gate(changer, "c")])("sum.add", a=5).value == Sum(total=1)
    wrong = module(handle_response=lambda response, context: Transform(response.with_value({"total": "x"})))
    passing = Passing([add], [gate(wrong, "wrong", on_error="skip")])
    assert passing("sum.add", a=5, b=1).value.total == 6  # the value before it stays


def test_an_error_never_becomes_a_value() -> None:
    fixer = module(
        handle_response=lambda response, context: Transform(
            type(response)({"total": 1}, None, response.trace)
        )
    )
    error = Passing([add], [gate(fixer, "fixer", on_error="skip")])("sum.add", a="x").error
    assert error is not None
    assert error.code == "validation_failed"


def test_errors_pass_the_response_hooks_of_the_entered_too() -> None:
    recorder = Recorder()
    Passing([crash], [gate(recorder, "r")])("sum.crash")
    assert recorder.seen[-1] == ("response", "execution_failed")


def test_without_masks_required_fields_and_removes_optional_ones() -> None:
    hider = module(handle_response=lambda response, context: Transform(response.without("note")))
    assert Passing([add], [gate(hider, "hider")])("sum.add", a=1).value.note is None


def test_a_plan_passes_the_plan_hooks_and_the_engine() -> None:
    planner = module(handle_request=lambda request, context: Intercept(request.with_plan(["step"])))
    optimiser = module(handle_composition=lambda plan, context: Optimize([*plan, "better"]))
    passing = Passing([add], [gate(planner, "planner", 1), gate(optimiser, "optimiser", 2)])
    assert passing("sum.add", a=1).error.code == "unavailable"  # type: ignore[union-attr]
    passing.door.engine = lambda plan, scope, context: {"total": len(plan)}
    response = passing("sum.add", a=1)
    assert response.value.total == 2
    assert ("plan", "optimiser") in passing.stages(response)


def test_an_unknown_hint_is_refused_and_a_known_one_passes() -> None:
    hinter = module(handle_request=lambda request, context: Intercept(request.with_hints(zone="ai")))
    passing = Passing([add], [gate(hinter, "hinter")])
    assert passing("sum.add", a=1).error.code == "validation_failed"  # type: ignore[union-attr]
    passing.door.hints["zone"] = str
    assert passing("sum.add", a=1).ok


# ---- requests made on the way ------------------------------------------------------------------------------------------


def test_a_request_made_by_a_capability_passes_the_chain_with_its_parent_set() -> None:
    recorder = Recorder()
    passing = Passing([add, twice], [gate(recorder, "r")])
    response = passing("sum.twice", a=4)
    assert response.value == 8
    assert [entry[1] for entry in recorder.seen if entry[0] == "request"] == ["sum.twice", "sum.add"]
    children = passing.traces.as_data(response.trace)["children"]
    assert [child["capability"] for child in children] == ["sum.add"]


def test_a_module_of_scope_edge_sees_only_the_outermost_request() -> None:
    recorder = Recorder()
    Passing([add, twice], [gate(recorder, "r", scope="edge")])("sum.twice", a=4)
    assert [entry[1] for entry in recorder.seen if entry[0] == "request"] == ["sum.twice"]


def test_a_request_made_by_a_hook_skips_the_modules_on_its_hook_stack() -> None:
    seen: list[str] = []

    class Asks(Module):
        def handle_request(self, request: Any, context: Context) -> Any:
            seen.append(request.capability)
            assert context.call("sum.double", {"a": 1}).total == 2

    other = Recorder()
    Passing([add, double], [gate(Asks(), "asks", 1), gate(other, "other", 2)])("sum.add", a=1)
    assert seen == ["sum.add"]
    assert [entry[1] for entry in other.seen if entry[0] == "request"] == ["sum.double", "sum.add"]


def test_rights_do_not_grow_on_the_way() -> None:
    error = Passing([add, twice], grants=["sum.twice"])("sum.twice", a=1).error
    assert error is not None
    assert error.code == "forbidden"
