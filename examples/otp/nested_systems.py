"""Systems in systems: a shop with departments, each a system of its own, addressed by paths. Systems are actors.

python examples/otp/nested_systems.py
"""

from __future__ import annotations

from packetflow.otp import ActorSystem, Message, Receive, Response, Send


def shelf(stock: dict[str, int], send: Send) -> Receive:
    """Holds some things. What it is asked for that it never heard of is a fault, and ends it: let it crash."""
    left = dict(stock)

    def receive(message: Message) -> Response:
        thing, count = message.payload
        if left[thing] < count:
            return Response(False, error=f"only {left[thing]} {thing} left", code="sold_out")
        left[thing] -= count
        return Response(True, f"{count} {thing}")

    return receive


def desk(shelves: dict[str, str], send: Send) -> Receive:
    """Takes orders. It knows its shelves by their addresses, and nothing of where or how they live."""

    def receive(message: Message) -> Response:
        thing, _ = message.payload
        if thing not in shelves:
            return Response(False, error=f"we have no {thing}", code="unknown_thing")
        return send(shelves[thing], Message(message.id, "take", message.payload))

    return receive


def main() -> None:
    """Three levels: the shop, its departments, and a cellar below one of them."""
    with (
        ActorSystem(name="shop") as shop,
        ActorSystem(name="food") as food,
        ActorSystem(name="cellar") as cellar,
    ):
        shop.register("food", food)
        food.register("cellar", cellar)
        food.register("fresh", shelf, {"apples": 10})
        cellar.register("wine", shelf, {"bottles": 3})
        addresses = {"apples": "food/fresh", "bottles": "food/cellar/wine", "books": "books/shelf"}
        orders = shop.register("desk", desk, addresses)

        for number, order in enumerate(
            [("apples", 4), ("bottles", 2), ("bottles", 2), ("books", 1), ("tea", 1)]
        ):
            answer = orders.send(Message(str(number), "order", order))
            print(f"{order[1]} {order[0]}:", answer.data if answer.success else answer.error)

        # A system is an actor: it answers messages itself, also from within another.
        print("in the shop:", shop.send(Message("l", "list")).data)
        print("in the food:", shop.send("food", Message("l", "list")).data)
        take = Message("r", "take", ("bottles", 1))
        print(
            "by route:",
            shop.send(Message("r", "route", {"target": "food/cellar/wine", "message": take})).data,
        )

        # A fault ends one shelf and no more; its supervisor has the factory make it anew.
        fault = shop.send("food/fresh", Message("f", "take", ("stones", 1)))
        print("a fault:", fault.code, "-", fault.error)
        print("anew:", shop.send("food/fresh", Message("a", "take", ("apples", 10))).data)
        figures = shop.send("food", Message("s", "stats")).data
        print(f"food had {figures['messages']} messages, {figures['errors']} errors")


if __name__ == "__main__":
    main()
