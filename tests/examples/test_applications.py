"""The three applications: documents, agents with a person in the loop, a small worker; each by its one command."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.docs.running import RunningNode, environment

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def run(file: str, *words: str, folder: Path = ROOT, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(EXAMPLES / file), *words],
        cwd=folder, env=environment(), input=said, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


# ---- documents -------------------------------------------------------------------------------------------------------------


def pdf(text: str) -> bytes:
    """A PDF of one page with this text, as ISO 32000 has it."""
    drawn = f"BT /F1 12 Tf 50 700 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    file, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, len(file))
    return file + b"xref\n0 %d\n0000000000 65535 f \n" % count + table + end


def test_documents_are_processed_by_the_pipeline_of_a_json_file(tmp_path: Path) -> None:
    (tmp_path / "report.pdf").write_bytes(
        pdf("Whales sing, and other whales answer: whales are never alone.")
    )
    done = run("document_processing/process.py", "README.md", "docs", str(tmp_path / "report.pdf"))
    assert done.returncode == 0, done.stderr
    assert "report.pdf: 10 words, about whales" in done.stdout
    assert "docs/compositions.md: " in done.stdout
    assert ", 0 unreadable, about " in done.stdout


def test_what_can_not_be_read_is_told_and_the_others_are_processed(tmp_path: Path) -> None:
    (tmp_path / "cut.pdf").write_bytes(pdf("whales")[:40])
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "empty.txt").write_text(" ")
    (tmp_path / "good.txt").write_text("Whales sing.")
    done = run("document_processing/process.py", str(tmp_path), "photo.jpg", "nowhere.md")
    assert done.returncode == 1
    for words in (
        "cut.pdf: a damaged PDF",
        "latin.txt: not UTF-8 at byte 4",
        "empty.txt: there is no text in it",
        "good.txt: 2 words, about whales, sing",
        "photo.jpg: no kind of document: .jpg",
        "nowhere.md: No such file",
        "6 documents, 5 unreadable",
    ):
        assert words in done.stdout
    assert run("document_processing/process.py").returncode == 2


# ---- agents and a person ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "code", "shown"),
    [("yes", 0, "the editor: approved\nDurable run\n\n"), ("Runs that last", 0, "the editor: modified\nRuns that last\n\n"),
     ("no", 1, "not published: step approval: rejected by editor")],
)  # fmt: skip
def test_nothing_is_published_that_the_person_did_not_approve(said: str, code: int, shown: str) -> None:
    done = run("agent_workflow/agents.py", "durable run", said=said + "\n")
    assert done.returncode == code, done.stderr
    assert shown in done.stdout
    draft = done.stdout.partition("--- draft\n")[2].partition("\n---")[0]
    assert len(draft.split()) >= 60, "the reviewer sends short drafts back"


# ---- a worker --------------------------------------------------------------------------------------------------------------


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.01)


def runs(node: RunningNode) -> Any:
    return json.loads(node.shell("packetflow call system.runs limit=1000 --json").stdout)["value"]["runs"]


def test_a_worker_that_is_killed_among_payments_takes_each_once(tmp_path: Path) -> None:
    orders = "".join(json.dumps({"order": f"o{n}", "amount": 10 + n}) + "\n" for n in range(60))
    work = tmp_path / "work"
    with RunningNode(EXAMPLES / "payment_worker", work) as node:
        file = node.folder / "run" / "charges.jsonl"
        (node.folder / "orders.jsonl").write_text(orders)
        words = ["call", "payment.take", "--from", "orders.jsonl", "--concurrency", "8", "--json"]
        calling = subprocess.Popen(
            [sys.executable, "-m", "packetflow.cli", *words],
            cwd=node.folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: file.read_text().count("\n") >= 10)
        node.kill()
        calling.kill()
        calling.wait()
        node.__enter__()
        until(lambda: {row["state"] for row in runs(node)} == {"completed"})
        begun = len(runs(node))
        charged = Counter(json.loads(line)["order"] for line in file.read_text().splitlines())
    assert begun >= 10
    assert len(charged) == begun
    assert set(charged.values()) == {1}
