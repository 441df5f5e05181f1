"""Notices of a node that runs as processes: workers hand theirs to the parent, which delivers them, also after a kill -9."""

from __future__ import annotations

import http.server
import json
import signal
import threading
from collections.abc import Iterator

import pytest

from .conftest import Desk, until

CAPABILITY = '''
from packetflow import capability, notify, emit

@capability("work.told", effects=[notify("ops", "n is {payload.n}"), emit("work.told", "payload.n")])
def told(n: int) -> int:
    """Tell."""
    return n
'''


class Received(http.server.ThreadingHTTPServer):
    """Takes notices, or is away."""

    def __init__(self) -> None:
        self.got: dict[str, str] = {}
        self.status = 204
        received = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if received.status == 204:
                    received.got[body["id"]] = body["text"]
                self.send_response(received.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Say nothing."""

        super().__init__(("127.0.0.1", 0), Handler)


@pytest.fixture
def hook() -> Iterator[Received]:
    server = Received()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def with_notices(project: Desk, hook: Received) -> None:
    (project.folder / "told.py").write_text(CAPABILITY)
    with (project.folder / "config" / "node.toml").open("a") as file:
        file.write('\n[[capabilities]]\npath = "told.py"\n')
        file.write(
            f'\n[[channels]]\nname = "ops"\nkind = "webhook"\nattempts = 100\nurl = "http://127.0.0.1:{hook.server_port}/"\n'
        )


def test_workers_hand_their_notices_to_the_parent(project: Desk, hook: Received) -> None:
    with_notices(project, hook)
    project.start("--workers", "2")
    tcp = next(one["address"] for one in project.ready["doors"] if one["door"] == "tcp")
    for n in range(8):
        assert project("call", "work.told", f"n={n}", "--node", tcp).code == 0
    until(lambda: len(hook.got) == 8)
    assert sorted(hook.got.values()) == [f"n is {n}" for n in range(8)]
    [row] = project("call", "system.stats", "--json").document["value"]["effects"]["channels"]
    assert (row["sent"], row["waiting"]) == (8, 0)


def test_what_was_answered_before_a_kill_9_is_delivered_after_it(project: Desk, hook: Received) -> None:
    with_notices(project, hook)
    hook.status = 503
    project.start()
    for n in range(5):
        assert project("call", "work.told", f"n={n}").code == 0
    project.end(signal.SIGKILL)
    assert hook.got == {}
    hook.status = 204
    project.start()
    until(lambda: len(hook.got) == 5)
