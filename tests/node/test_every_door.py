"""One door: a module sees a request alike, whichever way it came, and nothing has a side way (design: the way of a request)."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent import subprocess as green_subprocess

from packetflow import Client, Context, Module, Node, Reject
from packetflow.errors import RequestError
from tests.docs.running import environment
from tests.node.conftest import Project

seen: list[tuple[str, str, Any]] = []


class Watches(Module):
    """Notes who asked what by which door; refuses one word."""

    def handle_request(self, request: Any, context: Context) -> Any:
        seen.append((context.session.door, request.capability, request.payload["text"]))
        return Reject("bad_word", "not that word") if request.payload["text"] == "bad" else None


@pytest.fixture
def node(project: Project) -> Any:
    seen.clear()
    with project.node(modules=[("watches", Watches)]) as node:
        yield node


def address(node: Node, door: str) -> str:
    return next(one["address"] for one in node.status()["doors"] if one["door"] == door)


def in_process(node: Node, text: str) -> Any:
    return node.call("word.echo", {"text": text})


def by_client(door: str) -> Any:
    def ask(node: Node, text: str) -> Any:
        with Client(address(node, door), concurrency="gevent") as client:
            return client.call("word.echo", {"text": text})

    return ask


def by_http(node: Node, text: str) -> Any:
    url = address(node, "http") + "/capabilities/word.echo"
    body = json.dumps({"text": text})
    command = ["curl", "-s", url, "-H", "content-type: application/json", "-d", body]
    answer = json.loads(green_subprocess.run(command, capture_output=True, check=True).stdout)
    return refused(answer["error"]["code"]) if isinstance(answer, dict) else answer


def by_command_line(node: Node, text: str) -> Any:
    command = [sys.executable, "-m", "packetflow", "call", "word.echo", f"text={text}", "--json"]
    where = {"PACKETFLOW_NODE": address(node, "admin")}
    done = green_subprocess.run(command, capture_output=True, env={**environment(), **where})
    answer = json.loads(done.stdout)
    return answer["value"] if "value" in answer else refused(answer["error"]["code"])


def refused(code: str) -> str:
    return f"refused: {code}"


WAYS = {
    "local": in_process,
    "tcp": by_client("tcp"),
    "admin": by_client("admin"),
    "http": by_http,
    "command line": by_command_line,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_module_sees_and_refuses_requests_of_every_door_alike(node: Node, way: str) -> None:
    ask = WAYS[way]
    assert ask(node, "good") == "good"
    try:
        answer = ask(node, "bad")
    except RequestError as error:
        answer = refused(error.code)
    assert answer == "refused: rejected"
    door = "admin" if way == "command line" else way
    assert seen == [(door, "word.echo", "good"), (door, "word.echo", "bad")]


def test_every_door_says_that_a_capability_is_deprecated_and_what_to_use_instead(
    project: Project, started: Callable[..., Node]
) -> None:
    code = """
from packetflow import capability

@capability("word.old", deprecated="use word.new\\nsoon — really")
def old() -> str:
    "Old."
    return "old"

@capability("word.new")
def new() -> str:
    "New."
    return "new"
"""
    (project.folder / "capabilities.py").write_text(code)
    node = started()
    words = "use word.new\nsoon — really"
    for door in ("tcp", "admin"):
        with Client(address(node, door), concurrency="gevent") as client:
            assert [client.request(id, {}).deprecated for id in ("word.old", "word.new")] == [words, None]
    seen = []
    for id in ("word.old", "word.new"):
        url = f"{address(node, 'http')}/capabilities/{id}"
        command = ["curl", "-s", "-i", url, "-H", "content-type: application/json", "-d", "{}"]
        told = green_subprocess.run(command, capture_output=True, check=True).stdout.decode()
        seen += [line for line in told.splitlines() if line.startswith("x-packetflow-deprecated")]
    assert seen == ["x-packetflow-deprecated: use word.new soon ? really"]
    assert node.request("word.old").trace.deprecated == words


def test_every_listener_of_the_node_is_among_these_ways(node: Node) -> None:
    assert {one["door"] for one in node.status()["doors"]} <= set(WAYS)


def test_a_disconnect_ends_what_runs_only_for_it(project: Project) -> None:
    code = """
import gevent
from packetflow import capability

ended = []

@capability("slow.work")
def work() -> str:
    "Take long."
    try:
        gevent.sleep(60)
    finally:
        ended.append(1)
    return "done"

@capability("slow.ended")
def count() -> int:
    "How many were ended."
    return len(ended)
"""
    (project.folder / "capabilities.py").write_text(code)
    with project.node() as node:
        ask = (
            "import sys; from packetflow.client import Client; print('asks', flush=True);"
            "Client(sys.argv[1]).call('slow.work')"
        )
        client = green_subprocess.Popen(
            [sys.executable, "-c", ask, address(node, "tcp")], env=environment(), stdout=subprocess.PIPE
        )
        with gevent.Timeout(10):
            while not node.door.in_flight:
                gevent.sleep(0.01)
            client.kill()
            client.wait()
            while node.call("slow.ended") == 0:
                gevent.sleep(0.01)
        assert client.stdout is not None
        client.stdout.close()
        assert not node.door.in_flight
