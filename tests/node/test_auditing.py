"""The audit trail of a node: who did what, masked; refusals; what happens when the disk is full."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Annotated, Any

import gevent
import pytest

from packetflow import Context, Module, Node, Reject, Secret, capability
from packetflow.capabilities.authorisation import roles
from packetflow.capabilities.effects import audit
from packetflow.errors import Unavailable, Unrecorded
from packetflow.node.auditing import AuditTrail
from packetflow.node.config import NodeConfig
from packetflow.otp.clock import Clock
from packetflow.storage.audit_chain import FOLDER, verify
from tests.storage.test_audit_log import room_for

ROOT = Path(__file__).resolve().parents[2]


@capability("pay.send", effects=[audit("comprehensive", required=True)])
def send(to: str, pin: Annotated[str, Secret], customer: dict[str, str] | None = None) -> dict[str, str]:
    """Send."""
    if to == "nobody":
        raise LookupError(to)
    return {"receipt": "r1", "phone": "tel-555"}


@capability("pay.note", effects=[audit()])
def note(text: str) -> str:
    """Note."""
    return text


@capability("pay.plain")
def plain(text: str = "") -> str:
    """No audit of its own."""
    return text


@capability("pay.admin", authorize=roles("admin"))
def admin() -> str:
    """For admins."""
    return ""


class Strict(Module):
    """Refuses a word."""

    def handle_request(self, request: Any, context: Any) -> Any:
        return Reject("rude", "mind your words") if request.payload.get("text") == "rude" else None


def node_in(folder: Path, **more: Any) -> Node:
    config = NodeConfig.model_validate(
        {"node": {"data_folder": folder}, "tcp": {"enabled": False}, "http": {"enabled": False}, **more}
    )
    return Node(config, capabilities=[send, note, plain, admin], modules=[Strict], log_stream=io.StringIO())


def test_records_say_who_did_what_with_what_outcome_and_hide_what_is_secret(tmp_path: Path) -> None:
    with node_in(tmp_path, audit={"mask": ["phone"]}) as node:
        ana = node.session("ana", tenant="acme")
        node.call("pay.send", {"to": "bo", "pin": "pin-1234", "customer": {"phone": "tel-555"}}, session=ana)
        node.request("pay.send", {"to": "nobody", "pin": "pin-1234"}, session=ana)
        node.call("pay.note", {"text": "hi"}, session=ana)
        records = node.audit()[::-1]
    shown = [
        (one["event"], one["principal"], one["tenant"], one["capability"], one.get("outcome"))
        for one in records
    ]
    assert shown == [
        ("intent", "ana", "acme", "pay.send@1.0.0", None),
        ("outcome", "ana", "acme", "pay.send@1.0.0", "ok"),
        ("intent", "ana", "acme", "pay.send@1.0.0", None),
        ("outcome", "ana", "acme", "pay.send@1.0.0", "execution_failed"),
        ("request", "ana", "acme", "pay.note@1.0.0", "ok"),
    ]
    assert records[0]["payload"] == {"to": "bo", "pin": "***", "customer": {"phone": "***"}}
    assert records[1]["value"] == {"receipt": "r1", "phone": "***"}
    assert records[0]["trace"] == records[1]["trace"]
    files = b"".join(file.read_bytes() for file in (tmp_path / FOLDER).iterdir())
    assert b"pin-1234" not in files
    assert b"tel-555" not in files
    found = verify(tmp_path / FOLDER)
    assert (found.broken, found.open, found.notes) == ("", {}, [])


def test_refusals_by_rules_and_modules_are_recorded_where_no_audit_is_declared(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        node.call("pay.plain")
        node.request("pay.admin")
        node.request("pay.plain", {"text": "rude"})
        node.request("pay.plain", session=node.session(grants=["x.*"]))
        found = [
            (one["event"], one["outcome"], one.get("rule") or one.get("module")) for one in node.audit()[::-1]
        ]
    assert found == [
        ("refused", "forbidden", "the role admin"),
        ("refused", "rejected", "strict"),
        ("refused", "forbidden", None),
    ]


def test_refusals_are_not_recorded_where_the_configuration_says_so(tmp_path: Path) -> None:
    with node_in(tmp_path, audit={"refusals": False}) as node:
        node.request("pay.admin")
        assert node.audit() == []
    assert not (tmp_path / FOLDER).exists()


def test_records_are_selected(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        for who in ("ana", "bo"):
            node.call("pay.note", {"text": who}, session=node.session(who))
        node.request("pay.admin", session=node.session("ana"))
        assert len(node.audit(principal="a*")) == 2
        assert len(node.audit(capability="pay.note")) == 2
        assert len(node.audit(outcome="forbidden")) == 1
        assert len(node.audit(limit=1)) == 1
        [newest] = node.audit(1)
        assert [one["n"] for one in node.audit(since=newest["time"])] == [newest["n"]]
        assert node.audit(trace=newest["trace"][:8]) == [newest]
        with pytest.raises(Exception, match="is no time"):
            node.audit(since="yesterday")


def test_a_full_disk_refuses_what_is_required_counts_the_rest_and_heals(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        node.call("pay.note", {"text": "first"})
        node.audit()
        size = sum(file.stat().st_size for file in (tmp_path / FOLDER).glob("*.jsonl"))
        with room_for(size + 100):
            response = node.request("pay.send", {"to": "bo", "pin": "1"})
            assert response.error is not None
            assert response.error.code == "unavailable"
            assert "was not run" in str(response.error)
            assert node.call("pay.note", {"text": "lost"}) == "lost"
            node.trail.flush(5)
            health = node.health()
            assert health["status"] == "ill"
            assert any("audit records can't be written" in one["what"] for one in health["findings"])
        assert node.call("pay.send", {"to": "bo", "pin": "1"})["receipt"] == "r1"
        with gevent.Timeout(10):  # the database, which keeps traces of what failed, looks again each second
            while node.health()["status"] != "ok":
                gevent.sleep(0.01)
        assert node.stats()["effects"]["audit"]["lost"] >= 1
    assert verify(tmp_path / FOLDER).broken == ""


def test_a_restarted_node_goes_on_with_the_chain(tmp_path: Path) -> None:
    for _ in range(2):
        with node_in(tmp_path) as node:
            node.call("pay.note", {"text": "x"})
    assert verify(tmp_path / FOLDER).last == 2


def test_many_at_once_are_written_in_few_groups(tmp_path: Path) -> None:
    with node_in(tmp_path) as node:
        groups: list[int] = []
        commit = node.trail.commit
        node.trail.commit = lambda records: (groups.append(len(records)), commit(records))[1]  # type: ignore[func-returns-value]
        callers = [gevent.spawn(node.call, "pay.send", {"to": "bo", "pin": "1"}) for _ in range(60)]
        gevent.joinall(callers, raise_error=True)
    assert sum(groups) == 120
    assert len(groups) < 30
    assert verify(tmp_path / FOLDER).records == 120


class TestTrail:
    def trail(self, commit: Any, **more: Any) -> AuditTrail:
        import structlog

        made = AuditTrail(Clock(), structlog.wrap_logger(structlog.PrintLogger(io.StringIO())), **more)
        made.commit = commit
        return made

    def test_past_its_bound_what_is_offered_is_counted_and_what_is_required_refused(self) -> None:
        trail = self.trail(lambda records: None, queue=3)
        for number in range(5):
            trail.offer({"n": number})
        assert trail.as_data()["lost"] == 2
        with pytest.raises(Unrecorded, match="faster than they are written"):
            trail.write({}, 1.0)

    def test_a_writer_that_hangs_is_waited_for_no_longer_than_was_said(self) -> None:
        trail = self.trail(lambda records: gevent.sleep(60))
        running = gevent.spawn(trail.run)
        with pytest.raises(Unrecorded, match="not on the disk within"):
            trail.write({}, 0.02)
        running.kill()
        assert trail.late == 1

    def test_a_writer_that_is_killed_leaves_nobody_waiting(self) -> None:
        trail = self.trail(lambda records: gevent.sleep(60))
        running = gevent.spawn(trail.run)
        asking = gevent.spawn(trail.write, {}, 30.0)
        gevent.sleep(0.01)
        running.kill()
        with pytest.raises(Unrecorded, match="ended before"):
            asking.get(timeout=5)


def test_a_node_that_has_not_been_started_says_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="another process"):
        node_in(tmp_path).audit()


ALWAYS = {"n", "hash", "prev", "event"}
LEVELS = {
    "minimal": {"time", "principal", "tenant", "capability", "trace", "outcome"},
    "standard": {"door", "peer", "parent", "duration", "payload"},
    "comprehensive": {"value"},
}


def test_each_level_records_what_its_table_says_and_nothing_else(tmp_path: Path) -> None:
    def working(level: str) -> Any:
        @capability(f"a.{level}", effects=[audit(level)])
        def work(n: int) -> int:
            """Work."""
            return n

        return work

    @capability("a.outer")
    def outer(n: int, context: Context) -> int:
        """Call them all, so that each has a parent."""
        return sum(int(context.call(f"a.{level}", {"n": n})) for level in LEVELS)

    table = (ROOT / "docs" / "capabilities.md").read_text()
    config = NodeConfig.model_validate(
        {"node": {"data_folder": tmp_path}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    )
    functions = [*(working(level) for level in LEVELS), outer]
    with Node(config, capabilities=functions, log_stream=io.StringIO()) as made:
        session = made.session("ana", tenant="acme")
        session.peer = "10.0.0.1"
        made.call("a.outer", {"n": 1}, session=session)
        expected = set(ALWAYS)
        for level, more in LEVELS.items():
            expected |= more
            [record] = made.audit(capability=f"a.{level}")
            assert set(record) == expected
            row = next(line for line in table.splitlines() if line.startswith(f"| `{level}` |"))
            words = {"capability": "capability and version", "value": "answer"}
            assert all(words.get(field, field) in row for field in more)
