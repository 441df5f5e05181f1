"""`packetflow start --workers N`: a parent and N processes on the same ports, seen and changed as one node."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from packetflow.client import Client, Reply
from packetflow.wire.errors import RequestError

from .conftest import Desk, until

CONFIG = "config/node.toml"
MODULE = "modules/rate_limit/rate_limit.py"
UNWATCHED = ("--set", "timeouts.hub=0s")  # a worker that is blocked stays blocked

MORE = '''

import os
import sys
import time


@capability("work.pid", tags=["work"])
def pid() -> int:
    """Which process serves this."""
    return os.getpid()


@capability("work.block", tags=["work"])
def block(seconds: float) -> None:
    """Hold the hub."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


@capability("work.count", tags=["work"])
def count(marks: Annotated[Path, marks]) -> Ticket:
    """Leave a mark, and say who did it."""
    with marks.open("a") as file:
        file.write("1\\n")
    return Ticket(id=str(os.getpid()), customer_id="-", text="-")


@capability("work.sum", tags=["work"])
def total(context: Context) -> int:
    """What a capability sees of the whole node."""
    return context.call("system.stats")["by_capability"]["work.pid"]["calls"]


@capability("work.print", tags=["work"])
def prints() -> None:
    """Print."""
    print("printed", flush=True)
'''


@pytest.fixture
def node(project: Desk) -> Iterator[Desk]:
    """A project whose node the test starts; nothing of it is left when the test is over."""
    file = project.folder / "capabilities.py"
    file.write_text(
        file.read_text().replace("import ResourceSettings", "import Context, ResourceSettings") + MORE
    )
    config = project.folder / CONFIG
    config.write_text(
        config.read_text().replace('match = ["work.*", "ticket.*"]', 'match = ["work.limited"]')
    )
    yield project
    pids = processes(project) if project.process is not None else []
    if project.process is not None:
        project.end()
    until(lambda: not any(is_there(pid) for pid in pids))


def processes(desk: Desk) -> list[int]:
    assert desk.process is not None
    parent = desk.process.pid
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    except FileNotFoundError:
        children = []
    return [parent, *map(int, children)]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask(desk: Desk, capability: str, **payload: Any) -> Any:
    """What the node answers its operator; quicker than by a command."""
    with Client(f"unix://{desk.folder / 'run' / 'admin.sock'}") as operator:
        return operator.call(capability, payload)


def workers(desk: Desk) -> dict[str, int]:
    """The workers that run: pid by name."""
    rows = ask(desk, "system.status")["workers"]
    return {row["worker"]: row["pid"] for row in rows if row["status"] != "down"}


def in_flight(desk: Desk) -> int:
    """Requests under way, without the question itself."""
    return int(ask(desk, "system.stats")["in_flight"]) - 1


def module(desk: Desk) -> dict[str, Any]:
    (row,) = ask(desk, "system.modules")["modules"]
    found: dict[str, Any] = row
    return found


def tcp(desk: Desk) -> str:
    return next(door["address"] for door in desk.ready["doors"] if door["door"] == "tcp")


class Callers:
    """A connection to each worker."""

    def __init__(self, desk: Desk, pids: set[int]) -> None:
        self._stack = ExitStack()
        self.by_pid: dict[int, Client] = {}

        def all_reached() -> bool:
            client = Client(tcp(desk))
            pid = client.call("work.pid")
            if pid in pids and pid not in self.by_pid:
                self.by_pid[pid] = self._stack.enter_context(client)
            else:
                client.close()
            return self.by_pid.keys() == pids

        until(all_reached)

    def __enter__(self) -> dict[int, Client]:
        return self.by_pid

    def __exit__(self, *details: object) -> None:
        self._stack.close()


# ---- what it is ---------------------------------------------------------------------------------------------------------


def test_requests_are_served_by_several_processes_on_one_port_and_seen_as_one_node(node: Desk) -> None:
    ready = node.start("--workers", "2")
    pids = set(workers(node).values())
    assert len(pids) == 2
    assert ready["pid"] not in pids
    assert {row["pid"] for row in ready["workers"]} == pids
    assert [door["door"] for door in ready["doors"]] == ["admin", "tcp", "http"]
    with Callers(node, pids) as callers:
        assert node("stop", "--dry-run", "--json").document["in_flight"] == 0
        calls = load(node, "work.pid")["calls"]
        traces = []
        for client in callers.values():
            reply = client.request("work.limited", {"line": 1})
            assert reply.error is None
            traces.append(reply.trace_id)
        # The operator's own calls are served by the parent, through the same chain.
        assert node("call", "work.pid", "--json").document["value"] == ready["pid"]
    assert load(node, "work.pid")["calls"] == calls + 1
    assert load(node, "work.limited")["calls"] == 2
    assert node("module", "show", "rate_limit", "--json").document["module"]["handled"] == 2
    listed = node("trace", "list", "--json").document["traces"]
    assert [row["capability"] for row in listed[:3]] == ["work.pid", "work.limited", "work.limited"]
    assert {row.get("worker") for row in listed[1:3]} == set(workers(node))
    for trace in traces:
        shown = node("trace", trace[:12], "--json").document["trace"]
        assert (shown["id"], shown["door"]) == (trace, "tcp")
        assert any(span["where"] == "rate_limit" for span in shown["spans"])
    assert node("trace", "last", "--json").document["trace"]["id"] == listed[0]["id"]
    missing = node("trace", traces[0][:12] + "ffffffff")
    assert missing.code == 5, missing
    tree = node("tree", "--json").document["tree"]
    below = {row["id"]: row["children"] for row in descendants(tree) if row["id"].startswith("worker-")}
    assert {id: [child["name"] for child in children] for id, children in below.items()} == {
        "worker-1": ["desk"],
        "worker-2": ["desk"],
    }
    assert {row["pid"] for row in descendants(tree) if row["id"].startswith("worker-")} == pids
    for screen in ("status", "health"):
        shown = node(screen)
        assert all(f"pid {pid}" in shown.out for pid in pids), shown


def load(desk: Desk, id: str) -> dict[str, Any]:
    found: dict[str, Any] = ask(desk, "system.capability", id=id)["load"]
    return found


def descendants(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield row
    for child in row["children"]:
        yield from descendants(child)


@pytest.mark.slow
def test_the_setting_in_the_file_counts_and_one_worker_is_the_ordinary_node(node: Desk) -> None:
    config = node.folder / CONFIG
    config.write_text(config.read_text().replace("[node]\n", "[node]\nworkers = 2\n"))
    assert len(node.start()["workers"]) == 2
    node.end()
    ready = node.start("--workers", "1")
    assert "workers" not in ready
    assert processes(node) == [ready["pid"]]


@pytest.mark.parametrize("given", ["0", "-1", "many", "257"])
def test_a_number_of_workers_that_makes_no_sense_is_refused(given: str, node: Desk) -> None:
    ran = node("start", "--workers", given)
    assert ran.code == 2
    assert "--workers" in ran.err


@pytest.mark.slow
def test_a_port_in_use_is_told_also_where_it_could_be_shared(node: Desk) -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = node("start", "--workers", "2", "--set", f"tcp.port={port}")
    assert ran.code == 3, ran
    assert str(port) in ran.err


@pytest.mark.slow
def test_what_keeps_only_a_worker_from_starting_is_told_and_nothing_is_left(node: Desk) -> None:
    """The module takes something that only one process can have, and the parent has it first."""
    (node.folder / MODULE).write_text(EXCLUSIVE)
    ran = node("start", "--workers", "2", "--set", "modules.rate_limit.config={}")
    assert ran.code != 0
    assert "rate_limit" in ran.err
    assert "taken already" in ran.err
    assert node("health").code == 3


EXCLUSIVE = """\
from pathlib import Path

from packetflow import Module


class RateLimit(Module):
    def init(self, config):
        try:
            Path("taken").open("x").close()
        except FileExistsError:
            raise RuntimeError("taken already") from None

    def handle_request(self, request, context):
        return None
"""


@pytest.mark.slow
def test_limits_are_divided_among_the_workers(node: Desk) -> None:
    node.start("--workers", "2", "--set", "limits.connections=8")
    pids = set(workers(node).values())
    opened: list[Client] = []
    refused = 0
    try:
        for _ in range(40):
            client = Client(tcp(node))
            reply = client.request("work.pid")
            if reply.error is None:
                opened.append(client)
            else:
                assert reply.error.code in ("overloaded", "unavailable"), reply.error
                refused += 1
                client.close()
        assert len(opened) == 8
        assert refused == 32
        served = [client.call("work.pid") for client in opened]
        assert {served.count(pid) for pid in pids} == {4}
    finally:
        for client in opened:
            client.close()


@pytest.mark.slow
def test_http_is_shared_too_and_says_when_a_worker_is_ready(node: Desk) -> None:
    node.start("--workers", "2")
    pids = set(workers(node).values())
    address = next(door["address"] for door in node.ready["doors"] if door["door"] == "http")

    def post(path: str, body: str) -> Any:
        connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=20)
        try:
            connection.request(
                "POST" if body else "GET", path, body or None, {"content-type": "application/json"}
            )
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    seen: set[int] = set()
    until(lambda: seen.add(post("/capabilities/work.pid", "{}")[1]) or seen == pids)
    assert post("/health/ready", "")[0] == 200
    status, refused = post("/capabilities/system.stats", "{}")
    assert (status, refused["error"]["code"]) == (403, "forbidden")


@pytest.mark.slow
def test_a_watched_file_changes_all_workers(node: Desk) -> None:
    node.start("--workers", "2", "--watch", "--set", "modules.rate_limit.config={}")
    with Callers(node, set(workers(node).values())) as callers:
        (node.folder / MODULE).write_text(REFUSES.replace("WORD", "watched"))
        until(lambda: seen_by(callers) == ["watched", "watched"])


# ---- the whole node, asked through a worker --------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_workers_caller_sees_the_whole_node_where_it_may(node: Desk) -> None:
    node.start("--workers", "2", "--set", 'access.local=["work.*", "system.stats", "system.module.disable"]')
    with Callers(node, set(workers(node).values())) as callers:
        first, second = callers.values()
        counts = [one.call("system.stats")["by_capability"]["work.pid"]["calls"] for one in (first, second)]
        assert counts[0] == counts[1]
        assert first.call("work.sum") == counts[0], "what a capability sees from the inside"
        refused = first.request("system.stop").error
        assert refused is not None
        assert refused.code == "forbidden"
        assert first.call("system.module.disable", {"name": "rate_limit"})["changed"]
        assert second.request("system.module.disable", {"name": "rate_limit"}).value["changed"] is False
    trace = next(row for row in raw_traces(node) if row["capability"] == "system.module.disable")
    assert (trace["principal"], trace["door"]) == ("anonymous", "tcp")
    assert not module(node)["enabled"]


def raw_traces(desk: Desk) -> list[dict[str, Any]]:
    """What the parent served lately, by the ids that its log told."""
    lines = (desk.folder / "log").read_text().splitlines()
    ids = [json.loads(line)["trace"] for line in lines if line.startswith("{") and '"trace"' in line]
    return [ask(desk, "system.trace", id=id)["trace"] for id in ids]


@pytest.mark.slow
def test_a_durable_composition_runs_in_the_parent_whichever_worker_is_asked(node: Desk) -> None:
    plan = 'id = "ticket.kept"\nintent = "Kept"\nrequires = { customer_id = "string" }\ndurable = true\n'
    plan += 'steps = ["ticket.hello"]\n'
    (node.folder / "flows" / "kept.toml").write_text(plan)
    node.start("--workers", "2")
    for _ in range(4):
        with Client(tcp(node)) as client:
            assert client.call("ticket.kept", {"customer_id": "C-1"})
    rows = ask(node, "system.runs")["runs"]
    assert [(row["composition"], row["state"]) for row in rows] == [("ticket.kept", "completed")] * 4


def test_two_requests_of_one_key_are_one_whichever_worker_gets_them(node: Desk) -> None:
    node.start("--workers", "2")
    with Callers(node, set(workers(node).values())) as callers:
        replies = [client.request("work.count", {}, idempotency_key="k1") for client in callers.values()]
        assert [reply.error for reply in replies] == [None, None]
        assert replies[0].value == replies[1].value
        assert replies[0].value["id"] == str(node.ready["pid"]), "the parent keeps the keys"
        again = next(iter(callers.values())).request("work.pid", {"no": "such"}, idempotency_key="k2")
        assert again.error is not None
        assert again.error.code == "validation_failed"
        assert again.error.details["faults"]
    assert node.marks() == [1]


# ---- changes --------------------------------------------------------------------------------------------------------------


def seen_by(callers: dict[int, Client]) -> list[str | None]:
    """How each worker answers what the module refuses by its own word."""
    found = []
    for client in callers.values():
        error = client.request("work.limited", {"line": 7}).error
        found.append(None if error is None else str(error.details.get("reason")))
    return found


REFUSES = """\
from packetflow import Module, Reject


class RateLimit(Module):
    def handle_request(self, request, context):
        return Reject("WORD")
"""


@pytest.mark.slow
def test_a_change_is_in_all_workers_when_it_is_answered(node: Desk) -> None:
    node.start("--workers", "2", "--set", "modules.rate_limit.config={}")
    with Callers(node, set(workers(node).values())) as callers:
        (node.folder / MODULE).write_text(REFUSES.replace("WORD", "new"))
        rehearsed = node("module", "reload", "rate_limit", "--dry-run", "--json")
        assert rehearsed.code == 0, rehearsed
        assert seen_by(callers) == [None, None]
        assert ask(node, "system.module.reload", name="rate_limit")["changed"]
        assert seen_by(callers) == ["new", "new"]
        assert ask(node, "system.module.disable", name="rate_limit")["changed"]
        assert seen_by(callers) == [None, None]
        assert ask(node, "system.module.enable", name="rate_limit")["changed"]
        assert seen_by(callers) == ["new", "new"]
        assert ask(node, "system.module.restart", name="rate_limit")["changed"]
        assert seen_by(callers) == ["new", "new"]
        config = node.folder / CONFIG
        config.write_text(config.read_text().replace('match = ["work.limited"]', 'match = ["ticket.*"]'))
        assert node.process is not None
        node.process.send_signal(signal.SIGHUP)
        until(lambda: module(node)["match"] == ["ticket.*"])
        until(
            lambda: seen_by(callers) == [None, None]
        )  # a signal is not answered: the workers follow the parent
        file = node.folder / "capabilities.py"
        file.write_text(
            file.read_text()
            + '\n\n@capability("work.new")\ndef new() -> int:\n    """New."""\n    return 1\n'
        )
        node.process.send_signal(signal.SIGHUP)
        until(lambda: any(row["id"] == "work.new" for row in ask(node, "system.catalogue")["capabilities"]))
        # The parent shows it when it serves it itself; the workers follow in the same change.
        until(lambda: all(client.request("work.new").ok for client in callers.values()))
        assert [client.call("work.new") for client in callers.values()] == [1, 1]


REFUSED_BY_ONE = """\
import os
from pathlib import Path

from packetflow import Module, Reject


class RateLimit(Module):
    def init(self, config):
        if Path(f"refuse-{os.getpid()}").exists():
            raise RuntimeError("not in this process")

    def handle_request(self, request, context):
        return Reject("new")
"""


def test_a_change_that_one_worker_refuses_is_in_none(node: Desk) -> None:
    node.start("--workers", "2", "--set", "modules.rate_limit.config={}")
    pids = workers(node)
    with Callers(node, set(pids.values())) as callers:
        (node.folder / f"refuse-{pids['worker-2']}").touch()
        (node.folder / MODULE).write_text(REFUSED_BY_ONE)
        ran = node("module", "reload", "rate_limit", "--json")
        assert ran.code == 1, ran
        error = ran.document["error"]
        assert "not in this process" in error["message"]
        assert error["details"]["worker"] == "worker-2"
        assert seen_by(callers) == [None, None]
        assert node("call", "work.limited", "line=1").code == 0
        assert ask(node, "system.reload")["faults"][0]["message"].startswith("worker-2: ")
        assert seen_by(callers) == [None, None]
        (node.folder / f"refuse-{pids['worker-2']}").unlink()
        assert ask(node, "system.module.reload", name="rate_limit")["changed"]
        assert seen_by(callers) == ["new", "new"]
    assert workers(node) == pids, "no worker was restarted for it"


@pytest.mark.slow
def test_a_faulty_configuration_changes_nothing_and_its_faults_are_told_with_their_places(node: Desk) -> None:
    node.start("--workers", "2")
    config = node.folder / CONFIG
    config.write_text(config.read_text().replace("priority = 100", "piority = 100"))
    value = ask(node, "system.reload")
    assert value["changed"] == []
    assert value["faults"][0]["key"] == "modules[0].piority"
    with Callers(node, set(workers(node).values())) as callers:
        assert seen_by(callers) == [None, None]


@pytest.mark.slow
def test_a_worker_that_comes_back_is_as_the_others_are_now_whatever_the_files_say(node: Desk) -> None:
    node.start("--workers", "2", "--set", "modules.rate_limit.config={}")
    (node.folder / MODULE).write_text(REFUSES.replace("WORD", "first"))
    assert ask(node, "system.module.reload", name="rate_limit")["changed"]
    assert ask(node, "system.module.disable", name="rate_limit")["changed"]
    config = node.folder / CONFIG
    config.write_text(config.read_text().replace("path = ", "piath = "))  # nobody has reloaded that
    before = workers(node)
    os.kill(before["worker-1"], signal.SIGKILL)
    until(lambda: workers(node).get("worker-1") not in (None, before["worker-1"]))
    with Callers(node, set(workers(node).values())) as callers:
        assert seen_by(callers) == [None, None]
        assert ask(node, "system.module.enable", name="rate_limit")["changed"]
        assert seen_by(callers) == ["first", "first"]


@pytest.mark.slow
def test_a_change_that_is_made_while_a_worker_comes_back_is_in_it_too(node: Desk) -> None:
    (node.folder / MODULE).write_text(REFUSES.replace("WORD", "refused"))
    node.start("--workers", "2", "--set", "modules.rate_limit.config={}")
    for action, answer in (("disable", None), ("enable", "refused")):
        before = workers(node)
        os.kill(before["worker-1"], signal.SIGKILL)
        assert ask(node, f"system.module.{action}", name="rate_limit")["changed"]
        until(lambda before=before: workers(node).get("worker-1") not in (None, before["worker-1"]))
        with Callers(node, set(workers(node).values())) as callers:
            assert seen_by(callers) == [answer, answer]


@pytest.mark.slow
def test_a_change_waits_for_no_worker_for_ever(node: Desk) -> None:
    """Given a worker whose hub is blocked for longer than a change may take, then nobody has it, and it is told of whom."""
    node.start("--workers", "2", *UNWATCHED, "--set", "timeouts.start=1s", "--set", "timeouts.shutdown=500ms")
    pids = workers(node)
    with Callers(node, set(pids.values())) as callers:
        blocking = callers[pids["worker-2"]].submit("work.block", {"seconds": 8})
        until(lambda: states(node)["worker-2"] == "blocked")
        ran = node("module", "disable", "rate_limit", "--json")
        assert ran.code == 7, ran
        error = ran.document["error"]
        assert "worker-2: its hub has been blocked for" in error["message"]
        assert error["message"].endswith("nothing was changed")
        assert blocking.reply(timeout=20).error is None
        assert ask(node, "system.module.disable", name="rate_limit")["changed"], (
            "the refused one is over there too"
        )
    assert workers(node) == pids


@pytest.mark.slow
def test_a_worker_that_comes_back_with_newer_code_is_told_and_a_reload_makes_them_equal(node: Desk) -> None:
    node.start("--workers", "2", "--set", "modules.rate_limit.config={}")
    (node.folder / MODULE).write_text(REFUSES.replace("WORD", "newer"))
    assert node("health").code == 0
    before = workers(node)
    os.kill(before["worker-2"], signal.SIGKILL)
    until(lambda: workers(node).get("worker-2") not in (None, before["worker-2"]))
    ill = node("health", "--json")
    assert ill.code == 6
    (finding,) = ill.document["findings"]
    assert finding["what"] == "worker-2 runs newer code: module rate_limit"
    assert finding["next"] == "packetflow module reload rate_limit"
    assert ask(node, "system.module.reload", name="rate_limit")["changed"]
    assert node("health").code == 0
    with Callers(node, set(workers(node).values())) as callers:
        assert seen_by(callers) == ["newer", "newer"]


# ---- failures -------------------------------------------------------------------------------------------------------------


class Load:
    """Clients that call all the time and remember what they got."""

    def __init__(self, address: str, clients: int) -> None:
        self.done = threading.Event()
        self.errors: list[list[RequestError]] = [[] for _ in range(clients)]
        self.calls = [0] * clients
        self.pids: list[set[int]] = [set() for _ in range(clients)]
        self._threads = [threading.Thread(target=self._run, args=(address, n)) for n in range(clients)]

    def _run(self, address: str, number: int) -> None:
        with Client(address, concurrency="threads") as client:
            while not self.done.is_set():
                reply: Reply = client.request("work.pid", timeout=20)
                if reply.error is None:
                    self.calls[number] += 1
                    self.pids[number].add(reply.value)
                else:
                    self.errors[number].append(reply.error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.done.set()
        for thread in self._threads:
            thread.join(20)


@pytest.mark.slow
def test_a_worker_killed_under_load_is_seen_by_its_own_callers_only_and_comes_back(node: Desk) -> None:
    node.start("--workers", "2")
    before = workers(node)
    dead, alive = before["worker-1"], before["worker-2"]
    with Load(tcp(node), 8) as load:
        until(lambda: set().union(*load.pids) == {dead, alive} and all(load.calls))
        had = [dead in pids for pids in load.pids]
        os.kill(dead, signal.SIGKILL)
        until(lambda: workers(node).get("worker-1") not in (None, dead))
        calls = list(load.calls)
        until(lambda: all(now > then for now, then in zip(load.calls, calls, strict=True)))
    for number, lost in enumerate(had):
        codes = [error.code for error in load.errors[number]]
        if lost:
            # Once for its connection; once more where it was so quick to connect again that the dying process's queue took it;
            # not at all where it was between two requests: one that could not be sent is sent again.
            assert codes == ["unavailable"] * len(codes)
            assert len(codes) <= 2
        else:
            assert codes == []
            assert load.pids[number] == {alive}, "who was elsewhere stayed there"
    assert node("health").code == 0


@pytest.mark.slow
def test_workers_that_die_too_often_end_the_node_with_a_word(node: Desk) -> None:
    node.start("--workers", "2")
    assert node.process is not None
    killed: set[int] = set()

    def ended() -> bool:
        assert node.process is not None
        for pid in processes(node)[1:]:
            if pid not in killed and is_there(pid):
                killed.add(pid)
                os.kill(pid, signal.SIGKILL)
        return node.process.poll() is not None

    until(ended, seconds=50)
    assert node.process.returncode == 1
    assert 7 <= len(killed) <= 9
    log = (node.folder / "log").read_text()
    assert "worker processes ended more than 6 times within 60 s" in log
    assert node("health").code == 3
    assert node.process.stdout is not None
    node.process.stdout.close()
    node.process = None


@pytest.mark.slow
def test_the_parents_death_ends_the_workers_and_a_new_node_takes_the_same_ports(node: Desk) -> None:
    node.start("--workers", "2", *UNWATCHED)
    pids = set(workers(node).values())
    port = tcp(node).rpartition(":")[2]
    with Client(tcp(node)) as client:
        blocked = client.submit(
            "work.block", {"seconds": 600}
        )  # a worker whose hub can't see that its parent is gone
        until(lambda: "blocked" in states(node).values())
        node.end(signal.SIGKILL)
        node.start("--workers", "2", "--set", f"tcp.port={port}")
        assert blocked.reply(timeout=20).error is not None
    until(lambda: not any(is_there(pid) for pid in pids))
    second = node("start", "--workers", "2", "--set", f"tcp.port={port}")
    assert second.code == 3
    assert f"pid {node.ready['pid']}" in second.err, (
        "it is told who holds the data folder, not that a port is taken"
    )
    assert tcp(node).endswith(f":{port}")
    with Callers(node, set(workers(node).values())):
        pass


@pytest.mark.slow
def test_a_blocked_worker_is_told_and_the_others_serve_on(node: Desk) -> None:
    node.start("--workers", "2", *UNWATCHED)
    pids = workers(node)
    with Callers(node, set(pids.values())) as callers:
        blocking = callers[pids["worker-1"]].submit("work.block", {"seconds": 15})
        until(lambda: states(node)["worker-1"] == "blocked")
        ill = ask(node, "system.health")
        assert any("worker-1" in one["what"] and "blocked" in one["what"] for one in ill["findings"])
        assert states(node)["worker-2"] == "running"
        rows = {row["id"]: row for row in descendants(ask(node, "system.tree")["tree"])}
        assert (rows["worker-1"]["status"], rows["worker-1"]["children"]) == ("blocked", [])
        assert rows["worker-2"]["children"]
        assert ask(node, "system.stats")["missing"] == ["worker-1"]
        assert callers[pids["worker-2"]].call("work.pid") == pids["worker-2"]
        assert blocking.reply(timeout=40).error is None
        until(lambda: ask(node, "system.health")["status"] == "ok")
    assert workers(node) == pids, "nobody was restarted for it"


def states(desk: Desk) -> dict[str, str]:
    return {row["worker"]: row["status"] for row in ask(desk, "system.status")["workers"]}


# ---- the end --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["SIGTERM", "stop"])
def test_a_drain_finishes_what_is_in_flight_in_every_worker(way: str, node: Desk) -> None:
    node.start("--workers", "2")
    with Callers(node, set(workers(node).values())) as callers:
        pending = [
            client.submit("work.mark", {"line": line, "seconds": 0.7})
            for line, client in enumerate(callers.values())
        ]
        until(lambda: in_flight(node) == 2)
        if way == "stop":
            assert node("stop", "--yes").code == 0
        assert node.end() == 0
        assert [one.reply(timeout=5).error for one in pending] == [None, None]
    assert sorted(node.marks()) == [0, 1]


@pytest.mark.slow
def test_a_drain_that_takes_too_long_cancels_the_rest_and_still_ends_in_order(node: Desk) -> None:
    node.start("--workers", "2")
    with Callers(node, set(workers(node).values())) as callers:
        pending = [client.submit("work.slow", {"seconds": 60}) for client in callers.values()]
        until(lambda: in_flight(node) == 2)
        assert node("stop", "--drain", "0.2", "--yes").code == 0
        assert [getattr(one.reply(timeout=5).error, "code", None) for one in pending] == [
            "cancelled",
            "cancelled",
        ]
    assert node.end() == 0


@pytest.mark.slow
def test_sigterm_to_one_worker_replaces_it_and_its_callers_are_told_goodbye(node: Desk) -> None:
    node.start("--workers", "2")
    before = workers(node)
    with Callers(node, set(before.values())) as callers:
        pending = callers[before["worker-1"]].submit("work.mark", {"line": 1, "seconds": 0.5})
        until(lambda: in_flight(node) == 1)
        os.kill(before["worker-1"], signal.SIGTERM)
        assert pending.reply(timeout=10).error is None
        until(lambda: workers(node).get("worker-1") not in (None, before["worker-1"]))
        assert workers(node)["worker-2"] == before["worker-2"]
        assert callers[before["worker-1"]].request("work.pid").error is None, "it connected again"


@pytest.mark.slow
def test_what_workers_print_is_no_part_of_the_document(node: Desk) -> None:
    node.start("--workers", "2")
    with Client(tcp(node)) as client:
        client.call("work.print")
    assert node.process is not None
    out = node.process.stdout
    assert out is not None
    node.process.send_signal(signal.SIGTERM)
    node.process.wait(20)
    assert out.read() == b""
    assert b"printed" in (node.folder / "log").read_bytes()
