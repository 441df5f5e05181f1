"""What a simulated node stores in its database lies on its simulated disk: it outlives crashes, and feels faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gevent

from packetflow import capability
from packetflow.testing import World, explore, simulate
from packetflow.wire.errors import Unavailable
from packetflow.wire.values import Metadata

ROOT = Path(__file__).resolve().parents[2]


class Bank:
    """Another system that does what it is told, as often as it is told."""

    def __init__(self) -> None:
        self.paid: list[str] = []

    def capability(self) -> Any:
        """How a node pays by it."""

        @capability("bank.pay", timeout=20.0)
        def pay(order: str) -> str:
            """Pay an order."""
            gevent.sleep(0.05)
            self.paid.append(order)
            return f"receipt for {order}"

        return pay


def test_an_answer_that_was_given_for_a_key_outlives_a_crash_at_any_turn() -> None:
    answered_before = repeated = 0

    def program(world: World) -> tuple[int, int]:
        bank = Bank()
        world.disk("bank").latency = (0.0, 0.02)
        node = world.node("bank", capabilities=[bank.capability()], doors=True)
        client = world.client(node)
        down = world.crash_within(node, 600)
        told: dict[str, str] = {}

        def pay(order: str) -> None:
            answer = client.request("bank.pay", {"order": order}, idempotency_key=order, timeout=3.0)
            if answer.ok:
                told[order] = answer.value

        asking = [gevent.spawn(pay, f"o{number}") for number in range(8)]
        gevent.joinall(asking, raise_error=True)
        down.wait()
        paid_before = list(bank.paid)
        again = world.node("bank", capabilities=[bank.capability()], doors=True)
        after = world.client(again)
        for order, receipt in told.items():
            assert after.call("bank.pay", {"order": order}, idempotency_key=order) == receipt
        assert bank.paid == paid_before, "what was answered is paid again"
        return len(told), 8 - len(told)

    for run in explore(program, range(25)):
        answered_before += run.value[0]
        repeated += run.value[1]
    assert answered_before > 50
    assert repeated > 10
    assert (answered_before + repeated) == 200


def test_all_who_wait_for_the_same_commit_go_on() -> None:
    """In any order: what is done in a turn here would be a thread's, and wakes everybody."""

    def program(world: World) -> None:
        bank = Bank()
        node = world.node("bank", capabilities=[bank.capability()], doors=True)
        client = world.client(node)
        asking = [
            gevent.spawn(client.call, "bank.pay", {"order": str(one)}, idempotency_key=str(one), timeout=3.0)
            for one in range(8)
        ]
        gevent.joinall(asking, raise_error=True)
        assert sorted(bank.paid) == sorted(map(str, range(8)))
        assert world.clock().monotonic() < 1.0

    explore(program, range(20))


def test_a_database_on_a_disk_that_fails_is_a_finding_and_the_node_serves_on() -> None:
    def program(world: World) -> list[Any]:
        bank = Bank()
        node = world.node("bank", capabilities=[bank.capability()])
        world.disk("bank").faults = 1.0
        said = Metadata(idempotency_key="o1", timeout=5.0)
        answer = node.door.request("bank.pay", {"order": "o1"}, node.session(), said)
        findings = node.health()["findings"]
        world.disk("bank").faults = 0.0
        assert node.call("bank.pay", {"order": "o2"}) == "receipt for o2"
        assert isinstance(answer.error, Unavailable)
        assert bank.paid == ["o2"]  # what can't be kept is not begun
        return [one["what"] for one in findings]

    (finding,) = simulate(program, 1).value
    assert "database" in finding
    assert "its disk fails" in finding


def test_a_simulation_that_stores_nothing_loads_no_driver() -> None:
    code = (
        "import sys\nfrom packetflow.testing import simulate\n"
        "simulate(lambda world: world.node().stop(), 1)\nprint('apsw' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
