"""Traces that outlive the node: stored beside the requests' way, asked for by a filter that means the same in memory."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import gevent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from packetflow import Context, Module, Node, Request, capability
from packetflow.node.config import NodeConfig
from packetflow.node.trace_keeping import GROUP
from packetflow.node.trace_search import FIELDS, TraceSearch
from packetflow.storage.database import Database
from packetflow.storage.traces import StoredTraces, TraceRow
from packetflow.telemetry import traces as telemetry
from packetflow.wire.errors import Conflict, NotFound, ValidationFailed


@capability("order.place")
def place(n: int, context: Context) -> int:
    """Place."""
    if n < 0:
        raise Conflict("below zero")
    return n + int(context.call("order.check", {"n": n}))


@capability("order.check")
def check(n: int) -> int:
    """Check."""
    return 1


@capability("order.watch")
def watch(n: int) -> Iterator[int]:
    """Watch."""
    yield from range(n)


def config(folder: Path, **traces: Any) -> NodeConfig:
    off = {"enabled": False}
    return NodeConfig.model_validate(
        {"node": {"data_folder": folder}, "tcp": off, "http": off, "traces": {"store": "all", **traces}}
    )


def begun(folder: Path, **traces: Any) -> Node:
    node = Node(config(folder, **traces), capabilities=[place, check, watch], log_stream=io.StringIO())
    return node.start()


def until(condition: Callable[[], Any]) -> Any:
    with gevent.Timeout(10):
        while not (found := condition()):
            gevent.sleep(0.002)
    return found


def test_traces_outlive_the_node_with_spans_and_what_they_asked_for(tmp_path: Path) -> None:
    node = begun(tmp_path)
    ana = node.session("ana")
    for n in (1, 2, -1):
        node.request("order.place", {"n": n}, session=ana)
    assert list(node.call("order.watch", {"n": 3})) == [0, 1, 2]
    before = node.recent(10)
    full = node.trace(before[1]["id"])
    node.stop()
    node = begun(tmp_path)
    try:
        assert node.recent(10) == before
        assert [row["outcome"] for row in before] == ["ok", "conflict", "ok", "ok"]
        after = node.trace(before[1]["id"][:12])
        assert {**after, "started": 0} == {**full, "started": 0}
        [child] = node.trace(before[2]["id"])["children"]
        assert (child["capability"], child["outcome"]) == ("order.check", "ok")
        assert len(node.recent(10, {"nested": True})) == 6
        with pytest.raises(NotFound):
            node.trace("0" * 32)
    finally:
        node.stop()


def test_by_default_those_that_failed_are_stored_and_a_node_without_any_makes_no_file(tmp_path: Path) -> None:
    node = begun(tmp_path, store="failed")
    node.call("order.place", {"n": 1})
    node.stop()
    assert not (tmp_path / "node.db").exists()
    node = begun(tmp_path, store="failed")
    node.request("order.place", {"n": -1})
    node.stop()
    node = begun(tmp_path, store="failed")
    [row] = node.recent(10)
    node.stop()
    assert row["outcome"] == "conflict"


def test_the_filter_asks_by_capability_user_time_duration_outcome_and_error(tmp_path: Path) -> None:
    node = begun(tmp_path)
    start = datetime.now(UTC).isoformat()
    for who, n in (("ana", 1), ("bo", -1), ("ana", -2), ("bo", 3)):
        node.request("order.place", {"n": n}, session=node.session(who))
    node.stop()
    for node in (begun(tmp_path),):  # another life: nothing of it is in memory
        try:
            asked: list[tuple[dict[str, Any], int]] = [
                ({"principal": "ana"}, 2),
                ({"principal": "?o", "outcome": "conflict"}, 1),
                ({"outcome": "error"}, 2),
                ({"capability": "order.*", "since": start}, 4),
                ({"until": start}, 0),
                ({"longer": 10.0}, 0),
                ({"shorter": 10.0}, 4),
                ({"text": "BELOW"}, 2),
                ({"where": "principal == 'ana' && outcome != 'ok'"}, 1),
                ({"where": f"started > timestamp('{start}') && error.contains('zero')"}, 2),
                ({"where": "!(principal in ['ana', 'cy'])", "outcome": "ok"}, 1),
                ({"where": "!error.contains('zero') && started > '2026-01-01T00:00:00Z'"}, 2),
                ({"where": "text('ORDER conflict')"}, 2),
                ({"where": "duration < duration('1h')"}, 4),
            ]
            for filter_, count in asked:
                assert len(node.recent(100, filter_)) == count, filter_  # type: ignore[arg-type]
        finally:
            node.stop()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"where": "principal =="}, "expected a value"),
        ({"where": "principl == 'ana'"}, "nearest principal"),
        ({"where": "size(principal) > 3"}, "a filter can't ask this"),
        ({"where": "duration > 'long'"}, "that is no number"),
        ({"where": "started > 'soon'"}, "is no time"),
        ({"where": "duration.startsWith('1')"}, "is a number, which has no startsWith"),
        ({"where": "error < null"}, "null is neither less nor greater"),
        ({"where": "id.matches('a')"}, "a filter can't ask this"),
        ({"where": "'; DROP TABLE traces; --"}, "a string that does not end"),
        ({"where": "duration + 1 > 2"}, "a filter can't ask this"),
        ({"since": "yesterday"}, "is no time"),
    ],
)
def test_what_can_not_be_asked_is_refused_with_its_place(tmp_path: Path, asked: Any, told: str) -> None:
    with pytest.raises(ValidationFailed, match=told):
        TraceSearch(asked)


words = st.sampled_from(["a", "ab", "b%", "B", "é", "a'b", ""])
texts = st.sampled_from(["principal", "capability", "error", "tenant"])
conditions = st.recursive(
    st.one_of(
        st.tuples(texts, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), words).map(
            lambda t: f'{t[0]} {t[1]} "{t[2]}"'
        ),
        st.tuples(st.sampled_from(["==", "!=", "<", ">="]), st.sampled_from(["0.5", "1", "-1"])).map(
            lambda t: f"duration {t[0]} {t[1]}"
        ),
        st.tuples(texts, st.sampled_from(["startsWith", "endsWith", "contains"]), words).map(
            lambda t: f'{t[0]}.{t[1]}("{t[2]}")'
        ),
        st.tuples(texts, st.lists(words, max_size=3)).map(
            lambda t: f"{t[0]} in [{', '.join(chr(34) + w + chr(34) for w in t[1])}]"
        ),
        words.map(lambda w: f'text("{w} A")'),
        st.sampled_from(["error == null", "error != null", "parent == null", "true", "false"]),
    ),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&&", "||"]), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda x: f"!({x})"),
    ),
    max_leaves=6,
)


@given(
    text=conditions,
    rows=st.lists(
        st.builds(
            lambda principal, capability, tenant, error, duration: TraceRow(
                "", None, capability, "1", principal, tenant, "tcp", 5.0, duration, "ok", error, b"{}"
            ),
            words, words, words, st.none() | words, st.sampled_from([0.25, 0.5, 1.0, 2.0]),
        ),
        max_size=5,
    ),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_sql_selects_what_the_condition_selects(text: str, rows: list[TraceRow]) -> None:
    search = TraceSearch({"where": text, "nested": True})
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE TABLE traces ({', '.join(FIELDS.columns)}, body)")
    kept = [row._replace(id=str(number)) for number, row in enumerate(rows)]
    for row in kept:
        connection.execute(
            f"INSERT INTO traces ({', '.join(TraceRow._fields)}) VALUES ({', '.join('?' * 12)})", row
        )
    found = {
        row[0] for row in connection.execute(f"SELECT id FROM traces WHERE {search.sql}", search.parameters)
    }
    assert found == {row.id for row in kept if search.holds(row._asdict())}
    connection.close()


class Passed(Module):
    """Is passed."""

    def handle_request(self, request: Request, context: Context) -> None: ...


def test_a_module_that_was_passed_is_found_in_memory_and_in_the_database(tmp_path: Path) -> None:
    def again() -> Node:
        return Node(
            config(tmp_path), capabilities=[check], modules=[("gate", Passed)], log_stream=io.StringIO()
        ).start()

    node = again()
    node.call("order.check", {"n": 1})
    assert len(node.recent(10, {"module": "gate"})) == 1
    assert node.recent(10, {"module": "order.check@1.0.0"}) == []
    node.stop()
    node = again()
    try:
        assert len(node.recent(10, {"module": "gate"})) == 1
        assert node.recent(10, {"module": "other"}) == []
    finally:
        node.stop()


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ({"principal": "ana"}, "traces_by_principal"),
        ({"capability": "order.place"}, "traces_by_capability"),
        ({"since": "2026-01-31T12:00:00Z"}, "traces_by_time"),
        (
            {"where": "principal == 'ana' && started > timestamp('2026-01-31T12:00:00Z')"},
            "traces_by_principal",
        ),
        ({}, "traces_by_time"),
    ],
)
def test_what_is_often_asked_goes_by_an_index(tmp_path: Path, asked: Any, index: str) -> None:
    search = TraceSearch(asked)
    with Database(tmp_path / "node.db") as database:
        StoredTraces(database).put([row(1, 1.0)])
        statement = (
            f"EXPLAIN QUERY PLAN SELECT id FROM traces WHERE {search.sql} ORDER BY started DESC LIMIT 20"
        )
        plan = " ".join(str(line[-1]) for line in database.read(statement, search.parameters))
    assert index in plan, plan


def row(number: int, started: float) -> TraceRow:
    return TraceRow(
        f"{number:032x}", None, "a.b", "1.0.0", "ana", "", "tcp", started, 0.1, "ok", None, b"{}" * 200
    )


def test_what_is_too_old_or_too_many_is_forgotten_and_its_room_given_back(tmp_path: Path) -> None:
    with Database(tmp_path / "node.db") as database:
        stored = StoredTraces(database)
        stored.put([row(n, float(n)) for n in range(5_000)])
        assert stored.prune(before=1_000.0, most=10_000) == 1_000
        assert stored.prune(before=0.0, most=500) == 3_500
        assert stored.count() == 500
        assert stored.select("1", (), 1)[0].started == 4_999.0
        assert database.vacuum() > 0


def test_a_node_forgets_at_its_start_what_is_too_many(tmp_path: Path) -> None:
    node = begun(tmp_path)
    for n in range(20):
        node.call("order.place", {"n": n})
    node.stop()
    node = begun(tmp_path, stored=5)
    node.call("order.place", {"n": 1})
    try:
        until(lambda: len(node.recent(1_000, {"nested": True})) <= 7)
    finally:
        node.stop()


def test_a_flood_takes_no_more_room_than_a_tenth_beyond_what_is_kept(tmp_path: Path) -> None:
    node = begun(tmp_path, store="failed", stored=100)
    try:
        for n in range(3_000):
            node.request(f"no.such{n}")
            if n % 200 == 0:
                gevent.sleep(0.005)
        until(lambda: not node.traces.unstored)
        stored = node.stores.traces
        assert stored is not None
        until(lambda: stored.count() <= 110)
    finally:
        node.stop()


def test_a_rule_says_which_are_stored(tmp_path: Path) -> None:
    node = begun(tmp_path, rule='outcome != "ok" || principal == "ana"')
    for who in ("ana", "bo"):
        for n in (1, -1):
            node.request("order.place", {"n": n}, session=node.session(who))
    node.stop()
    node = begun(tmp_path)
    kept = sorted((row["principal"], row["outcome"]) for row in node.recent(10))
    node.stop()
    assert kept == [("ana", "conflict"), ("ana", "ok"), ("bo", "conflict")]
    with pytest.raises(ValueError, match="nearest outcome"):
        config(tmp_path, rule="outcom == 'ok'")


def test_memory_is_bounded_where_the_disk_can_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry, "UNSTORED", 50)
    node = begun(tmp_path)
    stuck = gevent.event.Event()
    monkeypatch.setattr(StoredTraces, "put", lambda self, rows: stuck.wait())
    for n in range(GROUP):
        node.call("order.check", {"n": n})
        assert len(node.traces.unstored) <= 50
    assert node.traces.lost >= GROUP - 100
    assert node.stats()["traces"]["lost"] == node.traces.lost
    stuck.set()
    node.stop(0.0)
