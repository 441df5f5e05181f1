"""What a store of runs keeps: the same tests for every one (packetflow/storage/runs/store.py)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from packetflow.storage.database import Database
from packetflow.storage.runs.records import (
    CANCELLED,
    COMPLETED,
    RUNNING,
    WAITING,
    Drop,
    Event,
    NewRun,
    Put,
    Question,
    RunFilter,
    Wait,
)
from packetflow.storage.runs.sqlite import SqliteRuns
from packetflow.storage.runs.store import RunStore


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    with Database(tmp_path / "node.db") as database:
        yield SqliteRuns(lambda: database)


def new(id: str, key: str | None = None, expires: float | None = None) -> NewRun:
    return NewRun(id, "test.plan", "1.0.0", "digest", "ana", "", ("*",), b"{}", 1.0, expires, key)


def put(place: str) -> Put:
    return Put(place, "done", "step", "test.do", b"1", 2.0, 0.1)


def begun(store: RunStore, id: str = "a" * 32) -> int:
    return store.create(new(id), b"plan")[0]


def places(store: RunStore, run: int) -> set[str]:
    return {entry.place for entry in store.load([run])[0].entries}


def test_a_key_begins_one_run(store: RunStore) -> None:
    first = store.create(new("a" * 32, "key"), b"plan")
    assert first == (first[0], True)
    assert store.create(new("b" * 32, "key"), b"plan") == (first[0], False)
    assert store.plan("digest") == b"plan"


def test_what_is_written_is_loaded_and_what_is_dropped_is_not(store: RunStore) -> None:
    run = begun(store)
    kept = ["1", "1x", "10", "2[10]", "2[1]0"]
    gone = ["2[1]", "2[1]/body", "2[1]/body/0[3]/body", "2[1]!", "2[1](2)/body"]
    store.apply(run, [put(place) for place in kept + gone])
    store.apply(run, [Drop("2[1]"), put("3")])
    assert places(store, run) == {*kept, "3"}


def test_a_run_parks_only_while_all_that_it_waits_for_still_waits(store: RunStore) -> None:
    run = begun(store)
    store.apply(run, [Wait("0", "time", "sleep", 1.0, 5.0), Wait("1", "event", "wait", 1.0, None, "paid")])
    settled = store.settle(run, "0", b'{"due": true}', 6.0)
    assert settled is not None
    assert settled.entry.body == {"due": True}
    assert store.park(run, [], 2, (1, 0), 7.0) is False
    assert store.load([run])[0].row.state == RUNNING
    assert store.park(run, [], 1, (1, 0), 7.0) is True
    assert store.load([run])[0].row.state == WAITING
    assert store.settle(run, "0", b"{}", 8.0) is None, "it came once"
    again = store.settle(run, "1", b"{}", 8.0)
    assert again is not None
    assert again.state == RUNNING


def test_times_come_up_in_their_order(store: RunStore) -> None:
    run = begun(store)
    store.create(new("b" * 32, expires=4.0), b"plan")
    store.apply(run, [Wait("0", "time", "", 1.0, 9.0), Wait("1", "time", "", 1.0, 5.0)])
    assert store.next_due() == 4.0
    assert [one.place for one in store.due(9.0, 10)] == ["1", "0"]
    assert [one.place for one in store.due(5.0, 10)] == ["1"]
    assert len(store.expired(4.0, 10)) == 1
    assert store.expired(3.9, 10) == []


def test_an_event_is_kept_once_and_used_up_once(store: RunStore) -> None:
    run = begun(store)
    event = Event("one", "paid", b"{}", 1.0)
    assert store.keep_event(run, event) is True
    assert store.keep_event(run, event) is False
    assert store.events_of(run, "paid") == [event]
    store.apply(run, [Wait("0", "event", "", 1.0, None, "paid")])
    assert [row.place for row in store.subscribed("paid", (0, ""), 10)] == ["0"]
    store.settle(run, "0", b"{}", 2.0, taken="one")
    assert store.events_of(run, "paid") == []
    assert store.subscribed("paid", (0, ""), 10) == []


def test_an_approval_has_one_end(store: RunStore) -> None:
    run = begun(store)
    question = Question("c" * 32, "0", "ask", ("ana",), "", 1.0, None, "reject")
    store.apply(run, [Wait("0", "approval", "ask", 1.0), question])
    decided, settled = store.decide("c" * 32, "approved", "ana", "", b"{}", 2.0)
    assert settled is not None
    assert settled.entry.body["by"] == "ana"
    again, nothing = store.decide("c" * 32, "rejected", "ben", "", b"{}", 3.0)
    assert (nothing, again.state, again.decided_by) == (None, "approved", decided.decided_by)


def test_what_ends_needs_nothing_any_more(store: RunStore) -> None:
    run = begun(store)
    question = Question("c" * 32, "0", "ask", ("ana",), "", 1.0, None, "reject")
    store.apply(run, [Wait("0", "approval", "ask", 1.0), question])
    store.finish(run, [put("1")], CANCELLED, None, b"{}", (3, 1), 9.0)
    row = store.load([run])[0].row
    assert (row.state, row.steps, row.retries, row.ended) == (CANCELLED, 3, 1, 9.0)
    assert store.waits_of(run) == []
    assert [one.state for one in store.approvals(only_open=False)] == ["withdrawn"]
    store.finish(run, [], COMPLETED, b"1", None, (0, 0), 10.0)
    assert store.load([run])[0].row.state == CANCELLED, "an end is an end"
    assert store.set_state(run, [RUNNING], WAITING, 11.0) is False


def test_runs_are_found_listed_counted_and_removed(store: RunStore) -> None:
    numbers = [begun(store, letter * 32) for letter in "abc"]
    store.finish(numbers[0], [put("0")], COMPLETED, b"1", None, (1, 0), 5.0)
    assert [row.id[0] for row in store.find("b")] == ["b"]
    assert [row.id[0] for row in store.listed(RunFilter())] == ["c", "b", "a"]
    assert [row.id[0] for row in store.listed(RunFilter(state=COMPLETED))] == ["a"]
    assert [row.id[0] for row in store.listed(RunFilter(before=numbers[1]))] == ["a"]
    assert store.counts() == {COMPLETED: 1, RUNNING: 2}
    assert store.in_state([RUNNING], 0, 10) == numbers[1:]
    assert store.remove_ended(6.0, 10) == 1
    assert store.find("a") == []
    assert store.plan("digest") == b"plan", "others need it"
