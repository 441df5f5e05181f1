"""Two requests read, wait and write: in some orders one of the updates is lost.

packetflow simulate examples/simulation/lost_update.py
"""

import gevent

from packetflow import capability
from packetflow.testing import World


class Shop:
    """What is in stock."""

    left = 10


def simulate_two_orders(world: World) -> None:
    """Each takes one; eight must be left."""
    shop = Shop()

    @capability("order.place")
    def place(amount: int) -> int:
        """Take some of what is in stock."""
        left = shop.left
        gevent.sleep(0.01)  # ask the warehouse
        shop.left = left - amount
        return shop.left

    node = world.node(capabilities=[place])
    orders = [
        gevent.spawn_later(world.random.uniform(0, 0.1), node.call, "order.place", {"amount": 1})
        for _ in "ab"
    ]
    gevent.joinall(orders, raise_error=True)
    assert shop.left == 8, f"an order was lost: {shop.left} left"
