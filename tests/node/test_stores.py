"""What a node stores: opened when it is used, held by a supervised process, pruned while it is used, simulated like the rest."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

from packetflow import Node, capability
from packetflow.node import stores
from packetflow.node.config import NodeConfig
from packetflow.otp.clock import Clock
from packetflow.testing import World, explore
from packetflow.wire.values import Metadata
from tests.storage.places import our_threads, wait_for

ran: list[int] = []


@capability("pay.send")
def send(amount: int) -> int:
    """Pay, once."""
    ran.append(amount)
    return len(ran)


def test_what_is_too_old_is_forgotten_while_the_store_is_used(tmp_path: Path) -> None:
    now = [datetime(2026, 11, 25, tzinfo=UTC), 0.0]
    clock = Clock(lambda: now[1], lambda: now[0])  # type: ignore[arg-type,return-value]
    config = {"node": {"data_folder": str(tmp_path)}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    with Node(
        NodeConfig.model_validate(config), capabilities=[send], clock=clock, log_stream=io.StringIO()
    ) as node:

        def pay(key: str) -> None:
            node.door.request(
                "pay.send", {"amount": 1}, node.session(), Metadata(idempotency_key=key)
            ).unwrap()

        def kept() -> list[str]:
            return [key for (key,) in node.stores.database.read("SELECT key FROM idempotency_keys")]

        pay("old")
        assert kept() == ["old"]
        now[0] += timedelta(days=2)  # type: ignore[operator]
        now[1] += stores.PRUNE + 1  # type: ignore[operator]
        pay("new")
        wait_for(lambda: kept() == ["new"])


def test_a_node_that_stops_leaves_no_thread_of_its_database(tmp_path: Path) -> None:
    config = {"node": {"data_folder": str(tmp_path)}, "tcp": {"enabled": False}, "http": {"enabled": False}}
    with Node(NodeConfig.model_validate(config), capabilities=[send], log_stream=io.StringIO()) as node:
        node.stores.database.write(lambda transaction: None)
        assert our_threads()
    wait_for(lambda: not our_threads())
    assert [file.name for file in tmp_path.glob("node.db*")] == ["node.db"]


def test_the_database_of_a_simulated_node_is_part_of_the_simulation(tmp_path: Path) -> None:
    def program(world: World) -> list[int]:
        before = len(ran)
        node = world.node("desk", capabilities=[send], doors=True)
        with world.client(node) as client:
            paid = client.call("pay.send", {"amount": 5}, idempotency_key="k")
        world.crash(node)
        node = world.node("desk", capabilities=[send], doors=True)
        with world.client(node) as client:
            assert client.call("pay.send", {"amount": 5}, idempotency_key="k") == paid
        assert len(ran) == before + 1
        return [paid - before]

    runs = explore(program, range(10))
    assert [run.value for run in runs] == [[1]] * 10
    assert not our_threads()
