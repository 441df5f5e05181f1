"""The support desk's refunds: a durable flow, driven from the command line alone, killed half way, and completed."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import PROGRAM, ROOT, Desk, environment, finish, until

PAGE = ROOT / "docs" / "durable-runs.md"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    """The project that this repository is, as far as its node needs it."""
    for folder in ("config", "modules", "examples/support_desk"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    made = Desk(tmp_path)
    yield made
    finish(made)


def start(desk: Desk) -> None:
    desk.start("--set", "tcp.port=0", "--set", "http.port=0")


def killed(desk: Desk) -> None:
    """kill -9, and the next start."""
    desk.end(signal.SIGKILL)
    start(desk)


def refunds(desk: Desk) -> list[tuple[str, float, str]]:
    with sqlite3.connect(desk.folder / "run" / "refunds.sqlite") as ledger:
        return ledger.execute("SELECT customer, amount, state FROM refunds ORDER BY number").fetchall()


def runs(desk: Desk) -> Any:
    return desk("call", "system.runs", "composition=desk.refund", "limit=1000", "--json").document["value"]


def have_ended(desk: Desk) -> bool:
    return all(row["state"] in ("completed", "failed") for row in runs(desk)["runs"])


def shell(desk: Desk, marker: str) -> str:
    """Run the block of the page that stands behind a marker."""
    (text,) = re.findall(rf"<!-- {marker} -->\n```bash\n(.*?)```", PAGE.read_text(), re.DOTALL)
    program = f'packetflow() {{ {" ".join(PROGRAM)} "$@"; }}\n'.replace("python3", sys.executable)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", program + text],
        cwd=desk.folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_what_the_page_shows_completes_though_the_node_is_killed_in_between(desk: Desk) -> None:
    start(desk)
    assert "lead" in shell(desk, "before the kill")
    assert refunds(desk) == [("C-1001", 40.0, "paid")]
    killed(desk)
    assert "approved" in shell(desk, "after the kill")
    until(lambda: have_ended(desk))
    assert [row["state"] for row in runs(desk)["runs"]] == ["completed"] * 2
    assert refunds(desk) == [("C-1001", 40.0, "paid"), ("C-1001", 400.0, "paid")]


def test_a_refund_that_is_refused_is_never_paid(desk: Desk) -> None:
    start(desk)
    assert (
        desk(
            "flow", "run", "desk.refund", "customer_id=C-1001", "amount=400", "reason=x", "--timeout", "1"
        ).code
        == 7
    )
    (asked,) = desk("call", "system.approvals", "--json").document["value"]["approvals"]
    decide = ("call", "system.approval.decide", f"id={asked['id']}", "decision=rejected", "comment=too dear")
    assert desk(*decide).code == 0
    again = desk(*decide)
    assert again.code != 0
    assert "rejected by operator already" in again.err
    until(lambda: have_ended(desk))
    (row,) = runs(desk)["runs"]
    assert (row["state"], refunds(desk)) == ("failed", [])


def test_a_refund_whose_customer_can_not_be_told_is_taken_back(desk: Desk) -> None:
    start(desk)
    ran = desk("flow", "run", "desk.refund", "customer_id=C-1001", "amount=40", f"reason={'x' * 4000}")
    assert ran.code != 0
    assert "ticket.open" in ran.err
    assert refunds(desk) == [("C-1001", 40.0, "taken back")]


def test_a_node_that_is_killed_among_many_refunds_pays_each_once(desk: Desk) -> None:
    """Given forty refunds of as many customers under way, when the node is killed twice among them, then each is paid once."""
    payloads = [{"customer_id": f"C-{1001 + n}", "amount": 10 + n, "reason": "x"} for n in range(40)]
    (desk.folder / "payloads.jsonl").write_text("".join(json.dumps(one) + "\n" for one in payloads))
    start(desk)
    calling = desk.begin("call", "desk.refund", "--from", "payloads.jsonl", "--concurrency", "8", "--json")
    until(lambda: (desk.folder / "run" / "refunds.sqlite").exists() and len(refunds(desk)) >= 5)
    killed(desk)
    killed(desk)
    calling.kill()
    calling.communicate()
    until(lambda: have_ended(desk))
    begun = runs(desk)["runs"]
    assert len(begun) >= 5
    assert {row["state"] for row in begun} == {"completed"}
    assert len(refunds(desk)) == len(begun)
    assert len({customer for customer, _, _ in refunds(desk)}) == len(begun)
