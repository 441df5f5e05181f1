"""Two nodes, a network that is slow and cuts, a crash at any moment: every request has one answer, and no money is lost.

packetflow simulate examples/simulation/two_desks.py --runs 20
"""

from __future__ import annotations

from typing import Any

import gevent

from packetflow import capability
from packetflow.testing import World

LIMIT = 60.0  # seconds after which everybody must have an answer


class Account:
    """Where the money is; a bank of our own for the length of a simulation."""

    def __init__(self) -> None:
        self.paid: dict[str, int] = {}


def bank(account: Account) -> Any:
    """The capability of a bank with this account."""

    @capability("bank.pay", timeout=5.0)
    def pay(order: str, amount: int) -> int:
        """Pay an order once, however often it is asked for."""
        gevent.sleep(0.5)  # the other bank
        account.paid.setdefault(order, amount)
        return account.paid[order]

    return pay


def simulate_every_request_has_one_answer(world: World) -> None:
    """Clients on a bad network, and a node that crashes and comes back: who asks gets a value or a typed error, in time."""
    account = Account()
    desk = world.node("desk", capabilities=[bank(account)], doors=True)
    world.network.latency = (0.001, 0.2)
    clients = [world.client(desk, f"client-{number}") for number in range(4)]
    begun = world.clock().monotonic()
    asking = [
        gevent.spawn(
            clients[number % 4].request, "bank.pay", {"order": f"o{number}", "amount": number}, timeout=10.0
        )
        for number in range(20)
    ]
    gevent.sleep(world.random.uniform(0.0, 1.0))
    world.network.cut(caller="client-1")
    gevent.sleep(world.random.uniform(0.0, 1.0))
    world.crash(desk)
    gevent.joinall(asking, raise_error=True)
    assert world.clock().monotonic() - begun < LIMIT
    for number, one in enumerate(asking):
        reply = one.value
        assert (reply.error is None) != (reply.value is None)
        if reply.error is None:
            assert account.paid[f"o{number}"] == reply.value == number


def simulate_a_retry_after_a_crash_pays_once(world: World) -> None:
    """Who did not hear of the end asks the next node: the order is paid once."""
    account = Account()
    first = world.node("desk", capabilities=[bank(account)], doors=True)
    client = world.client(first)
    asking = gevent.spawn(client.request, "bank.pay", {"order": "o1", "amount": 10}, timeout=10.0)
    gevent.sleep(world.random.uniform(0.0, 1.0))
    world.crash(first)
    asking.join()
    second = world.node("desk", capabilities=[bank(account)], doors=True)
    assert world.client(second).call("bank.pay", {"order": "o1", "amount": 10}) == 10
    assert account.paid == {"o1": 10}
