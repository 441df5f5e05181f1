"""What a node says of how a capability fares: its counts, times, health, the last error, its pool and its cache."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event

from packetflow import Node, Pool, capability, ttl


class Desk:
    """A node with capabilities of two versions that fail, wait and are cached as the test wants."""

    def __init__(self) -> None:
        self.go = Event()
        self.fails = False

        @capability("a.work", version="1.0.0", owner="the desk", tags=["work"])
        def old(number: int) -> int:
            """Work as ever."""
            return number

        @capability("a.work", version="2.0.0", deprecated="use a.better")
        def new(number: int) -> int:
            """Work, or fail."""
            if self.fails:
                raise KeyError("ink")
            return number

        @capability("a.wait", pool=Pool(1, queue=1, name="one"))
        def wait() -> int:
            """Wait to be let go."""
            self.go.wait()
            return 1

        @capability("a.cached", cache=ttl(60))
        def cached(number: int) -> int:
            """Give it again."""
            return number

        self.functions = [old, new, wait, cached]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def node(desk: Desk) -> Iterator[Node]:
    with Node(capabilities=desk.functions, log_stream=io.StringIO()) as node:
        yield node
        desk.go.set()


def shown(node: Node, id: str) -> dict[str, Any]:
    session = node.open_session("admin", "", operator=True)
    found: dict[str, Any] = node.call("system.capability", {"id": id}, session=session)
    return found


def test_each_version_has_figures_of_its_own(node: Node) -> None:
    for _ in range(3):
        node.call("a.work@1", {"number": 1})
    node.call("a.work", {"number": 1})
    old, new = shown(node, "a.work@1"), shown(node, "a.work")
    assert (old["load"]["calls"], new["load"]["calls"]) == (3, 1)
    assert (old["owner"], old["health"], old["versions"]) == ("the desk", "ok", ["2.0.0", "1.0.0"])
    assert new["deprecated"] == "use a.better"
    assert old["load"]["p50"] <= old["load"]["p95"] <= old["load"]["p99"]
    assert old["load"]["rate"] > 0
    assert old["load"]["last_error"] is None


def test_what_mostly_fails_by_its_own_fault_is_failing_and_recovers(node: Node, desk: Desk) -> None:
    for _ in range(10):
        assert not node.request("a.work", {"number": "no number"}).ok
    assert shown(node, "a.work")["health"] == "ok", "its callers' faults are not its own"
    desk.fails = True
    for _ in range(25):
        node.request("a.work", {"number": 1})
    failing = shown(node, "a.work")
    assert failing["health"] == "failing"
    assert failing["load"]["error_rate"] > 0.5
    assert "KeyError" in str(failing["load"]["last_error"])
    assert shown(node, "a.work@1")["health"] == "ok"
    desk.fails = False
    for _ in range(50):
        node.call("a.work", {"number": 1})
    assert shown(node, "a.work")["health"] == "ok"


def test_few_failures_say_nothing_yet(node: Node, desk: Desk) -> None:
    desk.fails = True
    for _ in range(3):
        node.request("a.work", {"number": 1})
    assert shown(node, "a.work")["health"] == "ok"


def test_what_refuses_more_is_full_until_it_has_room(node: Node, desk: Desk) -> None:
    asking = [gevent.spawn(node.request, "a.wait") for _ in range(3)]
    gevent.idle()
    full = shown(node, "a.wait")
    assert (full["health"], full["load"]["in_flight"]) == ("full", 2)
    assert {key: full["load"]["pool"][key] for key in ("running", "waiting", "refused", "size", "queue")} == {
        "running": 1, "waiting": 1, "refused": 1, "size": 1, "queue": 1,
    }  # fmt: skip
    desk.go.set()
    gevent.joinall(asking)
    free = shown(node, "a.wait")
    assert (free["health"], free["load"]["in_flight"], free["load"]["pool"]["running"]) == ("ok", 0, 0)


def test_a_cache_shows_what_it_saved(node: Node) -> None:
    for number in (1, 1, 1, 2):
        node.call("a.cached", {"number": number})
    cache = shown(node, "a.cached")["load"]["cache"]
    assert (cache["entries"], cache["hits"], cache["misses"]) == (2, 2, 2)


def test_every_node_has_its_own_capabilities() -> None:
    with Node(log_stream=io.StringIO()) as node:
        session = node.open_session("admin", "", operator=True)
        rows = node.call("system.catalogue", session=session)["capabilities"]
        ids = {row["id"] for row in rows}
        named = {"system.health", "system.catalogue", "system.stats", "system.modules", "system.tree"}
        assert named | {"job.show", "job.list", "job.cancel"} <= ids
        for id in named:
            assert node.request(id, session=session).ok


def test_a_look_at_what_is_not_there_says_what_is_and_runs_nothing(node: Node, desk: Desk) -> None:
    session = node.open_session("admin", "", operator=True)
    for id, told in (
        ("a.wait@9", "there is 1.0.0"),
        ("a.work@3", "there is 2.0.0, 1.0.0"),
        ("a.wrok", "a.work"),
    ):
        error = node.request("system.capability", {"id": id}, session=session).error
        assert error is not None
        assert error.code == "not_found"
        assert told in str(error)
    assert [call.capability for call in node.traces if call.capability.startswith("a.")] == []
