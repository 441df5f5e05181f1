"""A node with its doors, and a client that asks it over tcp, in one program.

python examples/usage/node_and_client.py
"""

from packetflow import Client, Node, capability
from packetflow.errors import NotFound
from packetflow.node.config import NodeConfig

STOCK = {"tea": 3, "coffee": 0}


@capability("stock.count")
def count(item: str) -> int:
    """Count what is there of an item."""
    if item not in STOCK:
        raise NotFound(f"no item {item!r}", {"nearest": sorted(STOCK)})
    return STOCK[item]


def main() -> None:
    config = NodeConfig.model_validate(
        {"node": {"data_folder": "run"}, "tcp": {"port": 0}, "http": {"enabled": False}}
    )
    with Node(config, capabilities=[count]) as node:
        address = next(door["address"] for door in node.status()["doors"] if door["door"] == "tcp")
        with Client(address, concurrency="gevent") as client:
            print("tea:", client.call("stock.count", {"item": "tea"}))
            try:
                client.call("stock.count", {"item": "milk"})
            except NotFound as error:
                print("milk:", error, error.details["nearest"])
            requests = (("stock.count", {"item": item}) for item in ["tea", "coffee"] * 50)
            print(
                "in flight together:", sum(reply.value for _, reply in client.map(requests, concurrency=16))
            )


if __name__ == "__main__":
    main()
