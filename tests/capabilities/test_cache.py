"""cache=ttl(...): what is given again, to whom, for how long, and what is not."""

from __future__ import annotations

import io
from typing import Any

import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from packetflow import Context, Module, Node, Reject, Request, capability, counter, ttl
from packetflow.capabilities.equality import NotComparable, identity_of
from packetflow.otp.clock import Clock
from packetflow.wire.errors import NotFound
from tests.node.passing import Passing, gate


class Found(BaseModel):
    number: int
    words: list[str] = []


runs: list[Any] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    runs.clear()


@capability("a.find", cache=ttl(10), effects=[counter("found")])
def find(number: int, far: bool = False) -> Found:
    """Find it, at a price."""
    runs.append(number)
    return Found(number=number, words=["as", "found"])


def test_an_equal_request_is_answered_without_a_run() -> None:
    passing = Passing([find])
    first, second, other = (
        passing("a.find", number=1),
        passing("a.find", number=1),
        passing("a.find", number=2),
    )
    assert (first.value, second.value, other.value.number) == (first.value, first.value, 2)
    assert runs == [1, 2]
    cache = passing.registered[0].cache
    assert cache is not None
    assert (cache.hits, cache.misses) == (1, 2)


def test_a_trace_shows_that_the_answer_came_from_the_cache_and_is_not_among_the_notable() -> None:
    passing = Passing([find])
    passing("a.find", number=1)
    response = passing("a.find", number=1)
    spans = passing.traces.as_data(response.trace)["spans"]
    assert [span["kind"] for span in spans] == ["session", "contract", "cache", "contract"]
    assert not response.trace.began
    assert list(passing.traces._notable) == []
    passing.routes.totals()
    assert passing.registered[0].calls == 2


def test_a_default_that_is_given_is_the_same_request() -> None:
    passing = Passing([find])
    passing("a.find", number=1)
    passing("a.find", far=False, number=1)
    passing("a.find", number="1")  # the contract makes it 1
    assert runs == [1]


def test_an_answer_grows_old_after_its_seconds() -> None:
    now = [1000.0]
    passing = Passing([find], clock=Clock(lambda: now[0]))
    passing("a.find", number=1)
    now[0] += 9.9
    passing("a.find", number=1)
    now[0] += 0.2
    passing("a.find", number=1)
    assert runs == [1, 1]


def test_the_least_recently_used_goes_first() -> None:
    @capability("a.few", cache=ttl(10, max_entries=2))
    def few(number: int) -> int:
        """Keep two."""
        runs.append(number)
        return number

    passing = Passing([few])
    for number in (1, 2, 1, 3, 1, 2):
        passing("a.few", number=number)
    assert runs == [1, 2, 3, 2]
    cache = passing.registered[0].cache
    assert cache is not None
    assert len(cache) == 2


def test_the_nodes_limit_holds_where_a_capability_says_none() -> None:
    with Node(capabilities=[find], log_stream=io.StringIO()) as node:
        found = node.routes.catalogue.find("a.find")
        assert found is not None
        assert found.cache is not None
        assert found.cache.max_entries == node.config.limits.cache == 1000


def test_scopes_of_authority_do_not_see_each_others_answers() -> None:
    with Node(capabilities=[find], log_stream=io.StringIO()) as node:
        sessions = [
            node.session("ana"),
            node.session("ben"),
            node.session("ana", tenant="acme"),
            node.session("ana", ["a.*"]),
        ]
        for session in [*sessions, *sessions]:
            node.call("a.find", {"number": 7}, session=session)
        assert runs == [7] * 4


def test_a_public_answer_is_shared_by_all() -> None:
    @capability("a.public", cache=ttl(10, shared=True))
    def public(number: int) -> int:
        """The same for everybody."""
        runs.append(number)
        return number

    with Node(capabilities=[public], log_stream=io.StringIO()) as node:
        for who in ("ana", "ben"):
            node.call("a.public", {"number": 7}, session=node.session(who))
    assert runs == [7]


def test_rights_are_asked_for_before_the_cache() -> None:
    @capability("a.public", cache=ttl(10, shared=True))
    def public() -> int:
        """The same for everybody who may."""
        return 1

    with Node(capabilities=[public], log_stream=io.StringIO()) as node:
        node.call("a.public")
        refused = node.request("a.public", session=node.session("eve", ["b.*"]))
        assert refused.error is not None
        assert refused.error.code == "forbidden"


def test_modules_and_the_contract_stand_before_and_behind_the_cache() -> None:
    class Refuses(Module):
        def handle_request(self, request: Request, context: Context) -> Any:
            return Reject("no", "not now") if self.no else None

    module = Refuses()
    module.no = False  # type: ignore[attr-defined]
    passing = Passing([find], [gate(module, "refuses")])
    passing("a.find", number=1)
    assert passing("a.find", number=1).ok
    module.no = True  # type: ignore[attr-defined]
    refused = passing("a.find", number=1)
    assert refused.error is not None
    assert refused.error.code == "rejected"


@pytest.mark.parametrize("wrong", ["error", "lie", "crash"])
def test_only_good_answers_are_kept(wrong: str) -> None:
    @capability("a.bad", cache=ttl(10))
    def bad() -> int:
        """Fail somehow."""
        runs.append(1)
        if wrong == "error":
            raise NotFound("not there")
        if wrong == "crash":
            raise KeyError("x")
        return "no number"  # type: ignore[return-value]

    passing = Passing([bad])
    codes = [response.error.code for response in (passing("a.bad"), passing("a.bad")) if response.error]
    assert len(codes) == 2
    assert set(codes) <= {"not_found", "execution_failed", "contract_violated"}
    assert runs == [1, 1]


def test_whoever_changes_an_answer_changes_nobody_elses() -> None:
    passing = Passing([find])
    for _ in range(3):
        answer = passing("a.find", number=1).value
        assert answer.words == ["as", "found"]
        answer.words.append("changed")


def test_effects_run_for_a_hit_only_if_they_are_for_every_answer() -> None:
    effects = [counter("once"), counter("always", on_every_answer=True)]

    @capability("a.told", cache=ttl(10), effects=effects)
    def tell() -> int:
        """Tell."""
        return 1

    passing = Passing([tell])
    passing("a.told")
    passing("a.told")
    assert passing.door.effects.metrics.totals() == {"once": 1, "always": 2}


def test_the_key_may_be_some_of_the_fields_or_made_of_them() -> None:
    @capability("a.by_name", cache=ttl(10, key=["city"]))
    def by_name(city: str, note: str = "") -> str:
        """Depends on the city alone."""
        runs.append(note)
        return city

    @capability("a.by_function", cache=ttl(10, key=lambda fields: fields["city"].lower()))
    def by_function(city: str) -> str:
        """In any case."""
        runs.append(city)
        return city

    passing = Passing([by_name, by_function])
    passing("a.by_name", city="Bonn", note="1")
    passing("a.by_name", city="Bonn", note="2")
    passing("a.by_function", city="Bonn")
    passing("a.by_function", city="BONN")
    passing("a.by_function", city="Köln")
    assert runs == ["1", "Bonn", "Köln"]


def test_a_key_function_that_fails_is_the_capabilitys_own_fault() -> None:
    @capability("a.bad_key", cache=ttl(10, key=lambda fields: fields["nowhere"]))
    def bad_key(city: str) -> str:
        """Never runs."""
        raise AssertionError("not reached")

    failed = Passing([bad_key])("a.bad_key", city="Bonn").error
    assert failed is not None
    assert failed.code == "execution_failed"


class Odd:
    """Nobody can say whether two are the same, and none can be copied."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return True

    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("no copy of this")


def test_a_payload_of_which_no_key_can_be_made_is_run_each_time() -> None:
    @capability("a.any", cache=ttl(10))
    def anything(value: Any) -> int:
        """Take whatever it is."""
        runs.append("any")
        return 1

    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    passing = Passing([anything])
    for value in (Odd(), deep):
        for _ in range(2):
            assert passing("a.any", value=value).value == 1
    assert len(runs) == 4
    registered = passing.routes.catalogue.find("a.any")
    assert registered is not None
    assert registered.cache is not None
    assert (len(registered.cache), registered.cache.skipped, registered.cache.misses) == (0, 4, 0)


def test_an_answer_that_can_not_be_copied_is_given_and_not_kept() -> None:
    @capability("a.odd", cache=ttl(10))
    def odd() -> Any:
        """Give what can't be copied."""
        runs.append("odd")
        return Odd()

    passing = Passing([odd])
    for _ in range(2):
        assert type(passing("a.odd").value) is Odd
    assert runs == ["odd", "odd"]


def test_an_answer_that_refers_to_itself_is_kept_as_any() -> None:
    @capability("a.ring", cache=ttl(10))
    def ring() -> Any:
        """Give a list that holds itself."""
        runs.append("ring")
        made: list[Any] = [1]
        made.append(made)
        return made

    passing = Passing([ring])
    first, second = passing("a.ring").value, passing("a.ring").value
    assert second[1] is second
    assert first is not second
    assert runs == ["ring"]


# ---- equal requests at once ---------------------------------------------------------------------------------------------


def test_of_equal_requests_at_once_one_runs_and_the_others_get_its_answer() -> None:
    go = gevent.event.Event()

    @capability("a.slow", cache=ttl(10))
    def slow(number: int) -> int:
        """Wait."""
        runs.append(number)
        go.wait()
        return number

    passing = Passing([slow])
    asking = [gevent.spawn(passing, "a.slow", number=number) for number in (1, 1, 1, 2)]
    gevent.idle()
    gevent.sleep(0)
    assert sorted(runs) == [1, 2]
    go.set()
    gevent.joinall(asking, timeout=5)
    assert [one.value.value for one in asking] == [1, 1, 1, 2]
    cache = passing.registered[0].cache
    assert cache is not None
    assert (cache.misses, cache.joined, cache._flights, len(passing.surroundings.waits)) == (2, 2, {}, 0)


def test_who_waits_for_an_equal_request_waits_at_most_until_its_own_deadline() -> None:
    go = gevent.event.Event()

    @capability("a.slow", cache=ttl(10))
    def slow() -> int:
        """Wait."""
        go.wait()
        return 1

    passing = Passing([slow])
    first = gevent.spawn(passing, "a.slow")
    gevent.sleep(0)
    late = passing("a.slow", timeout=0.05)
    assert late.error is not None
    assert late.error.code == "timeout"
    go.set()
    assert first.get(timeout=5).value == 1


def test_when_the_one_that_runs_fails_another_runs() -> None:
    go = gevent.event.Event()

    @capability("a.slow", cache=ttl(10))
    def slow() -> int:
        """The first fails."""
        runs.append(1)
        go.wait()
        if len(runs) == 1:
            raise NotFound("not yet")
        return len(runs)

    passing = Passing([slow])
    asking = [gevent.spawn(passing, "a.slow") for _ in range(3)]
    gevent.sleep(0)
    go.set()
    gevent.joinall(asking, timeout=5)
    assert [one.value.ok for one in asking] == [False, True, True]
    assert len(runs) == 2


def test_when_the_one_that_runs_is_cancelled_another_runs() -> None:
    go = gevent.event.Event()

    @capability("a.slow", cache=ttl(10))
    def slow() -> int:
        """Wait."""
        runs.append(1)
        go.wait()
        return len(runs)

    passing = Passing([slow])
    first, second = gevent.spawn(passing, "a.slow"), gevent.spawn(passing, "a.slow")
    gevent.sleep(0)
    assert passing.door.cancel(first)
    assert first.get(timeout=5).error.code == "cancelled"
    go.set()
    assert second.get(timeout=5).value == 2


def test_a_run_that_asks_for_itself_is_refused_at_once() -> None:
    @capability("a.self", cache=ttl(10))
    def ask_self(context: Context) -> int:
        """Ask the same of itself."""
        answer: int = context.call("a.self")
        return answer

    error = Passing([ask_self])("a.self").error
    assert error is not None
    assert error.code == "conflict"
    assert error.details["reason"] == "deadlock"
    assert error.details["chain"] == ["a.self", "a.self"]


def test_two_runs_that_wait_for_each_other_are_refused_at_once() -> None:
    both = gevent.event.Event()
    begun: list[str] = []

    def begin(name: str) -> None:
        begun.append(name)
        if len(begun) == 2:
            both.set()
        both.wait()

    @capability("a.left", cache=ttl(10))
    def left(context: Context) -> int:
        """Ask right."""
        begin("left")
        answer: int = context.call("a.right")
        return answer

    @capability("a.right", cache=ttl(10))
    def right(context: Context) -> int:
        """Ask left."""
        begin("right")
        answer: int = context.call("a.left")
        return answer

    passing = Passing([left, right])
    asking = [gevent.spawn(passing, name) for name in ("a.left", "a.right")]
    gevent.joinall(asking, timeout=5)
    codes = [one.value.error.code for one in asking]
    assert codes == ["conflict", "conflict"]
    assert len(passing.surroundings.waits) == 0


# ---- equality -----------------------------------------------------------------------------------------------------------

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=80)
    | st.binary(max_size=80)
    | st.dates()
    | st.decimals(allow_nan=False)
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_two_values_have_one_identity_only_if_nobody_can_tell_them_apart(left: Any, right: Any) -> None:
    if identity_of(left) == identity_of(right):
        assert repr(left) == repr(right)
    hash(identity_of(left))


@pytest.mark.parametrize(
    "alike", [[1, True, 1.0, "1", b"1"], [0.0, -0.0], [[1], (1,)], [None, "None"], ["x" * 65, "x" * 66]]
)
def test_what_python_may_take_for_equal_is_told_apart(alike: list[Any]) -> None:
    assert len({identity_of(value) for value in alike}) == len(alike)


def test_what_nobody_can_compare_is_no_key() -> None:
    class Odd:
        __hash__ = None  # type: ignore[assignment]

    with pytest.raises(NotComparable):
        identity_of({"a": Odd()})


PRINCIPALS = st.sampled_from(["ana", "ben", "('ana', '')", ""])
TENANTS = st.sampled_from(["", "acme", "ana"])
RIGHTS = st.sampled_from([("*",), ("a.*",), ("a.*", "b.*"), ("a.who",)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(PRINCIPALS, TENANTS, RIGHTS, st.integers(0, 2)), min_size=2, max_size=20))
def test_no_order_of_requests_gives_one_scope_the_answer_of_another(
    asked: list[tuple[str, str, tuple[str, ...], int]],
) -> None:
    @capability("a.who", cache=ttl(1000, max_entries=4))
    def who(number: int, context: Context) -> tuple[str, str, int]:
        """Who asked."""
        return context.principal, context.tenant, number

    from packetflow.security.access import Session

    passing = Passing([who])
    for principal, tenant, rights, number in asked:
        session = Session(principal, passing.routes.grants(rights), tenant=tenant)
        answer = passing.door.request("a.who", {"number": number}, session)
        assert answer.value == (principal, tenant, number)
