"""background=True and `job.*`: what is answered, who sees a job, how it ends, and what is kept."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event
from pydantic import BaseModel

from packetflow import Context, Module, Node, Pool, Reject, Request, Response, Transform, capability, counter
from packetflow.node.config import NodeConfig
from packetflow.otp.clock import Clock


class Report(BaseModel):
    pages: int
    title: str = ""


class Works:
    """A background capability that the test lets go, and what it did."""

    def __init__(self, **options: Any) -> None:
        self.go = Event()
        self.entered = Event()
        self.runs: list[Any] = []

        @capability("report.write", background=True, effects=[counter("reports")], **options)
        def write(pages: int, how: str = "well") -> Report:
            """Write a report."""
            self.runs.append(pages)
            self.entered.set()
            self.go.wait()
            if how == "crash":
                raise KeyError("ink")
            return "no report" if how == "lie" else Report(pages=pages)  # type: ignore[return-value]

        self.function = write


@pytest.fixture
def works() -> Works:
    return Works()


@pytest.fixture
def node(works: Works) -> Iterator[Node]:
    with Node(capabilities=[works.function], log_stream=io.StringIO()) as node:
        yield node
        works.go.set()


def ended(node: Node, id: str, **options: Any) -> dict[str, Any]:
    shown: dict[str, Any] = node.call("job.show", {"id": id, "wait": 10}, **options)
    assert shown["status"] != "running"
    return shown


def code_of(response: Response) -> str:
    assert response.error is not None
    return response.error.code


def test_it_answers_at_once_with_a_jobs_id_and_goes_on(node: Node, works: Works) -> None:
    answer = node.call("report.write", {"pages": 3})
    assert set(answer) == {"job"}
    assert len(answer["job"]) == 32
    shown = node.call("job.show", {"id": answer["job"]})
    assert (shown["status"], shown["capability"], shown["version"]) == ("running", "report.write", "1.0.0")
    assert "value" not in shown
    works.go.set()
    shown = ended(node, answer["job"])
    assert shown["status"] == "done"
    assert shown["value"] == Report(pages=3)
    assert node.stats()["counters"] == {"reports": 1}
    assert node.trace(shown["trace"])["capability"] == "report.write"


@pytest.mark.parametrize(("how", "code"), [("crash", "execution_failed"), ("lie", "contract_violated")])
def test_a_job_that_fails_keeps_its_error(node: Node, works: Works, how: str, code: str) -> None:
    works.go.set()
    shown = ended(node, node.call("report.write", {"pages": 1, "how": how})["job"])
    assert (shown["status"], shown["error"]["code"]) == ("failed", code)


def test_what_is_refused_before_it_begins_is_told_at_once_and_is_no_job(node: Node, works: Works) -> None:
    assert code_of(node.request("report.write", {"pages": "many"})) == "validation_failed"
    assert (
        code_of(node.request("report.write", {"pages": 1}, session=node.session("eve", ["a.*"])))
        == "forbidden"
    )
    assert works.runs == []
    assert node.call("job.list")["jobs"] == []


class Checks(Module):
    """Refuses what is long, and puts a title on what comes out."""

    seen: int = 0

    def handle_request(self, request: Request, context: Context) -> Any:
        self.seen += 1
        return Reject("long", "too long", code="rejected") if request.payload["pages"] > 100 else None

    def handle_response(self, response: Response, context: Context) -> Any:
        if response.error is not None:
            return None
        return Transform(response.with_value(response.value.model_copy(update={"title": "checked"})))


def test_modules_see_the_job_once_and_its_result_and_their_refusal_is_told_at_once(works: Works) -> None:
    with Node(capabilities=[works.function], log_stream=io.StringIO()) as node:
        node.register_module(Checks, "checks", match=["report.*"])
        works.go.set()
        assert code_of(node.request("report.write", {"pages": 101})) == "rejected"
        assert node.call("job.list")["jobs"] == []
        shown = ended(node, node.call("report.write", {"pages": 1})["job"])
        assert shown["value"] == Report(pages=1, title="checked")
        assert node.module("checks")["handled"] == 2


def test_a_job_is_cancelled_and_says_so(node: Node, works: Works) -> None:
    id = node.call("report.write", {"pages": 1})["job"]
    answer = node.call("job.cancel", {"id": id[:6]})
    assert answer["changed"]
    shown = ended(node, id)
    assert (shown["status"], shown["error"]["code"]) == ("cancelled", "cancelled")
    assert "local" in shown["error"]["message"]
    assert not node.call("job.cancel", {"id": id})["changed"]
    assert node.door.in_flight == {}


def test_only_the_scope_that_started_a_job_sees_it_and_the_operator_sees_all(
    node: Node, works: Works
) -> None:
    ana, ben = node.session("ana"), node.session("ben")
    id = node.call("report.write", {"pages": 1}, session=ana)["job"]
    assert [row["id"] for row in node.call("job.list", session=ana)["jobs"]] == [id]
    for other in (ben, node.session("ana", tenant="acme"), node.session("ana", ["job.*"])):
        assert node.call("job.list", session=other)["jobs"] == []
        for name in ("job.show", "job.cancel"):
            assert code_of(node.request(name, {"id": id}, session=other)) == "not_found"
    operator = node.open_session("admin", "", operator=True)
    rows = node.call("job.list", session=operator)["jobs"]
    assert [(row["id"], row["principal"]) for row in rows] == [(id, "ana")]
    assert node.call("job.cancel", {"id": id}, session=operator)["changed"]
    assert ended(node, id, session=ana)["status"] == "cancelled"


def test_an_id_that_is_short_unknown_or_ambiguous_says_so(node: Node, works: Works) -> None:
    ids = [node.call("report.write", {"pages": 1})["job"] for _ in range(2)]
    assert code_of(node.request("job.show", {"id": ids[0][:3]})) == "validation_failed"
    unknown = node.request("job.show", {"id": "zzzz"})
    assert code_of(unknown) == "not_found"
    assert "durable=True" in str(unknown.error)
    first = node.jobs.find(ids[0], node.session())
    second = node.jobs.find(ids[1], node.session())
    first.id = second.id[:8] + first.id[8:]
    response = node.request("job.show", {"id": second.id[:8]})
    assert response.error is not None
    assert sorted(response.error.details["candidates"]) == sorted([first.id, second.id])


def test_any_capability_can_be_started_as_a_job(works: Works) -> None:
    @capability("sum.add")
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    with Node(capabilities=[add, works.function], log_stream=io.StringIO()) as node:
        id = node.call("job.start", {"capability": "sum.add", "payload": {"a": 1, "b": 2}})["job"]
        assert ended(node, id)["value"] == 3
        wrong = node.request("job.start", {"capability": "sum.add", "payload": {"a": 1}})
        assert code_of(wrong) == "validation_failed"
        assert code_of(node.request("job.start", {"capability": "sum.nothing"})) == "not_found"
        narrow = node.session("eve", ["job.*"])
        refused = node.request("job.start", {"capability": "sum.add"}, session=narrow)
        assert code_of(refused) == "forbidden"
        works.go.set()
        id = node.call("job.start", {"capability": "report.write@1", "payload": {"pages": 2}})["job"]
        assert ended(node, id)["value"] == Report(pages=2)


def test_a_background_capability_that_another_asks_is_a_job_that_outlives_it(works: Works) -> None:
    @capability("desk.order")
    def order(context: Context) -> str:
        """Order a report."""
        answer: str = context.call("report.write", {"pages": 9})["job"]
        return answer

    with Node(capabilities=[order, works.function], log_stream=io.StringIO()) as node:
        id = node.call("desk.order")
        works.go.set()
        assert ended(node, id)["value"] == Report(pages=9)


def test_a_job_has_no_deadline_but_its_capabilitys_own(tmp_path: Path) -> None:
    patient, hurried = Works(), Works(timeout=0.05)
    config = without_doors_and(tmp_path, timeouts={"request": 0.05})
    with Node(config, capabilities=[patient.function], log_stream=io.StringIO()) as node:
        id = node.call("report.write", {"pages": 1}, timeout=0.05)["job"]
        gevent.sleep(0.2)
        assert node.call("job.show", {"id": id})["status"] == "running"
        patient.go.set()
        assert ended(node, id)["status"] == "done"
    with Node(capabilities=[hurried.function], log_stream=io.StringIO()) as node:
        shown = ended(node, node.call("report.write", {"pages": 1})["job"])
        assert (shown["status"], shown["error"]["code"]) == ("failed", "timeout")


def without_doors_and(folder: Path, **sections: Any) -> NodeConfig:
    data = {
        "node": {"data_folder": str(folder)},
        "tcp": {"enabled": False},
        "http": {"enabled": False},
        **sections,
    }
    return NodeConfig.model_validate(data)


def test_jobs_have_a_limit_of_their_own_and_take_no_room_from_requests(works: Works, tmp_path: Path) -> None:
    config = without_doors_and(tmp_path, jobs={"running": 3}, limits={"in_flight_node": 1, "queue": 1})
    with Node(config, capabilities=[works.function], log_stream=io.StringIO()) as node:
        for _ in range(3):
            node.call("report.write", {"pages": 1})
        response = node.request("report.write", {"pages": 1})
        assert code_of(response) == "overloaded"
        assert response.error is not None
        assert response.error.retry_after == 1.0
        works.go.set()
        gevent.idle()
        assert node.door.admission.apart == 0


def test_of_the_ended_jobs_the_last_are_kept_and_only_for_a_while(tmp_path: Path) -> None:
    ahead = [0.0]

    @capability("sum.one", background=True)
    def one(number: int) -> int:
        """One."""
        return number

    clock = Clock(lambda: time.monotonic() + ahead[0])
    with Node(
        without_doors_and(tmp_path, jobs={"keep": 3, "expire": 60}),
        capabilities=[one],
        clock=clock,
        log_stream=io.StringIO(),
    ) as node:
        ids = [node.call("sum.one", {"number": number})["job"] for number in range(5)]
        gevent.idle()
        assert [row["id"] for row in node.call("job.list")["jobs"]] == ids[:1:-1]
        assert code_of(node.request("job.show", {"id": ids[0]})) == "not_found"
        ahead[0] = 61.0
        assert node.call("job.list")["jobs"] == []


def test_a_list_is_narrowed_by_status_capability_and_number(node: Node, works: Works) -> None:
    first = node.call("report.write", {"pages": 1})["job"]
    node.call("job.cancel", {"id": first})
    ended(node, first)
    second = node.call("report.write", {"pages": 2})["job"]

    def ids(**fields: Any) -> list[str]:
        return [row["id"] for row in node.call("job.list", fields)["jobs"]]

    assert ids() == [second, first]
    assert ids(status="cancelled") == [first]
    assert ids(limit=1) == [second]
    assert ids(capability="report.read") == []


def test_a_caller_that_gives_up_before_it_begins_leaves_no_job() -> None:
    go = Event()

    class Slow(Module):
        """Takes its time."""

        def handle_request(self, request: Request, context: Context) -> None:
            go.wait()

    works = Works()
    with Node(capabilities=[works.function], log_stream=io.StringIO()) as node:
        node.register_module(Slow, "slow", match=["report.*"], timeout=30.0)
        assert code_of(node.request("report.write", {"pages": 1}, timeout=0.05)) == "timeout"
        go.set()
        gevent.idle()
        until(lambda: not node.door.in_flight)
        assert works.runs == []
        assert [row["status"] for row in node.call("job.list")["jobs"]] == ["cancelled"]


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    end = Clock().monotonic() + seconds
    while not condition():
        assert Clock().monotonic() < end, "it did not come to that"
        gevent.sleep(0.002)


def test_a_job_outlives_a_reload_that_takes_its_capability_away(node: Node, works: Works) -> None:
    id = node.call("report.write", {"pages": 4})["job"]
    works.entered.wait()
    node.unregister("report.write")
    assert code_of(node.request("report.write", {"pages": 1})) == "not_found"
    works.go.set()
    assert ended(node, id)["value"] == Report(pages=4)


def test_a_stop_waits_for_jobs_as_long_as_it_drains_and_cancels_the_rest() -> None:
    for drain, status in ((10.0, "done"), (0.0, "cancelled")):
        works = Works(pool=Pool(1))
        node = Node(capabilities=[works.function], log_stream=io.StringIO()).start()
        id = node.call("report.write", {"pages": 4})["job"]
        job = node.jobs.find(id, node.session())
        stopping = gevent.spawn(node.stop, drain)
        gevent.sleep(0)
        assert code_of(node.request("report.write", {"pages": 1})) == "unavailable"
        if drain:
            works.go.set()
        stopping.join(timeout=10)
        assert (job.status, job.ended.is_set(), job.greenlet) == (status, True, None)


def test_an_idempotency_key_starts_one_job(node: Node, works: Works) -> None:
    from packetflow.wire.values import Metadata

    session = node.session("ana")
    told = [
        node.door.request("report.write", {"pages": 1}, session, Metadata(idempotency_key="k")).value
        for _ in range(2)
    ]
    assert told[0] == told[1]
    assert works.runs == [1]


def test_whoever_changes_a_result_changes_nobody_elses(node: Node, works: Works) -> None:
    works.go.set()
    id = node.call("report.write", {"pages": 1})["job"]
    ended(node, id)["value"].pages = 99
    assert ended(node, id)["value"].pages == 1


def test_the_catalogue_shows_what_is_answered_and_what_the_job_gives(node: Node) -> None:
    shown = node.describe(node.session(), "report.write")
    assert shown is not None
    assert shown["background"] is True
    assert list(shown["provides"]["properties"]) == ["job"]
    assert set(shown["result"]["properties"]) == {"pages", "title"}


def test_the_last_progress_of_a_job_is_kept() -> None:
    go = Event()

    @capability("sum.steps", background=True)
    def steps(context: Context) -> int:
        """Say how far it is."""
        context.progress(1, 4, "reading")
        context.progress(3, 4, "writing")
        go.wait()
        return 4

    with Node(capabilities=[steps], log_stream=io.StringIO()) as node:
        id = node.call("sum.steps")["job"]
        until(lambda: node.call("job.show", {"id": id})["progress"] is not None)
        expected = {"done": 3, "total": 4, "text": "writing"}
        assert node.call("job.show", {"id": id})["progress"] == expected
        go.set()
        assert ended(node, id)["progress"] == expected
        assert node.call("job.list")["jobs"][0]["progress"] == expected


def test_what_streams_can_be_no_job() -> None:
    @capability("sum.items")
    def items() -> Iterator[int]:
        """Items."""
        yield 1

    with Node(capabilities=[items], log_stream=io.StringIO()) as node:
        refused = node.request("job.start", {"capability": "sum.items"})
        assert code_of(refused) == "validation_failed"
        assert "can't be a job" in str(refused.error)
        assert node.call("job.list")["jobs"] == []


def test_a_job_is_cancelled_twice_and_cleans_up_once(tmp_path: Path) -> None:
    cleaned: list[str] = []
    entered, go = Event(), Event()

    @capability("a.tidy", background=True)
    def tidy() -> None:
        """Clean up, and take a while for it."""
        try:
            entered.set()
            gevent.sleep(1000)
        finally:
            cleaned.append("begun")
            go.wait()
            cleaned.append("done")

    with Node(capabilities=[tidy], log_stream=io.StringIO()) as node:
        id = node.call("a.tidy")["job"]
        entered.wait()
        first = node.call("job.cancel", {"id": id})
        while not cleaned:
            gevent.sleep(0)
        second = node.call("job.cancel", {"id": id})
        assert (first["changed"], second["changed"]) == (True, True), "it ran"
        assert second["job"]["status"] == "running", "it cleans up"
        go.set()
        assert ended(node, id)["status"] == "cancelled"
        assert cleaned == ["begun", "done"]


def test_a_job_that_swallows_its_cancellation_says_what_it_came_to(tmp_path: Path) -> None:
    entered = Event()

    @capability("a.stubborn", background=True)
    def stubborn() -> str:
        """Go on whatever happens."""
        try:
            entered.set()
            gevent.sleep(1000)
        except BaseException:  # noqa: BLE001  # what nobody should do
            return "all the same"
        return "never"

    with Node(capabilities=[stubborn], log_stream=io.StringIO()) as node:
        id = node.call("a.stubborn")["job"]
        entered.wait()
        node.call("job.cancel", {"id": id})
        shown = ended(node, id)
        assert shown["status"] in ("done", "cancelled")
        assert node.jobs.counts() == {"running": 0, "kept": 1}


def test_ten_thousand_jobs_at_once(tmp_path: Path) -> None:
    go = Event()

    @capability("a.wait", background=True)
    def wait(number: int) -> int:
        """Wait for the others."""
        go.wait()
        return number

    config = without_doors_and(tmp_path, jobs={"running": 10_000, "keep": 10_000})
    with Node(config, capabilities=[wait], log_stream=io.StringIO()) as node:
        ids = [node.call("a.wait", {"number": number})["job"] for number in range(10_000)]
        assert code_of(node.request("a.wait", {"number": 0})) == "overloaded"
        assert len(node.call("job.list", {"limit": 1000})["jobs"]) == 1000
        assert node.call("job.show", {"id": "last"})["id"] == ids[-1]
        assert node.call("job.cancel", {"id": ids[7]})["changed"]
        go.set()
        assert [ended(node, ids[at])["value"] for at in (0, 5000, 9999)] == [0, 5000, 9999]
        while node.jobs.counts()["running"]:
            gevent.sleep(0)
        assert node.jobs.counts() == {"running": 0, "kept": 10_000}
        assert ended(node, ids[7])["status"] == "cancelled"
        assert node.door.in_flight == {}


@pytest.mark.parametrize(
    ("name", "fields", "path"),
    [
        ("job.show", {}, "id"),
        ("job.show", {"id": 5}, "id"),
        ("job.show", {"id": "f" * 33}, "id"),
        ("job.show", {"id": "ffff", "wait": -1}, "wait"),
        ("job.show", {"id": "ffff", "wait": float("nan")}, "wait"),
        ("job.show", {"id": "ffff", "wait": 1e9}, "wait"),
        ("job.list", {"status": "runing"}, "status"),
        ("job.list", {"limit": 0}, "limit"),
        ("job.cancel", {"id": None}, "id"),
        ("job.cancel", {"id": "ffff", "now": True}, "now"),
        ("job.start", {"capability": "x" * 201}, "capability"),
        ("job.start", {"capability": "a.b", "payload": [1]}, "payload"),
    ],
)
def test_wrong_fields_of_jobs_are_told_by_their_path(
    node: Node, works: Works, name: str, fields: dict[str, Any], path: str
) -> None:
    response = node.request(name, fields)
    assert code_of(response) == "validation_failed"
    assert response.error is not None
    assert [fault["path"] for fault in response.error.details["faults"]] == [path]


@pytest.mark.parametrize(
    "capability_asked", ["", "a", "report.write@", "report.write@9", "job.start@@", "\0", "../x"]
)
def test_a_job_of_what_there_is_not_is_refused_at_once(
    node: Node, works: Works, capability_asked: str
) -> None:
    assert code_of(node.request("job.start", {"capability": capability_asked})) == "not_found"
    assert node.jobs.counts() == {"running": 0, "kept": 0}


def test_a_job_that_starts_itself_is_bounded(tmp_path: Path) -> None:
    @capability("a.again", background=True)
    def again(context: Context) -> None:
        """Start another one of itself, for ever."""
        context.request("a.again")
        gevent.sleep(1000)

    config = without_doors_and(tmp_path, jobs={"running": 50})
    with Node(config, capabilities=[again], log_stream=io.StringIO()) as node:
        node.call("a.again")
        while node.jobs.counts()["running"] < 50:
            gevent.sleep(0)
        assert node.call("job.list")["jobs"][0]["status"] == "running"
        node.stop(0.0)
        assert node.jobs.counts()["running"] == 0
