"""A node with workers, the parts of it that need no process: shares, figures put together, a configuration handed over."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from packetflow.node.blueprint import Blueprint
from packetflow.node.config import NodeConfig, Secret, SecretError, load_with_overlay
from packetflow.node.config.handing_over import pack, unpack
from packetflow.node.load import merged_load
from packetflow.node.merging import (
    merged_modules,
    merged_stats,
    worker_findings,
    worker_rows,
)
from packetflow.node.worker import share
from packetflow.otp import NoProcess, WorkerInfo
from packetflow.telemetry.traces import Sample
from tests.node.conftest import SHOUT, Project


def test_a_worker_has_its_part_of_the_nodes_limits_and_at_least_one() -> None:
    config = NodeConfig.model_validate(
        {
            "limits": {"connections": 10, "in_flight_node": 2, "queue": 7},
            "traces": {"keep": 9},
            "tcp": {"port": 0},
        }
    )
    mine = share(config, 3, {"tcp": 4711})
    assert (mine.limits.connections, mine.limits.in_flight_node, mine.limits.queue) == (3, 1, 2)
    assert mine.traces.keep == 3
    assert (mine.tcp.port, mine.http.port) == (4711, config.http.port)
    assert mine.limits.in_flight_session == config.limits.in_flight_session, (
        "that is a session's, not the node's"
    )


def test_modules_can_be_switched_whatever_the_configuration_says(project: Project) -> None:
    project.add(SHOUT)
    loaded = load_with_overlay(project.config, environment={})[0]
    (placed,) = Blueprint(loaded, switched={"shout": False, "nobody": True}).placements()
    assert (placed.name, placed.enabled) == ("shout", False)
    (placed,) = Blueprint(loaded, switched={"shout": False}).with_config(loaded).placements()
    assert placed.enabled, "another reading of it counts again"


def test_a_configuration_is_handed_over_with_its_secrets_by_reference(project: Project) -> None:
    (project.folder / "password").write_text("hunter2\n")
    project.config.write_text(
        project.config.read_text().replace(
            '{ word = "bye" }', '{ word = "bye", password = { file = "password" } }'
        )
    )
    project.add(SHOUT)
    loaded = load_with_overlay(project.config, environment={"PACKETFLOW_HTTP__PORT": "8080"})[0]
    password: Any = loaded.config.capabilities[0].config["password"]
    assert password.reveal() == "hunter2"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(loaded)
    data = pack(loaded)
    assert b"hunter2" not in data
    again = unpack(data)
    assert again.config.http.port == 8080
    assert again.config.modules == loaded.config.modules
    assert again.origins == loaded.origins
    secret: Any = again.config.capabilities[0].config["password"]
    assert isinstance(secret, Secret)
    assert secret.reveal() == "hunter2"
    assert again.again()[0].config.http.port == 8080


@pytest.mark.parametrize(
    "reference",
    [{"env": "WORD"}, {"exec": ["echo", "word"]}, {"token_file": "token"}, {"file": "token"}],
    ids=["env", "exec", "token_file", "file"],
)
def test_every_kind_of_secret_is_handed_over(reference: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "token").write_text("word")
    secret = Secret(reference, tmp_path, {"WORD": "word", "PATH": "/usr/bin:/bin"})
    assert unpack(pack({"a": [secret]}))["a"][0].reveal() == "word"


def test_a_secret_without_a_reference_is_not_handed_over() -> None:
    with pytest.raises(SecretError, match="no reference"):
        pack(Secret.of("hunter2"))


def module(name: str, status: str = "running", **more: Any) -> Any:
    counts = dict.fromkeys(("handled", "changed", "rejected", "errors", "restarts"), 0)
    return {"name": name, "status": status, "p50": None, "p99": None, "last_error": None, **counts, **more}


def test_modules_are_summed_and_the_worst_state_is_shown() -> None:
    mine = [module("tax", handled=1), module("log", handled=2, last_error="mine")]
    first = ([module("tax", handled=10, errors=1, last_error="KeyError"), module("log")], {"tax": [0.3, 0.1]})
    second = ([module("tax", "quarantined", handled=100)], {"tax": [0.2], "gone": [9.0]})
    tax, log = merged_modules(mine, {"tax": [0.4]}, [first, second])
    assert (tax["handled"], tax["errors"], tax["status"], tax["last_error"]) == (
        111,
        1,
        "quarantined",
        "KeyError",
    )
    assert (tax["p50"], tax["p99"]) == (0.3, 0.4)
    assert (log["handled"], log["status"], log["last_error"], log["p50"]) == (2, "running", "mine", None)


def test_loads_are_summed_and_times_put_together() -> None:
    cache = {"entries": 1, "max_entries": 10, "hits": 4, "misses": 1, "joined": 0, "skipped": 0}
    pool = {
        "kind": "threads",
        "size": 8,
        "queue": 256,
        "running": 1,
        "waiting": 0,
        "lingering": 1,
        "done": 3,
        "refused": 0,
    }
    mine: Any = {
        "in_flight": 1, "calls": 2, "errors": 0, "rate": 0.5, "error_rate": 0.0, "p50": 9.0, "p95": 9.0, "p99": 9.0,
        "last_error": None, "cache": cache, "pool": pool,
    }  # fmt: skip
    other: Any = {**mine, "errors": 3, "last_error": "ValueError"}
    old, new = Sample(10.0, 1.0, True), [Sample(99.0, 3.0, True), Sample(100.0, 2.0, False)]
    assert merged_load(mine, [old], [(other, new)], 100.0) == {
        "in_flight": 2, "calls": 4, "errors": 3, "rate": 1.0, "error_rate": 0.5, "p50": 2.0, "p95": 3.0, "p99": 3.0,
        "last_error": "ValueError",
        "cache": {"entries": 2, "max_entries": 20, "hits": 8, "misses": 2, "joined": 0, "skipped": 0},
        "pool": {**pool, "size": 16, "queue": 512, "running": 2, "lingering": 2, "done": 6},
    }  # fmt: skip


def test_counts_are_summed_and_who_does_not_answer_is_named() -> None:
    mine: Any = {
        "requests": 1, "errors": 0, "refused": 0, "in_flight": 1,
        "by_capability": {"a": {"calls": 1, "errors": 0}}, "counters": {"x": 1},
        "pools": {"db": {"kind": "threads", "running": 1}},
    }  # fmt: skip
    other: Any = {
        "requests": 5, "errors": 2, "refused": 1, "in_flight": 2,
        "by_capability": {"a": {"calls": 2, "errors": 1}, "b": {"calls": 3, "errors": 1}}, "counters": {"x": 2, "y": 1},
        "pools": {"db": {"kind": "threads", "running": 2}},
    }  # fmt: skip
    merged = merged_stats(mine, {"worker-1": other, "worker-2": NoProcess("worker-2")})
    assert merged == {
        "requests": 6, "errors": 2, "refused": 1, "in_flight": 3,
        "by_capability": {"a": {"calls": 3, "errors": 1}, "b": {"calls": 3, "errors": 1}},
        "counters": {"x": 3, "y": 1}, "pools": {"db": {"kind": "threads", "running": 3}}, "missing": ["worker-2"],
    }  # fmt: skip
    assert mine["by_capability"] == {"a": {"calls": 1, "errors": 0}}, "what was given is left alone"


def test_each_thing_that_is_wrong_with_a_worker_is_a_finding() -> None:
    rows = worker_rows(
        {
            "w-down": None,
            "w-blocked": WorkerInfo("w-blocked", 1, "blocked", 4.0, 0.0, 9.0),
            "w-silent": WorkerInfo("w-silent", 2, "silent", 0.0, 5.0, 9.0),
            "w-mute": WorkerInfo("w-mute", 3, "running", 0.0, 0.0, 9.0),
            "w-well": WorkerInfo("w-well", 4, "running", 0.0, 0.0, 9.0),
            "w-newer": WorkerInfo("w-newer", 5, "running", 0.0, 0.0, 9.0),
        }
    )
    finding: Any = {
        "severity": "error",
        "what": "module tax is quarantined",
        "next": "packetflow module restart tax",
    }
    told: Any = {
        "w-well": ({"findings": [finding]}, {"module tax": "1"}),
        "w-newer": ({"findings": []}, {"module tax": "2", "module other": "1", "capabilities of a.py": "3"}),
    }
    found = worker_findings(rows, told, {"module tax": "1", "capabilities of a.py": "2"})
    assert [one["what"] for one in found] == [
        "w-down is down and is being started again",
        "w-blocked (pid 1) is blocked: its hub has had no turn for 4.0 s",
        "w-silent (pid 2) has given no sign of life for 5.0 s",
        "w-mute (pid 3) does not answer; its figures are missing",
        "w-well: module tax is quarantined",
        "w-newer runs newer code: capabilities of a.py",
        "w-newer runs newer code: module tax",
    ]
    assert all(one["next"] for one in found)
