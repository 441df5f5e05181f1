"""Durable runs when something goes wrong around them: a lost process, a full disk, a damaged file, a clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow import capability
from packetflow.composition.building import approval, pipeline, step, wait_for
from packetflow.composition.building import sleep as wait_a_while
from packetflow.node.supervision import RUNS
from packetflow.otp import kill
from packetflow.otp.clock import Clock
from packetflow.storage.data_folder import DataFolderError
from packetflow.storage.database import Database
from packetflow.testing.database_disk import Disk
from packetflow.wire.errors import Conflict, RequestError

from .durable import Place, ended, flow, left_waiting

WAITS = flow("test.waits", pipeline(step("work.do"), wait_for("go"), step("work.do")))
SLEEPS = flow("test.sleeps", pipeline(wait_a_while(3600.0), step("work.do")))


class Jumping(Clock):
    """A clock whose time for people can be set. Durations go on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)
        super().__init__(utc=lambda: datetime.now(UTC) + self.ahead)


def test_a_run_is_taken_up_only_when_what_the_lost_process_had_begun_is_over(place: Place) -> None:
    began, inside, seen = Event(), [0], []

    @capability("work.careful")
    def careful(word: str) -> dict[str, str]:
        """Do it, and tidy up however it ends."""
        inside[0] += 1
        seen.append(inside[0])
        began.set()
        try:
            gevent.sleep(0.2)
        finally:
            gevent.sleep(0.2)
            inside[0] -= 1
        return {"did": word}

    node = place.node(
        flow("test.careful", pipeline(step("work.careful"), step("work.careful"))), more=[careful]
    )
    asking = gevent.spawn(node.request, "test.careful", {"word": "a"})
    began.wait(10)
    lost: Any = node.system.whereis(RUNS)
    kill(lost)
    assert asking.get(timeout=20).value == {"did": "a"}, "who waited for the run hears of its end"
    assert set(seen) == {1}, "a step was run while its first run was not over"
    assert len(seen) == 3


def test_what_is_done_while_the_disk_is_full_is_kept_and_not_done_again(place: Place) -> None:
    node = place.node(
        flow("test.full", pipeline(step("work.do"), step("work.fill"), step("work.do"))), more=[]
    )
    node.stop()
    with Disk() as disk:
        filled = Event()

        @capability("work.fill")
        def fill(word: str) -> None:
            """After it nothing more can be written."""
            place.done.append("fill")
            disk.room = 0
            filled.set()

        plan = flow("test.full", pipeline(step("work.do"), step("work.fill"), step("work.do")))
        node = place.node(plan, more=[*place.capabilities(), fill])
        node.stores._database = Database(place.folder / "node.db", vfs=disk.name)
        asking = gevent.spawn(node.request, "test.full", {"word": "a"})
        assert filled.wait(10)
        with gevent.Timeout(10):
            while "run waits for the store" not in place.log.getvalue():
                gevent.sleep(0.01)
        assert place.done == ["a", "fill"]
        assert node.call("work.do", {"word": "b"}) == {"did": "b"}, "the rest is served"
        disk.room = None
        assert asking.get(timeout=20).value == {"did": "a"}
        assert place.done == ["a", "fill", "b", "a"]
        node.stop()


@pytest.mark.parametrize("damage", ["cut", "other"])
def test_a_damaged_database_is_told_and_the_node_serves_the_rest(place: Place, damage: str) -> None:
    left_waiting(place.node(WAITS), "test.waits", word="a")
    place.nodes[-1].stop()
    file = place.folder / "node.db"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:5_000])
    else:
        file.write_bytes(b"a letter to my aunt\n" * 500)
    node = place.node(WAITS)
    for _ in range(3):
        answer = node.request("test.waits", {"word": "b"}, timeout=5.0)
        assert isinstance(answer.error, RequestError)
        assert answer.error.code == "unavailable"
        assert str(file) in str(answer.error)
        assert answer.error.details["next"]
        gevent.sleep(0.05)
    assert node.call("work.do", {"word": "c"}) == {"did": "c"}
    assert any(str(file) in one["what"] for one in node.call("system.health")["findings"])


def test_times_that_passed_while_the_clock_was_set_forward_have_passed(place: Place) -> None:
    clock = Jumping()
    node = place.node(SLEEPS, clock=clock)
    run = left_waiting(node, "test.sleeps", word="a")
    clock.ahead = timedelta(hours=-2)
    node.waking().look()
    gevent.sleep(0.1)
    assert node.call("system.run", {"id": run})["state"] == "waiting", "set back, it waits"
    clock.ahead = timedelta(hours=2)
    node.waking().look()
    assert ended(node, run) == {"did": "a"}


def test_thousands_that_are_due_at_once_when_the_node_starts_all_go_on(place: Place) -> None:
    count = 1_500
    node = place.node(SLEEPS)
    runs, session = node.waking().runs, node.session()
    begun = [gevent.spawn(runs.start, SLEEPS, {"word": str(number)}, session) for number in range(count)]
    gevent.joinall(begun, raise_error=True)
    with gevent.Timeout(30):
        while node.waking().store.counts() != {"waiting": count}:
            gevent.sleep(0.01)
    clock = Jumping()
    clock.ahead = timedelta(hours=2)
    node = place.again(SLEEPS, clock=clock)
    with gevent.Timeout(40):
        while node.waking().store.counts() != {"completed": count}:
            assert node.call("work.do", {"word": "other"})["did"] == "other", "others are served meanwhile"
            gevent.sleep(0.02)
    done = [word for word in place.done if word != "other"]
    assert sorted(done) == sorted(map(str, range(count))), "each once"


def test_a_second_node_on_the_same_folder_is_refused(place: Place) -> None:
    left_waiting(place.node(WAITS), "test.waits", word="a")
    with pytest.raises(DataFolderError, match="durable"):
        place.node(WAITS)


def test_what_a_later_version_wrote_is_not_gone_on_with(place: Place) -> None:
    node = place.node(WAITS)
    later, strange = (left_waiting(node, "test.waits", word=word) for word in "ab")
    database = node.stores.database
    database.append("UPDATE runs SET format = 9 WHERE id = ?", [(later,)])
    database.append(
        "UPDATE journal SET kind = 'leap' WHERE run = (SELECT number FROM runs WHERE id = ?)", [(strange,)]
    )
    node = place.again(WAITS)
    node.call("system.run.signal", {"event": "go"})
    with pytest.raises(
        RequestError, match="is stored in format 9, this node reads 1; start it with the version"
    ):
        ended(node, later)
    with pytest.raises(RequestError, match="has an event 'leap' at 0, which this version does not know"):
        ended(node, strange)
    states = {row["id"]: row["state"] for row in node.call("system.runs")["runs"]}
    assert states == {later: "stranded", strange: "stranded"}


def test_a_decision_after_the_deadline_changes_nothing(place: Place) -> None:
    clock = Jumping()
    node = place.node(
        flow("test.asked", pipeline(approval(["ana"], deadline=3600.0), step("work.do"))), clock=clock
    )
    run = left_waiting(node, "test.asked", word="a")
    clock.ahead = timedelta(hours=2)
    ana = node.session("ana", ["system.*"])
    with pytest.raises(Conflict, match="was expired already"):
        node.call("system.approval.decide", {"id": run, "decision": "approved"}, session=ana)
    with pytest.raises(RequestError, match="nobody decided in time"):
        ended(node, run)
    assert place.done == []


def test_one_key_with_another_payload_is_a_conflict(place: Place) -> None:
    node = place.node(flow("test.one", step("work.do")))
    given = {"composition": "test.one", "payload": {"word": "a"}, "key": "k"}
    first = node.call("system.run.start", given)["id"]
    assert node.call("system.run.start", given)["id"] == first
    with pytest.raises(Conflict, match=r"the idempotency key 'k' began run \w+ with another payload"):
        node.call("system.run.start", {**given, "payload": {"word": "b"}})


def test_ended_runs_are_forgotten_when_their_time_is_over(place: Place) -> None:
    clock = Jumping()
    node = place.node(flow("test.one", step("work.do")), WAITS, clock=clock)
    old = node.call("system.run.start", {"composition": "test.one", "payload": {"word": "a"}})["id"]
    ended(node, old)
    kept = left_waiting(node, "test.waits", word="a")
    clock.ahead = timedelta(days=31)
    node.waking().look()
    with gevent.Timeout(10):
        while [row["id"] for row in node.call("system.runs")["runs"]] != [kept]:
            gevent.sleep(0.01)
